"""A compact Llama forward pass in plain torch, for decoding one sequence on a CPU (or one GPU).

    net = Llama.open(folder, adapter=None, device="cpu", precision="int8")
    kv = net.kv(0)
    logits = net.forward([1, 2, 3], kv)             # (vocabulary,), after the last token

`folder` holds config.json and model.safetensors as transformers writes them. A 135M model spends
its time in dispatch and in reading weights: hence the joined qkv and gate-up weights, keys and
values in one preallocated buffer, and, with precision "int8", weights of one byte each
(symmetric, one scale per output row) for steps of a few tokens. Longer pieces use the dense
weights, where arithmetic counts, not reading. `tests/test_smollm.py` holds it equal to transformers.
Imported lazily: needs torch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError, WeightsError
from .precision import fast_bfloat16

Precision = Literal["fp32", "bf16", "int8"]
FEW = 12  # rows up to which the int8 kernel is faster than dense bfloat16
MOST_THREADS = 2
KEPT_PACKED = 4  # int8 copies on disk: one per model and adapter
CHUNK = 256  # tokens of one prefill pass: activations stay in the cache, attention skips the future
ROOM = 256  # positions a key-value buffer grows by


@dataclass(frozen=True)
class Shape:
    """The sizes in config.json that matter here."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    positions: int
    theta: float
    eps: float
    tied: bool

    @classmethod
    def read(cls, folder: Path) -> Shape:
        """From a folder's config.json; WeightsError when it is no plain Llama."""
        try:
            c: dict[str, Any] = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as e:
            raise WeightsError(f"No readable config.json in {folder}: {e}.") from e
        rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
        plain = rope.get("rope_type", "default") == "default" and not c.get("attention_bias") and not c.get("mlp_bias")
        if c.get("model_type") != "llama" or c.get("hidden_act", "silu") != "silu" or not plain:
            raise WeightsError(f"{folder} is no plain Llama (model type '{c.get('model_type')}'); use transformers.")
        heads = c["num_attention_heads"]
        return cls(
            c["hidden_size"], c["num_hidden_layers"], heads, c.get("num_key_value_heads") or heads,
            c.get("head_dim") or c["hidden_size"] // heads, c["max_position_embeddings"],
            rope.get("rope_theta") or c.get("rope_theta", 10000.0), c["rms_norm_eps"],
            c.get("tie_word_embeddings", False),
        )  # fmt: skip


class Matrix:
    """One weight (out, in). Dense; or int8 with a scale per row, made dense when many rows first meet it."""

    __slots__ = ("_dense", "packed", "scale")

    def __init__(self, dense: Tensor | None, packed: Tensor | None = None, scale: Tensor | None = None):
        self._dense: Any = dense
        self.packed: Any = packed  # with `scale`, or None: then `_dense` is there
        self.scale: Any = scale

    @classmethod
    def pack(cls, dense: Tensor) -> Matrix:
        """The int8 form of a dense weight."""
        scale = (dense.abs().amax(1).float().clamp_(min=1e-8) / 127).bfloat16()
        packed = torch.mul(dense, 1 / scale.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        return cls(None, packed, scale)

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) -> (n, out)."""
        if self.packed is not None and x.shape[0] <= FEW:
            return torch._weight_int8pack_mm(x.bfloat16(), self.packed, self.scale).to(x.dtype)
        if self._dense is None:
            self._dense = self.rows(slice(None), x.dtype)
        return F.linear(x, self._dense)

    def rows(self, which: Tensor | slice, dtype: torch.dtype) -> Tensor:
        """Some rows, dense: what an embedding looks up."""
        if self.packed is None:
            return self._dense[which].to(dtype)
        return self.packed[which].to(dtype) * self.scale[which, None].to(dtype)

    @property
    def shape(self) -> torch.Size:
        """(out, in)."""
        return (self._dense if self.packed is None else self.packed).shape

    @property
    def nbytes(self) -> int:
        """Bytes that a step of one token reads."""
        return (self._dense if self.packed is None else self.packed).nbytes


class Source:
    """Where a Llama's weights come from: transformers' names in, joined matrices and norms out."""

    def __init__(self, get: Callable[[str], Tensor], dtype: torch.dtype, device: str, pack: bool):
        self.get, self.dtype, self.device, self.pack = get, dtype, device, pack
        self.given: dict[str, Tensor] = {}  # all that was handed out, to be saved and taken up by `Packed`

    def matrix(self, key: str, *names: str) -> Matrix:
        """Weights of these names below one another."""
        parts = [self.get(f"{n}.weight") for n in names]
        dense = parts[0] if len(parts) == 1 else torch.cat(parts)
        if not self.pack:
            return Matrix(dense.to(self.device, self.dtype))
        made = Matrix.pack(dense)
        self.given |= {f"{key}.packed": made.packed, f"{key}.scale": made.scale}
        return made

    def norm(self, name: str) -> Tensor:
        """A norm's weight in float32."""
        self.given[name] = self.get(f"{name}.weight").to(self.device, torch.float32)
        return self.given[name]


