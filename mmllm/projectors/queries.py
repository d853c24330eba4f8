"""Input projectors with learnable queries: Q-Former (BLIP-2) and cross-attention resampler (Flamingo, Qwen-VL).

QFormer(features=256, hidden=576, tokens=8)       # self-attention over the queries, then over the features
Resampler(features=256, hidden=576, tokens=8)     # queries look at features and themselves at once
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Setting


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class QFormerLayer(nn.Module):
    """Queries attend to one another, then to the features, then each goes through two linear layers."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.own = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.forward_part = _feed_forward(width)

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """(n, q, width), (n, t, width) -> (n, q, width)."""
        x = self.norm1(queries)
        queries = queries + self.own(x, x, x, need_weights=False)[0]
        queries = queries + self.cross(self.norm2(queries), features, features, need_weights=False)[0]
        return queries + self.forward_part(queries)


class ResamplerLayer(nn.Module):
    """Queries attend to the features and to one another in one step (Perceiver)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.forward_part = _feed_forward(width)

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """(n, q, width), (n, t, width) -> (n, q, width)."""
        x = self.norm1(queries)
        seen = torch.cat([self.norm2(features), x], 1)
        queries = queries + self.cross(x, seen, seen, need_weights=False)[0]
        return queries + self.forward_part(queries)


class QueryProjector(nn.Module):
    """`tokens` learnable queries through layers of one kind. (n, t, features) -> (n, tokens, hidden)."""

    layer: type[nn.Module]

    def __init__(self, features: int, hidden: int, tokens: int, width: int = 256, layers: int = 2, heads: int = 4):
        super().__init__()
        self.tokens = tokens
        self.enter = nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))
        self.queries = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.layers = nn.ModuleList(type(self).layer(width, heads) for _ in range(layers))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden))

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        seen = self.enter(features)
        queries = self.queries.expand(len(features), -1, -1)
        for layer in self.layers:
            queries = layer(queries, seen)
        return self.leave(queries)


class QFormer(QueryProjector):
    """The querying transformer."""

    layer = QFormerLayer


class Resampler(QueryProjector):
    """The cross-attention resampler."""

    layer = ResamplerLayer


def qformer(options: Mapping[str, Any], setting: Setting) -> QFormer:
    """Factory; options width, layers, heads."""
    return QFormer(**dict(setting.sizes or {}), **options)


def resampler(options: Mapping[str, Any], setting: Setting) -> Resampler:
    """Factory; options width, layers, heads."""
    return Resampler(**dict(setting.sizes or {}), **options)
