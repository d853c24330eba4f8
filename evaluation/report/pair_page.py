"""The page of one request in both modes.

html = pair_page(result, from_store(store))        # result as `pair.py` puts it together
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...graphs.citations import unlinked
from ..pair import lines
from .inline import Load, Shown
from .page import card, grid, mode, page, para, section, table, text
from .plots import Bar, bars, number
from .suite_page import MOVED, about

NEAR = "How near an answer is to the meaning: the cosine of sentence embeddings of the two, as read in words."


def pair_page(result: Mapping[str, Any], load: Load) -> str:
    """The whole page."""
    sides, shown = result["sides"], Shown(load)
    modes = [s["mode"] for s in sides]
    told = [[text(name), *(text(c) for c in cells)] for name, cells in lines(sides)]
    agree = result["agreement"]
    attached = [shown(a) for a in result["attached"]]
    parts = [
        para(result["request"]), *attached,
        para(f"Meaning that the answers are held against: {result['meaning'][:400]}", "soft"),
        section("Both answers", grid(_answer(s, modes, shown) for s in sides)),
        section(
            "What it took, and what came", table(["", *(mode(m, modes) for m in modes)], told), para(NEAR, "soft"),
            "" if agree is None else para(f"The two answers are {agree:.2f} near to each other."),
            grid([_seconds(sides, modes)]),
        ),
        section("Where the meaning was lost", *_walks(sides, modes)),
        section("How this was made", about(result["run"])),
    ]  # fmt: skip
    return page("One request, cascade and end-to-end", parts)


def _answer(side: Mapping[str, Any], modes: Sequence[str], shown: Shown) -> str:
    head = f"<p>{mode(side['mode'], modes)}</p>"
    if side["status"] == "cannot":
        return card(head, para(f"Cannot be served here. {side['reason']}", "bad"))
    made = []
    for one in side["outputs"]:
        judged = ", ".join(f"{k} {name} ({p:.0%})" for k, (name, p) in one["judged"].items())
        said = f"read as: {one['reading'][:300]}" if one["reading"] else "nobody here can read it"
        made += [shown(one), para(said, "soft"), para(f"judge: {judged}", "soft") if judged else ""]
    words = para(unlinked(side["text"])[:1200]) if side["text"] else ""
    return card(head, *made, words, para(side["reason"], "bad") if side["reason"] else "")


def _seconds(sides: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    """Where the time went, by task."""
    rows = [
        Bar(s["task"], s["seconds"], modes.index(side["mode"])) for side in sides for s in side["steps"] if s["seconds"]
    ]
    rows += [
        Bar("the whole answer", side["costs"]["seconds"], modes.index(side["mode"]))
        for side in sides
        if side["status"] != "cannot"
    ]
    return bars("Seconds", rows, " s")


def _walks(sides: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> list[str]:
    """Step by step: what went in, what came out, how far the meaning moved."""
    out = []
    for side in sides:
        rows = [
            [
                f"{text(s['task'])}<br><small>{text(s['expert'])}</small>",
                text(s["into"] or "not read"),
                text(s["error"]) if s["status"] != "ok" else text(s["out"] or "not read"),
                "·" if s["moved"] is None else number(s["moved"]),
                "·" if s["kept"] is None else number(s["kept"]),
            ]
            for s in side["steps"]
        ]
        if rows:
            head = ["step", "in", "out", "moved", "near the meaning"]
            out.append(f"<h3>{mode(side['mode'], modes)}</h3>{table(head, rows, (3, 4))}")
    return [para(MOVED, "soft"), *out] if out else []
