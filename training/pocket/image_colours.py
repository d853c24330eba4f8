"""The colours that things are painted in, which pictures can be painted, and what colour they have by themselves.

palette = Palette.of(manifest)
palette.can[row]        # 1: its main hue can be turned; 2: it is grey and can be tinted; 0: leave it
palette.own(row)        # "yellow" for a banana, "" where no colour rules
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Manifest

# By hue in degrees; -1 takes the hue away. Then factors and least values of saturation and brightness.
COLOURS: dict[str, tuple[float, float, float, float, float]] = {
    "red": (0, 1.15, 0.55, 0.95, 0.30),
    "orange": (28, 1.15, 0.58, 1.05, 0.35),
    "yellow": (51, 1.1, 0.55, 1.15, 0.40),
    "green": (125, 1.1, 0.45, 0.95, 0.25),
    "blue": (217, 1.15, 0.50, 1.0, 0.30),
    "purple": (275, 1.05, 0.42, 0.95, 0.30),
    "pink": (330, 0.65, 0.25, 1.2, 0.55),
    "brown": (24, 0.9, 0.40, 0.58, 0.15),
    "black": (-1, 0.1, 0.0, 0.3, 0.0),
    "white": (-1, 0.08, 0.0, 0.2, 0.78),
    "grey": (-1, 0.08, 0.0, 0.62, 0.15),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "red": (222, 62, 60), "orange": (245, 160, 60), "yellow": (250, 220, 80), "green": (92, 180, 92),
    "blue": (80, 140, 230), "purple": (150, 92, 200), "pink": (250, 165, 200), "black": (22, 22, 26),
    "grey": (150, 150, 150),
}  # fmt: skip
NEAR = 38.0  # degrees around the main hue that are turned with it
OWN = {"red": 0, "orange": 28, "yellow": 50, "green": 120, "blue": 212, "purple": 275, "pink": 330}


@dataclass(frozen=True)
class Palette:
    """By row: `can` (see the file's first lines), `hue` the main hue in degrees, `share` of the thing it covers."""

    can: np.ndarray
    hue: np.ndarray
    share: np.ndarray
    bright: np.ndarray

    @classmethod
    def of(cls, manifest: Manifest, at_once: int = 512) -> Palette:
        """Measured over all pictures of a manifest."""
        pictures = manifest.array("image")
        parts = [_measure(np.asarray(pictures[n : n + at_once])) for n in range(0, len(pictures), at_once)]
        return cls(*(np.concatenate(p) for p in zip(*parts, strict=True)))

    def own(self, row: int) -> str:
        """The colour that rules a picture by itself, "" where none does or its name is doubtful."""
        if self.can[row] != 1 or self.share[row] < 0.55 or self.bright[row] < 0.55:
            return ""
        away = {name: abs((self.hue[row] - hue + 180) % 360 - 180) for name, hue in OWN.items()}
        nearest = min(away, key=away.__getitem__)
        return nearest if away[nearest] < 9 else ""


def _measure(pictures: np.ndarray) -> tuple[np.ndarray, ...]:
    """(n, 64, 64, 4) -> can, hue, share, brightness."""
    hue, saturation, value = hsv(pictures[..., :3].astype(np.float32) / 255)
    solid = pictures[..., 3] > 100
    area = solid.sum((1, 2)).clip(1)
    coloured = solid & (saturation > 0.24) & (value > 0.2)
    bins = np.zeros((len(pictures), 36), np.float32)
    rows, at = np.nonzero(coloured)[0], (hue[coloured] / 10).astype(int) % 36
    np.add.at(bins, (rows, at), 1)
    smooth = bins + np.roll(bins, 1, 1) + np.roll(bins, -1, 1)
    weights = np.stack([np.roll(bins, s, 1) for s in (1, 0, -1)])  # the mean of the three fullest
    top = smooth.argmax(1)
    part = weights[:, np.arange(len(top)), top]
    main = (top * 10 + 5 + (part * np.array([[-10], [0], [10]])).sum(0) / part.sum(0).clip(1)) % 360
    near = coloured & (np.abs((hue - main[:, None, None] + 180) % 360 - 180) < NEAR)
    share = near.sum((1, 2)) / area
    turned = (share > 0.36) & (near.sum((1, 2)) > 0.5 * coloured.sum((1, 2)))
    grey = solid & (saturation <= 0.24) & (value > 0.24)
    tinted = ~turned & (coloured.sum((1, 2)) < 0.25 * area) & (grey.sum((1, 2)) > 0.4 * area)
    can = np.where(turned, 1, np.where(tinted, 2, 0)).astype(np.int8)
    bright = (value * near).sum((1, 2)) / near.sum((1, 2)).clip(1)
    return can, main.astype(np.float32), share.astype(np.float32), bright.astype(np.float32)


def hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(…, 3) in 0…1 -> hue in degrees, saturation, value."""
    most, least = rgb.max(-1), rgb.min(-1)
    spread = most - least
    safe = np.where(spread > 1e-6, spread, 1)
    r, g, b = (rgb[..., n] for n in range(3))
    sector = np.where(most == r, (g - b) / safe % 6, np.where(most == g, (b - r) / safe + 2, (r - g) / safe + 4))
    hue = np.where(spread > 1e-6, sector * 60, 0)
    return hue, np.where(most > 1e-6, spread / np.where(most > 1e-6, most, 1), 0), most