class Packed:
    """A `Source` that finds everything as an earlier one handed it out."""

    def __init__(self, found: dict[str, Tensor]):
        self.found = found

    def matrix(self, key: str, *names: str) -> Matrix:
        """By its key; the names have been joined already."""
        return Matrix(None, self.found[f"{key}.packed"], self.found[f"{key}.scale"])

    def norm(self, name: str) -> Tensor:
        """By its name."""
        return self.found[name]


@dataclass
class Block:
    """The weights of one layer."""

    norm1: Tensor
    qkv: Matrix
    out: Matrix
    norm2: Tensor
    gate_up: Matrix
    down: Matrix


class KV:
    """Keys and values of one sequence: two buffers (layers, kv heads, room, head), `length` of it in use."""

    def __init__(self, shape: Shape, room: int, like: Tensor):
        self.k = like.new_empty(shape.layers, shape.kv_heads, room, shape.head)
        self.v = torch.empty_like(self.k)
        self.length = 0

    def reserve(self, length: int) -> None:
        """Makes room for `length` positions."""
        if length > self.k.shape[2]:
            room = length + ROOM - self.k.shape[2]
            self.k, self.v = _with_room(self.k, room), _with_room(self.v, room)

    def copy(self, room: int = 0) -> KV:
        """An independent copy of what is in use, with room for more."""
        new = object.__new__(KV)
        new.k, new.v = (_with_room(t[:, :, : self.length], room) for t in (self.k, self.v))
        new.length = self.length
        return new

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.k.nbytes + self.v.nbytes


def _with_room(kept: Tensor, room: int) -> Tensor:
    return torch.cat([kept, kept.new_empty(*kept.shape[:2], room, kept.shape[3])], 2)


class Pace:
    """Chooses how many threads work: as many as one-token steps are fastest with at present.

    Beside other busy programs, threads that wait for one another at every step are ten times slower
    than one alone. Every 32nd step tries the other number; more threads only where cores are idle.
    """

    def __init__(self, most: int):
        self.most = most
        self.best = most if _idle_cores() >= most - 0.5 else 1
        self._now = self.best
        self._seconds: dict[int, float] = {}
        self._steps = 0
        self._started: float | None = None

    def start(self, tokens: int) -> None:
        """Before a pass over so many tokens."""
        self._now = self.best
        self._started = None
        if tokens == 1 and self.most > 1:
            self._steps += 1
            if self._steps % 32 in (3, 4):  # twice: the first step with other threads also starts them
                other = 1 if self.best > 1 else self.most
                self._now = other if other == 1 or _idle_cores() >= other - 1.5 else self.best
            self._started = time.perf_counter() if self._steps % 32 != 3 else None
        if torch.get_num_threads() != self._now:
            torch.set_num_threads(self._now)

    def end(self) -> None:
        """After it."""
        if self._started is None:
            return
        took, before = time.perf_counter() - self._started, self._seconds.get(self._now)
        self._seconds[self._now] = took if before is None or self._now != self.best else 0.8 * before + 0.2 * took
        self.best = min(self._seconds, key=self._seconds.__getitem__)


def _idle_cores() -> float:
    """Cores without work over the last minute (this process counts as work); all where the system does not say."""
    return (os.cpu_count() or 1) - (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0)


