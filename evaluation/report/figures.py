"""Plots and tables out of the figures of `summary.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..summary import ALL, METRICS, STATUSES
from .page import mode, table, text
from .plots import Line, Point, intervals, number

NAMES = {
    "kept": "facts kept", "wer": "word error rate", "similarity": "similarity", "bleu": "BLEU", "rouge_l": "ROUGE-L",
    "cider": "CIDEr-D", "frechet_judge": "Fréchet distance on the judge's features", "seconds": "seconds",
    "peak_bytes": "peak memory", "model_calls": "model calls", "tokens_written": "tokens written",
    "tokens_read": "tokens read", "cpu_seconds": "processor seconds",
}  # fmt: skip
WHAT = {
    "missed": "answered without what was wanted", "failed": "ended in an error", "cannot": "cannot be served here",
}  # fmt: skip
Cell = Mapping[str, Any]


def point(found: Mapping[str, Any] | None, scale: float = 1.0) -> Point | None:
    """An interval of the figures as a point."""
    return Point(found["mean"] * scale, found["low"] * scale, found["high"] * scale, found["n"]) if found else None


def plot(
    cells: Sequence[Cell], modes: Sequence[str], name: str, title: str, part: str = "scores", unit: str = "",
    scale: float = 1.0, top: float | None = None, note: str = "",
) -> str:  # fmt: skip
    """One metric or cost over the conversions; what has no value is said."""
    lines = []
    for conversion in dict.fromkeys(c["conversion"] for c in cells):
        row = {c["mode"]: c for c in cells if c["conversion"] == conversion}
        points = {m: point(c[part].get(name), scale) for m, c in row.items()}
        if any(points.values()):
            notes = {m: why(c) for m, c in row.items() if points[m] is None}
            lines.append(Line(conversion.replace("-to-", " → ") if conversion != ALL else "all", points, notes))
    return intervals(title, lines, modes, unit, top, note)


def why(cell: Cell) -> str:
    """Why a cell has no value, in a few words."""
    if cell["cannot"] == cell["rows"]:
        return "cannot be served here"
    return "not judged" if cell["unjudged"] else "no value"


def score_table(cells: Sequence[Cell], modes: Sequence[str]) -> str:
    """Counts by status and every metric that has a value, a row for each conversion and mode."""
    names = [m for m in METRICS if any(m in c["scores"] for c in cells)]
    head = ["conversion", "mode", "items", *STATUSES, "not judged", *(text(NAMES.get(m, m)) for m in names)]
    rows = []
    for c in cells:
        counts = [str(c[s]) if c[s] else "·" for s in STATUSES]
        scores = [value(c["scores"].get(m)) for m in names]
        rows.append(
            [
                text(c["conversion"]),
                mode(c["mode"], modes),
                str(c["items"]),
                *counts,
                str(c["unjudged"] or "·"),
                *scores,
            ]
        )
    return table(head, rows, numbers=range(2, len(head)))


def cost_table(cells: Sequence[Cell], modes: Sequence[str]) -> str:
    """What answered items cost, by conversion and mode."""
    names = ("seconds", "cpu_seconds", "peak_bytes", "model_calls", "tokens_written", "tokens_read")
    rows = []
    for c in cells:
        if c["costs"]:
            shown = [value(c["costs"].get(n), 1e-6 if n == "peak_bytes" else 1.0) for n in names]
            rows.append([text(c["conversion"]), mode(c["mode"], modes), *shown])
    head = [
        "conversion",
        "mode",
        "seconds",
        "processor seconds",
        "peak memory, MB",
        "model calls",
        "tokens written",
        "tokens read",
    ]
    return table(head, rows, numbers=range(2, len(head)))


def value(found: Mapping[str, Any] | None, scale: float = 1.0) -> str:
    """A mean with its interval and the number of items, as HTML."""
    if not found:
        return "·"
    low, mean, high = (number(found[k] * scale) for k in ("low", "mean", "high"))
    between = f"<br><small>{low} – {high}</small>" if found["n"] > 1 and low != high else ""
    return f"{mean}{between}<br><small>n {found['n']}</small>"


def pair_table(pairs: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    """First mode less second, item by item."""
    rows = []
    for p in pairs:
        unit = " s" if p["metric"] == "seconds" else ""
        apart = f"{signed(p['difference'])}{unit}<br><small>{signed(p['low'])} – {signed(p['high'])}</small>"
        rows.append([
            text(p["conversion"]), text(NAMES.get(p["metric"], p["metric"])),
            f"{mode(p['modes'][0], modes)} − {mode(p['modes'][1], modes)}", apart, str(p["n"]),
            chance(p["p"]), chance(p.get("corrected")), text(p["test"]),
        ])  # fmt: skip
    head = ["conversion", "metric", "between", "difference", "items", "p", "p, corrected", "test"]
    return table(head, rows, numbers=(3, 4, 5, 6))


def set_table(sets: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    """Metrics of whole sets."""
    rows = [
        [text(s["conversion"]), mode(s["mode"], modes), text(NAMES.get(s["metric"], s["metric"])),
         value({"low": s["mean"], "high": s["mean"], **s})]
        for s in sets
    ]  # fmt: skip
    return table(["conversion", "mode", "metric", "value"], rows, numbers=(3,))


def reason_table(cells: Sequence[Cell], modes: Sequence[str]) -> str:
    """Why rows were not answered as wanted, the commonest first."""
    rows = []
    for c in cells:
        if c["conversion"] != ALL:
            rows += [
                [text(c["conversion"]), mode(c["mode"], modes), str(count), text(reason)]
                for reason, count in c["reasons"].items()
            ]
    return table(["conversion", "mode", "rows", "reason"], rows, numbers=(2,))


def signed(x: float) -> str:
    """With its sign."""
    return ("+" if x > 0 else "−" if x < 0 else "") + number(abs(x))


def chance(p: float | None) -> str:
    """A p-value in HTML."""
    if p is None:
        return "·"
    return "&lt; 0.001" if p < 0.001 else f"{p:.3f}"
