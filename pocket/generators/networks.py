"""The blocks that the pocket autoencoder and UNet are built from.

Norms are over channels at each place (ConvNeXt, arXiv 2201.03545): channels lie side by side in memory
(channels_last), so this reads memory once where a group norm of two spatial passes was a quarter of a
step's time on a CPU.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (n, c, h, w), with SiLU after it; `scale` and `shift` (n, c) modulate it."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def plain(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> normalised (n, h, w, c)."""
        x = x.permute(0, 2, 3, 1)
        with torch.autocast(x.device.type, enabled=False):  # in the type that comes; autocast would widen it
            return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), self.bias.to(x.dtype), 1e-5)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """Normalised, modulated, through SiLU."""
        y = self.plain(x)
        if scale is not None and shift is not None:
            y = torch.addcmul(shift[:, None, None].to(y.dtype), y, 1 + scale[:, None, None].to(y.dtype))
        return F.silu(y).permute(0, 3, 1, 2)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(n, heads, tokens, d) each. Written out where it is trained: so few tokens cost a flash kernel more than two
    plain products on a CPU."""
    if not (q.requires_grad and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.float().softmax(-1).to(v.dtype) @ v


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with all its weights zero: a block that ends with it begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """norm, conv, norm, conv, added to what came in. `condition` is the width of the modulation, 0 for none."""

    def __init__(self, inside: int, out: int, condition: int = 0):
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(inside), nn.Conv2d(inside, out, 3, padding=1)
        self.norm2, self.conv2 = ChannelNorm(out), zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.modulation = zeroed(nn.Linear(condition, 2 * out)) if condition else None
        self.skip = nn.Conv2d(inside, out, 1) if inside != out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor | None = None) -> Tensor:
        """(n, inside, h, w), (n, condition) -> (n, out, h, w)."""
        h = self.conv1(self.norm1(x))
        scale, shift = self.modulation(e).chunk(2, 1) if self.modulation is not None else (None, None)
        return self.skip(x) + self.conv2(self.norm2(h, scale, shift))


class JointAttention(nn.Module):
    """Every place of the picture looks at all places and at all tokens of the text in one softmax."""

    def __init__(self, channels: int, context: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.text = nn.Linear(context, 2 * channels, bias=False)
        self.query_norm = nn.RMSNorm(channels // heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(channels // heads, eps=1e-6)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(n, c, h, w), (n, tokens, context) -> (n, c, h, w)."""
        n, c, height, width = x.shape
        y = self.norm.plain(x).reshape(n, height * width, c)
        q, k, v = self._heads(self.qkv(y), 3)
        text_k, text_v = self._heads(self.text(context), 2)
        k, v = torch.cat([k, text_k.to(k.dtype)], 2), torch.cat([v, text_v.to(v.dtype)], 2)
        q, k = self.query_norm(q.float()).to(v.dtype), self.key_norm(k.float()).to(v.dtype)
        y = attention(q, k, v).transpose(1, 2).reshape(n, height * width, c)
        return x + self.out(y).view(n, height, width, c).permute(0, 3, 1, 2)

    def _heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(n, tokens, parts * c) -> `parts` tensors (n, heads, tokens, c / heads)."""
        n, tokens, _ = x.shape
        return x.view(n, tokens, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def wave_features(times: Tensor, width: int = 128) -> Tensor:
    """Times in 0…1000 -> cosines and sines (n, width), as transformers encode positions."""
    rates = torch.exp(torch.arange(width // 2, device=times.device) * (-math.log(10_000.0) / (width // 2)))
    angle = times.float()[:, None] * rates[None]
    return torch.cat([angle.cos(), angle.sin()], 1)
