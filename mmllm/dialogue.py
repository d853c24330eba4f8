"""Dialogue: a conversation with media on both sides, and how it is laid out as token ids.

    talk = [Turn("user", (Seen("image", "cat.png"), "What is this?")),
            Turn("assistant", ("A cat. I drew another. ", Made("image", "a cat", "new.png"))),
            Turn("user", ("Which one is darker?",))]
    laid = Layout(words, signals, tokens={"image": 8}, template="chatml").lay(talk, answer=True)

`Seen` is content that is spliced in between `<Img>` and `</Img>`, wherever it stands and as often as
it is there. `Made` is a whole run of signal tokens on the answer's side. What an earlier answer made
follows its signals as content, so that a later turn can speak about how it really came out.
Loss is on what the assistant says: words, the first signal of a run and the end of the turn. The rest of a run is
forced at inference: made to foretell it, the states of its tokens would hold that in place of what is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError

if TYPE_CHECKING:
    from .signals import Signals


@dataclass(frozen=True)
class Seen:
    """Content that the model looks at or hears. `key` names it: a file, a hash, an id."""

    modality: str
    key: str


@dataclass(frozen=True)
class Made:
    """Content that the assistant gives. `caption` and `key` say what it shows, where that is known."""

    modality: str
    caption: str = ""
    key: str = ""


Piece = str | Seen | Made


@dataclass(frozen=True)
class Turn:
    """What one side says. `who` is system, user or assistant."""

    who: str
    pieces: tuple[Piece, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"who": self.who, "pieces": [_piece_json(p) for p in self.pieces]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Turn:
        """Inverse of `to_json`."""
        return cls(data["who"], tuple(_piece(p) for p in data["pieces"]))


def _piece_json(piece: Piece) -> Any:
    if isinstance(piece, str):
        return piece
    if isinstance(piece, Seen):
        return {"seen": piece.modality, "key": piece.key}
    return {"made": piece.modality, "caption": piece.caption, "key": piece.key}


def _piece(data: Any) -> Piece:
    if isinstance(data, str):
        return data
    if "seen" in data:
        return Seen(data["seen"], data["key"])
    return Made(data["made"], data.get("caption", ""), data.get("key", ""))


@dataclass
class Laid:
    """A dialogue as ids. `learn` marks what loss is on; the places are (position, piece)."""

    ids: list[int] = field(default_factory=list)
    learn: list[bool] = field(default_factory=list)
    seen: list[tuple[int, Seen]] = field(default_factory=list)
    made: list[tuple[int, Made]] = field(default_factory=list)

    def add(self, ids: Sequence[int], learn: bool = False) -> None:
        """More tokens at the end."""
        self.ids += ids
        self.learn += [learn] * len(ids)


class Words:
    """Text to ids and back, over a `tokenizers.Tokenizer`; control tokens only where they are asked for."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        special = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")

    def control(self, text: str) -> list[int]:
        """Ids of a text whose control tokens mean what they say."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def plain(self, text: str) -> list[int]:
        """Ids of a text of somebody else's: what looks like a control token is read as plain characters."""
        cuts = [0, *(m.start() + 1 for m in self._special.finditer(text)), len(text)]
        return [i for a, b in pairwise(cuts) if b > a for i in self.control(text[a:b])]

    def text(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


@dataclass(frozen=True)
class _Template:
    """How a turn begins and ends, and how an answer begins."""

    begin: str
    names: Mapping[str, str]
    end: str


_TEMPLATES = {
    "chatml": _Template("<|im_start|>{who}\n", {"system": "system", "user": "user", "assistant": "assistant"},
                        "<|im_end|>\n"),
    "vicuna-v0": _Template("### {who}:", {"system": "System", "user": "Human", "assistant": "Assistant"}, "\n"),
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Lays dialogues out for one model. `tokens` is how many vectors a spliced item takes, by modality."""

    words: Words
    signals: Signals
    tokens: Mapping[str, int]
    template: str
    stop: int

    def lay(self, talk: Sequence[Turn], answer: bool = False) -> Laid:
        """The ids of a conversation; with `answer`, the beginning of the assistant's next turn at its end."""
        laid = Laid()
        form = _TEMPLATES[self.template]
        for n, turn in enumerate(talk):
            laid.add(self.words.control(form.begin.format(who=form.names[turn.who])))
            ours = turn.who == "assistant"
            for piece in turn.pieces:
                self._piece(laid, piece, ours, last=n + 1 == len(talk) and not answer)
            self._end(laid, form, ours)
        if answer:
            laid.add(self.words.control(form.begin.format(who=form.names["assistant"])))
        return laid

    def _end(self, laid: Laid, form: _Template, ours: bool) -> None:
        if self.template == "vicuna-v0":
            laid.add(self.words.control(form.end))
            laid.add([self.stop], learn=ours)
            return
        ids = self.words.control(form.end)
        laid.add(ids[:1], learn=ours)
        laid.add(ids[1:])

    def _piece(self, laid: Laid, piece: Piece, ours: bool, last: bool) -> None:
        if isinstance(piece, str):
            laid.add(self.words.plain(piece), learn=ours)
        elif isinstance(piece, Seen):
            self._splice(laid, piece)
        else:
            if not ours:
                raise InputError(f"Only an answer can hold a made {piece.modality}; what a user shows is Seen.")
            laid.made.append((len(laid.ids), piece))
            run = self.signals.run(piece.modality)
            laid.add(run[:1], learn=True)
            laid.add(run[1:])
            if piece.key and not last and piece.modality in self.tokens:
                self._splice(laid, Seen(piece.modality, piece.key))

    def _splice(self, laid: Laid, seen: Seen) -> None:
        if seen.modality not in self.tokens:
            known = ", ".join(self.tokens) or "nothing"
            raise InputError(f"This model takes no {seen.modality}; it takes {known}.")
        laid.add([self.signals.open])
        laid.seen.append((len(laid.ids), seen))
        laid.add([self.signals.open] * self.tokens[seen.modality])  # places; their vectors are spliced in
        laid.add([self.signals.close])
