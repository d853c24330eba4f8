"""The pocket data: captioned pictures, clips and sounds in a few packed files, with a manifest.

    manifest = Manifest.load(Path("data/pocket"))
    some = manifest.select("image", "train")             # items, in a fixed order
    pictures = manifest.array("image")                   # uint8 (rows, 64, 64, 4), mapped from disk
    picture = pictures[some[0].row]

A data folder holds

| file                | what it is                                                                     |
|---------------------|--------------------------------------------------------------------------------|
| `manifest-KIND.jsonl` | one item a line, as `Item` below; one file for each preparer                  |
| `pictures.npy`      | uint8 (n, 64, 64, 4): RGBA, not premultiplied                                  |
| `clips.npy`         | uint8 (n, 16, 64, 64, 4): 16 frames at 8 a second                              |
| `sounds.npy`        | int16 (n, samples): 16 kHz, mono                                               |
| `sources-KIND.json` | what each item's `source` is: package, version, licence, checksum, count, use  |

`row` is an item's place in the packed file that `file` names. Splits: `train`; `heldout-style` (this
concept is never trained on in this style, though it is in others). What has no item of its own, a
colour on a thing or two things together, is split by `splits.py`. Other preparers add files of their
own with `write_part`. Imported by all pocket trainers: needs numpy only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import InputError

SIDE = 64
FRAMES = 16
FRAME_RATE = 8
PACKED = {"image": "pictures.npy", "video": "clips.npy", "audio": "sounds.npy"}
TRAIN, HELDOUT_STYLE = "train", "heldout-style"
REQUIRED = ("id", "concept", "style", "name", "modality", "file", "row", "licence", "source", "split")


@dataclass(frozen=True)
class Item:
    """One captioned picture, clip or sound.

    `concept` is one thing over all styles ("1f436"); `name` its caption ("dog face"); `keywords` further
    words for it, the better known first; `group` a coarse class ("Animals & Nature"); `weight` how often
    it should be seen beside others (0: never in training, kept for the judge).
    """

    id: str
    concept: str
    style: str
    name: str
    modality: str
    file: str
    row: int
    licence: str
    source: str
    split: str
    keywords: tuple[str, ...] = ()
    group: str = ""
    weight: float = 1.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def caption(self) -> str:
        """The plainest true sentence about it."""
        return self.name


class Manifest:
    """All items of a data folder. Open with `load`."""

    def __init__(self, folder: Path, items: Sequence[Item]):
        self.folder = folder
        self.items = list(items)
        self._arrays: dict[str, np.ndarray] = {}

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads every `manifest-*.jsonl`. InputError names the file and line that is wrong."""
        folder = Path(folder)
        files = sorted(folder.glob("manifest-*.jsonl"))
        if not files:
            raise InputError(f"'{folder}' holds no manifest; make it with `anyloom train data --out {folder}`.")
        return cls(folder, [item for file in files for item in _read(file)])

    def select(self, modality: str, split: str | None = TRAIN, style: str | None = None) -> list[Item]:
        """Items of a modality, of one split or of all (None), of one style or of all."""
        return [
            i for i in self.items
            if i.modality == modality and split in (None, i.split) and style in (None, i.style)
        ]  # fmt: skip

    def array(self, modality: str, file: str | None = None) -> np.ndarray:
        """The packed file of a modality, mapped read-only."""
        name = file or PACKED[modality]
        if name not in self._arrays:
            try:
                self._arrays[name] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as e:
                raise InputError(f"'{self.folder / name}' cannot be read: {e}; run `anyloom train data` again.") from e
        return self._arrays[name]

    @cached_property
    def sources(self) -> dict[str, Any]:
        """What each item's `source` is."""
        found: dict[str, Any] = {}
        for file in sorted(self.folder.glob("sources-*.json")):
            found |= json.loads(file.read_text(encoding="utf-8"))
        return found


def _read(file: Path) -> Iterable[Item]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            if missing := [f for f in REQUIRED if f not in row]:
                raise ValueError(f"it lacks {', '.join(missing)}")
            row["keywords"] = tuple(row.get("keywords", ()))
            row.pop("caption", None)
            yield Item(**row)
        except (ValueError, TypeError) as e:
            raise InputError(f"Line {number} of '{file}' is no item: {e}.") from e


def write_part(folder: Path, kind: str, items: Sequence[Item], sources: Mapping[str, Any]) -> None:
    """Writes one preparer's items and sources, whole or not at all. `kind` names the files."""
    lines = "".join(json.dumps(asdict(i) | {"caption": i.caption}, ensure_ascii=False) + "\n" for i in items)
    for name, text in ((f"manifest-{kind}.jsonl", lines), (f"sources-{kind}.json", json.dumps(sources, indent=1))):
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / name)


def write_array(folder: Path, name: str, array: np.ndarray) -> None:
    """Writes a packed file, whole or not at all."""
    part = folder / f"{name}.part"
    with part.open("wb") as out:
        np.save(out, array, allow_pickle=False)
    part.replace(folder / name)
