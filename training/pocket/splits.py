"""What is never trained on, decided by fixed rules: the same on every machine and for every model.

    held_style("1f436", ("3d", "google", "twitter"))     # "" or the style in which this concept is kept back
    held_colour("blue", "banana")                        # True: no picture of a blue banana is ever made
    held_pair("1f431", "1f355")                          # True: never together in one picture
    held_motion("1f680", "moving up")                    # True: this thing is never seen to move so

`manifest/splits.toml` lists what people named; the rest follows from SHA-256 of the names.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "manifest" / "splits.toml"


@cache
def listed() -> dict[str, Any]:
    """The file of named splits."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def _hash(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:8], "big")


def held_style(concept: str, styles: Sequence[str]) -> str:
    """The style in which a concept is kept back, "" for most; concepts in one style only are all trained on."""
    named: dict[str, str] = listed()["concept_style"]
    if named.get(concept) in styles and len(styles) > 1:
        return named[concept]
    if len(styles) < 2 or _hash("style", concept) % listed()["shares"]["style_one_in"]:
        return ""
    return sorted(styles)[_hash("which", concept) % len(styles)]


def held_colour(colour: str, name: str) -> bool:
    """Whether this colour on this thing is kept back."""
    words = set(name.split())
    if any(colour == c and set(thing.split()) & words for c, thing in listed()["colour_thing"]["pairs"]):
        return True
    return _hash("colour", colour, name) % listed()["shares"]["colour_one_in"] == 0


def held_pair(one: str, two: str) -> bool:
    """Whether these two concepts are kept apart."""
    a, b = sorted((one, two))
    if [a, b] in [sorted(p) for p in listed()["concept_pair"]["pairs"]]:
        return True
    return _hash("pair", a, b) % listed()["shares"]["pair_one_in"] == 0


def held_motion(concept: str, motion: str) -> bool:
    """Whether this motion of this concept is kept back."""
    return _hash("motion", concept, motion) % listed()["shares"]["motion_one_in"] == 0
