"""Provenance inside the file itself: PNG (iTXt chunk), JPEG (comment), WAV (LIST/INFO), MP4 (uuid box).

    data = embed(data, "image/png", {...})     # bytes in, bytes out; nothing is encoded anew
    extract(Path("picture.png"))               # the dict, or None for a file that has none

Other formats pass through unchanged. The same input gives the same bytes; embedding again replaces.
"""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEY = b"anyloom"
BOX = uuid.uuid5(uuid.NAMESPACE_URL, "anyloom/provenance").bytes
_MARK = b"anyloom:"


def embed(data: bytes, media_type: str, provenance: dict[str, Any]) -> bytes:
    """The file's bytes with `provenance` in them, where the format can carry it."""
    text = json.dumps(provenance, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()
    writer = {"image/png": _png, "image/jpeg": _jpeg, "audio/wav": _wav, "video/mp4": _mp4, "audio/mp4": _mp4}
    return writer[media_type](data, text) if media_type in writer else data


def extract(path: Path) -> dict[str, Any] | None:
    """What `embed` put into a file, or None."""
    data = Path(path).read_bytes()
    for reader in (_from_png, _from_jpeg, _from_wav, _from_mp4):
        text = reader(data)
        if text is not None:
            try:
                found = json.loads(text)
            except ValueError:
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
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length], data[at:end]
        at = end


def _is_ours_png(kind: bytes, body: bytes) -> bool:
    return kind == b"iTXt" and body.startswith(KEY + b"\0")


def _png(data: bytes, text: bytes) -> bytes:
    body = KEY + b"\0\0\0\0\0" + text
    crc = zlib.crc32(b"iTXt" + body)
    ours = struct.pack(">I", len(body)) + b"iTXt" + body + struct.pack(">I", crc)
    out = [data[:8]]
    for kind, content, whole in _png_chunks(data):
        if _is_ours_png(kind, content):
            continue
        out.append(whole)
        if kind == b"IHDR":
            out.append(ours)
    return b"".join(out)


def _from_png(data: bytes) -> bytes | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return next((b[len(KEY) + 5 :] for k, b, _ in _png_chunks(data) if _is_ours_png(k, b)), None)


# -- JPEG: a comment segment right after the start marker --------------------------------------------


def _jpeg(data: bytes, text: bytes) -> bytes:
    if len(text) > 65_000:
        return data
    rest = data[2:]
    if rest[:2] == b"\xff\xfe" and rest[4 : 4 + len(_MARK)] == _MARK:
        rest = rest[2 + struct.unpack(">H", rest[2:4])[0] :]
    body = _MARK + text
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(body) + 2) + body + rest


def _from_jpeg(data: bytes) -> bytes | None:
    if data[:4] != b"\xff\xd8\xff\xfe" or data[6 : 6 + len(_MARK)] != _MARK:
        return None
    return data[6 + len(_MARK) : 4 + struct.unpack(">H", data[4:6])[0]]


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
    kept = [data[a:b] for a, b, kind in _boxes(data) if not (kind == b"uuid" and data[a + 8 : a + 24] == BOX)]
    if sum(map(len, kept)) < len(data) - 24 and not _from_mp4(data):
        return data
    return b"".join(kept) + struct.pack(">I4s", 24 + len(text), b"uuid") + BOX + text


def _from_mp4(data: bytes) -> bytes | None:
    if data[4:8] != b"ftyp":
        return None
    return next((data[a + 24 : b] for a, b, k in _boxes(data) if k == b"uuid" and data[a + 8 : a + 24] == BOX), None)
