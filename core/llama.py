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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import InputError, WeightsError

Precision = Literal["fp32", "bf16", "int8"]
FEW = 12  # rows up to which the int8 kernel is faster than dense bfloat16
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
            rope.get("rope_theta") or c.get("rope_theta", 10000.0), c["rms_norm_eps"], c.get("tie_word_embeddings", False),
        )  # fmt: skip


class Matrix:
    """One weight (out, in): dense for many rows at once and, where packed, int8 for a few."""

    __slots__ = ("dense", "packed", "scale")

    def __init__(self, dense: Tensor, pack: bool = False):
        self.dense = dense
        self.packed = self.scale = None
        if pack:
            scale = dense.abs().amax(1, keepdim=True).float().clamp_(min=1e-8) / 127
            self.packed = torch.mul(dense, 1 / scale).round_().to(torch.int8)
            self.scale = scale.squeeze(1).bfloat16()

    def __call__(self, x: Tensor) -> Tensor:
        """(n, in) -> (n, out)."""
        if self.packed is not None and x.shape[0] <= FEW:
            return torch._weight_int8pack_mm(x.bfloat16(), self.packed, self.scale).to(x.dtype)
        return F.linear(x, self.dense)


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
            self.k, self.v = (F.pad(t, (0, 0, 0, length + ROOM - t.shape[2])) for t in (self.k, self.v))

    def copy(self, room: int = 0) -> KV:
        """An independent copy of what is in use, with room for more."""
        new = object.__new__(KV)
        new.k, new.v = (
            F.pad(t[:, :, : self.length], (0, 0, 0, room)).contiguous().clone() if not room
            else F.pad(t[:, :, : self.length], (0, 0, 0, room))
            for t in (self.k, self.v)
        )  # fmt: skip
        new.length = self.length
        return new

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.k.nbytes + self.v.nbytes


class Llama:
    """The network. `forward` may be called from one thread at a time."""

    def __init__(self, shape: Shape, get: Callable[[str], Tensor], precision: Precision, device: str):
        self.shape = shape
        self.device = device
        self.precision = precision
        self.dtype = _compute_type(precision, device)
        pack = precision == "int8" and device == "cpu"

        def matrix(*names: str) -> Matrix:
            parts = [get(f"{n}.weight").to(device, self.dtype) for n in names]
            return Matrix(parts[0] if len(parts) == 1 else torch.cat(parts), pack)

        def norm(name: str) -> Tensor:
            return get(f"{name}.weight").to(device, torch.float32)

        self.embed = get("model.embed_tokens.weight").to(device, self.dtype)
        self.blocks = []
        for n in range(shape.layers):
            at = f"model.layers.{n}"
            self.blocks.append(
                Block(
                    norm(f"{at}.input_layernorm"),
                    matrix(*(f"{at}.self_attn.{p}_proj" for p in "qkv")),
                    matrix(f"{at}.self_attn.o_proj"),
                    norm(f"{at}.post_attention_layernorm"),
                    matrix(f"{at}.mlp.gate_proj", f"{at}.mlp.up_proj"),
                    matrix(f"{at}.mlp.down_proj"),
                )
            )
        self.norm = norm("model.norm")
        self.head = Matrix(self.embed, pack) if shape.tied else matrix("lm_head")
        self.cos, self.sin = self._rotary(2048)

    @classmethod
    def open(
        cls, folder: Path, adapter: Path | None = None, device: str = "cpu", precision: Precision = "int8"
    ) -> Llama:
        """From a folder of transformers' layout, with a peft LoRA folder merged into the weights."""
        from safetensors import SafetensorError, safe_open

        shape = Shape.read(folder)
        delta = Adapter.open(adapter) if adapter else None
        try:
            with torch.inference_mode(), safe_open(folder / "model.safetensors", "pt") as f:
                get = f.get_tensor if delta is None else lambda name: delta.merged(name, f.get_tensor(name))
                net = cls(shape, get, precision, device)
        except (OSError, SafetensorError) as e:
            raise WeightsError(f"{folder / 'model.safetensors'} cannot be opened: {e}.") from e
        if delta is not None:
            delta.check_all_used()
        return net

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding."""
        return self.embed.shape[0]

    def bytes_per_token(self) -> int:
        """Bytes of weights that decoding one token reads."""
        matrices = [m for b in self.blocks for m in (b.qkv, b.out, b.gate_up, b.down)] + [self.head]
        return sum((m.dense if m.packed is None else m.packed).nbytes for m in matrices)

    def kv(self, room: int) -> KV:
        """An empty key-value buffer."""
        return KV(self.shape, room + ROOM, self.embed)

    def forward(self, ids: Sequence[int], kv: KV, every: bool = False) -> Tensor:
        """Reads `ids` after what `kv` holds and extends it.

        Logits in float32: (vocabulary,) after the last token or, with `every`, (len(ids), vocabulary).
        InputError past the last position the model knows.
        """
        end = kv.length + len(ids)
        if end > self.shape.positions:
            raise InputError(f"The text is {end} tokens long and the local model reads {self.shape.positions}; shorten it.")
        while end > self.cos.shape[0]:
            self.cos, self.sin = self._rotary(min(2 * self.cos.shape[0], self.shape.positions))
        kv.reserve(end)
        kept = []
        for start in range(0, len(ids), CHUNK):
            hidden = self._read(torch.tensor(ids[start : start + CHUNK], device=self.device), kv)
            if every:
                kept.append(hidden)
        last = torch.cat(kept) if every else hidden[-1:]
        x = F.rms_norm(last, (self.shape.width,), self.norm, self.shape.eps).to(self.dtype)
        logits = self.head(x).float()
        return logits if every else logits[0]

    def _read(self, ids: Tensor, kv: KV) -> Tensor:
        """One pass over a chunk: (n,) token ids -> (n, width) hidden states in float32."""
        s, n, past = self.shape, len(ids), kv.length
        end, group, qk_heads = past + n, s.heads // s.kv_heads, s.heads + s.kv_heads
        cos, sin = self.cos[past:end], self.sin[past:end]
        mask = None
        if n > 1:  # query rows are (group, n): the heads that share keys stand below one another
            mask = torch.ones(n, end, dtype=torch.bool, device=self.device).tril_(past)
            mask = mask.repeat(group, 1)
        h = self.embed[ids].float()
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
            raise WeightsError(f"The adapter in {folder} is no plain LoRA ({', '.join(odd[:3]) or config.get('peft_type')}).")
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
    if device == "cpu" and precision == "int8" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    return torch.bfloat16
