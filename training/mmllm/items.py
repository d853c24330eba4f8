"""The pocket data as the end-to-end model trains on it: a manifest of captioned files.

    items = read_manifest(Path("data/manifest.jsonl"))
    train = [i for i in items if i.split == "train"]

One JSON object a line with id, concept, style, caption, modality, file and split; `file` is relative to the
manifest, and empty where there is a caption alone (something that may be asked for). `others` are further true
captions of it. A list under the key `items` of one JSON file is read as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import InputError

FIELDS = ("id", "concept", "caption", "modality", "split")


@dataclass(frozen=True)
class Item:
    """One captioned file, or a caption alone (`file` is None)."""

    id: str
    concept: str
    style: str
    caption: str
    modality: str
    file: Path | None
    split: str
    others: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        """All of them, the canonical one first."""
        return (self.caption, *self.others)


def read_manifest(manifest: Path) -> list[Item]:
    """Every item, in the order of the manifest. InputError names the line that is wrong."""
    try:
        text = Path(manifest).read_text(encoding="utf-8")
        whole = json.loads(text) if text.lstrip().startswith("{") and "\n{" not in text else None
        rows = whole["items"] if isinstance(whole, dict) and "items" in whole else map(json.loads, text.splitlines())
        return list(_items(rows, Path(manifest).parent))
    except OSError as e:
        raise InputError(f"The manifest '{manifest}' cannot be read: {e.strerror}.") from e
    except ValueError as e:
        raise InputError(f"The manifest '{manifest}' is no JSON: {e}.") from e


def _items(rows: Iterable[Mapping[str, Any]], folder: Path) -> Iterable[Item]:
    for n, row in enumerate(rows, 1):
        missing = [f for f in FIELDS if not row.get(f)] + ["file"] * ("file" not in row)
        if missing:
            raise InputError(f"Item {n} of the manifest in '{folder}' lacks {', '.join(missing)}.")
        yield Item(
            str(row["id"]), row["concept"], row.get("style", ""), row["caption"], row["modality"],
            folder / row["file"] if row["file"] else None, row["split"], tuple(row.get("others", ())),
        )  # fmt: skip
