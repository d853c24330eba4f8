"""What a training picture shows, as numbers and a caption: things from the set, their places and colours.

    writer = SceneWriter(manifest, seed=0)
    scene = writer.scene(17)                        # the 17th scene of this seed, always the same
    batch = writer.batch(range(17, 81))             # `Sprites` of 64 scenes, to be painted by image_paint.py

Kinds of scene and their shares are in `Mixture`. What `splits.py` holds out never comes up.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...pocket.generators.layouts import LAYOUTS
from .data import TRAIN, Item, Manifest
from .image_colours import BACKGROUNDS, COLOURS, Palette
from .image_words import (
    COLOUR_WORDS,
    NUMBERS,
    adorned,
    say_background,
    say_coloured,
    say_number,
    say_pair,
    say_place,
    say_style,
    say_thing,
    words_of,
)  # fmt: skip
from .sources.listed import styles
from .splits import held_colour, held_pair

MOST = 4  # things in one picture
SOLID = {"Animals & Nature", "Food & Drink", "Objects", "Travel & Places", "Activities", "Smileys & Emotion"}
WHITE = (255, 255, 255)
COLOUR_NAMES = tuple(COLOURS)
# Layout, and how a caption says it: size, then place.
PLACED = (
    ("small", "small", ""), ("small", "tiny", ""), ("small", "little", ""), ("left", "", "on the left"),
    ("right", "", "on the right"), ("top", "", "at the top"), ("bottom", "", "at the bottom"),
)  # fmt: skip


@dataclass(frozen=True)
class Mixture:
    """How often each kind of scene comes, and how often the style is named."""

    plain: float = 0.60
    coloured: float = 0.16
    pair: float = 0.09
    number: float = 0.04
    background: float = 0.05
    placed: float = 0.06
    style_named: float = 0.35


@dataclass(frozen=True)
class Sprite:
    """One thing: its picture's row, a colour (-1: its own), centre in -1…1, size, turn in radians, opacity."""

    row: int
    colour: int = -1
    x: float = 0.0
    y: float = 0.0
    size: float = 1.0
    turn: float = 0.0
    opacity: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A picture: things from back to front, a background, and what is true of it."""

    sprites: tuple[Sprite, ...]
    caption: str
    style: str
    kind: str
    background: tuple[int, int, int] = WHITE
    concepts: tuple[str, ...] = ()
    colours: tuple[str, ...] = ("",)  # of each concept, "" where it is as it is
    layout: str = "whole"
    ground: str = ""  # the background's colour
    style_said: bool = False


@dataclass
class Sprites:
    """Many scenes as arrays: rows and colours (n, MOST), places (n, MOST, 5), backgrounds (n, 3), captions."""

    rows: np.ndarray
    colours: np.ndarray
    places: np.ndarray
    backgrounds: np.ndarray
    captions: list[str]


class SceneWriter:
    """Writes scenes by number. `split` may be a held-out one, for tests of what training never showed."""

    def __init__(self, manifest: Manifest, seed: int = 0, mixture: Mixture | None = None, split: str = TRAIN):
        self.seed, self.mixture = seed, mixture or Mixture()
        self.items = [i for i in manifest.select("image", split) if i.weight > 0]
        self.palette = Palette.of(manifest)
        self.said = styles()
        self._sums = np.cumsum([i.weight for i in self.items])
        solid = [i for i in self.items if i.group in SOLID and len(i.name.split()) <= 3 and i.weight >= 1]
        self._solid = solid or self.items
        self._paintable = [i for i in self._solid if self.palette.can[i.row] and len(i.name.split()) <= 3]
        self._of_style: dict[str, list[Item]] = defaultdict(list)
        for item in self._solid:
            self._of_style[item.style].append(item)
        m = self.mixture
        kinds = ("plain", "coloured", "pair", "number", "background", "placed")
        self._kinds, self._shares = kinds, [getattr(m, k) for k in kinds]

    def scene(self, number: int) -> Scene:
        """The scene of this number."""
        rng = random.Random(self.seed * 1_000_003 + number)
        kind = rng.choices(self._kinds, self._shares)[0]
        scene: Scene | None = None
        while scene is None:  # a draw may be held out, or impossible
            scene = getattr(self, f"_{kind}")(rng)
        if rng.random() < self.mixture.style_named:
            said = say_style(rng, scene.caption, self.said[scene.style])
            scene = replace(scene, caption=said, style_said=True)
        return scene

    def batch(self, numbers: Iterable[int]) -> Sprites:
        """Several scenes as arrays."""
        return packed([self.scene(n) for n in numbers])

    def _any(self, rng: random.Random) -> Item:
        at = int(np.searchsorted(self._sums, rng.random() * self._sums[-1]))
        return self.items[min(at, len(self.items) - 1)]

    def _plain(self, rng: random.Random) -> Scene:
        item = self._any(rng)
        words = words_of(item)
        said = say_thing(rng, words)
        colour = self.palette.own(item.row)
        if colour and rng.random() < 0.12 and not COLOUR_WORDS & set(words.name.split()) and item.group in SOLID:
            said = said if held_colour(colour, words.plain) else say_coloured(rng, colour, words)
        return Scene((Sprite(item.row),), adorned(rng, said), item.style, "plain", concepts=(item.concept,))

    def _coloured(self, rng: random.Random) -> Scene | None:
        item, colour = rng.choice(self._paintable or self.items), rng.choice(tuple(COLOURS))
        words = words_of(item)
        if held_colour(colour, words.plain):
            return None
        scene = self._laid("whole", adorned(rng, say_coloured(rng, colour, words)), (item, COLOUR_NAMES.index(colour)))
        return replace(scene, kind="coloured")

    def _thing(self, rng: random.Random, style: str = "", painted: float = 0.25) -> tuple[Item, int, str]:
        """A solid thing, perhaps painted: the item, its colour's number, and what it is called."""
        item = rng.choice(self._of_style[style] if style else self._solid)
        words = words_of(item)
        if rng.random() < painted and self.palette.can[item.row]:
            colour = rng.choice(tuple(COLOURS))
            if not held_colour(colour, words.plain):
                return item, COLOUR_NAMES.index(colour), f"{colour} {words.plain}"
        return item, -1, words.name

    def _pair(self, rng: random.Random) -> Scene | None:
        a, colour_a, name_a = self._thing(rng)
        b, colour_b, name_b = self._thing(rng, a.style)
        if a.concept == b.concept or held_pair(a.concept, b.concept):
            return None
        layout = "above" if rng.random() < 0.2 else "beside"
        said = say_pair(rng, name_a, name_b, layout)
        return self._laid(layout, said, (a, colour_a), (b, colour_b))

    def _number(self, rng: random.Random) -> Scene:
        item, colour, _ = self._thing(rng, painted=0)
        count = rng.choice((2, 3, 4))
        return self._laid(NUMBERS[count], say_number(count, words_of(item)), (item, colour))

    def _background(self, rng: random.Random) -> Scene:
        item, colour, name = self._thing(rng)
        ground = rng.choice(tuple(BACKGROUNDS))
        scene = self._laid("inset", say_background(rng, name, ground), (item, colour))
        return replace(scene, kind="background", background=BACKGROUNDS[ground], ground=ground)

    def _placed(self, rng: random.Random) -> Scene:
        """Small, or at a side."""
        item, colour, name = self._thing(rng)
        layout, size, where = rng.choice(PLACED)
        return self._laid(layout, say_place(name, size, where), (item, colour))

    def _laid(self, layout: str, said: str, *things: tuple[Item, int]) -> Scene:
        """One or two things, each with its colour, in the places of a layout."""
        sprites = tuple(
            Sprite(item.row, colour, x, y, size)
            for (item, colour), places in zip(things, LAYOUTS[layout], strict=False)
            for x, y, size in places
        )
        return Scene(
            sprites, said, things[0][0].style, layout, concepts=tuple(i.concept for i, _ in things), layout=layout,
            colours=tuple(COLOUR_NAMES[c] if c >= 0 else "" for _, c in things),
        )  # fmt: skip


def packed(scenes: Sequence[Scene]) -> Sprites:
    """Scenes as arrays; places that hold nothing have row -1."""
    rows = np.full((len(scenes), MOST), -1, np.int64)
    colours = np.full((len(scenes), MOST), -1, np.int64)
    places = np.zeros((len(scenes), MOST, 5), np.float32)
    for n, scene in enumerate(scenes):
        for k, s in enumerate(scene.sprites[:MOST]):
            rows[n, k], colours[n, k] = s.row, s.colour
            places[n, k] = s.x, s.y, s.size, s.turn, s.opacity
    grounds = np.array([s.background for s in scenes], np.float32).reshape(-1, 3)
    return Sprites(rows, colours, places, grounds, [s.caption for s in scenes])
