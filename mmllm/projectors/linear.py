"""Linear and MLP input projectors: each feature to the LLM's width, neighbours averaged down to `tokens` vectors.

LinearProjector(features=1024, hidden=4096, tokens=1)     # NExT-GPT: 4,198,400 parameters
MLPProjector(features=256, hidden=576, tokens=8)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Setting


def pooled(features: Tensor, tokens: int) -> Tensor:
    """(n, t, width) -> (n, tokens, width): neighbouring features averaged, or repeated where there are fewer."""
    if features.shape[1] == tokens:
        return features
    return F.adaptive_avg_pool1d(features.transpose(1, 2), tokens).transpose(1, 2)


class LinearProjector(nn.Module):
    """One linear layer. (n, t, features) -> (n, tokens, hidden)."""

    def __init__(self, features: int, hidden: int, tokens: int):
        super().__init__()
        self.tokens = tokens
        self.map = nn.Linear(features, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.map(pooled(features, self.tokens))


class MLPProjector(nn.Module):
    """Norm, two linear layers with GELU between, as LLaVA-1.5. (n, t, features) -> (n, tokens, hidden)."""

    def __init__(self, features: int, hidden: int, tokens: int, width: int | None = None):
        super().__init__()
        self.tokens = tokens
        self.norm = nn.LayerNorm(features)
        self.enter = nn.Linear(features, width or hidden)
        self.leave = nn.Linear(width or hidden, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.leave(F.gelu(self.enter(self.norm(pooled(features, self.tokens)))))


def linear(options: Mapping[str, Any], setting: Setting) -> LinearProjector:
    """Factory."""
    return LinearProjector(**dict(setting.sizes or {}), **options)


def mlp(options: Mapping[str, Any], setting: Setting) -> MLPProjector:
    """Factory; `width` is the size between the layers."""
    return MLPProjector(**dict(setting.sizes or {}), **options)
