"""Two results of `anyloom eval` against each other: the same mode before and after a change.

rows = difference(read(Path("a")), read(Path("b")))      # one row per conversion, mode and metric
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import InputError
from .intervals import holm, paired
from .summary import ALL, COSTS, METRICS, by_item


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Second less first, item by item, where both have a value; and what makes the two not quite comparable."""
    if first["kind"] != "suite" or second["kind"] != "suite":
        raise InputError("`eval diff` compares two results of `anyloom eval`; one of these is of another kind.")
    modes = [m for m in first["run"]["modes"] if m in second["run"]["modes"]]
    if not modes:
        raise InputError("The two results have no mode in common; nothing can be compared.")
    heads, found = [], []
    conversions = [*dict.fromkeys(r["conversion"] for r in first["rows"]), ALL]
    for mode in modes:
        for conversion in conversions:
            sides = [
                [r for r in result["rows"] if r["mode"] == mode and conversion in (ALL, r["conversion"])]
                for result in (first, second)
            ]
            for name in (*METRICS, "seconds", "peak_bytes"):
                before, after = (by_item(s, name, "costs" if name in COSTS else "scores") for s in sides)
                if (test := paired(after, before)) is not None:
                    both = sorted(set(before) & set(after))
                    means = [sum(v[i] for i in both) / len(both) for v in (before, after)]
                    heads.append(
                        {"mode": mode, "conversion": conversion, "metric": name, "first": means[0], "second": means[1]}
                    )
                    found.append(test)
    rows = [{**head, **test.to_json()} for head, test in zip(heads, holm(found), strict=True)]
    return {"rows": rows, "notes": _notes(first, second)}


def _notes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """What differs besides what was measured."""
    notes = []
    for name in ("suite_sha256", "seeds", "profile", "controller", "policy", "device", "judges"):
        a, b = first["run"].get(name), second["run"].get(name)
        if a != b:
            shown = "the suites differ" if name == "suite_sha256" else f"{name}: {a} and {b}"
            notes.append(shown)
    here, there = (r["run"]["machine"]["processor"] for r in (first, second))
    if here != there:
        notes.append(f"machines: {here} and {there}; costs cannot be compared")
    return notes
