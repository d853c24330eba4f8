"""Decoders: a backbone as inference needs it, one sequence at a time, with a cache that can be cut and copied.

    decoder = CompactDecoder.open(folder, adapter)      # our own int8 runner: SmolLM2 with LoRA merged in
    decoder = TransformersDecoder(backbone)             # anything that transformers runs
    state = decoder.start()
    states = decoder.extend(state, decoder.embed([1, 2, 3]))      # (3, hidden)

The pocket backbone is decoded by `core/llama.py`: it starts from a mapped int8 file without importing
transformers or peft, and is made for what a 135M model spends its time on, dispatch and reading
weights. `tests/test_mmllm_inference.py` holds the two equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...core.errors import WeightsError
from ..contracts import Setting
from .language import LanguageBackbone, shape_print, sketched


class Decoder(Protocol):
    """What `inference.py` decodes with."""

    hidden: int
    vocabulary: int

    def start(self) -> Any:
        """An empty cache."""
        ...

    def length(self, state: Any) -> int:
        """Positions in the cache."""
        ...

    def cut(self, state: Any, length: int) -> Any:
        """An independent cache with the first `length` positions of this one."""
        ...

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Ids of the model's own vocabulary -> (n, hidden), float32."""
        ...

    def extend(self, state: Any, vectors: Tensor) -> Tensor:
        """Reads (n, hidden) after what the cache holds -> last hidden states (n, hidden), float32."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """(n, hidden) -> (n, vocabulary), float32."""
        ...


class TransformersDecoder:
    """Over a LanguageBackbone. The cache is transformers' own."""

    def __init__(self, backbone: LanguageBackbone):
        self.backbone = backbone
        self.hidden, self.vocabulary = backbone.hidden, backbone.vocabulary
        self.device = backbone.rows[0].device

    def start(self) -> dict[str, Any]:
        """See Decoder."""
        return {"cache": None, "length": 0}

    def length(self, state: dict[str, Any]) -> int:
        """See Decoder."""
        return int(state["length"])

    def cut(self, state: dict[str, Any], length: int) -> dict[str, Any]:
        """See Decoder."""
        import copy

        if not length:
            return self.start()
        cache = copy.deepcopy(state["cache"])
        if length < state["length"]:
            cache.crop(length - state["length"])  # negative: so many are taken off the end
        return {"cache": cache, "length": length}

    def embed(self, ids: Sequence[int]) -> Tensor:
        """See Decoder."""
        return self.backbone.embed(torch.tensor(list(ids), device=self.device)).float()

    def extend(self, state: dict[str, Any], vectors: Tensor) -> Tensor:
        """See Decoder."""
        dtype = self.backbone.rows[0].dtype
        states, state["cache"] = self.backbone.extend(vectors.to(self.device, dtype), state["cache"])
        state["length"] += len(vectors)
        return states.float()

    def logits(self, states: Tensor) -> Tensor:
        """See Decoder."""
        return self.backbone.logits(states).float()


class CompactDecoder:
    """Over `core/llama.py`: plain Llama models, int8 on a CPU."""

    def __init__(self, net: Any):
        self.net = net
        self.hidden, self.vocabulary = net.shape.width, net.vocabulary

    @classmethod
    def open(
        cls,
        folder: Path,
        adapter: Path | None = None,
        device: str = "cpu",
        precision: Any = "int8",
        cache_dir: Path | None = None,
    ) -> CompactDecoder:
        """`folder` as transformers saves it, `adapter` as peft does. `cache_dir` keeps the packed weights."""
        from ...core.llama import Llama

        packed = None
        if cache_dir is not None and precision == "int8" and device == "cpu":
            packed = cache_dir / "packed" / f"{_print(folder, adapter)}.safetensors"
        return cls(Llama.open(folder, adapter, device, precision, packed))

    def start(self) -> Any:
        """See Decoder."""
        return self.net.kv(0)

    def length(self, state: Any) -> int:
        """See Decoder."""
        return int(state.length)

    def cut(self, state: Any, length: int) -> Any:
        """See Decoder."""
        whole, state.length = state.length, length
        try:
            return state.copy(room=128)
        finally:
            state.length = whole

    def embed(self, ids: Sequence[int]) -> Tensor:
        """See Decoder."""
        return self.net.embed.rows(torch.tensor(list(ids), device=self.net.device), torch.float32)

    def extend(self, state: Any, vectors: Tensor) -> Tensor:
        """See Decoder."""
        return self.net.states(vectors.to(self.net.device), state)

    def logits(self, states: Tensor) -> Tensor:
        """See Decoder."""
        return self.net.head(states.to(self.net.dtype)).float()


class CompactBackbone(nn.Module):
    """A backbone for inference alone, over a CompactDecoder: adapters are merged in, nothing can train."""

    merged = True

    def __init__(self, decoder: CompactDecoder, tokenizer: Any, ends: frozenset[int], folder: Path):
        super().__init__()
        self._decoder = decoder
        self.tokenizer, self.ends, self.folder = tokenizer, ends, folder
        self.hidden, self.vocabulary = decoder.hidden, decoder.vocabulary
        self.tied = bool(decoder.net.shape.tied)
        self.fingerprint = shape_print(json.loads((folder / "config.json").read_text()))

    @classmethod
    def open(cls, folder: Path, adapter: Path | None, setting: Setting, cache_dir: Path | None) -> CompactBackbone:
        """From a folder as transformers saves it; WeightsError when it is no plain Llama."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as e:  # the tokenizers library raises bare Exception
            raise WeightsError(f"No readable tokenizer.json in {folder}: {e}.") from e
        named = map(tokenizer.token_to_id, ("<|im_end|>", "</s>", "<|endoftext|>"))
        ends = frozenset(i for i in named if i is not None)
        precision = "int8" if setting.dtype == "int8" else "bf16" if setting.dtype == "bfloat16" else "fp32"
        decoder = CompactDecoder.open(folder, adapter, setting.device, precision, cache_dir)
        return cls(decoder, tokenizer, ends, folder)

    def sketch(self) -> list[float]:
        """See LanguageBackbone: the values in the file, before they are packed."""
        from safetensors import safe_open

        with safe_open(self.folder / "model.safetensors", "pt") as f:
            weight = f.get_slice("model.embed_tokens.weight")
            return [round(float(weight[r : r + 1][0, c]), 6) for r, c in sketched(*weight.get_shape())]

    def decoder(self) -> CompactDecoder:
        """What inference decodes with."""
        return self._decoder

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """A few rows stand in for all of them: signal rows come from the checkpoint."""
        some = self._decoder.embed(range(16))
        return some, some


def _print(folder: Path, adapter: Path | None) -> str:
    """A name for a base with an adapter: sizes, and the adapter's every byte."""
    found = hashlib.sha256(b"mmllm")
    for file in sorted(folder.glob("*.safetensors")):
        found.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as f:
            for n in range(32):
                f.seek(file.stat().st_size * n // 32)
                found.update(f.read(4096))
    for file in sorted(adapter.glob("*")) if adapter else ():
        found.update(file.read_bytes())
    return found.hexdigest()[:24]
