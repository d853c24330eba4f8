"""Text that goes round in circles: what small models fall into where they have nothing to say.

    going_round([7, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3])    # 3: the end says the same three tokens again and again
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 32  # tokens of one round
TIMES = 4
LEAST = 12  # tokens of all rounds together, so that "ha ha ha ha" is none


def going_round(ids: Sequence[int]) -> int:
    """How many tokens the end of `ids` says at least four times over (twelve tokens at least); 0 where it does not."""
    for length in range(1, min(LONGEST, len(ids) // TIMES) + 1):
        times = max(TIMES, -(-LEAST // length))
        if length * times > len(ids):
            continue
        if ids[-1] != ids[-1 - length]:  # most often, and cheap
            continue
        tail = ids[-length * times :]
        if all(tail[n] == tail[n + length] for n in range(len(tail) - length)):
            return length
    return 0
