"""Two results of `anyloom eval` against each other: the same mode before and after a change.

found = difference(read(Path("a")), read(Path("b")))
found["rows"]      # one per mode, conversion (of chains: "after 3") and metric
found["notes"]     # what differs besides, in words
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..core.errors import InputError
from .chains import FIDELITY, at_step
from .intervals import holm, paired
from .summary import ALL, COSTS, METRICS, by_item

Result = Mapping[str, Any]
SAME = ("suite_sha256", "way", "starts", "seeds", "profile", "controller", "policy", "device", "pinned", "judges")


def difference(first: Result, second: Result) -> dict[str, Any]:
    """Second less first, item by item, where both have a value; and what makes the two not quite comparable."""
    kinds = {first["kind"], second["kind"]}
    if "pair" in kinds or len(kinds) > 1:
        raise InputError("`eval diff` compares two suites or two chains; one of these results is of another kind.")
    modes = [m for m in first["run"]["modes"] if m in second["run"]["modes"]]
    if not modes:
        raise InputError("The two results have no mode in common; nothing can be compared.")
    heads, found = [], []
    for mode in modes:
        there = dict(_values(second, mode))
        for key, before in _values(first, mode):
            after = there.get(key, {})
            if (test := paired(after, before)) is not None:
                both = set(before) & set(after)
                means = [sum(v[i] for i in both) / len(both) for v in (before, after)]
                heads.append(
                    {"mode": mode, "conversion": key[0], "metric": key[1], "first": means[0], "second": means[1]}
                )
                found.append(test)
    rows = [{**head, **test.to_json()} for head, test in zip(heads, holm(found), strict=True)]
    return {"rows": rows, "notes": _notes(first, second)}


def _values(result: Result, mode: str) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    """Each figure of a mode, under its name, by item."""
    rows = [r for r in result["rows"] if r["mode"] == mode]
    if result["kind"] == "chains":
        for k in range(1, len(result["run"]["way"]) + 1):
            for name in FIDELITY:
                yield (f"after {k}", name), at_step(rows, mode, k, name)
        return
    for conversion in [*dict.fromkeys(r["conversion"] for r in rows), ALL]:
        some = [r for r in rows if conversion in (ALL, r["conversion"])]
        for name in (*METRICS, "seconds", "peak_bytes"):
            yield (conversion, name), by_item(some, name, "costs" if name in COSTS else "scores")


def _notes(first: Result, second: Result) -> list[str]:
    """What differs besides what was measured."""
    notes = []
    for name in SAME:
        a, b = first["run"].get(name), second["run"].get(name)
        if a != b:
            notes.append("the suites differ" if name == "suite_sha256" else f"{name}: {a} and {b}")
    here, there = (r["run"]["machine"]["processor"] for r in (first, second))
    if here != there:
        notes.append(f"machines: {here} and {there}; costs cannot be compared")
    return notes
