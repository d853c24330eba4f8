"""Provenance inside the file itself: PNG (iTXt chunk), JPEG (comment), WAV (LIST/INFO), MP4 (uuid box).

    data = embed(data, "image/png", {...})     # bytes in, bytes out; nothing is encoded anew
    extract(Path("picture.png"))               # the dict, or None for a file that has none

Other formats, and bytes that are not of the format they are said to be, pass through unchanged. The
same input gives the same bytes; embedding again replaces.
"""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import InputError

KEY = b"anyloom"
BOX = uuid.uuid5(uuid.NAMESPACE_URL, "anyloom/provenance").bytes
_MARK = b"anyloom:"
_PNG = b"\x89PNG\r\n\x1a\n"


def embed(data: bytes, media_type: str, provenance: dict[str, Any]) -> bytes:
    """The file's bytes with `provenance` in them, where the format can carry it."""
    text = json.dumps(provenance, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    writer = {"image/png": _png, "image/jpeg": _jpeg, "audio/wav": _wav, "video/mp4": _mp4, "audio/mp4": _mp4}
    return writer[media_type](data, text) if media_type in writer else data


def extract(path: Path) -> dict[str, Any] | None:
    """What `embed` put into a file, or None; InputError when it cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as e:
        raise InputError(f"'{path}' cannot be read: {e.strerror or e}.") from e
    for reader in (_from_png, _from_jpeg, _from_wav, _from_mp4):
        text = reader(data)
        if text is not None:
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):  # not ours, or damaged
                return None
            return found if isinstance(found, dict) else None
    return None


# -- PNG: chunks of length, type, data, CRC ---------------------------------------------------------


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(type, data, the whole chunk's bytes)."""
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        end = at + 12 + length
        if end > len(data):
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length], data[at:end]
        at = end


def _is_ours_png(kind: bytes, body: bytes) -> bool:
    return kind == b"iTXt" and body.startswith(KEY + b"\0")


def _png(data: bytes, text: bytes) -> bytes:
    if not data.startswith(_PNG):
        return data
    body = KEY + b"\0\0\0\0\0" + text
    crc = zlib.crc32(b"iTXt" + body)
    ours = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", crc)
    out, at = [data[:8]], 8
    for kind, content, whole in _png_chunks(data):
        at += len(whole)
        if _is_ours_png(kind, content):
            continue
        out.append(whole)
        if kind == b"IHDR":
            out.append(ours)
    return b"".join([*out, data[at:]])


def _from_png(data: bytes) -> bytes | None:
    if not data.startswith(_PNG):
        return None
    return next((b[len(KEY) + 5 :] for k, b, _ in _png_chunks(data) if _is_ours_png(k, b)), None)


# -- JPEG: a comment segment behind the application segments (readers want JFIF and Exif first) ----------


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(start, end, marker) of the segments before the picture's own data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xD9, 0xDA, 0xFF):
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        if end > len(data):
            return
        yield at, end, data[at + 1]
        at = end


def _is_ours_jpeg(data: bytes, start: int, marker: int) -> bool:
    return marker == 0xFE and data[start + 4 : start + 4 + len(_MARK)] == _MARK


def _jpeg(data: bytes, text: bytes) -> bytes:
    """Unchanged as well when `text` is longer than a segment can be (64 KiB)."""
    body = _MARK + text
    if not data.startswith(b"\xff\xd8\xff") or len(body) > 65_533:
        return data
    out, at = [data[:2]], 2
    place = 1
    for start, end, marker in _jpeg_segments(data):
        if not _is_ours_jpeg(data, start, marker):
            out.append(data[start:end])
            place = len(out) if 0xE0 <= marker <= 0xEF else place
        at = end
    out.insert(place, b"\xff\xfe" + struct.pack(">H", len(body) + 2) + body)
    return b"".join([*out, data[at:]])


def _from_jpeg(data: bytes) -> bytes | None:
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    ours = ((a, b) for a, b, marker in _jpeg_segments(data) if _is_ours_jpeg(data, a, marker))
    return next((data[a + 4 + len(_MARK) : b] for a, b in ours), None)


# -- WAV: a LIST/INFO chunk with ICMT ---------------------------------------------------------------


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack("<I", data[at + 4 : at + 8])
        length = min(length, len(data) - at - 8)
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _is_ours_wav(kind: bytes, body: bytes) -> bool:
    return kind == b"LIST" and body[:8] == b"INFOICMT" and body[12 : 12 + len(_MARK)] == _MARK


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _wav(data: bytes, text: bytes) -> bytes:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return data
    chunks = [(k, b) for k, b in _riff_chunks(data) if not _is_ours_wav(k, b)]
    chunks.append((b"LIST", b"INFO" + _chunk(b"ICMT", _MARK + text + b"\0")))
    body = b"WAVE" + b"".join(_chunk(k, b) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _from_wav(data: bytes) -> bytes | None:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    for kind, body in _riff_chunks(data):
        if _is_ours_wav(kind, body):
            (length,) = struct.unpack("<I", body[8:12])
            return body[12 + len(_MARK) : 12 + length].rstrip(b"\0")
    return None


# -- MP4: a box of type uuid at the end, which players pass over ----------------------------------------


def _boxes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, type) of the boxes at the top."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack(">Q", data[at + 8 : at + 16])
        end = len(data) if size == 0 else at + size
        if end <= at or end > len(data):
            return
        yield at, end, kind
        at = end


def _mp4(data: bytes, text: bytes) -> bytes:
    boxes = list(_boxes(data)) if data[4:8] == b"ftyp" else []
    if not boxes or boxes[-1][1] != len(data):
        return data
    out = bytearray(data)
    for start, end, kind in boxes:
        if _is_ours_mp4(data, start, kind) and end < len(data):
            out[start + 4 : start + 8] = b"free"  # cutting it out would move what tables behind it point at
    start, end, kind = boxes[-1]
    if _is_ours_mp4(data, start, kind):
        del out[start:]
    elif data[start : start + 4] == b"\0\0\0\0":  # "to the end of the file": that end is about to move
        if end - start >= 2**32:
            return data
        out[start : start + 4] = struct.pack(">I", end - start)
    return bytes(out) + struct.pack(">I4s", 24 + len(text), b"uuid") + BOX + text


def _is_ours_mp4(data: bytes, start: int, kind: bytes) -> bool:
    return kind == b"uuid" and data[start + 8 : start + 24] == BOX


def _from_mp4(data: bytes) -> bytes | None:
    if data[4:8] != b"ftyp":
        return None
    return next((data[a + 24 : b] for a, b, kind in _boxes(data) if _is_ours_mp4(data, a, kind)), None)
