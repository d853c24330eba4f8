"""Loads the phrase banks: what tools can do (capabilities/*.yaml) and what people say (banks/*.yaml).

A capability is a kind of tool with many names, descriptions and ways to ask for it. `Phrases.load()`
reads all files beside this one and checks them; a mistake in a file is a ValueError that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SLOT = re.compile(r"\{(\d|f|~\w+)(?::([a-z ]+))?\}")
NEEDED = ("names", "descriptions", "do", "want", "thing", "named")  # in one entry for it or another
OPTIONAL = ("have", "have_then", "do_split", "do_ref", "thing_ref", "ask", "implied")
FILE_BANKS = {"image": "image_file", "audio": "audio_file", "video": "video_file", "text": "text_file"}


@dataclass(frozen=True)
class Capability:
    """One kind of tool. Slots `{0}` `{1}` stand for inputs, `{f}` for a file, `{~bank}` for filler.

    `do`, `want`, `thing`: an order, a wish, a name for the result. `have` introduces a file,
    `have_then` goes on from there without a slot. `do_split` marks the second argument inline with
    [[ ]]. `do_ref`, `thing_ref` take over where the first input is no quoted text (not every phrase
    that suits "a sad song" suits "the transcript"). `ask` holds a whole question [[ ]] about the only
    file, which need not be named ("[[when is this bill due?]]"). `implied` names the content by its
    file, as people do who leave a step unsaid ("summarise this voice memo"). `{0:bill}` is a file
    called by a noun: "this bill", "the bill scan.png".
    """

    key: str
    inputs: tuple[str, ...]
    output: str
    banks: dict[int, str]
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    do: tuple[str, ...]
    want: tuple[str, ...]
    thing: tuple[str, ...]
    named: tuple[str, ...]
    have: tuple[str, ...] = ()
    have_then: tuple[str, ...] = ()
    do_split: tuple[str, ...] = ()
    do_ref: tuple[str, ...] = ()
    thing_ref: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    implied: tuple[str, ...] = ()

    def joined(self, other: Capability, file: Path) -> Capability:
        """This capability with the phrases of another entry for it; ValueError when they do not agree."""
        if (self.inputs, self.output) != (other.inputs, other.output):
            raise ValueError(f"{file.name}: '{self.key}' is there twice, with other inputs or output.")
        lists = (*NEEDED, *OPTIONAL)
        both: dict[str, Any] = {k: tuple(dict.fromkeys((*getattr(self, k), *getattr(other, k)))) for k in lists}
        return replace(self, banks={**other.banks, **self.banks}, **both)


@dataclass(frozen=True)
class Phrases:
    """All capabilities by key, and all banks by name."""

    capabilities: dict[str, Capability] = field(default_factory=dict)
    banks: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> Phrases:
        """Reads and checks every file."""
        import yaml

        banks: dict[str, tuple[str, ...]] = {}
        for file in sorted((FOLDER / "banks").glob("*.yaml")):
            for name, entries in yaml.safe_load(file.read_text()).items():
                banks[name] = tuple(dict.fromkeys((*banks.get(name, ()), *map(str, entries))))
        capabilities: dict[str, Capability] = {}
        for file in sorted((FOLDER / "capabilities").glob("*.yaml")):
            for raw in yaml.safe_load(file.read_text()):
                capability = _capability(raw, file)
                known = capabilities.get(capability.key)
                capabilities[capability.key] = capability if known is None else known.joined(capability, file)
        phrases = cls(capabilities, banks)
        phrases._check()
        return phrases

    def _check(self) -> None:
        for c in self.capabilities.values():
            lacking = [k for k in NEEDED if not getattr(c, k)]
            if lacking:
                raise ValueError(f"{c.key}: nothing in {', '.join(lacking)}.")
            for phrase in (*c.do, *c.want, *c.thing, *c.do_ref, *c.thing_ref):
                slots = [s for s, _ in SLOT.findall(phrase) if s.isdigit()]
                if sorted(slots) != [str(n) for n in range(len(c.inputs))]:
                    raise ValueError(f"{c.key}: '{phrase}' does not hold each of its slots once.")
            for phrase in (*c.do, *c.want, *c.thing, *c.have, *c.have_then, *c.do_split, *c.ask, *c.implied):
                unknown = [s for s, _ in SLOT.findall(phrase) if s[0] == "~" and s[1:] not in self.banks]
                if unknown:
                    raise ValueError(f"{c.key}: '{phrase}' uses unknown banks {unknown}.")
            if not all(re.search(r"\[\[.+\]\]", phrase) for phrase in (*c.do_split, *c.ask)):
                raise ValueError(f"{c.key}: a phrase of do_split or ask marks nothing with [[ ]].")
            missing = [b for b in c.banks.values() if b not in self.banks]
            if missing:
                raise ValueError(f"{c.key}: unknown banks {missing}.")


def _capability(raw: dict, file: Path) -> Capability:
    try:
        return Capability(
            key=raw["key"],
            inputs=tuple(raw["inputs"]),
            output=raw["output"],
            banks={int(k): v for k, v in (raw.get("banks") or {}).items()},
            **{k: tuple(raw.get(k) or ()) for k in (*NEEDED, *OPTIONAL)},
        )
    except (KeyError, TypeError) as e:
        raise ValueError(f"{file.name}: '{raw.get('key', raw)}' lacks or mistypes {e}.") from e
