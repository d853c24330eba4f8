"""The text condition of the pocket generators: MiniLM's token states, whitened, through a small trained reader.

    features = Features.open(folder)                # all-MiniLM-L6-v2, frozen; no second language model
    found = features(["a blue banana"])             # (1, 20, 384): the whole's vector, then its tokens, then zeros
    condition = reader(found)                       # (1, 6, 256): the things, their looks, the layout, the motion

MiniLM is in the pocket profile for other reasons, was trained so that what means the same lies near, and
reads both ways: SmolLM2's causal states, which the trial used, had to be whitened hard before names
could be told apart, and know the thing only at its last token. The network is BERT's (6 layers of 384),
written out so that a machine without transformers can train. An empty caption is all zeros: what
guidance leads away from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import WeightsError

TOKENS = 20  # rows of features: the whole and 19 tokens
WIDTH, HEADS, LAYERS = 384, 12, 6
CLS, SEP = 101, 102


class Features:
    """Captions -> features, frozen, on one device. `rows` maps token ids to the rows of the embedding kept."""

    def __init__(self, tokenizer: Any, weights: Mapping[str, Tensor], rows: Tensor | None = None):
        self.tokenizer, self.weights, self.rows = tokenizer, dict(weights), rows
        self.device = torch.device("cpu")

    @classmethod
    def open(cls, folder: Path) -> Features:
        """From model.safetensors and tokenizer.json, as they are published or as `save_small` left them."""
        from safetensors import SafetensorError, safe_open
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            with safe_open(folder / "model.safetensors", "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError, ValueError) as e:
            raise WeightsError(f"The text encoder in {folder} cannot be read: {e}.") from e
        tokenizer.no_padding()
        tokenizer.no_truncation()
        weights = {
            n: _wide(found, n) for n in found if not n.endswith(".scale") and n != "rows" and "position_ids" not in n
        }
        return cls(tokenizer, weights, found.get("rows"))

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> Features:
        """Moves the weights."""
        self.device = torch.device(device)
        self.weights = {k: v.to(device, dtype) for k, v in self.weights.items()}
        return self

    def ids(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids (n, 21) with both ends, and which are there; no torch device is touched."""
        found = [[*e.ids[:TOKENS], SEP] for e in self.tokenizer.encode_batch([c.lower() for c in captions])]
        found = [[i for i in ids if i not in (CLS, SEP)][: TOKENS - 1] for ids in found]
        longest = max([2, *(len(ids) + 2 for ids in found)])
        whole = torch.zeros(len(found), longest, dtype=torch.long)
        for n, ids in enumerate(found):
            whole[n, : len(ids) + 2] = torch.tensor([CLS, *ids, SEP])
        return whole, whole != 0

    def read(self, ids: Tensor, there: Tensor) -> Tensor:
        """What `ids` gave -> raw features (n, 20, 384); rows past the text's end, and empty texts, are zero."""
        with torch.no_grad():
            states = self._states(ids.to(self.device), there.to(self.device)).float()
        words = there.to(self.device).clone()
        words[:, 0] = False
        words &= (ids != SEP).to(self.device)
        keep = words[..., None].float()
        whole = (states * there.to(self.device)[..., None]).sum(1) / there.to(self.device).sum(1, keepdim=True)
        rows = torch.cat([whole[:, None], (states * keep)[:, 1:-1]], 1)
        rows = rows * words.any(1)[:, None, None]
        return F.pad(rows, (0, 0, 0, TOKENS - rows.shape[1]))

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Captions -> raw features, float32."""
        return self.read(*self.ids(captions))

    def _states(self, ids: Tensor, there: Tensor) -> Tensor:
        """BERT: (n, tokens) -> (n, tokens, 384) after the last layer."""
        w = self.weights
        at = ids if self.rows is None else self._row(ids)
        emb = "embeddings."
        h = w[f"{emb}word_embeddings.weight"][at] + w[f"{emb}position_embeddings.weight"][: ids.shape[1]]
        h = self._norm(h + w[f"{emb}token_type_embeddings.weight"][0], f"{emb}LayerNorm")
        n, length, _ = h.shape
        mask = there[:, None, None]
        for layer in range(LAYERS):
            p = f"encoder.layer.{layer}."
            q, k, v = (
                self._linear(h, f"{p}attention.self.{x}").view(n, length, HEADS, -1).transpose(1, 2)
                for x in ("query", "key", "value")
            )
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(n, length, WIDTH)
            h = self._norm(h + self._linear(a, f"{p}attention.output.dense"), f"{p}attention.output.LayerNorm")
            inner = F.gelu(self._linear(h, f"{p}intermediate.dense"))
            h = self._norm(h + self._linear(inner, f"{p}output.dense"), f"{p}output.LayerNorm")
        return h

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        w, b = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(x.to(w.dtype), (WIDTH,), w, b, 1e-12)

    def _row(self, ids: Tensor) -> Tensor:
        assert self.rows is not None
        rows = self.rows.to(ids.device)
        at = torch.searchsorted(rows, ids).clamp(max=len(rows) - 1)
        if bool((rows[at] != ids).any()):
            raise WeightsError("A caption holds a word that the small text encoder was packed without; pack it again.")
        return at

    def save_small(self, folder: Path, captions: Sequence[str]) -> None:
        """A copy in a sixth of the space: int8 with a scale per row, embeddings of these captions' tokens only."""
        from safetensors.torch import save_file

        ids, _ = self.ids(captions)
        rows = torch.unique(torch.cat([ids.reshape(-1), torch.tensor([0, 100, CLS, SEP])]))
        small: dict[str, Tensor] = {"rows": rows}
        for name, weight in self.weights.items():
            if name.startswith("pooler"):
                continue
            kept = weight[rows] if "word_embeddings" in name else weight[:64] if "position_emb" in name else weight
            if kept.ndim == 2 and len(kept) > 2:
                scale = kept.abs().amax(1).clamp(min=1e-8) / 127
                small |= {name: (kept / scale[:, None]).round().to(torch.int8), f"{name}.scale": scale.half()}
            else:
                small[name] = kept.half()
        folder.mkdir(parents=True, exist_ok=True)
        save_file(small, folder / "model.safetensors")
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


