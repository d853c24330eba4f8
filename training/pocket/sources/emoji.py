"""Concepts and their pictures from the emoji sets: one concept is one code point sequence, drawn in several styles.

    concepts = read_concepts(google, cldr, emojilib)     # {"1f436": Concept("dog face", …), …}
    for key, picture in still_pictures(package, tarball, concepts): ...      # uint8 (64, 64, 4)

Left out: flags, skin tones, families and couples, and the man's and woman's variant of what also
exists as a person. What a model this small need not spend itself on (letters and arrows, clock faces,
people at work) is kept with a smaller weight.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ....core.errors import SettingsError
from ..data import SIDE
from .npm import Package, members, read_json

TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
GROUPS_OUT = {"Flags", "Component"}
SUBGROUPS_OUT = {"family", "alphanum", "keycap", "person-symbol"}
SMALL_WEIGHTS = {"Symbols": 0.3, "People & Body": 0.4}
SIGNS = {
    "arrow",
    "av-symbol",
    "math",
    "punctuation",
    "currency",
    "zodiac",
    "religion",
    "gender",
    "other-symbol",
    "transport-sign",
}
MOST_WORDS = 7  # of a further name


@dataclass(frozen=True)
class Concept:
    """One thing: its code points in hexadecimal, its name, other names, keywords, group, and weight in training."""

    key: str
    name: str
    others: tuple[str, ...]
    keywords: tuple[str, ...]
    group: str
    subgroup: str
    weight: float

    @property
    def words(self) -> tuple[str, ...]:
        """Other names first, then keywords, as items carry them."""
        return (*self.others, *(k for k in self.keywords if k not in self.others))


def key_of(code: str) -> str:
    """ "0023-FE0F-20E3" -> "23-20e3": no variation selectors, no leading zeros."""
    return "-".join(p.lstrip("0") for p in code.lower().split("-") if p != "fe0f")


def clean(text: str) -> str:
    """A name in plain lower-case words."""
    text = text.lower().replace("’", "'").replace("“", "").replace("”", "").replace("⊛", "")
    return re.sub(r"[\s:_]+", " ", text).strip(" ,-")


def read_concepts(google: Path, cldr: Path, emojilib: Path) -> dict[str, Concept]:
    """From the google package's list, Unicode's names and keywords, and emojilib's keywords."""
    told_by = read_json(cldr, "annotations/en/annotations.json")["annotations"]["annotations"]
    names = {key_of("-".join(f"{ord(c):x}" for c in chars)): value for chars, value in told_by.items()}
    more = {key_of("-".join(f"{ord(c):x}" for c in chars)): words
            for chars, words in read_json(emojilib, "dist/emoji-en-US.json").items()}  # fmt: skip
    concepts = {}
    for entry in read_json(google, "emoji.json"):
        key = key_of(entry["unified"])
        if entry["category"] in GROUPS_OUT or entry["subcategory"] in SUBGROUPS_OUT or TONES & set(key.split("-")):
            continue
        told = names.get(key, {})
        name = clean(told.get("tts", [entry["name"]])[0])
        if entry["category"] == "People & Body" and re.search(r"\b(man|men|woman|women|couple|kiss|family)\b", name):
            continue
        others = _others(entry, name)
        keywords = [clean(w) for w in [*told.get("default", ()), *more.get(key, ())]]
        keywords = [w for w in dict.fromkeys(keywords) if re.fullmatch(r"[a-z][a-z0-9' -]+", w) and w != name]
        concepts[key] = Concept(
            key, name, others, tuple(keywords[:20]), entry["category"], entry["subcategory"], _weight(entry, name)
        )
    return concepts


def _others(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = [clean(entry["name"]), *(clean(s.replace("-", " ")) for s in entry["short_names"])]
    fit = (w for w in found if w != name and 0 < len(w.split()) <= MOST_WORDS and re.fullmatch(r"[a-z][a-z0-9' -]+", w))
    return tuple(dict.fromkeys(fit))


def _weight(entry: Mapping[str, Any], name: str) -> float:
    if entry["subcategory"] == "time" and ("o'clock" in name or "thirty" in name):
        return 0.2
    if entry["subcategory"] in SIGNS:
        return 0.2
    return SMALL_WEIGHTS.get(entry["category"], 1.0)


def still_pictures(package: Package, file: Path, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, np.ndarray]]:
    """(concept, RGBA 64x64) of each picture of a set that shows a concept."""
    if package.name.startswith("@iconify-json/"):
        yield from _drawn(file, concepts)
        return
    under = (
        "package/assets/" if package.name.startswith("@lobehub/") else f"package/img/{package.name.split('-')[-1]}/64/"
    )
    for name, data in members(file, ".webp" if "assets" in under else ".png", under):
        key = key_of(name.rpartition(".")[0])
        if key in concepts:
            yield key, squared(data)


def _drawn(file: Path, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, np.ndarray]]:
    """Of an Iconify set: SVG, drawn four times too large and filtered down."""
    try:
        import resvg_py
    except ImportError:
        raise SettingsError("Drawing SVG pictures needs resvg-py: pip install 'anyloom[train]'.") from None
    icons, chars = read_json(file, "icons.json"), read_json(file, "chars.json")
    side = icons.get("height", 32)
    for code, icon in chars.items():
        key = key_of(code)
        if key in concepts and icon in icons["icons"]:
            body = icons["icons"][icon]["body"]
            svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">{body}</svg>'
            yield key, squared(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=4 * SIDE, height=4 * SIDE)))


def squared(data: bytes) -> np.ndarray:
    """An encoded picture as RGBA of 64x64, centred, its shape kept; colours weighed by opacity when made smaller."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGBA")
    return fitted(picture)


def fitted(picture: Any) -> np.ndarray:
    """A PIL picture in RGBA, as `squared` says."""
    from PIL import Image

    if picture.size == (SIDE, SIDE):
        return np.asarray(picture)
    width, height = picture.size
    longest = max(width, height)
    if width != height:
        square = Image.new("RGBA", (longest, longest), (0, 0, 0, 0))
        square.paste(picture, ((longest - width) // 2, (longest - height) // 2))
        picture = square
    small = picture.convert("RGBa").resize((SIDE, SIDE), Image.Resampling.LANCZOS).convert("RGBA")
    return np.asarray(small)
