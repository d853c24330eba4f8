"""Media that a suite makes on the fly, the same bytes on every machine: drawn pictures, moving ones, plain sounds.

    data, media_type, name = made({"make": "picture", "shape": "heart", "colour": "blue"})

Recipes, each with its own fields: picture (shape, colour, background), clip (shape, colour, motion), sound (kind), and
speech (text), which is spoken by the text-to-speech expert and so made by `bench.py`.
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, nearest

if TYPE_CHECKING:
    from PIL.Image import Image

COLOURS = {
    "red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (250, 210, 40), "green": (50, 170, 70),
    "blue": (45, 110, 230), "purple": (140, 70, 200), "pink": (250, 140, 190), "brown": (140, 85, 45),
    "black": (25, 25, 28), "white": (255, 255, 255), "grey": (140, 140, 145),
}  # fmt: skip
SHAPES = ("heart", "star", "circle", "square", "triangle", "house", "tree", "flower", "fish", "crescent moon", "bell")
MOTIONS = ("left", "right", "up", "down", "grow", "shrink")
SOUNDS = ("pure tone", "beeps", "siren", "white noise", "sweep", "ticking clock")
SIDE, FRAMES, FRAME_RATE = 256, 16, 8
RATE, SECONDS = 16_000, 3.0
RECIPES: dict[str, dict[str, tuple[str, ...] | None]] = {
    "picture": {"shape": SHAPES, "colour": tuple(COLOURS), "background": tuple(COLOURS)},
    "clip": {"shape": SHAPES, "colour": tuple(COLOURS), "motion": MOTIONS},
    "sound": {"kind": SOUNDS},
    "speech": {"text": None},
}
OPTIONAL = ("background",)


def check_recipe(recipe: Mapping[str, Any], where: str) -> None:
    """InputError when nothing can be made of this."""
    kind = recipe.get("make")
    if kind not in RECIPES:
        raise InputError(f"{where} attaches neither a file nor something to make ({', '.join(RECIPES)}).")
    fields = RECIPES[kind]
    if unknown := sorted(set(recipe) - {"make"} - set(fields)):
        raise InputError(f"{where}: a {kind} has no '{unknown[0]}'{nearest(unknown[0], list(fields))}.")
    for name, known in fields.items():
        value = recipe.get(name)
        if value is None and name in OPTIONAL:
            continue
        if not isinstance(value, str) or not value.strip() or (known is not None and value not in known):
            listed = f"one of {', '.join(known)}" if known else "a text"
            raise InputError(f"{where}: '{name}' of a {kind} is {value!r}, and must be {listed}.")


def made(recipe: Mapping[str, Any]) -> tuple[bytes, str, str]:
    """(content, media type, file name) of a picture, clip or sound."""
    kind = recipe["make"]
    if kind == "picture":
        picture = drawn(recipe["shape"], COLOURS[recipe["colour"]], COLOURS[recipe.get("background", "white")])
        return _png(picture), "image/png", f"{recipe['colour']}-{recipe['shape'].replace(' ', '-')}.png"
    if kind == "clip":
        return _clip(recipe), "video/mp4", f"{recipe['colour']}-{recipe['shape'].replace(' ', '-')}.mp4"
    return _sound(recipe["kind"]), "audio/wav", f"{recipe['kind'].replace(' ', '-')}.wav"


def drawn(
    shape: str,
    colour: tuple[int, int, int],
    background: tuple[int, int, int] = (255, 255, 255),
    place: tuple[float, float, float] = (0.0, 0.0, 1.0),
) -> Image:
    """One shape: x and y of its centre in -1…1 of half the side, its size 1 for 70% of the picture."""
    from PIL import Image, ImageDraw

    big = SIDE * 2  # drawn large and scaled down: smooth edges
    image = Image.new("RGB", (big, big), background)
    x, y, size = big * (1 + place[0]) / 2, big * (1 + place[1]) / 2, big * 0.35 * place[2]

    def at(u: float, v: float) -> tuple[float, float]:
        return x + u * size, y + v * size

    draw = ImageDraw.Draw(image)
    for kind, points in _outline(shape):
        where = [at(u, v) for u, v in points]
        fill = background if kind.startswith("hole") else colour
        if kind.endswith("ellipse"):
            draw.ellipse(where, fill=fill)
        else:
            draw.polygon(where, fill=fill)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


Outline = list[tuple[str, list[tuple[float, float]]]]


def _outline(shape: str) -> Outline:
    """Polygons and ellipses (two corners) in -1…1, y downwards; `hole` parts are background."""
    if shape == "heart":
        return [("polygon", [_heart(n / 80 * math.tau) for n in range(80)])]
    if shape == "star":
        return [("polygon", [_polar(n / 10, 1.0 if n % 2 == 0 else 0.42) for n in range(10)])]
    fixed: dict[str, Outline] = {
        "circle": [("ellipse", [(-1, -1), (1, 1)])],
        "square": [("polygon", [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)])],
        "triangle": [("polygon", [(0, -0.95), (1, 0.85), (-1, 0.85)])],
        "house": [
            ("polygon", [(0, -1), (1, -0.1), (-1, -0.1)]),
            ("polygon", [(-0.75, -0.1), (0.75, -0.1), (0.75, 1), (-0.75, 1)]),
            ("hole polygon", [(-0.2, 0.35), (0.2, 0.35), (0.2, 1), (-0.2, 1)]),
        ],
        "tree": [
            ("polygon", [(0, -1), (0.7, -0.2), (-0.7, -0.2)]), ("polygon", [(0, -0.6), (0.9, 0.55), (-0.9, 0.55)]),
            ("polygon", [(-0.15, 0.55), (0.15, 0.55), (0.15, 1), (-0.15, 1)]),
        ],
        "flower": [
            *(("ellipse", [(a - 0.42, b - 0.42), (a + 0.42, b + 0.42)])
              for a, b in (_polar(n / 6, 0.58) for n in range(6))),
            ("hole ellipse", [(-0.25, -0.25), (0.25, 0.25)]),
        ],
        "fish": [
            ("ellipse", [(-0.65, -0.5), (1, 0.5)]), ("polygon", [(-0.45, 0), (-1, -0.55), (-1, 0.55)]),
            ("hole ellipse", [(0.55, -0.2), (0.7, -0.05)]),
        ],
        "crescent moon": [("ellipse", [(-1, -1), (1, 1)]), ("hole ellipse", [(-0.45, -1.05), (1.35, 0.75)])],
        "bell": [
            ("polygon", [(-0.9, 0.6), (-0.6, 0.3), (-0.5, -0.4), (0, -0.9), (0.5, -0.4), (0.6, 0.3), (0.9, 0.6)]),
            ("ellipse", [(-0.5, -0.95), (0.5, 0.05)]), ("ellipse", [(-0.2, 0.55), (0.2, 0.95)]),
        ],
    }  # fmt: skip
    return fixed[shape]


def _heart(t: float) -> tuple[float, float]:
    y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
    return math.sin(t) ** 3, -(y + 2.5) / 15


def _polar(turn: float, radius: float) -> tuple[float, float]:
    return radius * math.sin(turn * math.tau), -radius * math.cos(turn * math.tau)


def _png(image: Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _clip(recipe: Mapping[str, Any]) -> bytes:
    """Sixteen frames of a shape that moves."""
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("mpeg4", rate=FRAME_RATE)
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 1_200_000
        for n in range(FRAMES):
            picture = drawn(
                recipe["shape"], COLOURS[recipe["colour"]], place=_place(recipe["motion"], n / (FRAMES - 1))
            )
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        file.mux(stream.encode())
    return out.getvalue()


def _place(motion: str, t: float) -> tuple[float, float, float]:
    way = 1.2 * t - 0.6
    places = {
        "left": (-way, 0.0, 0.55), "right": (way, 0.0, 0.55), "up": (0.0, -way, 0.55), "down": (0.0, way, 0.55),
        "grow": (0.0, 0.0, 0.3 + 0.8 * t), "shrink": (0.0, 0.0, 1.1 - 0.8 * t),
    }  # fmt: skip
    return places[motion]


def _sound(kind: str) -> bytes:
    """Three seconds, 16 kHz, one channel."""
    import numpy as np

    t = np.arange(int(RATE * SECONDS)) / RATE
    waves: dict[str, Callable[[], Any]] = {
        "pure tone": lambda: np.sin(math.tau * 440 * t),
        "beeps": lambda: np.sin(math.tau * 1000 * t) * ((t % 0.5) < 0.18),
        "siren": lambda: np.sin(math.tau * (800 * t - 300 / math.tau * np.cos(math.tau * t))),
        "white noise": lambda: np.random.default_rng(0).uniform(-1, 1, len(t)),
        "sweep": lambda: np.sin(math.tau * (200 * t + 350 * t**2)),
        "ticking clock": lambda: np.random.default_rng(1).uniform(-1, 1, len(t)) * np.exp(-(t % 0.5) * 120),
    }
    samples = (waves[kind]() * 0.6 * 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return out.getvalue()
