"""Items and suites: what is asked, and what must be in the answer. docs/evaluation.md describes the file format.

    suite = read_suite("pocket")                       # a bundled one by its name
    suite = read_suite("mine.toml")                    # or a file, TOML or JSON lines
    some = suite.limited(40)                           # spread over the conversions

An item is one request with what it attaches and the facts that its answer must keep. Attachments are files beside
the suite, or recipes ("a blue heart, drawn") that `media.py` makes the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..core.errors import InputError, nearest

KINDS = ("text", "image", "audio", "video", "speech")
MODALITY = {"text": "text", "image": "image", "audio": "audio", "video": "video", "speech": "audio"}
FACTS = ("concept", "colour", "style", "motion")
FIELDS = ("id", "conversion", "before", "request", "attach", "expect", "meaning", "references", "words")
MOST_ITEMS, MOST_TEXT = 100_000, 4000
BUNDLED = ("pocket", "turns", "shapes")


@dataclass(frozen=True)
class Item:
    """One request of a suite.

    `before`: requests that are asked first in the same conversation, in order; nothing of them is measured.
    `conversion`: "text-to-image" and the like, over KINDS. `attach`: `{"file": …}` or `{"make": …, …}` each.
    `expect`: for each of FACTS the names that are right. `meaning`: in a sentence, what the answer is about.
    `references`: right answers in words, for caption metrics. `words`: what must be spoken or written down, for WER.
    """

    id: str
    conversion: str
    request: str
    attach: tuple[Mapping[str, Any], ...] = ()
    expect: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    meaning: str = ""
    references: tuple[str, ...] = ()
    words: str = ""
    before: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The kind that goes in."""
        return self.conversion.split("-to-")[0]

    @property
    def target(self) -> str:
        """The kind that must come out."""
        return self.conversion.split("-to-")[1]

    @property
    def wants(self) -> str:
        """The modality that must come out: speech is audio."""
        return MODALITY[self.target]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, in the form of a suite file."""
        earlier = {"before": list(self.before)} if self.before else {}  # absent elsewhere: results name suites by hash
        return {
            "id": self.id, "conversion": self.conversion, **earlier, "request": self.request,
            "attach": [dict(a) for a in self.attach], "expect": {k: list(v) for k, v in self.expect.items()},
            "meaning": self.meaning, "references": list(self.references), "words": self.words,
        }  # fmt: skip


@dataclass(frozen=True)
class Suite:
    """Items under a name. `folder` is where their files are."""

    name: str
    items: tuple[Item, ...]
    folder: Path = Path()

    @property
    def sha256(self) -> str:
        """What tells one suite from another: its items' content."""
        text = json.dumps([i.to_json() for i in self.items], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def conversions(self) -> tuple[str, ...]:
        """Those that occur, in order."""
        return tuple(dict.fromkeys(i.conversion for i in self.items))

    def limited(self, most: int | None) -> Suite:
        """The first `most` items when every conversion takes its turn; the whole suite without a limit."""
        if most is None or most >= len(self.items):
            return self
        queues = {c: [i for i in self.items if i.conversion == c] for c in self.conversions}
        turns = [queue[n] for n in range(len(self.items)) for queue in queues.values() if n < len(queue)]
        chosen = {i.id for i in turns[:most]}
        return Suite(self.name, tuple(i for i in self.items if i.id in chosen), self.folder)


def read_suite(name: str) -> Suite:
    """A bundled suite by name, or a file (.toml, .jsonl). InputError names the file, the item and what is wrong."""
    if name == "shapes":
        from .suites.shapes import shapes

        return shapes()
    if name == "turns":
        from .suites.turns import turns

        return turns()
    bundled = Path(str(resources.files(__package__))) / "suites" / "pocket" / "pocket.jsonl"
    file = bundled if name == "pocket" else Path(name)
    if not file.suffix and not file.exists():
        known = ", ".join(BUNDLED)
        raise InputError(f"There is no suite '{name}'{nearest(name, BUNDLED)}; there is {known}, or name a file.")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"The suite '{name}' cannot be read ({getattr(e, 'strerror', None) or 'no UTF-8'}).") from e
    rows = _toml(file, text) if file.suffix.lower() == ".toml" else _lines(file, text)
    if not rows:
        raise InputError(f"The suite '{name}' holds no items; write at least one [[item]].")
    if len(rows) > MOST_ITEMS:
        raise InputError(f"The suite '{name}' holds {len(rows)} items, and {MOST_ITEMS} is the most; split it.")
    items = tuple(item_of(row, f"{where} of '{file.name}'", file.parent) for where, row in rows)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(f"Two items of '{file.name}' are called '{item.id}'; give each an id of its own.")
        seen.add(item.id)
    return Suite(file.stem, items, file.parent)


