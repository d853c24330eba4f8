"""What a file really is, decided by its content, and whether it is within the limits.

    info = inspect_file(path, Limits())      # MediaInfo(modality, media_type, facts), or InputError

Names are not believed (only text that calls itself Markdown or JSON is). Headers are read before
anything is decoded, so that a picture of gigapixels is refused for what it says of itself.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError

ACCEPTED = "PNG, JPEG, WebP, GIF, BMP; WAV, MP3, FLAC, OGG, M4A; MP4, WebM, MOV, MKV, AVI; UTF-8 text"
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}
_REFUSED = (
    (b"%PDF-", "is a PDF; turn its pages into PNG pictures first"),
    (b"PK\x03\x04", "is a ZIP archive or office document; unpack or export it first"),
    (b"\x1f\x8b", "is a compressed archive; unpack it first"),
    (b"7z\xbc\xaf", "is a compressed archive; unpack it first"),
    (b"Rar!\x1a", "is a compressed archive; unpack it first"),
    (b"II*\x00", "is a TIFF picture; convert it to PNG first"),
    (b"MM\x00*", "is a TIFF picture; convert it to PNG first"),
    (b"\x7fELF", "is a program"),
    (b"MZ", "is a program"),
)
_SIMPLE = {
    "wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg", "avi": "video/x-msvideo",
}  # fmt: skip
_STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"avis")  # pictures in an MP4's clothes
_NOT_TEXT = {
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".wav", ".mp3", ".flac", ".ogg", ".m4a", ".mp4", ".webm", ".mov",
    ".mkv", ".avi",
}  # fmt: skip
_HEAD = 4096
# What ffmpeg may take the file for, so that a crafted one cannot make it read playlists or open addresses.
_OPEN = {"protocol_whitelist": "file", "format_whitelist": "wav,mp3,flac,ogg,avi,matroska,webm,mov,mp4,m4a,aac"}


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
    if head.startswith(b"%PDF-") or not _reads_as_text(head):  # "BMW is ..." is no bitmap, whatever it begins with
        _refuse_known(path.name, head)
        if _is_image(head):
            return _image(path, limits)
        if _is_media(head):
            return _media(path, limits, head)
    info = _text(path, limits)
    if path.suffix.lower() in _NOT_TEXT:
        raise InputError(f"'{path.name}' holds text, whatever its name says; rename it to .txt or attach another file.")
    return info


def _reads_as_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character cut at the end is no fault
    except UnicodeDecodeError:
        return False
    return not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text)


def _refuse_known(name: str, head: bytes) -> None:
    for magic, reason in _REFUSED:
        if head.startswith(magic):
            raise InputError(f"'{name}' {reason} (accepted: {ACCEPTED}).")
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        raise InputError(f"'{name}' is a HEIC or AVIF picture; convert it to JPEG or PNG first (accepted: {ACCEPTED}).")


def _head(path: Path, limits: Limits) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"'{path}' is a folder; attach a file.")
        size = os.stat(path).st_size
        if not path.is_file():
            raise InputError(f"'{path}' is no ordinary file.")
        with open(path, "rb") as file:
            head = file.read(_HEAD)
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
        or (head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 in (2, 4))
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
                _within(path.name, width, height, 1, limits)
                # Phones write JPEGs with a second picture behind the first (MPO); that one is never opened.
                media_type = "image/jpeg" if image.format == "MPO" else _FORMATS[image.format or ""]
                if image.format != "MPO":
                    _within(path.name, width, height, getattr(image, "n_frames", 1), limits)
                image.load()
    except InputError:
        raise
    except Image.DecompressionBombError as e:
        most = f"{limits.image_pixels / 1e6:g} million"
        raise InputError(f"'{path.name}' has too many pixels; the limit is {most}, so scale it down first.") from e
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, KeyError, EOFError) as e:
        raise InputError(f"'{path.name}' is a broken or truncated picture: {_reason(e)}.") from e
    return MediaInfo("image", media_type, {"width": width, "height": height})


def _within(name: str, width: int, height: int, frames: int, limits: Limits) -> None:
    if width * height * frames > limits.image_pixels:
        many = f"{frames} frames of " if frames > 1 else ""
        most = f"{limits.image_pixels / 1e6:g} million"
        raise InputError(f"'{name}' has {many}{width} x {height} pixels; the limit is {most}.")


def _media(path: Path, limits: Limits, head: bytes) -> MediaInfo:
    import av

    _riff_is_whole(path, head)
    try:
        with av.open(f"file:{path.absolute()}", metadata_errors="ignore", options=_OPEN) as container:
            pictures = [s for s in container.streams.video if not _is_cover(s)]
            stream: Any = pictures[0] if pictures else next(iter(container.streams.audio), None)
            if stream is None:
                raise InputError(f"'{path.name}' holds neither sound nor moving pictures.")
            kind = "video" if pictures else "audio"
            if stream.codec_context is None:
                raise InputError(f"'{path.name}' holds {kind} in a coding that is not known here; convert it first.")
            media_type = _container_type(container.format.name, kind, path.name, head)
            seconds = _duration(container, stream)
            longest = limits.video_seconds if pictures else limits.audio_seconds
            if seconds is not None and seconds > longest:
                raise InputError(f"'{path.name}' lasts {seconds:.0f} seconds; the limit is {longest} for {kind}.")
            facts: dict[str, Any] = {"seconds": seconds}
            if pictures:
                facts |= {"width": stream.width, "height": stream.height}
                _within(path.name, stream.width, stream.height, 1, limits)
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


def _riff_is_whole(path: Path, head: bytes) -> None:
    """WAV and AVI say their size at the start; ffmpeg plays what is left of one that was cut off."""
    announced = int.from_bytes(head[4:8], "little") + 8
    there = os.stat(path).st_size
    live = announced >= 0x7FFFF000  # written to a pipe: the size was not known
    if head[:4] == b"RIFF" and not live and there < 0.98 * announced:
        raise InputError(
            f"'{path.name}' is a broken or truncated sound or video file: "
            f"it announces {announced} bytes and holds {there}."
        )


def _is_cover(stream: Any) -> bool:
    """A cover picture inside a sound file; ffmpeg marks those (AV_DISPOSITION_ATTACHED_PIC)."""
    return bool(int(stream.disposition) & 0x400)


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def _container_type(found: str, kind: str, name: str, head: bytes) -> str:
    """The media type, by ffmpeg's name of the container and what the file's head says of itself."""
    if _SIMPLE.get(found, "").startswith(f"{kind}/"):
        return _SIMPLE[found]
    if "matroska" in found:
        return f"{kind}/webm" if b"webm" in head[:64] else f"{kind}/x-matroska"
    if "mov" in found:
        apple = head[4:8] != b"ftyp" or head[8:12] == b"qt  "
        return "video/quicktime" if apple and kind == "video" else f"{kind}/mp4"
    raise InputError(f"'{name}' is {kind} of the kind '{found}', which is not accepted (accepted: {ACCEPTED}).")


def _text(path: Path, limits: Limits) -> MediaInfo:
    most = 4 * limits.text_characters
    with path.open("rb") as file:
        data = file.read(most + 1)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data, final=len(data) <= most)
    except UnicodeDecodeError as e:
        raise InputError(_no_kind(path.name, data)) from e
    if "\x00" in text:
        raise InputError(_no_kind(path.name, data))
    start = text[:_HEAD].lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<svg", "<!doctype svg")) or (start.startswith(("<?xml", "<!--")) and "<svg" in start):
        raise InputError(f"'{path.name}' is an SVG drawing; convert it to PNG first.")
    if len(text) > limits.text_characters:
        raise InputError(f"'{path.name}' has more than {limits.text_characters:,} characters, which is the limit.")
    if not text.replace("\ufeff", "").strip():
        raise InputError(f"'{path.name}' holds no text, only blanks.")
    return MediaInfo("text", _text_type(path, text), {"characters": len(text)})


def _no_kind(name: str, data: bytes) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    cure = "; if it is text, save it as UTF-8" if wide or b"\x00" not in data else ""
    return f"'{name}' is of no kind that is accepted ({ACCEPTED}){cure}."


def _text_type(path: Path, text: str) -> str:
    """Markdown looks like any text, so its name decides; JSON has to parse as well."""
    if path.suffix.lower() == ".json":
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return "text/plain"
        return "application/json"
    return "text/markdown" if path.suffix.lower() == ".md" else "text/plain"


def _reason(error: BaseException) -> str:
    """What went wrong, without the folders of this machine."""
    text = str(getattr(error, "strerror", None) or error).split("\n")[0]
    text = re.sub(r"(: | file )?'/[^']*'", "", text).strip()
    return text.rstrip(".")[:120] or type(error).__name__
