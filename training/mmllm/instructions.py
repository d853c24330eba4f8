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
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


@cache
def voices() -> dict[str, str]:
    """Names of things that can be seen, and the names of the sounds that they make."""
    return tomllib.loads((resources.files(__package__) / "links.toml").read_text(encoding="utf-8"))


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
    items: Sequence[Item],
    split: str,
    count: int,
    seed: int = 0,
    chat: Callable[[str], str] | None = None,
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
    """Items by modality and concept, and one method for each kind of dialogue.

    What is shown has a file; what is asked for needs a caption alone. Each thing comes as often as the others,
    however many items it has.
    """

    def __init__(self, items: Sequence[Item], chance: random.Random, chat: Callable[[str], str] | None = None):
        self.items = list(items)
        self.random = chance
        self.chat = chat
        self.shown_items: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
        self.asked_items: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
        for item in items:
            self.asked_items[item.modality][item.concept.lower()].append(item)
            if item.file is not None:
                self.shown_items[item.modality][item.concept.lower()].append(item)
        self._answers: dict[str, str] = {}
        self.links = self._links()

    def can(self, kind: str) -> bool:
        """Whether there is data for a kind."""
        if kind == "plain":
            return self.chat is not None
        if kind == "turn":
            return bool(self.links)
        if kind == "both":
            return sum(map(len, self.shown_items["image"].values())) > 1
        if kind in ("tell", "talk"):
            return bool(self.modalities(self.shown_items))
        return bool(self.items)

    def make(self) -> tuple[Turn, ...]:
        """Text in, one file out."""
        return self._make_of(self.asked())

    def tell(self) -> tuple[Turn, ...]:
        """One file in, words out."""
        return self._tell_of(self.seen())

    def turn(self) -> tuple[Turn, ...]:
        """One file in, a file of the same thing out, in this or another modality."""
        pair = self.random.choice(sorted(self.links))
        here, there = self.random.choice(self.links[pair])
        first = self.random.choice(self.shown_items[here[0]][here[1]])
        if "audio" in pair and pair != ("audio", "audio"):
            second = self.plainest(there)
        elif pair[0] == pair[1] or pair == ("image", "video"):
            second = replace(first, modality=pair[1], id="", file=None)  # as it is, whatever its colour
        else:
            second = self.plainest(there)
        ask = self.polite(self.random.choice(phrases()["turn"]["-".join(pair)]["asks"]))
        return (self.shown(first, ask), self.given(second))

    def both(self) -> tuple[Turn, ...]:
        """Two pictures in, words about both out."""
        one, two = self.seen("image"), self.seen("image")
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
        if self.asked_items["audio"] and self.asked_items["image"] and self.random.random() < 0.5:
            one, two = self.asked("image"), self.asked("audio")
            ask = self.random.choice(words["media"])
        else:
            modality = "image" if self.asked_items["image"] else self.asked().modality
            one, two = self.asked(modality), self.asked(modality)
            ask = self.random.choice(words["draw"])
        text = [w.format(one=one.caption, two=two.caption) for w in words["drawn"]]
        pieces = (text[0], _made(one), " " + text[1], _made(two))
        return (_user(ask.format(one=one.caption, two=two.caption)), Turn("assistant", pieces))

    def talk(self) -> tuple[Turn, ...]:
        """Several turns: media of an earlier one, or a request that makes sense only after it."""
        first = self.seen()
        opening = self.random.choice([self._make_of, self._tell_of])(first)
        form = self.random.choice(["again", "what", "other"])
        if form == "what":
            ask = self.random.choice(phrases()["again"]["what"])
            answer = _sentence(self.say(phrases()["tell"][first.modality]["answers"], first))
            return (*opening, _user(ask), _says(answer))
        second = self.asked(first.modality) if form == "again" else self.asked()
        if form == "again" and any(isinstance(p, Made) for p in opening[-1].pieces):
            asks = phrases()["again"][second.modality]
        else:
            asks = phrases()["make"][second.modality]["asks"]
        return (*opening, _user(self.say(asks, second)), self.given(second))

    def no_media(self) -> tuple[Turn, ...]:
        """Words about pictures and sounds that want neither."""
        concept = self.asked().concept
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

    def modalities(self, items: Mapping[str, Mapping[str, Sequence[Item]]]) -> list[str]:
        """Those of which there are items."""
        return sorted(m for m, found in items.items() if found)

    def seen(self, modality: str | None = None) -> Item:
        """An item with a file, each modality as often as the others."""
        return self._some(self.shown_items[modality or self.random.choice(self.modalities(self.shown_items))])

    def asked(self, modality: str | None = None) -> Item:
        """Something to ask for, called by any of its captions; each modality as often as the others."""
        item = self._some(self.asked_items[modality or self.random.choice(self.modalities(self.asked_items))])
        return replace(item, caption=bare(self.random.choice(item.captions)))

    def _some(self, items: Mapping[str, Sequence[Item]]) -> Item:
        return self.random.choice(items[self.random.choice(list(items))])

    def plainest(self, key: tuple[str, str]) -> Item:
        """The item of a modality and concept with the shortest caption."""
        return min(self.shown_items[key[0]][key[1]], key=lambda i: (len(i.caption), i.id))

    def say(self, bank: Sequence[str], item: Item) -> str:
        """A phrase with the item's words in it."""
        return self.random.choice(bank).format(caption=item.caption, concept=item.concept)

    def polite(self, ask: str) -> str:
        """Sometimes with words around it, sometimes without its capital."""
        chance, words = self.random.random(), phrases()["polite"]
        if chance < 0.1:
            return self.random.choice(words["before"]) + ask
        if chance < 0.2:
            return ask.rstrip(".!?") + self.random.choice(words["after"])
        return ask[:1].lower() + ask[1:] if chance < 0.35 else ask[:1].upper() + ask[1:] if chance < 0.5 else ask

    def shown(self, item: Item, text: str) -> Turn:
        """A user's turn with a file before or behind the words."""
        seen = Seen(item.modality, item.id)
        return Turn("user", (seen, text) if self.random.random() < 0.5 else (text, seen))

    def given(self, item: Item) -> Turn:
        """An answer with a file."""
        return Turn("assistant", (self.say(phrases()["make"][item.modality]["answers"], item), _made(item)))

    def _make_of(self, item: Item) -> tuple[Turn, ...]:
        return (_user(self.polite(self.say(phrases()["make"][item.modality]["asks"], item))), self.given(item))

    def _tell_of(self, item: Item) -> tuple[Turn, ...]:
        words = phrases()["tell"][item.modality]
        ask = self.polite(self.say(words["asks"], item))
        return (self.shown(item, ask), _says(_sentence(self.say(words["answers"], item))))

    def _links(self) -> dict[tuple[str, str], list[tuple[tuple[str, str], tuple[str, str]]]]:
        """By two modalities, the (modality, concept) of one and of the other that are the same thing."""
        heard: dict[str, list[str]] = defaultdict(list)  # what a voice belongs to
        for name, voice in voices().items():
            heard[voice].append(name)
        found: dict[tuple[str, str], list[tuple[tuple[str, str], tuple[str, str]]]] = defaultdict(list)
        for modality, concept in sorted((m, c) for m, own in self.shown_items.items() for c in own):
            alike = {concept, voices().get(concept, concept), *heard.get(concept, ())}
            for other in self.modalities(self.shown_items):
                if f"{modality}-{other}" in phrases()["turn"]:
                    found[modality, other] += [
                        ((modality, concept), (other, c)) for c in sorted(alike) if c in self.shown_items[other]
                    ]
        return {pair: some for pair, some in found.items() if some}


def bare(caption: str) -> str:
    """ "the sound of a violin" as it is asked for in a phrase that says already that it is a sound."""
    return caption.removeprefix("the sound of ").removeprefix("sound of ")


def bare_thing(caption: str) -> str:
    """Without an article in front."""
    return re.sub(r"^(an?|the) ", "", caption)


def _user(text: str) -> Turn:
    return Turn("user", (text,))


def _says(text: str) -> Turn:
    return Turn("assistant", (text,))


def _made(item: Item) -> Made:
    return Made(item.modality, item.caption, item.id if item.file is not None else "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
