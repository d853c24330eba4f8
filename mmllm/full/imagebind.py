"""ImageBind (Girdhar et al. 2023), re-implemented from the paper: six modalities, one space of 1024 dimensions.

    with torch.device("meta"):
        model = ImageBind(HUGE)                        # 1,200,781,057 parameters
    model.embed("image", pictures)                     # (n, 3, 224, 224) -> (n, 1024), of length one

A transformer for each of vision (ViT-H, a picture is a clip of two equal frames), text (CLIP's),
audio, depth, thermal and motion; a linear head each. `SIZES` can be made narrower for tests. Code of
our own; the published weights are CC BY-NC-SA 4.0 and are not fetched by anyloom: `load_published`
takes the file that a user has, by the names in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import WeightsError

EPS = 1e-6


@dataclass(frozen=True)
class Tower:
    """Sizes of one modality's transformer. `learnt_key`: attention has one more, learnt key and value."""

    width: int
    layers: int
    heads: int
    learnt_key: bool = True
    norm_first: bool = False


@dataclass(frozen=True)
class Sizes:
    """Sizes of the whole model. Pictures are `side` wide; sounds 128 bands of `frames`; motion 6 x `samples`."""

    vision: Tower = Tower(1280, 32, 16, learnt_key=False, norm_first=True)
    text: Tower = Tower(1024, 24, 16, learnt_key=False)
    audio: Tower = Tower(768, 12, 12)
    depth: Tower = Tower(384, 12, 8)
    thermal: Tower = Tower(768, 12, 12)
    imu: Tower = Tower(512, 6, 8)
    out: int = 1024
    side: int = 224
    patch: int = 14
    vocabulary: int = 49408
    length: int = 77
    bands: int = 128
    frames: int = 204
    samples: int = 2000
    towers: tuple[str, ...] = field(default=("vision", "text", "audio", "depth", "thermal", "imu"), repr=False)

    def narrowed(self, width: int, layers: int) -> Sizes:
        """The same shape at another width and depth, for tests."""
        towers = {n: replace(getattr(self, n), width=width, layers=layers, heads=2) for n in self.towers}
        return replace(self, **towers, out=width, vocabulary=300)


HUGE = Sizes()


class Block(nn.Module):
    """Attention and two linear layers, both behind a norm."""

    def __init__(self, tower: Tower):
        super().__init__()
        width = tower.width
        self.attn = nn.MultiheadAttention(width, tower.heads, add_bias_kv=tower.learnt_key, batch_first=True)
        self.norm_1, self.norm_2 = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(n, t, width) -> (n, t, width)."""
        y = self.norm_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.fc2(F.gelu(self.fc1(self.norm_2(x))))


class Trunk(nn.Module):
    """The blocks of one modality, a norm before them in vision, a norm and a linear head behind."""

    def __init__(self, tower: Tower, out: int):
        super().__init__()
        self.before = nn.LayerNorm(tower.width, EPS) if tower.norm_first else nn.Identity()
        self.blocks = nn.ModuleList(Block(tower) for _ in range(tower.layers))
        self.norm = nn.LayerNorm(tower.width, EPS)
        self.head = nn.Linear(tower.width, out, bias=False)

    def forward(self, x: Tensor, at: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """(n, t, width) -> (n, out), read at the first token, or at `at` (n,)."""
        x = self.before(x)
        for block in self.blocks:
            x = block(x, mask)
        chosen = x[:, 0] if at is None else x[torch.arange(len(x), device=x.device), at]
        return self.head(self.norm(chosen))


class Patches(nn.Module):
    """Pieces of a signal as tokens behind a class token, with learnt positions."""

    def __init__(self, stem: nn.Module, tokens: int, width: int, norm: bool):
        super().__init__()
        self.stem = stem
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, tokens + 1, width))
        if not self.positions.is_meta:
            nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, …) -> (n, 1 + tokens, width)."""
        y = self.stem(x)
        if y.dim() > 3:
            y = y.flatten(2).transpose(1, 2)
        return torch.cat([self.first.expand(len(y), -1, -1), self.norm(y)], 1) + self.positions


