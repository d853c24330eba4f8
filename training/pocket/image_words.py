"""True sentences about pictures and clips: names, styles, colours, numbers, places, pairs, motions.

    words = words_of(item)                               # an item's names and keywords, ready to be said
    say_thing(rng, words)                                # "dog face", "a puppy", "dog face, pet"
    say_style(rng, "a red apple", ("3d style",))         # "3d style red apple", "a red apple, 3d style"

All choices come from the random generator that is given; the same one says the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .data import Item

NUMBERS = {2: "two", 3: "three", 4: "four"}
IRREGULAR = {"mouse": "mice", "foot": "feet", "tooth": "teeth", "fish": "fish", "sheep": "sheep", "leaf": "leaves"}
COLOUR_WORDS = frozenset(
    [
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "grey",
        "gray",
        "light",
        "dark",
        "violet",
        "golden",
        "silver",
    ]
)


@dataclass(frozen=True)
class Words:
    """What an item can be called: its name, other names, and keywords that are not in the name."""

    name: str
    names: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def plain(self) -> str:
        """The name without a colour: "red apple" -> "apple"."""
        return " ".join(w for w in self.name.split() if w not in COLOUR_WORDS) or self.name


@lru_cache(maxsize=8192)
def _words(name: str, keywords: tuple[str, ...]) -> Words:
    names = tuple(k for k in keywords[:6] if len(k.split()) > 1 and set(k.split()) & set(name.split()))
    return Words(name, names, tuple(k for k in keywords if k not in names and k not in name))


def words_of(item: Item) -> Words:
    """An item's words."""
    return _words(item.name, item.keywords)


def article(name: str) -> str:
    """ "an apple", "a dog face"; none before what is many or has one."""
    if (name.endswith("s") and not name.endswith(("ss", "us", "glasses", "bus"))) or re.match(r"(the|a|an|no) ", name):
        return name
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"


def bare(said: str) -> str:
    """Without an article in front."""
    return re.sub(r"^(an?|the) ", "", said)


def many(name: str) -> str:
    """The plural, as well as rules go."""
    if re.search(r"(s|x|ch|sh)$", name):
        return name if name.endswith("s") and not name.endswith("ss") else f"{name}es"
    if re.search(r"[^aeiou]y$", name):
        return f"{name[:-1]}ies"
    head, _, last = name.rpartition(" ")
    return f"{head} {IRREGULAR[last]}".strip() if last in IRREGULAR else f"{name}s"


def say_thing(rng: random.Random, words: Words) -> str:
    """One thing alone."""
    roll = rng.random()
    if roll < 0.40 or not (words.names or words.keywords):
        return words.name
    if roll < 0.58:
        return article(words.name)
    if roll < 0.70 and words.names:
        name = rng.choice(words.names)
        return name if rng.random() < 0.5 else article(name)
    if roll < 0.78:
        return f"{rng.choice(('a picture of', 'an emoji of', 'a drawing of', 'an icon of'))} {article(words.name)}"
    if not words.keywords:
        return article(words.name)
    if roll < 0.90:
        some = rng.sample(words.keywords, min(len(words.keywords), rng.choice((1, 1, 2, 3))))
        return f"{words.name}, {', '.join(some)}"
    if len(words.keywords) > 1 and roll < 0.95:
        return ", ".join(rng.sample(words.keywords, min(len(words.keywords), 3)))
    return article(words.keywords[int(rng.random() ** 2 * len(words.keywords))])  # the better known more often


def say_coloured(rng: random.Random, colour: str, words: Words) -> str:
    """A thing in a colour that it was painted in or has."""
    said = f"{colour} {words.plain}"
    return rng.choice((said, said, article(said), article(said), f"{words.plain} in {colour}"))


KINDS_SAID = ("photo", "drawing", "picture", "image", "cartoon", "sketch", "painting", "illustration", "emoji", "icon")
ADORNED = (
    "cute",
    "nice",
    "beautiful",
    "big",
    "funny",
    "simple",
    "pretty",
    "cool",
    "happy",
    "old",
    "shiny",
    "single",
    "lovely",
)


def adorned(rng: random.Random, said: str) -> str:
    """Sometimes with words that people add and that change nothing here."""
    roll = rng.random()
    if roll < 0.10:
        thing = bare(said)
        return f"{'a ' if said != thing else ''}{rng.choice(ADORNED)} {thing}"
    if roll < 0.18:
        return f"{rng.choice(('a', 'the', 'my', 'some'))} {rng.choice(KINDS_SAID)} of {said}"
    if roll < 0.22:
        return f"{said} {rng.choice(('please', 'for a card', 'for my son', 'in the middle', 'alone', 'on white'))}"
    return said


def say_background(rng: random.Random, thing: str, colour: str) -> str:
    """On a background of one colour."""
    return f"{thing} {rng.choice(('on a', 'in front of a'))} {colour} background"


def say_pair(rng: random.Random, one: str, two: str, order: str) -> str:
    """Two things; `order` is "beside" or "above" (the first above the second)."""
    a, b = (article(one), article(two)) if rng.random() < 0.7 else (one, two)
    if order == "above":
        return rng.choice((f"{a} above {b}", f"{b} below {a}", f"{a} and {b}"))
    return rng.choice((f"{a} and {b}", f"{a} and {b}", f"{a} next to {b}", f"{a} to the left of {b}"))


def say_number(number: int, words: Words) -> str:
    """Several of one thing."""
    return f"{NUMBERS[number]} {many(words.name)}"


def say_place(thing: str, size: str, where: str) -> str:
    """A thing that is small, or at a side."""
    said = f"a {size} {bare(thing)}" if size else thing
    return f"{said} {where}".strip()


def say_style(rng: random.Random, said: str, style: Sequence[str]) -> str:
    """With the style named, before or after."""
    name, roll = rng.choice(style), rng.random()
    if roll < 0.4:
        return f"{name} {bare(said)}"
    return f"{said} in {name}" if roll > 0.7 and name.endswith("style") else f"{said}, {name}"


def say_motion(rng: random.Random, thing: str, motion: Sequence[str]) -> str:
    """A thing that moves; `motion` are ways to say how."""
    said = rng.choice(motion)
    return rng.choice((f"{thing} {said}", f"{article(thing)} {said}", f"{article(thing)} {said}", f"{said} {thing}"))
