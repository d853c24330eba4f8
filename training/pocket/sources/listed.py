"""The list of packages in `manifest/sources.toml`.

for package in packages("pictures"): fetch(package, folder)
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from .npm import Package

FILE = Path(__file__).parents[1] / "manifest" / "sources.toml"


@cache
def _listed() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def packages(use: str | None = None) -> list[Package]:
    """All packages, or those of one use."""
    found = [Package(**{**p, "said": tuple(p.get("said", ()))}) for p in _listed()["package"]]
    return [p for p in found if use in (None, p.use)]


def left_out() -> dict[str, str]:
    """What was looked at and not taken, and why."""
    return {p["name"]: p["why"] for p in _listed()["left_out"]}


def styles() -> dict[str, tuple[str, ...]]:
    """Each style and how captions say it."""
    return {p.style: p.said for p in packages("pictures")}
