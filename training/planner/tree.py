"""Attention over a tree: one shared prefix (the tool list) and many branches (requests with plans).

A tool list is ten times longer than a request. Packed as a tree, it is read once for all requests
over it, and a training sample costs a tenth. Registered with transformers as attention "tree":

    model = AutoModelForCausalLM.from_pretrained(..., attn_implementation="tree")
    with layout(prefix_length, branch_lengths):
        model.model(ids, position_ids=positions(prefix_length, branch_lengths))

Every branch sees the prefix and its own past, nothing of other branches, at the positions it
would have alone. `tests/test_planner_training.py` holds it equal to separate sequences.

That is the way of a CPU, where work left out is time saved. A GPU waits for its launches instead: there
several trees are one batch (`batch.py`), and one fused attention reads a mask made on the device:

    mask = tree_mask(parts, torch.bfloat16)     # parts (B, T): 0 in the prefix, n in branch n, -1 behind
    model.model(ids, attention_mask=mask, position_ids=...)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

SPAN = 320  # branches are worked in groups of about this many tokens: one dense block each


@dataclass
class _Group:
    start: int
    end: int
    mask: Tensor  # (length, length): 0 where allowed, -inf where not


@dataclass
class _Layout:
    prefix: int
    causal: Tensor
    groups: list[_Group]


_current: _Layout | None = None


def positions(prefix: int, branches: Sequence[int]) -> Tensor:
    """(1, T) position ids: each branch goes on from the end of the prefix."""
    parts = [torch.arange(prefix)] + [torch.arange(prefix, prefix + b) for b in branches]
    return torch.cat(parts)[None]


@contextmanager
def layout(prefix: int, branches: Sequence[int], dtype: torch.dtype = torch.bfloat16) -> Iterator[None]:
    """Says how the tokens of the forward passes (and their backward) inside are arranged."""
    global _current
    groups: list[_Group] = []
    start, pending = prefix, []
    for n, length in enumerate(branches):
        pending.append(length)
        if sum(pending) >= SPAN or n == len(branches) - 1:
            groups.append(_Group(start, start + sum(pending), _block_mask(pending, dtype)))
            start += sum(pending)
            pending = []
    _current = _Layout(prefix, _block_mask([prefix], dtype), groups)
    try:
        yield
    finally:
        _current = None


def _block_mask(lengths: Sequence[int], dtype: torch.dtype) -> Tensor:
    blocks = [torch.ones(n, n, dtype=torch.bool).tril() for n in lengths]
    allowed = torch.block_diag(*blocks).bool()
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, float("-inf"))


def tree_mask(parts: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, 1, T, T), to be added to scores: 0 where a token may look, -inf where not. No copy from the CPU, no wait.

    `parts` (B, T) numbers the branch of each token: 0 is the prefix, -1 padding behind the last branch.
    """
    at = torch.arange(parts.shape[1], device=parts.device)
    asking, asked = parts[:, :, None], parts[:, None, :]
    allowed = (at[:, None] >= at[None, :]) & ((asked == 0) | (asked == asking))
    return torch.zeros((), dtype=dtype, device=parts.device).where(allowed, float("-inf"))[:, None]


def tree_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: object
) -> tuple[Tensor, None]:
    """transformers' attention interface. query (B, heads, T, d), key and value (B, kv_heads, T, d).

    With a mask, one dense attention over the batch; inside of `layout(...)`, group by group over one tree.
    """
    if attention_mask is not None:
        return _dense(query, key, value, attention_mask), None
    if _current is None:
        raise RuntimeError("tree attention was called outside of `layout(...)`")
    _, heads, length, d = query.shape
    kv = key.shape[1]
    q = (query[0] * d**-0.5).reshape(kv, heads // kv, length, d)
    k, v = key[0], value[0]
    p = _current.prefix
    outs = [_attend(q[:, :, :p], [k[:, :p]], [v[:, :p]], _current.causal)]
    for g in _current.groups:
        outs.append(
            _attend(
                q[:, :, g.start : g.end], [k[:, :p], k[:, g.start : g.end]], [v[:, :p], v[:, g.start : g.end]], g.mask
            )
        )
    out = torch.cat(outs, 2).reshape(heads, length, d)
    return out.transpose(0, 1)[None], None


def _dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """(B, T, heads, d). Heads of keys are repeated: with a mask, the fused kernels do not share them."""
    times = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(times, 1) for x in (key, value))
    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], set_priority=True):
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out.transpose(1, 2)


def _attend(q: Tensor, keys: list[Tensor], values: list[Tensor], mask: Tensor) -> Tensor:
    """Grouped-query attention; `mask` applies to the last block of keys, the others are seen whole."""
    kv, groups, length, d = q.shape
    flat = q.reshape(kv, groups * length, d)
    scores = [torch.bmm(flat, k.transpose(1, 2)).view(kv, groups, length, -1) for k in keys]
    scores[-1] = scores[-1] + mask.to(q.device)
    weights = torch.softmax(torch.cat(scores, -1) if len(scores) > 1 else scores[0], -1)
    joined = torch.cat(values, 1) if len(values) > 1 else values[0]
    return torch.bmm(weights.reshape(kv, groups * length, -1), joined).view(kv, groups, length, d)


def register() -> None:
    """Makes `attn_implementation="tree"` known to transformers."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register("tree", tree_attention)
    AttentionMaskInterface.register("tree", lambda *args, **kwargs: None)
