"""What makes a step through a frozen Llama cheaper on a CPU; its results stay what they were.

    quicken(lm)                 # in place, for training; `lm` is a transformers model

Attention's fused kernel spends most of a short sequence's step in its backward pass, where plain products do; and a
norm written as single operations goes over its input some twenty times, forward and back. What it saves on this
machine: `benchmarks/mmllm_step.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FrozenNorm(torch.autograd.Function):
    """x / rms(x) * weight, where the weight does not train. (…, width)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Sums in float32, the result in the type of `x`."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (length.square() / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).to(x.dtype) * weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of `x` alone."""
        x, weight, scale = ctx.saved_tensors
        g = grads[0] * weight
        along = (g * x).sum(-1, keepdim=True, dtype=torch.float32) * scale.pow(3) / x.shape[-1]
        return torch.addcmul(g * scale, x.float(), along, value=-1).to(x.dtype), None, None


def quicken(lm: Any) -> int:
    """Plain attention and norms of one piece; returns how many norms were replaced. Norms that train stay."""
    lm.set_attn_implementation("eager")
    count = 0
    for module in lm.modules():
        if _is_norm(module) and not module.weight.requires_grad:
            module.forward = _forward(module)
            count += 1
    return count


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")


def _forward(norm: Any) -> Any:
    def forward(x: Tensor) -> Tensor:
        return FrozenNorm.apply(x, norm.weight, norm.variance_epsilon)

    return forward
