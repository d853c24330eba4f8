"""The output projector: a small transformer from the states of a signal run to a generator's condition.

    SignalTransformer(hidden=4096, tokens=77, out=768, width=512, layers=4, heads=4)   # 31,958,784 parameters

Linear to `width`, an encoder over the signals, a decoder over learnable queries (one per token of
the condition), linear to the condition's width: the mapper of GILL (Koh et al. 2023) that NExT-GPT
took over, pre-norm, feed-forward four times the width. What it reads is the sum of the last hidden
state and the input vector of each signal. Queries begin with unit deviation: zeros would be alike for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Setting


class SignalTransformer(nn.Module):
    """(n, signals, hidden) -> (n, tokens, out)."""

    def __init__(
        self, hidden: int, tokens: int, out: int, width: int = 512, layers: int = 4, heads: int = 4,
        dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.enter = nn.Linear(hidden, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True, norm_first=True)
        encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.transformer = nn.Transformer(
            width, heads, layers, layers, 4 * width, dropout, batch_first=True, norm_first=True, custom_encoder=encoder
        )
        self.queries = nn.Parameter(torch.randn(1, tokens, width))
        self.leave = nn.Linear(width, out)

    def forward(self, states: Tensor) -> Tensor:
        """See the class."""
        return self.leave(self.transformer(self.enter(states), self.queries.expand(len(states), -1, -1)))


def transformer(options: Mapping[str, Any], setting: Setting) -> SignalTransformer:
    """Factory; options width, layers (so many in the encoder and in the decoder), heads, dropout."""
    return SignalTransformer(**dict(setting.sizes or {}), **options)
