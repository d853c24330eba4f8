"""Bad input of every kind, for the tests of all doors: files that lie, files that explode, addresses that lead inside.

    for bad in hostile_files(tmp_path):      # bad.path, bad.said (a part of the message), or bad.said is None: harmless
        ...
    for address in HOSTILE_ADDRESSES: ...
"""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from anyloom.core.media import Limits
from anyloom.tools.fakes import tiny_mp4, tiny_png, tiny_wav

# Small, so that "huge" is quick; a door under test gets them as Settings(limits=HOSTILE_LIMITS).
HOSTILE_LIMITS = Limits(file_bytes=300_000, audio_seconds=2, video_seconds=2, text_characters=20_000)


@dataclass(frozen=True)
class Bad:
    """A file, and what is said of it; without `said` it may be used, and must do no harm."""

    name: str
    path: Path
    said: str | None


def bomb_png(side=50_000):
    """A PNG of side x side pixels in a few bytes: its header, and the beginning of its data."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100_000)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def zip_bomb():
    """20 MB of zeros in 20 KB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 20_000_000)
    return out.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
_CONTENT = {
    "huge.txt": (b"a" * 400_000, "the limit is"),
    "long.txt": (b"a" * 30_000, "which is the limit"),
    "long.wav": (tiny_wav(b"abc", seconds=3.0), "the limit is 2"),
    "empty.png": (b"", "is empty"),
    "blank.txt": (b" \n\t ", "holds no text"),
    "cut.png": (tiny_png(b"abc", 64)[:60], "broken or truncated"),
    "cut.wav": (tiny_wav(b"abc")[:600], "broken or truncated"),
    "cut.mp4": (tiny_mp4(b"abc")[:400], "holds neither sound nor moving pictures"),
    "noise.png": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "broken or truncated"),
    "script.svg": (SVG, "is an SVG drawing"),
    "script.png": (b"<?xml version='1.0'?>\n" + SVG, "is an SVG drawing"),
    "bomb.zip": (zip_bomb(), "is a ZIP archive"),
    "bomb.png": (zip_bomb(), "is a ZIP archive"),
    "gigapixels.png": (bomb_png(), "has too many pixels"),
    "program.png": (b"\x7fELF\x02\x01\x01" + b"\0" * 200, "is a program"),
    "paper.pdf": (b"%PDF-1.7\n\x80\x81 1 0 obj", "is a PDF"),
    "wide.txt": ("wide".encode("utf-16"), "save it as UTF-8"),
    "zeros.bin": (b"\0" * 500, "of no kind that is accepted"),
    # What may be used: by its content, whatever its name says.
    "really-a-picture.mp3": (tiny_png(b"abc"), None),
    "page.html": (b"<html><img src=x onerror=alert(1)>words</html>", None),
    "playlist.mp4": (PLAYLIST, "holds text"),
    "<img src=x onerror=alert(1)>.png": (tiny_png(b"xyz"), None),
    "<b>cut<b>.png": (tiny_png(b"abc", 64)[:60], "'bcutb.png' is a broken or truncated"),
    "\x1b[31mred.png": (b"", "is empty"),
}


def hostile_files(folder):
    """All of them, written to `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, (content, said) in _CONTENT.items():
        path = folder / name
        path.write_bytes(content)
        found.append(Bad(name, path, said))
    return found


HOSTILE_NAMES = tuple(_CONTENT)
# Refused by every door that fetches addresses, before anything is connected to.
HOSTILE_ADDRESSES = (
    "http://127.0.0.1/x.png",
    "http://127.0.0.1:22/",
    "http://localhost/x.png",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://0/",
    "http://[::1]/x.png",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fe80::1]/",
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://example.com@127.0.0.1/",
    "http://example.com\\@127.0.0.1/",
    "https://127.0.0.1/x.png",
    "ftp://example.com/x.png",
    "file:///etc/passwd",
    "gopher://127.0.0.1:70/_x",
    "http://",
    "http://exa mple.com/",
    "http://example.com:99999/",
    "http://127.0.0.1/\r\nX-Evil: 1",
)
HOSTILE_PATHS = (
    "../../etc/passwd", "/etc/shadow-not-there", "..\\..\\boot.ini", "C:\\boot.ini", "cat.png\0.txt", "/dev/zero",
)  # fmt: skip
