"""Reading pictures: PP-OCR by rapidocr (its wheel holds the models), and answering questions about what was read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ...core.errors import ExpertError, InputError
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run

LONE = 0.95  # a single character in a whole picture is one only if the reader is so sure: round things look like 0


@dataclass(frozen=True)
class Piece:
    """A run of words found in a picture: its four corners from the top left clockwise, and how sure the reader is."""

    text: str
    corners: tuple[tuple[float, float], ...]
    sure: float


class Reader:
    """PP-OCR detector and recogniser from rapidocr's own files; nothing is fetched."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        self.engine = RapidOCR(params={"Global.log_level": "critical"})
        self.engine(_blank())  # rapidocr opens its models on first use

    def lines(self, image: Path, run: Run) -> list[str]:
        """The lines of text in reading order. ExpertError when there are none, InputError when it is no picture."""
        pixels = _pixels(image)
        run.check()
        run.progress(0, 1, "reading")
        found: Any = self.engine(pixels)
        run.progress(1, 1, "reading")
        pieces = [
            Piece(text.strip(), tuple((float(x), float(y)) for x, y in box), float(score))
            for text, box, score in zip(found.txts or (), _boxes(found.boxes), found.scores or (), strict=True)
            if text.strip()
        ]
        if not pieces or (len(pieces) == 1 and len(pieces[0].text) == 1 and pieces[0].sure < LONE):
            raise ExpertError("No text was found in the picture; a sharper or larger one may help.")
        return reading_order(pieces)


class RapidOCR(Expert):
    """Reads printed and clearly hand-written text in Latin and Chinese script, line by line."""

    name = "rapidocr"
    tool = tool("optical-character-recognition")
    card = Card(
        licence="Apache-2.0",
        size=31_000_000,
        memory=340_000_000,
        speed="fast",
        quality=0.6,
        source="https://github.com/RapidAI/RapidOCR",
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the detector and the recogniser."""
        self.reader = Reader()

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text of the picture, a line for a line."""
        lines = self.reader.lines(Path(args["image"]), run)
        return [Output.text("\n".join(lines), "read", lines=len(lines))]

    def unload(self) -> None:
        """Drops the models."""
        del self.reader


def reading_order(pieces: Sequence[Piece]) -> list[str]:
    """Lines from top to bottom, each from left to right, also where the page lies askew."""
    tilt = median(math.atan2(p.corners[1][1] - p.corners[0][1], p.corners[1][0] - p.corners[0][0]) for p in pieces)
    placed = sorted((_upright(p, tilt) for p in pieces), key=lambda q: q[0])
    rows: list[list[tuple[float, float, float, str]]] = []
    for q in placed:
        if rows and abs(q[0] - median(r[0] for r in rows[-1])) < 0.5 * min(q[1], median(r[1] for r in rows[-1])):
            rows[-1].append(q)
        else:
            rows.append([q])
    return [" ".join(text for _, _, _, text in sorted(row, key=lambda q: q[2])) for row in rows]


def _upright(piece: Piece, tilt: float) -> tuple[float, float, float, str]:
    """Centre's y, height, left x and text of a piece, after turning the page straight."""
    cos, sin = math.cos(-tilt), math.sin(-tilt)
    turned = [(x * cos - y * sin, x * sin + y * cos) for x, y in piece.corners]
    ys = [y for _, y in turned]
    return sum(ys) / len(ys), max(ys) - min(ys), min(x for x, _ in turned), piece.text


def _boxes(boxes: Any) -> Sequence[Any]:
    return () if boxes is None else boxes


def _pixels(image: Path) -> Any:
    """The picture as it is meant to be seen, on white, as an array of blue, green and red."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(image) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise InputError(f"'{image.name}' cannot be opened as a picture; attach a PNG or JPEG file.") from e
    page = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return np.ascontiguousarray(np.asarray(page)[:, :, ::-1])


def _blank() -> Any:
    import numpy as np

    return np.full((64, 64, 3), 255, np.uint8)