def _wide(found: Mapping[str, Tensor], name: str) -> Tensor:
    """A weight in float32, whatever it was kept as."""
    scale = found.get(f"{name}.scale")
    return found[name].float() if scale is None else found[name].float() * scale.float()[:, None]


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of the trained part. `heads`: (what, the row that says it, how many answers there are)."""

    features: int = WIDTH
    tokens: int = TOKENS
    width: int = 256
    layers: int = 2
    attention: int = 4
    rows: int = 6
    heads: tuple[tuple[str, int, int], ...] = ()


class Reader(nn.Module):
    """Features (n, 20, 384) -> condition (n, 6, 256): one row for each thing that a generator has to know.

    Learnt queries read the tokens (a Q-Former, arXiv 2301.12597); each row has length sqrt(256). `says`
    compares rows with keys: what is wanted is the key that lies nearest, for whoever makes the row: this
    reader, or the output projector of an end-to-end model. The features are whitened first, with what
    `fit` measured: MiniLM's states share a few large directions, beside which names would be learnt last.
    """

    config_class = ReaderConfig
    whole_mean: Tensor
    whole_turn: Tensor
    token_mean: Tensor
    token_turn: Tensor
    SHARPNESS = 20.0

    def __init__(self, config: ReaderConfig):
        super().__init__()
        c = self.config = config
        for kind in ("whole", "token"):
            self.register_buffer(f"{kind}_mean", torch.zeros(c.features))
            self.register_buffer(f"{kind}_turn", torch.eye(c.features))
        self.inside = nn.Linear(c.features, c.width)
        self.place = nn.Parameter(torch.randn(c.tokens, c.width) * 0.02)
        self.asks = nn.Parameter(torch.randn(c.rows, c.width) * 0.3)
        layer = [
            nn.TransformerEncoderLayer(
                c.width, c.attention, 3 * c.width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(c.layers)
        ]
        self.layers = nn.ModuleList(layer)
        self.norm = nn.LayerNorm(c.width, elementwise_affine=False)
        self.keys = nn.ParameterDict({what: nn.Parameter(torch.randn(count, c.width)) for what, _, count in c.heads})

    def whitened(self, features: Tensor) -> Tensor:
        """Rows that are zero stay zero."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            whole = (features[:, :1] - self.whole_mean) @ self.whole_turn
            tokens = (features[:, 1:] - self.token_mean) @ self.token_turn
            return torch.cat([whole, tokens], 1) * (features.abs().amax(-1, keepdim=True) > 0)

    def forward(self, features: Tensor) -> Tensor:
        """(n, 20, 384) -> (n, 6, 256), float32."""
        x = self.whitened(features)
        gone = features.abs().amax(-1) == 0
        asks = self.asks.expand(len(x), -1, -1)
        h = torch.cat([asks, (self.inside(x) + self.place[: x.shape[1]]).to(asks.dtype)], 1)
        gone = torch.cat([gone.new_zeros(len(x), asks.shape[1]), gone], 1)
        for layer in self.layers:
            h = layer(h, src_key_padding_mask=gone)
        return self.norm(h[:, : asks.shape[1]].float())

    def says(self, condition: Tensor) -> dict[str, Tensor]:
        """(n, 6, 256) -> logits (n, answers) of every head."""
        rows = F.normalize(condition.float(), dim=-1)
        return {
            what: self.SHARPNESS * rows[:, row] @ F.normalize(self.keys[what].float(), dim=-1).T
            for what, row, _ in self.config.heads
        }

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Measures what whitens these features (a sample of some thousand captions)."""
        flat = features[:, 1:].reshape(-1, self.config.features)
        for kind, sample in (("whole", features[:, 0]), ("token", flat)):
            sample = sample[sample.abs().amax(1) > 0].double().cpu()
            mean = sample.mean(0)
            values, vectors = torch.linalg.eigh(torch.cov((sample - mean).T))
            turn = vectors @ torch.diag((values.clamp(min=0) + 0.1 * values.mean()).rsqrt()) @ vectors.T
            getattr(self, f"{kind}_mean").copy_(mean)
            getattr(self, f"{kind}_turn").copy_(turn)


def read_config(folder: Path, kind: type) -> Any:
    """A part's config.json as its dataclass. WeightsError when it is none."""
    try:
        raw = {k: _tuples(v) for k, v in json.loads((folder / "config.json").read_text()).items()}
        return kind(**{k: v for k, v in raw.items() if not k.startswith("_")})
    except (OSError, ValueError, TypeError) as e:
        raise WeightsError(f"No usable config.json in {folder}: {e}.") from e


def _tuples(value: Any) -> Any:
    """Lists of JSON as tuples, at any depth."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
