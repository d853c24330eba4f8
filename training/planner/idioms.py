"""What people ask for most, as whole requests with their plans: whole_requests/*.yaml.

Graphs drawn at random hold the common ones too seldom: "describe this aloud" is one pair of tools among
thousands. An idiom names its tools by capability, so that it is asked for over any list that has them:

    idiom = rng.choice(fitting(load(), box))
    phrase, order = idiom.phrase(rng)    # "describe {A:photo} out loud", and whether it is an order
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .phrases import FOLDER, Capability, Phrases

STEP = re.compile(r"(\w+)\(([^)]*)\)")
MARKED = re.compile(r"\[\[(.+?)\]\]")
LETTER = re.compile(r"\{([A-D])(?::([a-z ]+))?\}")
CHOICE = re.compile(r"\(([^()]*)\)")
NAMED = re.compile(r"<(\w+)>")


@dataclass(frozen=True)
class Step:
    """One task: a capability, and where each argument comes from: a file `A`, a task `0`, a marked text `*1`."""

    capability: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Idiom:
    """A plan and phrases for it. Alternatives are still open in the phrases."""

    steps: tuple[Step, ...]
    say: tuple[str, ...]
    ask: tuple[str, ...]
    weight: float

    def phrase(self, rng: random.Random) -> tuple[str, bool]:
        """One phrase with its alternatives chosen, and whether it is an order."""
        at = rng.randrange(len(self.say) + len(self.ask))
        return choose((*self.say, *self.ask)[at], rng), at < len(self.say)


def choose(phrase: str, rng: random.Random) -> str:
    """A phrase with one of each `(a|b|)` chosen, innermost first."""
    while match := CHOICE.search(phrase):
        phrase = phrase[: match.start()] + rng.choice(match.group(1).split("|")) + phrase[match.end() :]
    return phrase


@lru_cache(maxsize=1)
def load() -> tuple[Idiom, ...]:
    """Every idiom of every file. ValueError names the one with a mistake."""
    import yaml

    found: list[Idiom] = []
    for file in sorted((FOLDER / "whole_requests").glob("*.yaml")):
        read = yaml.safe_load(file.read_text())
        found += [_idiom(raw, read["words"], file.name) for raw in read["idioms"]]
    return tuple(found)


def _idiom(raw: Mapping[str, Any], words: Mapping[str, str], file: str) -> Idiom:
    steps = []
    for text in raw["plan"]:
        match = STEP.fullmatch(text)
        if match is None:
            raise ValueError(f"{file}: '{text}' is no step of a plan.")
        steps.append(Step(match.group(1), tuple(v.strip() for v in match.group(2).split(","))))
    say, ask = (tuple(NAMED.sub(lambda m: f"({words[m.group(1)]})", p) for p in raw.get(k, ())) for k in ("say", "ask"))
    idiom = Idiom(tuple(steps), say, ask, float(raw.get("weight", 1)))
    _check(idiom, raw["plan"], file)
    return idiom


def _check(idiom: Idiom, plan: Sequence[str], file: str) -> None:
    phrases = Phrases.load()
    wrong = f"{file}: {plan}: "
    for n, step in enumerate(idiom.steps):
        capability = phrases.capabilities.get(step.capability)
        if capability is None or len(capability.inputs) != len(step.values):
            raise ValueError(wrong + f"there is no '{step.capability}' with {len(step.values)} inputs.")
        if any(v.isdigit() and int(v) >= n for v in step.values):
            raise ValueError(wrong + "a step reads one that comes later.")
    marks = {v for s in idiom.steps for v in s.values if v.startswith("*")}
    letters = {v for s in idiom.steps for v in s.values if v.isalpha()}
    for phrase in (*idiom.say, *idiom.ask):
        if {f"*{n + 1}" for n in range(len(MARKED.findall(phrase)))} != marks:
            raise ValueError(wrong + f"'{phrase}' marks other texts than the plan has.")
        if not {m.group(1) for m in LETTER.finditer(phrase)} <= letters:
            raise ValueError(wrong + f"'{phrase}' names other files than the plan has.")
        if phrase.count("(") != phrase.count(")") or "<" in phrase:
            raise ValueError(wrong + f"'{phrase}' has a bracket too many.")


# Tools of a list that a phrase for the capability could be meant for just as well.
RIVALS = {
    "caption_sound": frozenset(["classify_sound", "music_genre", "name_song", "tempo", "chords"]),
    "visual_qa": frozenset(["count_objects", "identify_plant", "classify_image", "analyse_face"]),
    "translate": frozenset(["translate_speech", "transliterate"]),
}


def fitting(idioms: Sequence[Idiom], known: Mapping[str, Sequence[Capability]]) -> list[Idiom]:
    """Those whose tools are all in a list; `known` says what each tool of it is asked for.

    Not where one tool goes straight to what the idiom reaches in steps (a picture animated), or a rival is there.
    """
    there = {c.key: c for asked in known.values() for c in asked}
    direct = {(c.inputs[0], c.output) for c in there.values() if len(c.inputs) == 1}

    def fits(idiom: Idiom) -> bool:
        keys = [s.capability for s in idiom.steps]
        if not all(k in there for k in keys) or any(RIVALS.get(k, frozenset()) & there.keys() for k in keys):
            return False
        way = (there[keys[0]].inputs[0], there[keys[-1]].output)
        similar = keys == ["caption_image", "draw_image"] and "find_similar_images" in there
        return not similar and (len(keys) == 1 or way[0] == way[1] or "text" in way or way not in direct)

    return [i for i in idioms if fits(i)]
