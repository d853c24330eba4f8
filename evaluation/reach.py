"""Whether the tools that are here could serve a conversion at all, looked up before anything is asked.

    missing(offered, "text", "video")      # "" or "Nobody performs 'text-to-video' here."

What cannot be served is not held against a mode; what could have been served and was not is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .items import MODALITY

if TYPE_CHECKING:
    from ..tools.contracts import Tool

READS = {
    "image": ("image-to-text", "visual-question-answering"), "video": ("video-to-text",), "audio": ("audio-to-text",),
    "speech": ("automatic-speech-recognition",),
}  # fmt: skip
WRITTEN = ("optical-character-recognition", "document-question-answering")
MAKES = {"image": "text-to-image", "video": "text-to-video", "audio": "text-to-audio", "speech": "text-to-speech"}


def missing(offered: Sequence[Tool], source: str, target: str, words: bool = False) -> str:
    """Empty where a tool leads from one kind to the other, or one reads the first and another makes the second.

    `words`: it is the words in a picture that are wanted, and not what it shows.
    """
    if any(_direct(t, source, target) for t in offered):
        return ""
    names = {t.name for t in offered}
    lacks = []
    reads = WRITTEN if words and source == "image" else READS.get(source, ())
    if reads and not names & set(reads):
        lacks.append(reads[0])
    if target != "text" and MAKES[target] not in names and not any(_direct(t, "text", target) for t in offered):
        lacks.append(MAKES[target])
    return f"Nobody performs '{' and '.join(lacks)}' here." if lacks else ""


def _direct(tool: Tool, source: str, target: str) -> bool:
    """A tool of its own for the two kinds: not one of those that read or make by name, and none that edits."""
    own = {n for names in READS.values() for n in names} | set(MAKES.values())
    if source == target or tool.name in own or tool.output == "text":
        return False
    return tool.output == MODALITY[target] and tool.params != () and tool.params[0].modality == MODALITY[source]
