"""Memory that was let go of goes back to the system."""

import sys
from pathlib import Path

import pytest

from anyloom.core.memory import trim


def resident():
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="what other systems keep is not known here")
def test_what_was_freed_in_small_pieces_goes_back():
    pieces = [bytearray(60_000) for _ in range(3000)]  # below the size for which glibc asks the system anew
    last = bytearray(60_000)  # keeps the heap from shrinking by itself
    full = resident()
    del pieces
    trim()
    assert resident() < full - 100_000_000
    assert len(last) == 60_000