class Llama:
    """The network. `forward` may be called from one thread at a time."""

    def __init__(self, shape: Shape, source: Source | Packed, dtype: torch.dtype, device: str = "cpu"):
        self.shape, self.dtype, self.device = shape, dtype, device
        self.pace = Pace(MOST_THREADS if device == "cpu" else 1)
        self.blocks = []
        for n in range(shape.layers):
            at = f"model.layers.{n}"
            self.blocks.append(
                Block(
                    source.norm(f"{at}.input_layernorm"),
                    source.matrix(f"{n}.qkv", *(f"{at}.self_attn.{p}_proj" for p in "qkv")),
                    source.matrix(f"{n}.out", f"{at}.self_attn.o_proj"),
                    source.norm(f"{at}.post_attention_layernorm"),
                    source.matrix(f"{n}.gate_up", f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj"),
                    source.matrix(f"{n}.down", f"{at}.mlp.down_proj"),
                )
            )
        self.norm = source.norm("model.norm")
        self.embed = source.matrix("embed", "model.embed_tokens")
        self.head = self.embed if shape.tied else source.matrix("head", "lm_head")
        self.cos, self.sin = self._rotary(2048)

    @classmethod
    def open(
        cls,
        folder: Path,
        adapter: Path | None = None,
        device: str = "cpu",
        precision: Precision = "int8",
        packed: Path | None = None,
    ) -> Llama:
        """From a folder of transformers' layout, with a peft LoRA folder merged into the weights.

        `packed` is a file that the int8 weights are kept in: the next start maps it and is ready.
        """
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file, save_file

        shape, dtype = Shape.read(folder), _compute_type(precision, device)
        if packed and packed.exists():
            with suppress(OSError, SafetensorError, KeyError):  # an unreadable copy is made again
                return cls(shape, Packed(load_file(packed)), dtype)
        delta = Adapter.open(adapter) if adapter else None
        threads = torch.get_num_threads()
        torch.set_num_threads(Pace(MOST_THREADS).best)
        try:
            with torch.inference_mode(), safe_open(folder / "model.safetensors", "pt") as f:
                get = f.get_tensor if delta is None else lambda name: delta.merged(name, f.get_tensor(name))
                source = Source(get, dtype, device, precision == "int8" and device == "cpu")
                net = cls(shape, source, dtype, device)
        except (OSError, SafetensorError) as e:
            raise WeightsError(f"{folder / 'model.safetensors'} cannot be opened: {e}.") from e
        finally:
            torch.set_num_threads(threads)
        if delta is not None:
            delta.check_all_used()
        if packed and source.pack:
            part = packed.with_suffix(f".{os.getpid()}.part")
            with suppress(OSError):  # a full or read-only disk costs time at the next start, nothing else
                packed.parent.mkdir(parents=True, exist_ok=True)
                save_file(source.given, part)
                part.replace(packed)
                files = sorted(packed.parent.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)
                for old in files[:-KEPT_PACKED]:
                    old.unlink()
        return net

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        return self.embed.shape[0]

    def bytes_per_token(self) -> int:
        """Bytes of weights that decoding one token reads."""
        return sum(m.nbytes for b in self.blocks for m in (b.qkv, b.out, b.gate_up, b.down)) + self.head.nbytes

    def kv(self, room: int) -> KV:
        """An empty key-value buffer."""
        return KV(self.shape, room + ROOM, self.cos)

    def forward(self, ids: Sequence[int], kv: KV, every: bool = False) -> Tensor:
        """Reads `ids` after what `kv` holds and extends it.

        Logits in float32: (vocabulary,) after the last token or, with `every`, (len(ids), vocabulary).
        InputError past the last position the model knows.
        """
        self._make_room(len(ids), kv)
        kept = []
        for start in range(0, len(ids), CHUNK):
            self.pace.start(len(ids))
            which = torch.tensor(ids[start : start + CHUNK], device=self.device)
            hidden = self._read(self.embed.rows(which, torch.float32), kv)
            if every:
                kept.append(hidden)
        last = torch.cat(kept) if every else hidden[-1:]
        x = F.rms_norm(last, (self.shape.width,), self.norm, self.shape.eps).to(self.dtype)
        logits = self.head(x).float()
        self.pace.end()
        return logits if every else logits[0]

    def states(self, vectors: Tensor, kv: KV) -> Tensor:
        """Reads vectors in place of tokens: (n, width) -> the states after the final norm, (n, width) in float32."""
        self._make_room(len(vectors), kv)
        kept = []
        for part in vectors.split(CHUNK):
            self.pace.start(len(vectors))
            kept.append(self._read(part.float(), kv))
        self.pace.end()
        return F.rms_norm(torch.cat(kept), (self.shape.width,), self.norm, self.shape.eps)

    def _make_room(self, more: int, kv: KV) -> None:
        """For so many further positions; InputError past the last one the model knows."""
        end = kv.length + more
        if end > self.shape.positions:
            most = self.shape.positions
            raise InputError(f"The text is {end} tokens long and the local model reads {most}; shorten it.")
        while end > self.cos.shape[0]:
            self.cos, self.sin = self._rotary(min(2 * self.cos.shape[0], self.shape.positions))
        kv.reserve(end)

    def _read(self, h: Tensor, kv: KV) -> Tensor:
        """One pass over a chunk: (n, width) vectors -> (n, width) hidden states in float32."""
        s, n, past = self.shape, len(h), kv.length
        end, group, qk_heads = past + n, s.heads // s.kv_heads, s.heads + s.kv_heads
        cos, sin = self.cos[past:end], self.sin[past:end]
        mask = None
        if n > 1:  # query rows are (group, n): the heads that share keys stand below one another
            mask = torch.ones(n, end, dtype=torch.bool, device=self.device).tril_(past)
            mask = mask.repeat(group, 1)
        for b, k, v in zip(self.blocks, kv.k, kv.v, strict=True):
            x = F.rms_norm(h, (s.width,), b.norm1, s.eps).to(self.dtype)
            qkv = b.qkv(x).view(n, qk_heads + s.kv_heads, s.head)
            qk = qkv[:, :qk_heads]
            qk = torch.addcmul(qk * cos, qk.roll(s.head // 2, -1), sin)
            k[:, past:end] = qk[:, s.heads :].transpose(0, 1)
            v[:, past:end] = qkv[:, qk_heads:].transpose(0, 1)
            q = qk[:, : s.heads].transpose(0, 1).reshape(1, s.kv_heads, group * n, s.head)
            a = F.scaled_dot_product_attention(q, k[None, :, :end], v[None, :, :end], attn_mask=mask)
            a = a.view(s.heads, n, s.head).transpose(0, 1).reshape(n, s.heads * s.head)
            h = h + b.out(a)
            x = F.rms_norm(h, (s.width,), b.norm2, s.eps).to(self.dtype)
            gate, up = b.gate_up(x).chunk(2, -1)
            h = h + b.down(F.silu(gate) * up)
        kv.length = end
        return h

    def _rotary(self, positions: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin, (positions, 1, head): x * cos + roll(x) * sin turns x by its position."""
        half = torch.arange(0, self.shape.head, 2, device=self.device).float() / self.shape.head
        angle = torch.arange(positions, device=self.device).float()[:, None] / self.shape.theta**half
        cos, sin = angle.cos(), angle.sin()
        pair = torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)
        return pair[0][:, None].to(self.dtype), pair[1][:, None].to(self.dtype)


class Adapter:
    """A LoRA folder as peft saves it, without peft: W + scale * B @ A for each named weight."""

    def __init__(self, folder: Path, scale: float, weights: dict[str, Tensor]):
        self.folder = folder
        self.scale = scale
        self.weights = weights
        self._unused = set(weights)

    @classmethod
    def open(cls, folder: Path) -> Adapter:
        """WeightsError for what a plain merge would get wrong (DoRA, per-module ranks, biases)."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            config = json.loads((folder / "adapter_config.json").read_text())
            weights = load_file(folder / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as e:
            raise WeightsError(f"The adapter in {folder} cannot be read: {e}.") from e
        odd = [k for k in ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "lora_bias") if config.get(k)]
        odd += [k for k in weights if ".lora_A." not in k and ".lora_B." not in k]
        if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or odd:
            why = ", ".join(odd[:3]) or config.get("peft_type")
            raise WeightsError(f"The adapter in {folder} is no plain LoRA ({why}); save it as one.")
        rank = config["r"]
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        return cls(folder, scale, weights)

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """`weight`, with the change the adapter holds for that name."""
        stem = "base_model.model." + name.removesuffix(".weight")
        a, b = (self.weights.get(f"{stem}.lora_{x}.weight") for x in "AB")
        if a is None or b is None:
            return weight
        self._unused -= {f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"}
        if (b.shape[0], a.shape[1]) != tuple(weight.shape):
            raise WeightsError(f"The adapter in {self.folder} does not fit: '{name}' is {tuple(weight.shape)}.")
        return torch.addmm(weight.float(), b.float(), a.float(), alpha=self.scale).to(weight.dtype)

    def check_all_used(self) -> None:
        """WeightsError when some of the adapter belongs to no weight of the model."""
        if self._unused:
            raise WeightsError(f"The adapter in {self.folder} does not fit: the model has no '{min(self._unused)}'.")


def _compute_type(precision: Precision, device: str) -> torch.dtype:
    """float32 where asked or where the CPU would only emulate bfloat16."""
    if precision == "fp32":
        return torch.float32
    if device == "cpu" and precision == "int8" and not fast_bfloat16("cpu"):
        return torch.float32
    return torch.bfloat16
