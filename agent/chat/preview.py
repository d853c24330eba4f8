"""Pictures in a terminal: by the terminal's own protocol where it has one, else in half blocks of colour.

    show(console, Path("cat.png"), "kitty")
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = 48  # characters across, at most
ROWS = 16
PIXELS = 480  # across, where real pixels can be drawn
CHUNK = 4096  # bytes of base64 that kitty takes at once


def first_picture(path: Path, media_type: str) -> Any:
    """The picture, or a video's first frame, as RGB; None when it cannot be decoded."""
    from PIL import Image

    try:
        if media_type.startswith("video/"):
            import av

            with av.open(str(path)) as container:
                return next(container.decode(video=0)).to_image().convert("RGB")
        with Image.open(path) as opened:
            image = opened.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A"))
        return flat
    except Exception:  # a preview is a courtesy: whatever is wrong with the file, the path is shown
        return None


def show(console: Any, path: Path, media_type: str, terminal: str = "") -> bool:
    """Draws a picture or a video's first frame; says whether it could."""
    image = first_picture(path, media_type)
    if image is None or not console.is_terminal:
        return False
    if terminal in PROTOCOLS:
        small = image.copy()
        small.thumbnail((PIXELS, PIXELS // 2))
        console.file.write(PROTOCOLS[terminal](small) + "\n")
        console.file.flush()
        return True
    if console.color_system is None:
        return False
    console.print(half_blocks(image, min(COLUMNS, console.width - 4)))
    return True


def half_blocks(image: Any, columns: int) -> Any:
    """A picture as rows of '▀', each character two pixels: the upper in the ink's colour, the lower behind it."""
    from rich.style import Style
    from rich.text import Text

    width, height = image.size
    scale = min(columns / width, 2 * ROWS / height)
    across, down = max(1, round(width * scale)), max(2, round(height * scale) // 2 * 2)
    pixels = image.resize((across, down)).load()
    text = Text()
    for y in range(0, down, 2):
        for x in range(across):
            ink, behind = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (pixels[x, y], pixels[x, y + 1]))
            text.append("▀", Style(color=ink, bgcolor=behind))
        text.append("\n")
    text.right_crop(1)
    return text


def _png(image: Any) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def kitty(image: Any) -> str:
    """Kitty's graphics protocol: a PNG in pieces (sw.kovidgoyal.net/kitty/graphics-protocol)."""

    def pieces() -> Iterator[str]:
        data = _png(image)
        parts = [data[n : n + CHUNK] for n in range(0, len(data), CHUNK)]
        for n, part in enumerate(parts):
            first = "f=100,a=T," if n == 0 else ""
            yield f"\x1b_G{first}m={int(n + 1 < len(parts))};{part}\x1b\\"

    return "".join(pieces())


def iterm(image: Any) -> str:
    """iTerm2's inline images."""
    return f"\x1b]1337;File=inline=1;preserveAspectRatio=1:{_png(image)}\x07"


def sixel(image: Any) -> str:
    """DEC sixels: six rows at a time, one pass for each colour in them, 64 colours."""
    small = image.quantize(64)
    palette, pixels = small.getpalette(), small.load()
    width, height = small.size
    used = sorted({c for _, c in small.getcolors()})
    out = [f'\x1bPq"1;1;{width};{height}']
    out += [f"#{c};2;" + ";".join(str(v * 100 // 255) for v in palette[3 * c : 3 * c + 3]) for c in used]
    for top in range(0, height, 6):
        rows = range(top, min(top + 6, height))
        for c in sorted({pixels[x, y] for y in rows for x in range(width)}):
            bits = (sum(1 << (y - top) for y in rows if pixels[x, y] == c) for x in range(width))
            out.append(f"#{c}" + "".join(chr(63 + b) for b in bits) + "$")
        out.append("-")
    return "".join(out) + "\x1b\\"


PROTOCOLS = {"kitty": kitty, "iterm": iterm, "sixel": sixel}
