"""Which files a request may use (those attached, and, for planning alone, those it names), and names within texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..core.errors import InputError

KINDS = {
    "image": "png jpg jpeg webp gif bmp tif tiff heic",
    "audio": "wav mp3 flac ogg opus m4a aac wma",
    "video": "mp4 webm mov mkv avi m4v mpg mpeg",
    "text": "txt md json csv log srt html xml yaml rtf",
}
MODALITY = {extension: kind for kind, extensions in KINDS.items() for extension in extensions.split()}
_EXTENSIONS = "|".join(sorted(MODALITY, key=len, reverse=True))
_QUOTED = re.compile(rf"""['"`]([^'"`/\n]{{1,60}}\.(?:{_EXTENSIONS}))['"`]""", re.I)
_BARE = re.compile(rf"(?<![\w/.:-])([\w-][\w.-]*\.(?:{_EXTENSIONS}))(?![\w/])", re.I)


def modality_of(name: str) -> str:
    """The modality that a file name promises; InputError for an extension that says nothing."""
    extension = PurePosixPath(name).suffix.lower().lstrip(".")
    if extension not in MODALITY:
        raise InputError(f"'{name}' has no extension of a text, image, audio or video file; rename or convert it.")
    return MODALITY[extension]


def named_files(text: str, attached: Iterable[str] = ()) -> dict[str, str]:
    """Name -> modality: the attached names first, then those that the text names, in order."""
    files = {name: modality_of(name) for name in attached}
    quoted = [(m.start(1), m.group(1)) for m in _QUOTED.finditer(text)]
    covered = [(start, start + len(name)) for start, name in quoted]
    bare = [(m.start(1), m.group(1)) for m in _BARE.finditer(text) if not any(a <= m.start(1) < b for a, b in covered)]
    for _, name in sorted(quoted + bare):
        if name not in files and not name.lower().startswith("www."):
            files[name] = modality_of(name)
    return files


_BEFORE_OUTPUTS = "as|to|into|in|onto|called|named|name|it|save|write|export|download"
_TO_BE_MADE = re.compile(rf"\b(?:{_BEFORE_OUTPUTS})\s*[:=]?\s*['\"`]?$", re.I)


def absent_files(text: str, present: Iterable[str]) -> list[str]:
    """Pictures, sounds and clips that a text wants to have read and that are not there ("transcribe talk.wav").

    A name that the answer is to be kept under ("save it as cat.png") is none, nor is one that a present file
    ends on or begins with ("the cat.png" of "my cat.png").
    """
    have = [name.lower() for name in present]
    found = []
    for name, kind in named_files(text).items():
        at = text.find(name)
        known = any(name.lower() in h or h in name.lower() for h in have)
        if kind != "text" and not known and not _TO_BE_MADE.search(text[:at]):
            found.append(name)
    return found


def without_names(text: str, names: Iterable[str], inside: bool = True) -> str:
    """A text for an expert, which gets the files themselves: "make it grey: house.png" becomes "make it grey".

    A name that is set off by punctuation, or stands alone on either end of brackets, goes; one within the
    sentence becomes "it", unless `inside` is False. A text that is nothing but names stays as it is.
    """
    longest_first = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    if not longest_first:
        return text
    one = rf"(?<![\w./-])['\"`(\[]*(?:{longest_first})['\"`)\]]*(?![\w/-])"
    some = rf"{one}(?:\s*(?:,|;|&|\band\b)\s*{one})*"
    found = re.sub(rf"\s*(?:[:;,–—]|\s-|(?=[(\[]))\s*{some}\s*(?=[.!?]*\s*$)", "", text)
    found = re.sub(rf"^\s*{some}\s*(?:[:;,–—]|-\s)\s*", "", found)
    if inside:
        found = re.sub(some, lambda m: "it" if len(re.findall(one, m[0])) == 1 else "them", found)
    return found if re.sub(r"\W|\b(?:it|them)\b", "", found) else text
