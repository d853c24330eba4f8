"""Text that goes round in circles: what small models fall into where they have nothing to say.

    going_round([7, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3])    # 3: the end says the same three tokens again and again
    going_round(ids, digits(tokenizer))                     # also where only numbers differ: "6. Rest. 7. Rest. 8. …"
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

LONGEST = 32  # tokens of one round
TIMES = 4
LEAST = 12  # tokens of all rounds together, so that "ha ha ha ha" is none
COUNTED = 3  # tokens besides its number that a numbered round has, so that "1, 2, 3, 4" is none


def going_round(ids: Sequence[int], numbers: AbstractSet[int] = frozenset()) -> int:
    """How many tokens the end of `ids` says at least four times over (twelve tokens at least); 0 where it does not.

    Rounds may differ in tokens of `numbers`, which are not counted then.
    """
    if (length := _round(ids)) or not numbers:
        return length
    tail = ids[-2 * TIMES * LONGEST :]
    length = _round([i for i in tail if i not in numbers])
    return length if length >= COUNTED else 0


def digits(tokenizer: Any) -> frozenset[int]:
    """The tokens of a `tokenizers.Tokenizer` that are one digit each."""
    found = (tokenizer.token_to_id(str(n)) for n in range(10))
    return frozenset(i for i in found if i is not None)


def _round(ids: Sequence[int]) -> int:
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
