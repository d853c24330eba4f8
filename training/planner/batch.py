"""Several trees as one batch for a GPU: padded to one length, sent over in a single copy.

batch = Batch.of(episodes).to("cuda")
model.model(batch.ids, attention_mask=tree_mask(batch.parts, dtype), position_ids=batch.places)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import Episode
from .tree import positions

MULTIPLE = 64  # lengths are rounded up to it: fused attention wants aligned masks, and few lengths mean few buffers


@dataclass(frozen=True)
class Batch:
    """B trees of T tokens. `targets` are places in the flattened (B * T) tokens that are to be foretold."""

    tokens: Tensor  # (3, B, T): ids, positions, branch numbers
    targets: Tensor  # (M,)

    @property
    def ids(self) -> Tensor:
        """(B, T) token ids; 0 behind the end of a tree."""
        return self.tokens[0]

    @property
    def places(self) -> Tensor:
        """(B, T) position ids."""
        return self.tokens[1]

    @property
    def parts(self) -> Tensor:
        """(B, T) which branch a token belongs to, as `tree_mask` takes it."""
        return self.tokens[2]

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Batch:
        """On the CPU."""
        longest = max(len(e.ids) for e in episodes)
        length = -(-longest // MULTIPLE) * MULTIPLE
        tokens = torch.zeros(3, len(episodes), length, dtype=torch.long)
        tokens[2] = -1
        for n, e in enumerate(episodes):
            size = len(e.ids)
            tokens[0, n, :size] = torch.tensor(e.ids)
            tokens[1, n, :size] = positions(e.prefix, e.branches)[0]
            sizes = torch.tensor([e.prefix, *e.branches])
            tokens[2, n, :size] = torch.arange(len(sizes)).repeat_interleave(sizes)
        return cls(tokens, torch.tensor([n * length + t for n, e in enumerate(episodes) for t in e.targets]))

    def to(self, device: str) -> Batch:
        """There, without waiting for the copy."""
        if torch.device(device).type == "cpu":
            return self
        return Batch(*(t.pin_memory().to(device, non_blocking=True) for t in (self.tokens, self.targets)))
