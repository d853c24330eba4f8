"""Colours of pictures: which one a picture has, and giving it another.

labels = main_colour(pictures)               # uint8 (n, 64, 64, 4) -> numbers in COLOURS, -1: several or none
painted = painted_in(pictures, "blue")       # the main colour's pixels turned blue, light and shade kept
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
HUES = {"red": 0.0, "orange": 28.0, "yellow": 50.0, "green": 120.0, "blue": 218.0, "purple": 275.0, "pink": 328.0}
_EDGES = (
    (14, "red"),
    (40, "orange"),
    (66, "yellow"),
    (165, "green"),
    (252, "blue"),
    (296, "purple"),
    (344, "pink"),
    (361, "red"),
)
FEW = 256  # pictures for which no processes are started
ENOUGH = 0.62  # share of the opaque pixels that have to agree


def hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """0…1 in; hue in degrees, saturation and value."""
    top, bottom = rgb.max(-1), rgb.min(-1)
    spread = top - bottom
    safe = np.maximum(spread, 1e-6)
    r, g, b = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    hue = np.where(top == r, ((g - b) / safe) % 6, np.where(top == g, (b - r) / safe + 2, (r - g) / safe + 4)) * 60
    return np.where(spread < 1e-6, 0.0, hue), spread / np.maximum(top, 1e-6), top


def rgb_of(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The way back."""
    turn = (np.array([5.0, 3.0, 1.0]) + (hue / 60)[..., None]) % 6
    fall = np.clip(np.minimum(turn, 4 - turn), 0, 1)
    return value[..., None] * (1 - saturation[..., None] * fall)


def names(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The number in COLOURS of every pixel."""
    found = np.full(hue.shape, COLOURS.index("red"))
    low = 0
    for high, colour in _EDGES:
        found = np.where((hue >= low) & (hue < high), COLOURS.index(colour), found)
        low = high
    brown = (hue >= 8) & (hue < 45) & (value < 0.68) & (saturation > 0.3)
    pale_red = ((hue < 14) | (hue >= 330)) & (saturation < 0.55) & (value > 0.8) & (saturation > 0.2)
    found = np.where(brown, COLOURS.index("brown"), np.where(pale_red, COLOURS.index("pink"), found))
    dull = saturation < 0.17
    found = np.where(dull & (value > 0.85), COLOURS.index("white"), found)
    found = np.where(dull & (value <= 0.85), COLOURS.index("grey"), found)
    return np.where(value < 0.24, COLOURS.index("black"), found)


def main_colour(pictures: np.ndarray) -> np.ndarray:
    """The colour that most of each picture's opaque pixels have; -1 where none is that common."""
    if len(pictures) < FEW:
        return _main_colours(pictures)
    size = -(-len(pictures) // (4 * _processes()))
    parts = [np.asarray(pictures[at : at + size]) for at in range(0, len(pictures), size)]
    with _pool() as pool:
        return np.concatenate(list(pool.map(_main_colours, parts)))


def _main_colours(pictures: np.ndarray) -> np.ndarray:
    found = []
    for picture in pictures:
        opaque = picture[..., 3] > 128
        pixels = picture[opaque][:, :3].astype(np.float32) / 255
        counts = np.bincount(names(*hsv(pixels)), minlength=len(COLOURS))
        best = int(counts.argmax())
        found.append(best if len(pixels) > 60 and counts[best] >= ENOUGH * len(pixels) else -1)
    return np.array(found)


def can_be_painted(label: int) -> bool:
    """Whether a picture of this main colour has pixels whose hue can be turned."""
    return label >= 0 and COLOURS[label] in HUES


def painted_in(picture: np.ndarray, colour: str) -> np.ndarray:
    """One RGBA picture (64, 64, 4) with its main colour's pixels in another colour."""
    rgb = picture[..., :3].astype(np.float32) / 255
    hue, saturation, value = hsv(rgb)
    heavy = saturation * (picture[..., 3] > 128)
    angle = np.angle((heavy * np.exp(1j * np.deg2rad(hue))).sum())
    away = (hue - np.rad2deg(angle) + 180) % 360 - 180
    near = (np.abs(away) < 45) & (saturation > 0.2)
    new_saturation = np.clip(saturation * (0.6 if colour == "pink" else 1.0), 0, 1)
    new_value = np.maximum(value, 0.8) if colour in ("yellow", "pink", "orange") else value
    turned = rgb_of((HUES[colour] + 0.25 * away) % 360, new_saturation, new_value)
    out = picture.copy()
    out[..., :3] = np.where(near[..., None], np.rint(np.clip(turned, 0, 1) * 255), picture[..., :3]).astype(np.uint8)
    return out


def all_painted(wanted: Sequence[tuple[np.ndarray, str]]) -> np.ndarray:
    """uint8 (n, 64, 64, 4): each picture in its colour, on all processors."""
    if not wanted:
        return np.zeros((0, 64, 64, 4), np.uint8)
    pictures, colours = zip(*wanted, strict=True)
    if len(wanted) < FEW:
        return np.stack([painted_in(p, c) for p, c in wanted])
    with _pool() as pool:
        size = -(-len(wanted) // (4 * _processes()))
        return np.stack(list(pool.map(painted_in, pictures, colours, chunksize=size)))


def _processes() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _pool() -> ProcessPoolExecutor:
    """Fresh processes: a forked one would hold the trainer's GPU."""
    return ProcessPoolExecutor(_processes(), mp_context=get_context("spawn"))
