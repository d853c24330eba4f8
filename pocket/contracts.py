"""What the pocket models share with those who use them: progress, stopping, and a finished file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[float, float, str], None]
Check = Callable[[], None]
SENSES = ("image", "video", "audio")  # what can be seen, heard and made, in this order everywhere


@dataclass(frozen=True)
class Media:
    """What a generator made: a whole file as bytes."""

    modality: str
    data: bytes
    media_type: str
