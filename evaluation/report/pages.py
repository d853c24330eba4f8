"""Which page a result has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .inline import Load


def page_of(result: Mapping[str, Any], load: Load) -> str:
    """The page of a suite, of chains, or of one request."""
    if result["kind"] == "suite":
        from .suite_page import suite_page

        return suite_page(result, load)
    if result["kind"] == "chains":
        from .chains_page import chains_page

        return chains_page(result, load)
    from .pair_page import pair_page

    return pair_page(result, load)
