"""Instruction data from captioned files: dialogues with media on the asking side and on the answering side.

    talks = build(items, split="train", count=20_000, seed=0, chat=answers)
    write(talks, Path("train.jsonl"));  talks = read(Path("train.jsonl"))

Kinds, in the shares of `SHARES`: text to media, media to text, media to media (things that have the same
concept in both modalities), two pictures to text, two outputs, several turns with media from earlier
ones, requests that sound like pictures and want none, and plain questions with the base model's own
answers, so that it keeps them. NExT-GPT's own construction dropped the media of the human side; here
every kind keeps it.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...mmllm.dialogue import Made, Piece, Seen, Turn
from .items import Item

SHARES = {
    "make": 0.28, "tell": 0.24, "turn": 0.12, "both": 0.05, "two": 0.05, "talk": 0.14, "no_media": 0.06, "plain": 0.06,
}  # fmt: skip
PAIR_KINDS = ("make", "tell", "turn", "no_media", "plain")


@dataclass(frozen=True)
class Talk:
    """One dialogue and its kind."""

    kind: str
    turns: tuple[Turn, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"kind": self.kind, "turns": [t.to_json() for t in self.turns]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Talk:
        """Inverse of `to_json`."""
        return cls(data["kind"], tuple(Turn.from_json(t) for t in data["turns"]))


@cache
def phrases() -> dict[str, Any]:
    """The banks of phrases."""
    return tomllib.loads((resources.files(__package__) / "phrases.toml").read_text(encoding="utf-8"))


def read(file: Path) -> list[Talk]:
    """Dialogues out of a file of JSON lines."""
    try:
        return [Talk.from_json(json.loads(line)) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, KeyError) as e:
        raise InputError(f"'{file}' holds no dialogues ({e}); make it with `anyloom train mmllm-data`.") from e


def write(talks: Iterable[Talk], file: Path) -> None:
    """Dialogues as JSON lines."""
    lines = (json.dumps(t.to_json(), ensure_ascii=False) + "\n" for t in talks)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines), encoding="utf-8")


def build(
    items: Sequence[Item], split: str, count: int, seed: int = 0, chat: Callable[[str], str] | None = None,
    kinds: Sequence[str] | None = None,
) -> list[Talk]:
    """`count` dialogues over the items of a split. `chat` answers plain questions; without it they are left out."""
    bank = Bank([i for i in items if i.split == split], random.Random(seed), chat)
    shares = {k: w for k, w in SHARES.items() if (kinds is None or k in kinds) and bank.can(k)}
    if not shares:
        raise InputError(f"Nothing can be built of {len(bank.items)} items of the split '{split}'.")
    chosen = bank.random.choices(list(shares), list(shares.values()), k=count)
    return [Talk(kind, getattr(bank, kind)()) for kind in chosen]


class Bank:
    """Items by modality and concept, and one method for each kind of dialogue."""

    def __init__(self, items: Sequence[Item], chance: random.Random, chat: Callable[[str], str] | None = None):
        self.items = list(items)
        self.random = chance
        self.chat = chat
        self.by_modality: dict[str, list[Item]] = defaultdict(list)
        self.by_concept: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            self.by_modality[item.modality].append(item)
            self.by_concept[item.modality, item.concept.lower()].append(item)
        self._answers: dict[str, str] = {}
        self.links = self._links()

    def can(self, kind: str) -> bool:
        """Whether there is data for a kind."""
        if kind == "plain":
            return self.chat is not None
        if kind == "turn":
            return bool(self.links)
        if kind == "both":
            return len(self.by_modality["image"]) > 1
        return bool(self.items)

    def make(self) -> tuple[Turn, ...]:
        """Text in, one file out."""
        item = self.any()
        ask = self.say(phrases()["make"][item.modality]["asks"], item)
        return (_user(ask), self.given(item))

    def tell(self) -> tuple[Turn, ...]:
        """One file in, words out."""
        item = self.any()
        words = phrases()["tell"][item.modality]
        return (self.shown(item, self.say(words["asks"], item)), _says(_sentence(self.say(words["answers"], item))))

    def turn(self) -> tuple[Turn, ...]:
        """One file in, a file of the same concept out, in this or another modality."""
        here, there = self.random.choice(self.links)
        first = self.random.choice(self.by_concept[here])
        second = self.random.choice(self.by_concept[there])
        ask = self.say(phrases()["turn"][f"{first.modality}-{second.modality}"]["asks"], second)
        return (self.shown(first, ask), self.given(second))

    def both(self) -> tuple[Turn, ...]:
        """Two pictures in, words about both out."""
        one, two = self.random.sample(self.by_modality["image"], 2)
        words = phrases()["both"]
        answer = self.random.choice(words["answers"]).format(one=one.caption, two=two.caption)
        ask = self.random.choice(words["asks"])
        seen: tuple[Piece, ...] = (Seen("image", one.id), Seen("image", two.id))
        if self.random.random() < 0.5:
            seen = (Seen("image", one.id), " and ", Seen("image", two.id), " ")
        return (Turn("user", (*seen, ask)), _says(_sentence(answer)))

    def two(self) -> tuple[Turn, ...]:
        """Two files out."""
        words = phrases()["both"]
        if self.by_modality["audio"] and self.by_modality["image"] and self.random.random() < 0.5:
            one, two = self.random.choice(self.by_modality["image"]), self.random.choice(self.by_modality["audio"])
            ask = self.random.choice(words["media"])
        else:
            modality = "image" if self.by_modality["image"] else self.any().modality
            one, two = (self.random.choice(self.by_modality[modality]) for _ in range(2))
            ask = self.random.choice(words["draw"])
        text = [w.format(one=one.caption, two=two.caption) for w in words["drawn"]]
        pieces = (text[0], _made(one), " " + text[1], _made(two))
        return (_user(ask.format(one=one.caption, two=two.caption)), Turn("assistant", pieces))

    def talk(self) -> tuple[Turn, ...]:
        """Several turns: media of an earlier one, or a request that makes sense only after it."""
        first = self.any()
        opening = self.random.choice([self._make_of, self._tell_of])(first)
        form = self.random.choice(["again", "what", "other"])
        if form == "what":
            ask = self.random.choice(phrases()["again"]["what"])
            answer = _sentence(self.say(phrases()["tell"][first.modality]["answers"], first))
            return (*opening, _user(ask), _says(answer))
        second = self.random.choice(self.by_modality[first.modality]) if form == "again" else self.any()
        if form == "again" and any(isinstance(p, Made) for p in opening[-1].pieces):
            asks = phrases()["again"][second.modality]
        else:
            asks = phrases()["make"][second.modality]["asks"]
        return (*opening, _user(self.say(asks, second)), self.given(second))

    def no_media(self) -> tuple[Turn, ...]:
        """Words about pictures and sounds that want neither."""
        concept = self.any().concept
        ask, answer = self.random.choice(phrases()["plain"]["no_media"])
        letters = sum(c.isalpha() for c in concept)
        return (_user(ask.format(concept=concept)), _says(answer.format(concept=concept, letters=letters)))

    def plain(self) -> tuple[Turn, ...]:
        """A plain question, answered as the base model answers it."""
        assert self.chat is not None  # `can` has seen to it
        question = self.random.choice(phrases()["plain"]["questions"])
        if question not in self._answers:
            self._answers[question] = self.chat(question).strip() or "I do not know."
        return (_user(question), _says(self._answers[question]))

    def any(self) -> Item:
        """An item, each modality as often as the others."""
        modality = self.random.choice(sorted(m for m, found in self.by_modality.items() if found))
        return self.random.choice(self.by_modality[modality])

    def say(self, bank: Sequence[str], item: Item) -> str:
        """A phrase with the item's words in it."""
        return self.random.choice(bank).format(caption=item.caption, concept=item.concept)

    def shown(self, item: Item, text: str) -> Turn:
        """A user's turn with a file before or behind the words."""
        seen = Seen(item.modality, item.id)
        return Turn("user", (seen, text) if self.random.random() < 0.5 else (text, seen))

    def given(self, item: Item) -> Turn:
        """An answer with a file."""
        return Turn("assistant", (self.say(phrases()["make"][item.modality]["answers"], item), _made(item)))

    def _make_of(self, item: Item) -> tuple[Turn, ...]:
        return (_user(self.say(phrases()["make"][item.modality]["asks"], item)), self.given(item))

    def _tell_of(self, item: Item) -> tuple[Turn, ...]:
        words = phrases()["tell"][item.modality]
        return (self.shown(item, self.say(words["asks"], item)), _says(_sentence(self.say(words["answers"], item))))

    def _links(self) -> list[tuple[tuple[str, str], tuple[str, str]]]:
        """Pairs of (modality, concept) that mean the same thing."""
        known = phrases()["turn"]
        concepts = sorted(self.by_concept)
        return [
            (a, b) for a in concepts for b in ((m, a[1]) for m in self.by_modality)
            if b in self.by_concept and f"{a[0]}-{b[0]}" in known and (a != b or len(self.by_concept[a]) > 1)
        ]  # fmt: skip


def _user(text: str) -> Turn:
    return Turn("user", (text,))


def _says(text: str) -> Turn:
    return Turn("assistant", (text,))


def _made(item: Item) -> Made:
    return Made(item.modality, item.caption, item.id)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
