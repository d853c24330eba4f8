"""One network for three senses: a picture is one frame, a clip is eight, a sound is the picture of its mel.

    (n, frames, channels, h, w)  conv trunk, each frame alone        -> (n, frames * h/16 * w/16, width)
                                 + place and time, learnt queries
                                 transformer                         -> (n, tokens, width): the queries
    pooled(features)             mean, linear, unit length           -> (n, shared): contrasted with captions

`Sizes` is its whole configuration and is kept in the weights file's header.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..generators.networks import ChannelNorm, Residual, attention


@dataclass(frozen=True)
class Sizes:
    """What an encoder takes and how large it is."""

    modality: str = "image"
    channels: int = 3
    height: int = 64
    breadth: int = 64
    frames: int = 1
    trunk: tuple[int, int, int, int] = (40, 80, 144, 192)
    width: int = 256
    layers: int = 3
    heads: int = 4
    tokens: int = 16
    shared: int = 256

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Sizes:
        """From plain values."""
        return cls(**{**found, "trunk": tuple(found["trunk"])})


POCKET = {
    "image": Sizes(),
    "video": Sizes("video", frames=8),  # the picture's trunk, frame by frame
    "audio": Sizes("audio", 1, 64, 192, trunk=(32, 64, 112, 160)),
}


class Trunk(nn.Module):
    """Frames to a grid a sixteenth as high and wide. A ramp from top to bottom says which row is which."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        a, b, c, d = sizes.trunk
        self.enter = nn.Conv2d(4 * (sizes.channels + 1), a, 3, padding=1)
        self.stages = nn.Sequential(
            Residual(a, a), nn.Conv2d(a, b, 3, 2, 1), Residual(b, b), Residual(b, b), nn.Conv2d(b, c, 3, 2, 1),
            Residual(c, c), Residual(c, c), nn.Conv2d(c, d, 3, 2, 1), Residual(d, d),
        )  # fmt: skip
        self.norm = ChannelNorm(d)
        self.leave = nn.Conv2d(d, sizes.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w) -> (n, width, h/16, w/16)."""
        ramp = torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype)[None, None, :, None]
        x = torch.cat([x, ramp.expand(len(x), 1, -1, x.shape[3])], 1)
        x = F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        return self.leave(self.norm(self.stages(self.enter(x))))


class Block(nn.Module):
    """A transformer layer, norms first."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width), the same shape out."""
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = attention(q, k, v).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.out(seen)
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class SenseEncoder(nn.Module):
    """The network."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        grid = (sizes.height // 16) * (sizes.breadth // 16)
        self.trunk = Trunk(sizes)
        self.place = nn.Parameter(torch.randn(grid, sizes.width) * 0.02)
        self.time = nn.Parameter(torch.randn(sizes.frames, 1, sizes.width) * (0.3 if sizes.frames > 1 else 0.02))
        self.queries = nn.Parameter(torch.randn(sizes.tokens, sizes.width) * 0.02)
        self.blocks = nn.ModuleList([Block(sizes.width, sizes.heads) for _ in range(sizes.layers)])
        self.norm = nn.LayerNorm(sizes.width)
        self.share = nn.Linear(sizes.width, sizes.shared, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, frames, channels, h, w) in -1…1 -> (n, tokens, width)."""
        n, frames = x.shape[:2]
        grid = self.trunk(x.flatten(0, 1)).flatten(2).transpose(1, 2)  # (n * frames, cells, width)
        seen = grid.reshape(n, frames, *grid.shape[1:]) + self.place + self.time
        x = torch.cat([self.queries.expand(n, -1, -1).to(seen.dtype), seen.flatten(1, 2)], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, : self.sizes.tokens])

    def pooled(self, features: Tensor) -> Tensor:
        """(n, tokens, width) -> (n, shared), of length one."""
        return F.normalize(self.share(features.mean(1)).float(), dim=-1)
