"""Prompts are files: `prompts/NAME.md`, with strict slots.

    load("choose").render(task="text-to-image", cards="...")

The first line of a file is a comment that says what the prompt is for; the rest is the prompt, and
`{{slot}}` marks what is filled in. A value is put in as it is: braces inside it are not slots.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ..core.errors import SystemFault, UnknownName, nearest

__all__ = ["Prompt", "load", "names"]

_SLOT = re.compile(r"\{\{\s*([a-z_]+)\s*\}\}")
_COMMENT = re.compile(r"\A<!--\s*(.*?)\s*-->[ \t]*\n", re.S)


@dataclass(frozen=True)
class Prompt:
    """A prompt as it stands in its file. `purpose` is the file's first line, `slots` what it wants filled."""

    name: str
    purpose: str
    text: str

    @property
    def slots(self) -> frozenset[str]:
        """The names that `render` must be given, all of them and no others."""
        return frozenset(_SLOT.findall(self.text))

    def render(self, **values: str) -> str:
        """The prompt with its slots filled; SystemFault names a slot that is missing or unknown."""
        missing, extra = sorted(self.slots - values.keys()), sorted(values.keys() - self.slots)
        if missing or extra:
            faults = [f"'{s}' is not filled" for s in missing] + [f"it has no slot '{s}'" for s in extra]
            raise SystemFault(f"prompts/{self.name}.md cannot be used as it was: {', '.join(faults)}.")
        return _SLOT.sub(lambda m: str(values[m.group(1)]), self.text)


def names() -> tuple[str, ...]:
    """All prompts there are."""
    return tuple(sorted(f.name[:-3] for f in files(__package__).iterdir() if f.name.endswith(".md")))


@cache
def load(name: str) -> Prompt:
    """The prompt `prompts/NAME.md`; UnknownName when there is no such file."""
    if name not in names():
        raise UnknownName(f"There is no prompt '{name}'{nearest(name, names())}.")
    text = (files(__package__) / f"{name}.md").read_text(encoding="utf-8")
    comment = _COMMENT.match(text)
    if comment is None:
        raise SystemFault(f"prompts/{name}.md does not begin with a comment (<!-- … -->) that says what it is for.")
    return Prompt(name, comment.group(1), text[comment.end() :].strip("\n"))
