"""Prepares the pictures and clips: fetches the packages, reads them, packs them with a manifest.

    prepare(Path("data/pocket"), say=print)

Every package becomes a file in `parts/` when it is done, so that a run that was stopped goes on where it
was. Clips and pictures of one concept share its name, its keywords and its split.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .data import HELDOUT_STYLE, PACKED, TRAIN, Item, write_array, write_part
from .sources import listed
from .sources.animated import clips
from .sources.emoji import Concept, read_concepts, still_pictures
from .sources.npm import Package, fetch
from .splits import held_style

Say = Callable[[str], None]
Part = tuple[Package, list[str], np.ndarray]  # a package, the concepts it shows, and their pictures or clips


def prepare(out: Path, raw: Path | None = None, say: Say = print) -> None:
    """Makes or completes the data folder. `raw` keeps the tarballs (by default inside `out`)."""
    raw = raw or out / "raw"
    out.mkdir(parents=True, exist_ok=True)
    words = {p.name: fetch(p, raw) for p in listed.packages("words")}
    stills, moving = listed.packages("pictures"), listed.packages("animations")
    google = fetch(stills[0], raw)
    concepts = read_concepts(google, words["cldr-annotations-full"], words["emojilib"])
    say(f"{len(concepts)} concepts")
    pictures = [_part(p, out, raw, concepts, still_pictures_of, say) for p in stills]
    animations = [_part(p, out, raw, concepts, clips_of, say) for p in moving]
    held = held_styles(pictures)
    items = _items("image", pictures, concepts, held)
    video = _items("video", _once(animations), concepts, held)
    write_array(out, PACKED["image"], np.concatenate([a for _, _, a in pictures]))
    write_array(out, PACKED["video"], np.concatenate([a for _, _, a in _once(animations)]))
    sources = _sources([*pictures, *animations], listed.packages("words"))
    write_part(out, "pictures", [*items, *video], sources)
    for modality, found in (("pictures", items), ("clips", video)):
        counted = Counter((i.style, i.split) for i in found)
        say(f"{len(found)} {modality}: " + ", ".join(f"{s} {c} ({p})" for (s, p), c in sorted(counted.items())))


def still_pictures_of(
    package: Package, file: Path, concepts: Mapping[str, Concept]
) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of a package."""
    return still_pictures(package, file, concepts)


def clips_of(package: Package, file: Path, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, np.ndarray]]:
    """Clips of a package."""
    return clips(file, concepts)


def _part(
    package: Package, out: Path, raw: Path, concepts: Mapping[str, Concept],
    read: Callable[[Package, Path, Mapping[str, Concept]], Iterator[tuple[str, np.ndarray]]], say: Say,
) -> Part:  # fmt: skip
    """What a package shows, from `parts/` where an earlier run left it for the same concepts."""
    stamp = zlib.crc32("".join(sorted(concepts)).encode())
    kept = out / "parts" / f"{package.tarball.removesuffix('.tgz')}-{stamp:08x}.npz"
    if not kept.exists():
        say(f"{package.source}: fetching and reading")
        shown = dict(read(package, fetch(package, raw), concepts))
        kept.parent.mkdir(exist_ok=True)
        part = kept.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, keys=np.array(sorted(shown)), arrays=np.stack([shown[k] for k in sorted(shown)]))
        part.replace(kept)
    with np.load(kept, allow_pickle=False) as held:
        keys, arrays = [str(k) for k in held["keys"]], held["arrays"]
    say(f"{package.source}: {len(keys)} ({package.licence})")
    return package, keys, arrays


def held_styles(pictures: Sequence[Part]) -> dict[str, str]:
    """By concept, the style that is kept back, "" for none."""
    drawn: dict[str, list[str]] = defaultdict(list)
    for package, keys, _ in pictures:
        for key in keys:
            drawn[key].append(package.style)
    return {key: held_style(key, styles) for key, styles in drawn.items()}


def _once(parts: Sequence[Part]) -> list[Part]:
    """Without the concepts that an earlier part of the same style shows already."""
    seen: set[tuple[str, str]] = set()
    found = []
    for package, keys, arrays in parts:
        fresh = [n for n, key in enumerate(keys) if (package.style, key) not in seen]
        seen |= {(package.style, key) for key in keys}
        if fresh:
            found.append((package, [keys[n] for n in fresh], arrays[fresh]))
    return found


def _items(
    modality: str, parts: Sequence[Part], concepts: Mapping[str, Concept], held: Mapping[str, str]
) -> list[Item]:
    """One item for each picture or clip, rows counted through the parts."""
    items: list[Item] = []
    short = {"image": "", "video": "moving/"}[modality]
    for package, keys, _ in parts:
        for key in keys:
            c = concepts[key]
            split = HELDOUT_STYLE if held.get(key) == package.style else TRAIN
            items.append(
                Item(
                    f"{short}{package.style}/{key}", key, package.style, c.name, modality, PACKED[modality], len(items),
                    package.licence, package.source, split, c.words, c.group, c.weight, {"subgroup": c.subgroup},
                )
            )  # fmt: skip
    return items


def _sources(parts: Sequence[Part], words: Sequence[Package]) -> dict[str, Any]:
    """The record of what came from where."""

    def told(p: Package, count: int) -> dict[str, Any]:
        return {
            "package": p.name, "version": p.version, "licence": p.licence, "by": p.by, "sha256": p.sha256,
            "use": p.use, "style": p.style, "count": count,
        }  # fmt: skip

    found = {p.source: told(p, len(keys)) for p, keys, _ in parts} | {p.source: told(p, 0) for p in words}
    return found | {"left out": listed.left_out()}