class Words(nn.Module):
    """Token and position embeddings of CLIP's text encoder."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.text.width)
        self.positions = nn.Parameter(torch.zeros(1, sizes.length, sizes.text.width))

    def forward(self, ids: Tensor) -> Tensor:
        """(n, length) -> (n, length, width)."""
        return self.embedding(ids) + self.positions


class ImageBind(nn.Module):
    """See the file. `only` builds some towers alone (`("vision", "audio")` is what NExT-GPT uses)."""

    def __init__(self, sizes: Sizes = HUGE, only: tuple[str, ...] | None = None):
        super().__init__()
        self.sizes = sizes
        kept = only or sizes.towers
        stems = {name: make for name, make in _stems(sizes).items() if name in kept}
        self.stems = nn.ModuleDict({name: make() for name, make in stems.items()})
        self.trunks = nn.ModuleDict({name: Trunk(getattr(sizes, name), sizes.out) for name in kept})
        self.text_scale = nn.Parameter(torch.zeros(())) if "text" in kept else None  # learnt, log of 1/0.07

    def embed(self, modality: str, x: Tensor) -> Tensor:
        """What an item means, (n, out), of length one.

        image (n, 3, side, side); video (n, clips, 3, 2, side, side) and audio (n, clips, 1, bands, frames), whose
        clips are averaged; text (n, length) ids, whose largest id ends it; depth and thermal (n, 1, side, side);
        imu (n, 6, samples).
        """
        if modality in ("video", "audio"):
            n, clips = x.shape[:2]
            each = self._tower("vision" if modality == "video" else "audio", x.flatten(0, 1))
            return F.normalize(each.view(n, clips, -1).mean(1), dim=-1)
        if modality == "image":
            return self._tower("vision", x[:, :, None].expand(-1, -1, 2, -1, -1))
        return self._tower(modality, x)

    def _tower(self, name: str, x: Tensor) -> Tensor:
        tokens = self.stems[name](x)
        if name != "text":
            return F.normalize(self.trunks[name](tokens), dim=-1)
        mask = torch.full((x.shape[1], x.shape[1]), -torch.inf, device=x.device).triu(1)
        return F.normalize(self.trunks[name](tokens, x.argmax(-1), mask), dim=-1)


def _stems(s: Sizes) -> Mapping[str, Callable[[], nn.Module]]:
    """How each modality is cut into tokens."""
    grid = (s.side // s.patch) ** 2
    heat = (s.side // 16) ** 2
    across = ((s.bands - 16) // 10 + 1) * ((s.frames - 16) // 10 + 1)

    def flat(name: str, stride: int, tokens: int) -> Patches:
        width = getattr(s, name).width
        return Patches(nn.Conv2d(1, width, 16, stride, bias=False), tokens, width, norm=True)

    def vision() -> Patches:
        width, kernel = s.vision.width, (2, s.patch, s.patch)
        return Patches(nn.Conv3d(3, width, kernel, kernel, bias=False), grid, width, norm=False)

    def imu() -> Patches:
        return Patches(_Windows(6, 8, s.imu.width), s.samples // 8, s.imu.width, norm=True)

    return {
        "vision": vision, "text": lambda: Words(s), "audio": lambda: flat("audio", 10, across),
        "depth": lambda: flat("depth", 16, heat), "thermal": lambda: flat("thermal", 16, heat), "imu": imu,
    }  # fmt: skip


class _Windows(nn.Module):
    """(n, channels, samples) -> (n, samples / size, width)."""

    def __init__(self, channels: int, size: int, width: int):
        super().__init__()
        self.size = size
        self.map = nn.Linear(channels * size, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.map(x.unfold(-1, self.size, self.size).permute(0, 2, 1, 3).flatten(2))


# -- the published names --------------------------------------------------------------------------

_PUBLISHED: tuple[tuple[str, str], ...] = (
    (r"modality_trunks\.(\w+)\.pre_transformer_layer\.0\.(.+)", r"trunks.\1.before.\2"),
    (r"modality_trunks\.(\w+)\.blocks\.(\d+)\.mlp\.(fc\d\..+)", r"trunks.\1.blocks.\2.\3"),
    (r"modality_trunks\.(\w+)\.blocks\.(\d+)\.norm_(\d)\.(.+)", r"trunks.\1.blocks.\2.norm_\3.\4"),
    (r"modality_trunks\.(\w+)\.blocks\.(\d+)\.attn\.(.+)", r"trunks.\1.blocks.\2.attn.\3"),
    (r"modality_heads\.text\.proj\.0\.(.+)", r"trunks.text.norm.\1"),
    (r"modality_heads\.text\.proj\.1\.weight", r"trunks.text.head.weight"),
    (r"modality_heads\.(\w+)\.0\.(.+)", r"trunks.\1.norm.\2"),
    (r"modality_heads\.(\w+)\.[23]\.weight", r"trunks.\1.head.weight"),
    (r"modality_preprocessors\.text\.token_embedding\.weight", r"stems.text.embedding.weight"),
    (r"modality_preprocessors\.text\.pos_embed", r"stems.text.positions"),
    (r"modality_preprocessors\.imu\.pos_embed", r"stems.imu.positions"),
    (r"modality_preprocessors\.imu\.imu_stem\.proj(?:\.0)?\.weight", r"stems.imu.stem.map.weight"),
    (r"modality_preprocessors\.(\w+)\.cls_token", r"stems.\1.first"),
    (r"modality_preprocessors\.(\w+)\.pos_embedding_helper\.pos_embed", r"stems.\1.positions"),
    (r"modality_preprocessors\.(\w+)\.\w+_stem\.proj(?:\.[01])?\.weight", r"stems.\1.stem.weight"),
    (r"modality_preprocessors\.(\w+)\.\w+_stem\.norm_layer\.(.+)", r"stems.\1.norm.\2"),
    (r"modality_postprocessors\.text\.1\.log_logit_scale", r"text_scale"),
)
_IGNORED = re.compile(r"modality_preprocessors\.text\.mask|modality_postprocessors\.\w+\.1\.log_logit_scale")


def published_name(name: str) -> str | None:
    """Our name of a published tensor, None for a constant that is not kept; WeightsError for an unknown one."""
    for pattern, ours in _PUBLISHED:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    if _IGNORED.fullmatch(name):
        return None
    raise WeightsError(f"'{name}' is no tensor of ImageBind-huge as it was published.")


def load_published(model: ImageBind, tensors: Mapping[str, Tensor]) -> None:
    """Takes over published tensors; those of towers that are not built are left. WeightsError: something is missing."""
    wanted = set(model.state_dict())
    ours = {mine: t for name, t in tensors.items() if (mine := published_name(name)) is not None and mine in wanted}
    if missing := sorted(wanted - set(ours)):
        raise WeightsError(f"The ImageBind file lacks {len(missing)} tensors, '{missing[0]}' among them.")
    model.load_state_dict(ours, assign=True)