def _toml(file: Path, text: str) -> list[tuple[str, Any]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise InputError(f"The suite '{file.name}' is no TOML: {e}.") from e
    if unknown := sorted(set(data) - {"item"}):
        raise InputError(f"The suite '{file.name}' has '{unknown[0]}', and a suite has [[item]] tables alone.")
    rows = data.get("item", [])
    if not isinstance(rows, list):
        raise InputError(f"'item' of '{file.name}' is one table; write it with two brackets: [[item]].")
    return [(f"Item {n}", row) for n, row in enumerate(rows, 1)]


def _lines(file: Path, text: str) -> list[tuple[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append((f"Line {number}", json.loads(line)))
            except ValueError as e:
                raise InputError(f"Line {number} of '{file.name}' is no JSON: {e}.") from e
    return rows


def item_of(row: Any, where: str, folder: Path) -> Item:
    """An item out of a suite file's row. InputError begins with `where`."""
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is no table of fields ({', '.join(FIELDS)}).")
    if unknown := sorted(set(row) - set(FIELDS)):
        raise InputError(f"{where} has '{unknown[0]}'{nearest(unknown[0], FIELDS)}, which no item has.")
    texts = {k: _text(row.get(k, ""), k, where) for k in ("id", "conversion", "request", "meaning", "words")}
    for name in ("id", "conversion", "request"):
        if not texts[name].strip():
            raise InputError(f"{where} lacks '{name}'.")
    parts = texts["conversion"].split("-to-")
    if len(parts) != 2 or not set(parts) <= set(KINDS):
        raise InputError(
            f"{where} has the conversion '{texts['conversion']}'; write A-to-B, each one of {', '.join(KINDS)}."
        )
    item = Item(
        **texts, attach=_attached(row.get("attach", []), where, folder), expect=_facts(row.get("expect", {}), where),
        references=_texts(row.get("references", []), "references", where),
        before=_texts(row.get("before", []), "before", where),
    )  # fmt: skip
    if not (item.expect or item.meaning or item.references or item.words):
        raise InputError(f"{where} says nothing of its answer; give expect, meaning, references or words.")
    return item


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise InputError(f"{where}: '{name}' must be a text of at most {MOST_TEXT} characters.")
    return value


def _texts(value: Any, name: str, where: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(v, str) and v.strip() for v in values):
        raise InputError(f"{where}: '{name}' must be a text or a list of texts.")
    return tuple(values)


def _facts(value: Any, where: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping) or set(value) - set(FACTS):
        raise InputError(f"{where}: 'expect' must be a table with {', '.join(FACTS)}, each a text or a list of texts.")
    return {k: _texts(v, f"expect.{k}", where) for k, v in value.items()}


def _attached(value: Any, where: str, folder: Path) -> tuple[Mapping[str, Any], ...]:
    from .media import check_recipe

    if not isinstance(value, list) or not all(isinstance(a, Mapping) for a in value):
        raise InputError(f"{where}: 'attach' must be a list of tables, such as {{file = \"cat.png\"}}.")
    for one in value:
        if "file" not in one:
            check_recipe(one, where)
            continue
        name = _text(one["file"], "attach.file", where)
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            raise InputError(f"{where} attaches '{name}'; files must lie in the suite's own folder.")
        if not (folder / path).is_file():
            raise InputError(f"{where} attaches '{name}', and there is no such file beside the suite.")
    return tuple(dict(a) for a in value)
