"""Moving pictures: animated WebP of 64x64 after scaling, 16 frames spread evenly over one loop.

for key, clip in clips(tarball, concepts): ...       # uint8 (16, 64, 64, 4)
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from ..data import FRAMES
from .emoji import Concept, fitted, key_of
from .npm import members

STILL = 1.2  # mean change from frame to frame, in grey levels, under which a clip does not move


def clips(file: Path, concepts: Mapping[str, Concept]) -> Iterator[tuple[str, np.ndarray]]:
    """(concept, frames) of each animation that shows a concept and moves."""
    for name, data in members(file, ".webp", "package/assets/"):
        key = key_of(name.rpartition(".")[0])
        if key in concepts and (clip := spread(data)) is not None and moves(clip):
            yield key, clip


def spread(data: bytes) -> np.ndarray | None:
    """16 frames of an animation; None for a still picture."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        count = getattr(opened, "n_frames", 1)
        if count < 2:
            return None
        wanted = {round(n * count / FRAMES) for n in range(FRAMES)}
        found = {}
        for number in range(max(wanted) + 1):
            opened.seek(number)
            if number in wanted:
                found[number] = fitted(opened.convert("RGBA"))
    return np.stack([found[min(round(n * count / FRAMES), max(found))] for n in range(FRAMES)])


def moves(clip: np.ndarray) -> bool:
    """Whether anything changes that can be seen on white."""
    seen = clip[..., :3].astype(np.float32) * (clip[..., 3:] / 255.0) + 255.0 - clip[..., 3:]
    return bool(np.abs(np.diff(seen, axis=0)).mean() > STILL)
