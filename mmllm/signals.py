"""Signal tokens: vocabulary rows of our own behind the language model's, by which it asks for media.

    signals = Signals(base=49152, counts={"image": 4, "video": 24, "audio": 8})
    signals.run("image")        # ids of [IMG0] … [IMG3]: always whole, always in this order
    signals.begins(token)       # "image" when token is [IMG0], else None

Beside them stand two tags, `<Img>` and `</Img>`, around whatever is spliced into a text. A signal is
one id, made here and never by the tokenizer: a user's text that says "[IMG0]" is plain text, and no
tokenizer can put a blank between two of them. Only the first of a run is ever sampled; the rest
follows by force (`inference.py`), so that a run cannot be broken, mixed or endless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .contracts import SENSES

if TYPE_CHECKING:
    from .contracts import Backbone

WORDS = {"image": "IMG", "video": "VID", "audio": "AUD"}
TAGS = ("<Img>", "</Img>")


@dataclass(frozen=True)
class Signals:
    """The ids of tags and signals: from `base` on, tags first, then image, video and audio."""

    base: int
    counts: Mapping[str, int]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every new token, in the order of its id."""
        runs = [f"[{WORDS[m]}{n}]" for m in SENSES for n in range(self.counts.get(m, 0))]
        return (*TAGS, *runs)

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(self.names)

    @property
    def open(self) -> int:
        """`<Img>`."""
        return self.base

    @property
    def close(self) -> int:
        """`</Img>`."""
        return self.base + 1

    @cached_property
    def _starts(self) -> dict[str, int]:
        starts, at = {}, self.base + len(TAGS)
        for modality in SENSES:
            if self.counts.get(modality, 0):
                starts[modality] = at
                at += self.counts[modality]
        return starts

    def run(self, modality: str) -> list[int]:
        """The whole run of a modality."""
        start = self._starts[modality]
        return list(range(start, start + self.counts[modality]))

    def begins(self, token: int) -> str | None:
        """The modality whose run this token begins."""
        return next((m for m, start in self._starts.items() if token == start), None)

    def ids(self) -> dict[str, int]:
        """Names and ids, as a manifest holds them."""
        return {name: self.base + n for n, name in enumerate(self.names)}

    def never_sampled(self) -> list[int]:
        """Ids that only force or the layout of a prompt may write."""
        return [i for i in range(self.base, self.base + self.size) if self.begins(i) is None]


class SignalRows(nn.Module):
    """The rows of the new tokens, at the input and at the output; the model's own vocabulary is not touched.

    Where the backbone ties both ends, so do the rows. They begin at the mean of the model's own
    rows, a little apart from one another.
    """

    def __init__(self, size: int, hidden: int, tied: bool):
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(size, hidden))
        self.out_rows = None if tied else nn.Parameter(torch.zeros(size, hidden))

    @torch.no_grad()
    def begin(self, embedding: Tensor, head: Tensor) -> None:
        """Sets the rows from the backbone's own: (vocabulary, hidden) each."""
        for rows, own in ((self.rows, embedding), (self.out_rows, head)):
            if rows is not None and not rows.is_meta:
                own = own.float()
                chance = torch.Generator().manual_seed(7)
                apart = torch.randn(rows.shape, generator=chance, device="cpu") * own.std(0).cpu()
                rows.copy_((own.mean(0).cpu() + 0.5 * apart).to(rows.device))

    @property
    def written(self) -> Tensor:
        """The rows at the output."""
        return self.rows if self.out_rows is None else self.out_rows

    def embed(self, ids: Tensor, base: int, backbone: Backbone) -> Tensor:
        """(…) ids, of the backbone's vocabulary or ours -> (…, hidden)."""
        ours = ids >= base
        own = backbone.embed(ids.masked_fill(ours, 0))
        new = self.rows[(ids - base).clamp(min=0)].to(own.dtype)
        return torch.where(ours[..., None], new, own)

    def logits(self, states: Tensor, backbone: Backbone) -> Tensor:
        """(…, hidden) -> (…, vocabulary + rows)."""
        own = backbone.logits(states)
        return torch.cat([own, (states.to(self.written.dtype) @ self.written.T).to(own.dtype)], -1)
