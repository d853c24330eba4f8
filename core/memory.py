"""Memory that nobody holds any more: given back to the system, where its allocator would keep it for later.

    trim()      # after a model was let go of: glibc keeps hundreds of megabytes of what was freed
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable


@functools.cache
def _trimmer() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where there is no such thing (macOS, Windows, musl)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return None


def trim() -> None:
    """Gives it back; does nothing where the system has no way to."""
    if (trimmer := _trimmer()) is not None:
        trimmer(0)
