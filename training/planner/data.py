"""Turns sampled tool lists and requests into token trees: one tool list, many requests over it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from ...controller import language
from .phrases import Phrases
from .requests import Item, RequestWriter, Toolbox
from .toolboxes import ToolboxSampler

BUDGET = 2100  # tokens of one tree


@dataclass(frozen=True)
class Episode:
    """One tree. `ids`: prefix, then the branches; `targets`: positions of `ids` that are learnt."""

    ids: list[int]
    prefix: int
    branches: list[int]
    targets: list[int]


class EpisodeSource:
    """Episodes by number: the same seed and number give the same episode, on any machine."""

    def __init__(self, tokenizer: object, seed: int = 0, budget: int = BUDGET):
        self.tokenizer = tokenizer
        self.seed = seed
        self.budget = budget
        self.phrases = Phrases.load()

    @classmethod
    def from_base(cls, base: Path, seed: int = 0) -> EpisodeSource:
        """With the tokenizer of a converted base model."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(Path(base) / "tokenizer.json")), seed)

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens in `text` are recognised, none are added."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids  # type: ignore[attr-defined]

    def toolbox(self, number: int) -> tuple[Toolbox, random.Random]:
        """The tool list of an episode, and the generator that goes on to write its requests."""
        rng = random.Random(self.seed * 1_000_003 + number)
        return ToolboxSampler(self.phrases, rng).sample(), rng

    def episode(self, number: int) -> Episode:
        """A tree of about `budget` tokens."""
        box, rng = self.toolbox(number)
        writer = RequestWriter(self.phrases, rng)
        tools = {t.name: t for t in box.tools}
        ids = self.encode(language.prefix(box.tools))
        prefix = len(ids)
        branches: list[int] = []
        targets: list[int] = []
        while len(ids) < self.budget or len(branches) < 6:
            asked, planned = self._branch(writer.sample(box), tools)
            targets += range(len(ids) + len(asked), len(ids) + len(asked) + len(planned))
            branches.append(len(asked) + len(planned))
            ids += asked + planned
        return Episode(ids, prefix, branches, targets)

    def _branch(self, item: Item, tools: dict) -> tuple[list[int], list[int]]:
        asked = language.question(item.request, item.files)
        planned = f"{language.UNABLE}\n" if item.unable else language.write(item.plan, tools, item.files)
        return self.encode(asked), self.encode(planned)
