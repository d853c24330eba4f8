"""Rows to figures: by conversion and mode, with intervals, and the modes against each other item by item.

    figures = summarise(rows, suite, bench)
    figures["cells"]       # one per conversion and mode (conversion "all": every item)
    figures["paired"]      # one per conversion and metric, between two modes
    figures["sets"]        # metrics of whole sets: CIDEr, Fréchet distance
    figures["steps"]       # how far the meaning moved in each kind of task

Nothing is left out silently: each cell counts its items by status, and each figure its items. `kept` is over answered,
missed and failed items (the last two are 0); other metrics are over answered ones that could be judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

from . import metrics
from .intervals import Paired, holm, mean, paired
from .steps import losses

if TYPE_CHECKING:
    from .items import Suite

STATUSES = ("done", "missed", "failed", "cannot")
METRICS = ("kept", "concept", "colour", "style", "motion", "wer", "similarity", "bleu", "rouge_l")
COSTS = ("seconds", "cpu_seconds", "peak_bytes", "model_calls", "tokens_written", "tokens_read")
TESTED = ("kept", "similarity", "seconds")
ALL = "all"
Row = Mapping[str, Any]


def summarise(
    rows: Sequence[Row], suite: Suite, features: Mapping[str, Mapping[str, Sequence[Sequence[float]]]] | None = None
) -> dict[str, Any]:
    """All figures as plain JSON types. `features`: by conversion, then by mode and "reference", of media outputs."""
    modes = list(dict.fromkeys(r["mode"] for r in rows))
    conversions = [*suite.conversions, ALL]
    cells = [cell(c, m, _of(rows, c, m)) for c in conversions for m in modes]
    return {
        "cells": cells, "paired": pairs(rows, conversions, modes),
        "sets": [*_ciders(rows, suite, modes), *_distances(features or {})], "steps": losses(rows),
    }  # fmt: skip


def _of(rows: Sequence[Row], conversion: str, mode: str) -> list[Row]:
    return [r for r in rows if r["mode"] == mode and conversion in (ALL, r["conversion"])]


def cell(conversion: str, mode: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Counts, scores and costs of one conversion by one mode."""
    counts = {s: sum(r["status"] == s for r in rows) for s in STATUSES}
    scores = {m: found.to_json() for m in METRICS if (found := mean(list(by_item(rows, m).values())))}
    costs = {c: found.to_json() for c in COSTS if (found := mean(list(by_item(rows, c, "costs").values())))}
    reasons: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["reason"]:
            reasons[row["reason"]] += 1
    unjudged = sum(r["status"] == "done" and "kept" not in r["scores"] for r in rows)
    return {
        "conversion": conversion, "mode": mode, "rows": len(rows), "items": len({r["item"] for r in rows}), **counts,
        "unjudged": unjudged, "scores": scores, "costs": costs,
        "reasons": dict(sorted(reasons.items(), key=lambda x: -x[1])[:5]),
    }  # fmt: skip


def by_item(rows: Sequence[Row], name: str, part: str = "scores") -> dict[str, float]:
    """Each item's mean over its seeds. Costs are those of answered items."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        value = row[part].get(name)
        if value is not None and (part == "scores" or row["status"] == "done"):
            found[row["item"]].append(float(value))
    return {item: fmean(values) for item, values in found.items()}


def pairs(rows: Sequence[Row], conversions: Sequence[str], modes: Sequence[str]) -> list[dict[str, Any]]:
    """Each two modes over the items that both have a value for; p-values corrected over the whole table."""
    heads: list[dict[str, Any]] = []
    found: list[Paired] = []
    for one, two in combinations(modes, 2):
        for conversion in conversions:
            for name in TESTED:
                part = "costs" if name in COSTS else "scores"
                sides = [by_item(_of(rows, conversion, m), name, part) for m in (one, two)]
                if (test := paired(*sides)) is not None:
                    heads.append({"conversion": conversion, "metric": name, "modes": [one, two]})
                    found.append(test)
    return [{**head, **test.to_json()} for head, test in zip(heads, holm(found), strict=True)]


def _ciders(rows: Sequence[Row], suite: Suite, modes: Sequence[str]) -> list[dict[str, Any]]:
    """CIDEr-D of the texts of each conversion; its mean over rows, with how many there are."""
    references = {i.id: i.references for i in suite.items if i.references and i.target == "text"}
    out = []
    for conversion in suite.conversions:
        for mode in modes:
            some = [r for r in _of(rows, conversion, mode) if r["item"] in references and r["status"] == "done"]
            if len({r["item"] for r in some}) > 1:
                scores = metrics.cider([(r["reading"] or "", references[r["item"]]) for r in some])
                each: dict[str, list[float]] = defaultdict(list)
                for row, score in zip(some, scores, strict=True):
                    each[row["item"]].append(score)
                found = mean([fmean(v) for v in each.values()])
                assert found is not None
                out.append({"conversion": conversion, "mode": mode, "metric": "cider", **found.to_json()})
    return out


def _distances(features: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> list[dict[str, Any]]:
    """Fréchet distances of what each mode made to the reference files of the same conversion."""
    out = []
    for conversion, sets in features.items():
        true = sets.get("reference", ())
        for mode, made in sets.items():
            if mode != "reference" and (distance := metrics.frechet(made, true)) is not None:
                out.append({
                    "conversion": conversion, "mode": mode, "metric": "frechet_judge", "mean": round(distance, 4),
                    "n": len(made), "n_reference": len(true),
                })  # fmt: skip
    return out
