"""What a training clip shows: a thing from the set that moves as its caption says, or one of the real animations.

    writer = MotionWriter(manifest, seed=0)
    scene = writer.scene(17)                        # a Scene of pictures and places, frame by frame
    batch = writer.batch(range(17, 33))             # arrays, to be painted by video_paint.py

A motion is a path: where the thing is, how large, how turned and how solid in each of the 16 frames.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .data import FRAMES, TRAIN, Item, Manifest
from .image_colours import BACKGROUNDS, COLOURS
from .image_scenes import WHITE, Mixture, SceneWriter
from .image_words import article, bare, say_motion, say_style, words_of
from .splits import held_motion

Path5 = list[tuple[float, float, float, float, float]]  # x, y, size, turn, opacity for each frame
SAID: dict[str, tuple[str, ...]] = {
    "left": ("moving left", "sliding to the left", "going left", "moving to the left"),
    "right": ("moving right", "sliding to the right", "going right", "moving to the right"),
    "up": ("moving up", "rising", "going up", "flying up", "moving upwards"),
    "down": ("moving down", "falling", "going down", "dropping down", "moving downwards"),
    "bounce": ("bouncing", "jumping up and down", "bouncing up and down", "hopping"),
    "spin": ("spinning", "rotating", "turning round", "spinning around"),
    "grow": ("growing", "getting bigger", "becoming larger", "zooming in"),
    "shrink": ("shrinking", "getting smaller", "becoming smaller", "zooming out"),
    "appear": ("appearing", "fading in"),
    "vanish": ("disappearing", "fading out", "fading away", "vanishing"),
    "swing": ("swinging", "rocking from side to side", "wobbling"),
    "shake": ("shaking", "trembling", "shivering"),
    "pulse": ("pulsing", "beating", "throbbing"),
    "still": ("standing still", "not moving"),
}
OFTEN = {"left": 3.0, "right": 3.0, "up": 3.0, "down": 3.0, "bounce": 2.0, "spin": 2.0, "grow": 1.6, "shrink": 1.6}


@dataclass(frozen=True)
class MotionScene:
    """A clip. `rows` are pictures, one for each frame; those of clips count on after the pictures."""

    rows: tuple[int, ...]
    colour: int
    places: Path5
    caption: str
    style: str
    motion: str
    concept: str
    background: tuple[int, int, int] = WHITE
    facts: Mapping[str, str] = field(default_factory=dict)
    style_said: bool = False


@dataclass
class Films:
    """Many clips as arrays: rows (n, 16), colours (n,), places (n, 16, 5), backgrounds (n, 3), captions."""

    rows: np.ndarray
    colours: np.ndarray
    places: np.ndarray
    backgrounds: np.ndarray
    captions: list[str]


class MotionWriter:
    """Writes clips by number: the same number of the same seed is the same clip."""

    def __init__(
        self,
        manifest: Manifest,
        seed: int = 0,
        animated: float = 0.25,
        split: str = TRAIN,
        held: bool = False,
        things: SceneWriter | None = None,
    ):
        self.seed, self.animated, self.held = seed, animated, held
        self.things = things or SceneWriter(manifest, seed, Mixture(), split)
        self.clips = [i for i in manifest.select("video", split) if i.weight > 0]
        self.first = len(manifest.array("image"))  # the row of the first clip's first frame

    def scene(self, number: int) -> MotionScene:
        """The clip of this number."""
        rng = random.Random(self.seed * 1_000_003 + number)
        scene: MotionScene | None = None
        while scene is None:
            scene = self._real(rng) if self.clips and rng.random() < self.animated else self._moved(rng)
        if rng.random() < 0.2:
            said = say_style(rng, scene.caption, self.things.said[scene.style])
            scene = replace(scene, caption=said, style_said=True)
        return scene

    def batch(self, numbers: Iterable[int]) -> Films:
        """Several clips as arrays."""
        scenes = [self.scene(n) for n in numbers]
        return Films(
            np.array([s.rows for s in scenes], np.int64), np.array([s.colour for s in scenes], np.int64),
            np.array([s.places for s in scenes], np.float32),
            np.array([s.background for s in scenes], np.float32), [s.caption for s in scenes],
        )  # fmt: skip

    def _moved(self, rng: random.Random) -> MotionScene | None:
        """A still picture on a path."""
        item, colour, name = self.things._thing(rng)
        motion = rng.choices(list(SAID), [OFTEN.get(m, 1.0) for m in SAID])[0]
        if held_motion(item.concept, motion) != self.held:
            return None
        caption = say_motion(rng, name, SAID[motion])
        return self._made(rng, item, (item.row,) * FRAMES, colour, motion, caption)

    def _real(self, rng: random.Random) -> MotionScene:
        """One of the animations: as it is or, sometimes, on a path as well."""
        item = rng.choice(self.clips)
        first, start = self.first + item.row * FRAMES, rng.randrange(FRAMES) if rng.random() < 0.3 else 0
        rows = tuple(first + (start + n) % FRAMES for n in range(FRAMES))
        words = words_of(item)
        if rng.random() < 0.2:
            motion = rng.choice(("left", "right", "up", "down"))
            caption = say_motion(rng, words.name, SAID[motion])
            return self._made(rng, item, rows, -1, motion, caption)
        name = rng.choice((words.name, *words.names)) if rng.random() < 0.3 else words.name
        said = rng.choice(
            (name, article(name), f"animated {name}", f"an animation of {article(name)}", f"{article(name)} moving")
        )
        places: Path5 = [(0.0, 0.0, 1.0, 0.0, 1.0)] * FRAMES
        return MotionScene(rows, -1, places, said, item.style, "animated", item.concept)

    def _made(
        self, rng: random.Random, item: Item, rows: tuple[int, ...], colour: int, motion: str, caption: str
    ) -> MotionScene:
        background, facts = WHITE, {}
        if rng.random() < 0.08:
            ground = rng.choice(tuple(BACKGROUNDS))
            background, facts = BACKGROUNDS[ground], {"background": ground}
            caption = f"{bare(caption)} on a {ground} background"
        if colour >= 0:
            facts["colour"] = list(COLOURS)[colour]
        return MotionScene(
            rows, colour, PATHS[motion](rng), caption, item.style, motion, item.concept, background, facts
        )


def _along(place: Callable[[float], tuple[float, float, float, float, float]]) -> Path5:
    """A path from a function of time, 0 at the first and 1 at the last frame."""
    return [place(n / (FRAMES - 1)) for n in range(FRAMES)]


def _slide(dx: float, dy: float) -> Callable[[random.Random], Path5]:
    def path(rng: random.Random) -> Path5:
        size, reach, off = rng.uniform(0.42, 0.62), rng.uniform(0.45, 0.7), rng.uniform(-0.2, 0.2)
        ease = rng.random() < 0.3

        def at(t: float) -> tuple[float, float, float, float, float]:
            t = 0.5 - 0.5 * math.cos(math.pi * t) if ease else t
            along = reach * (2 * t - 1)
            return (dx * along + (off if dy else 0.0), dy * along + (off if dx else 0.0), size, 0.0, 1.0)

        return _along(at)

    return path


def _bounce(rng: random.Random) -> Path5:
    size, high, x = rng.uniform(0.45, 0.6), rng.uniform(0.6, 0.85), rng.uniform(-0.3, 0.3)
    times, floor = rng.choice((1.0, 2.0)), 0.95 - size
    return _along(lambda t: (x, floor - high * abs(math.sin(math.pi * times * t)), size, 0.0, 1.0))


def _spin(rng: random.Random) -> Path5:
    size, turns, way, start = (
        rng.uniform(0.6, 0.85),
        rng.choice((1.0, 1.0, 2.0)),
        rng.choice((-1, 1)),
        rng.choice((0.0, 0.0, 1.0)),
    )
    # one turn in 16 steps: the clip repeats without a break
    return [(0.0, 0.0, size, start + way * 2 * math.pi * turns * n / FRAMES, 1.0) for n in range(FRAMES)]


def _scale(begin: float, end: float) -> Callable[[random.Random], Path5]:
    def path(rng: random.Random) -> Path5:
        a, b = begin * rng.uniform(0.85, 1.15), end * rng.uniform(0.9, 1.05)
        return _along(lambda t: (0.0, 0.0, a + (b - a) * t, 0.0, 1.0))

    return path


def _fade(begin: float, end: float) -> Callable[[random.Random], Path5]:
    def path(rng: random.Random) -> Path5:
        size = rng.uniform(0.7, 0.95)
        return _along(lambda t: (0.0, 0.0, size, 0.0, begin + (end - begin) * t))

    return path


def _swing(rng: random.Random) -> Path5:
    size, far, times = rng.uniform(0.6, 0.85), rng.uniform(0.3, 0.55), rng.choice((1.0, 2.0))
    return [(0.0, 0.0, size, far * math.sin(2 * math.pi * times * n / FRAMES), 1.0) for n in range(FRAMES)]


def _shake(rng: random.Random) -> Path5:
    size, far = rng.uniform(0.65, 0.85), rng.uniform(0.06, 0.1)
    return [(far * (-1) ** n, rng.uniform(-far, far) * 0.6, size, 0.0, 1.0) for n in range(FRAMES)]


def _pulse(rng: random.Random) -> Path5:
    size, far, times = rng.uniform(0.6, 0.7), rng.uniform(0.15, 0.25), rng.choice((1.0, 2.0))
    return [(0.0, 0.0, size * (1 + far * math.sin(2 * math.pi * times * n / FRAMES)), 0.0, 1.0) for n in range(FRAMES)]


def _still(rng: random.Random) -> Path5:
    size = rng.uniform(0.55, 0.95)
    return [(0.0, 0.0, size, 0.0, 1.0)] * FRAMES


PATHS: dict[str, Callable[[random.Random], Path5]] = {
    "left": _slide(-1, 0), "right": _slide(1, 0), "up": _slide(0, -1), "down": _slide(0, 1), "bounce": _bounce,
    "spin": _spin, "grow": _scale(0.3, 0.95), "shrink": _scale(0.95, 0.3), "appear": _fade(0.0, 1.0),
    "vanish": _fade(1.0, 0.0), "swing": _swing, "shake": _shake, "pulse": _pulse, "still": _still,
}  # fmt: skip
