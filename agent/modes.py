"""How a request can be answered, as the chat and the page offer it: in each mode of the engine, or in all, compared.

    modes()              # ("cascade", "end2end", "compare")
    title("end2end")     # "End to end"
"""

from __future__ import annotations

COMPARE = "compare"  # to the engine it is no mode
TITLES = {"cascade": "Cascade", "end2end": "End to end", COMPARE: "Compare both"}


def modes() -> tuple[str, ...]:
    """The names to choose from."""
    from ..graphs.engine import MODES

    return (*MODES, COMPARE)


def title(mode: str) -> str:
    """A mode's name for people."""
    return TITLES.get(mode, mode)
