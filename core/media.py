"""What a file really is, decided by its content, and whether it is within the limits.

    info = inspect_file(path, Limits())      # MediaInfo(modality, media_type, facts), or InputError

Names are not believed. Headers are read before anything is decoded, so that a picture of gigapixels
is refused for what it says of itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError

ACCEPTED = "PNG, JPEG, WebP, GIF, BMP; WAV, MP3, FLAC, OGG, M4A; MP4, WebM, MOV, MKV, AVI; UTF-8 text"
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}
_REFUSED = (
    (b"%PDF", "is a PDF; turn its pages into PNG pictures first"),
    (b"PK\x03\x04", "is a ZIP archive or office document; unpack or export it first"),
    (b"\x1f\x8b", "is a compressed archive; unpack it first"),
    (b"\x7fELF", "is a program"),
    (b"MZ", "is a program"),
)


@dataclass(frozen=True)
class Limits:
    """What is accepted from outside."""

    file_bytes: int = 200_000_000
    image_pixels: int = 50_000_000
    audio_seconds: int = 1800
    video_seconds: int = 600
    text_characters: int = 1_000_000


@dataclass(frozen=True)
class MediaInfo:
    """Modality, media type, and what was measured (width, height, seconds, characters)."""

    modality: str
    media_type: str
    facts: dict[str, Any] = field(default_factory=dict)


def inspect_file(path: Path, limits: Limits) -> MediaInfo:
    """Opens the file as far as needed to know it can be used. InputError in one sentence otherwise."""
    path = Path(path)
    head = _head(path, limits)
    for magic, reason in _REFUSED:
        if head.startswith(magic):
            raise InputError(f"'{path.name}' {reason} (accepted: {ACCEPTED}).")
    if _is_image(head):
        return _image(path, limits)
    if _is_media(head):
        return _media(path, limits)
    return _text(path, limits)


def _head(path: Path, limits: Limits) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"'{path}' is a folder; attach a file.")
        size = os.stat(path).st_size
        if not path.is_file():
            raise InputError(f"'{path}' is no ordinary file.")
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError as e:
        raise InputError(f"There is no file '{path}'.") from e
    except (OSError, ValueError) as e:
        raise InputError(f"'{path}' cannot be read: {getattr(e, 'strerror', None) or e}.") from e
    if size == 0:
        raise InputError(f"'{path.name}' is empty (0 bytes).")
    if size > limits.file_bytes:
        raise InputError(f"'{path.name}' has {size / 1e6:.0f} MB; the limit is {limits.file_bytes / 1e6:.0f} MB.")
    return head


def _is_image(head: bytes) -> bool:
    return head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def _is_media(head: bytes) -> bool:
    return (
        (head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b"AVI "))
        or head.startswith((b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3"))
        or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0)
        or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")
    )


def _image(path: Path, limits: Limits) -> MediaInfo:
    import warnings

    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=tuple(_FORMATS)) as image:
                width, height = image.size
                if width * height * getattr(image, "n_frames", 1) > limits.image_pixels:
                    raise InputError(
                        f"'{path.name}' has {width} x {height} pixels; the limit is {limits.image_pixels / 1e6:g} million."
                    )
                media_type = _FORMATS[image.format or ""]
                image.load()
    except InputError:
        raise
    except Image.DecompressionBombError as e:
        raise InputError(f"'{path.name}' has too many pixels; the limit is {limits.image_pixels / 1e6:g} million.") from e
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, KeyError) as e:
        raise InputError(f"'{path.name}' is a broken or truncated picture: {_reason(e)}.") from e
    return MediaInfo("image", media_type, {"width": width, "height": height})


def _media(path: Path, limits: Limits) -> MediaInfo:
    import av

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            pictures = [s for s in container.streams.video if not _is_cover(s)]
            stream = pictures[0] if pictures else next(iter(container.streams.audio), None)
            if stream is None:
                raise InputError(f"'{path.name}' holds neither sound nor moving pictures.")
            kind = "video" if pictures else "audio"
            media_type = _container_type(container.format.name, kind, path)
            seconds = _duration(container, stream)
            longest = limits.video_seconds if pictures else limits.audio_seconds
            if seconds is not None and seconds > longest:
                raise InputError(f"'{path.name}' lasts {seconds:.0f} seconds; the limit is {longest} for {kind}.")
            facts: dict[str, Any] = {"seconds": seconds}
            if pictures:
                facts |= {"width": stream.width, "height": stream.height}
                if stream.width * stream.height > limits.image_pixels:
                    raise InputError(f"'{path.name}' has frames of {stream.width} x {stream.height}, more than allowed.")
            last = _play(container, stream, longest, path.name)
            _whole_enough(path.name, seconds, last)
            facts["seconds"] = seconds if seconds is not None else last
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as e:
        raise InputError(f"'{path.name}' is a broken or truncated sound or video file: {_reason(e)}.") from e
    return MediaInfo(kind, media_type, facts)


def _play(container: Any, stream: Any, longest: float, name: str) -> float:
    """Decodes a first frame, then walks the packets to their end; returns the last moment in seconds."""
    decoded = False
    last = 0.0
    for packet in container.demux(stream):
        if not decoded and packet.size:
            decoded = bool(packet.decode())
        if packet.pts is not None and packet.time_base is not None:
            last = max(last, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if last > longest:
            raise InputError(f"'{name}' lasts more than {longest} seconds, which is the limit.")
    if not decoded and last == 0.0:
        raise InputError(f"'{name}' is a broken or truncated sound or video file: nothing in it can be decoded.")
    return last


def _whole_enough(name: str, announced: float | None, found: float) -> None:
    """A file that announces far more than it holds was cut off."""
    if announced and found and found < 0.9 * announced - 0.5:
        raise InputError(f"'{name}' is truncated: it announces {announced:.1f} seconds and holds {found:.1f}.")


def _is_cover(stream: Any) -> bool:
    return bool(int(stream.disposition) & 0x400) or stream.codec_context.name in ("mjpeg", "png") and stream.frames <= 1


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _container_type(name: str, kind: str, path: Path) -> str:
    known = {"wav": "wav", "mp3": "mpeg", "flac": "flac", "ogg": "ogg", "avi": "x-msvideo"}
    for key, subtype in known.items():
        if name == key:
            return f"{kind}/{subtype}"
    if "matroska" in name or "webm" in name:
        return f"{kind}/webm" if kind == "video" and path.suffix.lower() != ".mkv" else f"{kind}/x-matroska"
    if "mp4" in name or "mov" in name:
        return f"{kind}/quicktime" if path.suffix.lower() == ".mov" else f"{kind}/mp4"
    raise InputError(f"'{path.name}' is of the kind '{name}', which is not accepted (accepted: {ACCEPTED}).")


def _text(path: Path, limits: Limits) -> MediaInfo:
    data = path.read_bytes()
    if len(data) > 4 * limits.text_characters:
        raise InputError(f"'{path.name}' is longer than the {limits.text_characters} characters allowed.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"'{path.name}' is of no kind that is accepted ({ACCEPTED}).") from e
    if "\x00" in text:
        raise InputError(f"'{path.name}' is of no kind that is accepted ({ACCEPTED}).")
    start = text.lstrip("\ufeff \t\r\n")[:400].lower()
    if start.startswith("<svg") or (start.startswith("<?xml") and "<svg" in start):
        raise InputError(f"'{path.name}' is an SVG drawing; convert it to PNG first.")
    if len(text) > limits.text_characters:
        raise InputError(f"'{path.name}' has {len(text)} characters; the limit is {limits.text_characters}.")
    if not text.strip():
        raise InputError(f"'{path.name}' holds no text, only blanks.")
    kinds = {".md": "text/markdown", ".json": "application/json"}
    return MediaInfo("text", kinds.get(path.suffix.lower(), "text/plain"), {"characters": len(text)})


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "strerror", None) or error).split("\n")[0].split(": '/")[0].strip()
    return text.rstrip(".")[:120] or type(error).__name__
