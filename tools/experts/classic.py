"""Changes to pictures that need no model: Pillow and OpenCV, told in free wording (`instructions.py`)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ExpertError, InputError
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run
from .instructions import CAN, parse

LARGEST = 64_000_000  # pixels a result may have


class PillowClassic(Expert):
    """Grayscale, blur, edges, rotate, crop, resize, flip, invert: exact, at once; cannot paint anything new."""

    name = "pillow-classic"
    tool = tool("image-to-image")
    card = Card(licence="MIT-CMU", memory=60_000_000, speed="instant", quality=0.5, source="https://python-pillow.org")

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The changed picture as PNG. ExpertError when the instruction is not understood."""
        operations = parse(args["text"])
        picture = open_picture(Path(args["image"]))
        for n, operation in enumerate(operations):
            run.check()
            run.progress(n, len(operations), operation.name)
            picture = OPERATIONS[operation.name](picture, **operation.values)
        run.progress(len(operations), len(operations), "changes")
        out = io.BytesIO()
        picture.save(out, "PNG")
        return [Output(out.getvalue(), "image/png", "picture", {"operations": [o.name for o in operations]})]


def open_picture(path: Path) -> Any:
    """The picture upright (EXIF orientation applied), as L, LA, RGB or RGBA; the first frame of several."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise InputError(f"'{path.name}' cannot be opened as a picture; attach a PNG or JPEG file.") from e
    if picture.mode[0] in "IF":  # 16 or 32 bits a pixel
        return _to_8_bit(picture)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def grayscale(picture: Any) -> Any:
    """Shades of gray, transparency kept."""
    return picture.convert("LA" if _alpha(picture) else "L").convert("RGBA" if _alpha(picture) else "RGB")


def invert(picture: Any) -> Any:
    """Each colour's opposite, transparency kept."""
    from PIL import ImageOps

    return _on_colours(picture, ImageOps.invert)


def blur(picture: Any, amount: float = 1.0, radius: float | None = None) -> Any:
    """A Gaussian blur; `amount` 1 spreads over a hundredth of the shorter side, `radius` is in pixels."""
    from PIL import ImageFilter

    spread = radius if radius is not None else amount * max(1.0, min(picture.size) / 100)
    gaussian = ImageFilter.GaussianBlur(min(spread, max(picture.size)))
    if not _alpha(picture):
        return picture.filter(gaussian)
    return picture.convert("RGBa").filter(gaussian).convert("RGBA")  # so that what is transparent lends no colour


def edges(picture: Any) -> Any:
    """White lines on black where brightness changes sharply (Canny, thresholds from the picture's own gradients)."""
    import cv2
    import numpy as np
    from PIL import Image

    page = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    gray = cv2.GaussianBlur(np.asarray(page.convert("L")), (0, 0), 1.0)
    gradient = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
    high = float(np.clip(gradient.max() * 0.3, 20, 250))
    lines = Image.fromarray(cv2.Canny(gray, high * 0.4, high)).convert("RGB")
    if _alpha(picture):
        lines.putalpha(picture.getchannel("A"))
    return lines


def rotate(picture: Any, degrees: float) -> Any:
    """Clockwise; the picture grows so that nothing is cut off, and new corners are transparent."""
    from PIL import Image

    turns = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
    degrees %= 360
    if degrees == 0:
        return picture
    if degrees in turns:
        return picture.transpose(turns[int(degrees)])
    _room(int(picture.width * 1.42), int(picture.height * 1.42))
    return picture.convert("RGBA").rotate(-degrees, Image.Resampling.BICUBIC, expand=True)


def flip(picture: Any, vertical: bool = False) -> Any:
    """Left to right, or top to bottom."""
    from PIL import Image

    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM if vertical else Image.Transpose.FLIP_LEFT_RIGHT)


def crop(
    picture: Any, *, square: bool = False, width: int = 0, height: int = 0,
    area: str = "", off: bool = False, share: float = 0.0, pixels: float = 0.0,
) -> Any:  # fmt: skip
    """A centred square, a centred `width` by `height`, or an `area` (`off`: what is left without it)."""
    w, h = picture.size
    if square:
        width = height = min(w, h)
    if width or height:
        if width < 1 or height < 1 or width > w or height > h:
            raise InputError(f"A picture of {w}x{h} cannot be cropped to {width}x{height}; give a size that fits.")
        left, top = (w - width) // 2, (h - height) // 2
        return picture.crop((left, top, left + width, top + height))
    box = _box(w, h, area, off, share, pixels)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise InputError(f"Nothing would be left of a picture of {w}x{h} after this crop; cut off less.")
    return picture.crop(box)


def resize(
    picture: Any, *, width: int = 0, height: int = 0, factor: float = 0.0, longest: int = 0, shrink_only: bool = False
) -> Any:
    """To width and height, to one of them or to the longest side with the shape kept, or by a factor."""
    from PIL import Image

    w, h = picture.size
    if longest:
        factor = longest / max(w, h)
        factor = min(1.0, factor) if shrink_only else factor
    if not factor and not (width or height):
        raise InputError("A picture cannot be made 0 pixels large; give a larger size.")
    if factor:
        width, height = round(w * factor), round(h * factor)
    elif not height:
        height = round(h * width / w)
    elif not width:
        width = round(w * height / h)
    width, height = max(1, width), max(1, height)
    _room(width, height)
    if not _alpha(picture):
        return picture.resize((width, height), Image.Resampling.LANCZOS)
    return picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f for f in (grayscale, invert, blur, edges, rotate, flip, crop, resize)
}


def _box(w: int, h: int, area: str, off: bool, share: float, pixels: float) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is kept."""
    across, down = round(pixels or share * w), round(pixels or share * h)
    if area == "all":
        return across, down, w - across, h - down
    if " " in area:  # a corner
        if off:
            raise ExpertError(f"A corner cannot be cut off a picture; possible are {CAN}.")
        rows, columns = area.split()
        if pixels == 0 and share == 1 / 4:  # the bottom right quarter is half of each side
            across, down = w // 2, h // 2
        left, top = (w - across if columns == "right" else 0), (h - down if rows == "bottom" else 0)
        return left, top, left + across, top + down
    if area == "centre":
        return (w - across) // 2, (h - down) // 2, (w + across) // 2, (h + down) // 2
    if off:
        rest = (h if area in ("top", "bottom") else w) - pixels
        opposite = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}[area]
        return _box(w, h, opposite, False, *((0.0, rest) if pixels else (1 - share, 0.0)))
    return {
        "top": (0, 0, w, min(h, down)),
        "bottom": (0, max(0, h - down), w, h),
        "left": (0, 0, min(w, across), h),
        "right": (max(0, w - across), 0, w, h),
    }[area]


def _on_colours(picture: Any, change: Callable[[Any], Any]) -> Any:
    changed = change(picture.convert("RGB"))
    if _alpha(picture):
        changed.putalpha(picture.getchannel("A"))
    return changed


def _alpha(picture: Any) -> bool:
    return "A" in picture.getbands()


def _to_8_bit(picture: Any) -> Any:
    """Pictures of 16 or 32 bits a pixel, darkest to black and brightest to white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(picture, np.float64)
    top = 65_535.0 if picture.mode.startswith("I;16") else max(float(values.max()), 1.0)
    return Image.fromarray(np.clip(values / top * 255, 0, 255).astype(np.uint8)).convert("RGB")


def _room(width: int, height: int) -> None:
    if width * height > LARGEST:
        raise InputError(
            f"The result would have {width}x{height} pixels and at most {LARGEST // 1_000_000} million are made; "
            "ask for less."
        )
