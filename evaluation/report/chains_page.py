"""The page of chains: fidelity against the number of conversions, and which conversion loses most.

html = chains_page(result, from_store(store))        # result as `results.chain_result` puts it together
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import figures
from .inline import Load, Shown
from .page import card, details, grid, mode, page, para, said, section, table, text
from .plots import Line, Point, curve, intervals, legend, number
from .suite_page import about

EXAMPLES = 3  # meanings whose way is shown
FAITH = {"kept": "Facts kept", "similarity": "Similarity of meaning"}
COUNTED = {
    "done": "steps done", "missed": "missed", "failed": "failed", "broken": "behind a failure", "cannot": "cannot",
    "unread": "not judged",
}  # fmt: skip
HOW = (
    "A meaning (“a blue heart”) is put through one conversion after the other; each is a request of its own. After "
    "each the thing and the colour are looked for in what came: by words in a text, by a judge that no mode uses in a "
    "picture, clip or sound, by the recogniser in speech. Bands are 95% intervals, by bootstrap over meanings. A step "
    "that fails leaves nothing: it and all behind it count as 0. What cannot be served here is left out and counted."
)
ORACLE = (
    "The arms called true replace a part of the cascade by what is known: with true readers pictures and clips are "
    "put into words by the judge and speech by what was spoken; with true makers pictures, clips and sounds are drawn "
    "from the words. What an arm gains over the cascade is what those parts cost."
)


def chains_page(result: Mapping[str, Any], load: Load) -> str:
    """The whole page."""
    run, found = result["run"], result["figures"]
    arms, way = list(run["modes"]), run["way"]
    served = {a: any(c["done"] for c in found["curves"] if c["mode"] == a) for a in arms}
    oracle = para(ORACLE, "soft") if any(a.startswith("true-") for a in arms) else ""
    parts = [
        para(
            f"{len(run['starts'])} meanings, {len(run['seeds'])} seed{'s' * (len(run['seeds']) > 1)}, "
            f"{' → '.join(['text', *(c.split('-to-')[1] for c in way)])}; {run['started'][:10]}."
        ),
        *(para(f"{said(a)} could not begin any chain here.", "bad") for a in arms if not served[a]),
        section("What is left after k conversions", para(HOW, "soft"), oracle, legend(arms),
                grid(_curve(found["curves"], arms, n) for n in FAITH), _counts(found["curves"], arms),
                _steps(found["curves"], arms)),
        section("What each conversion loses", legend(arms), grid(_losses(found["losses"], arms, n) for n in FAITH)),
        _paired(found["paired"], arms),
        section("Some of the chains", *_examples(result, arms, Shown(load))),
        section("How this was made", about(run)),
    ]  # fmt: skip
    return page("What is left of a meaning after k conversions", parts)


def _curve(curves: Sequence[Mapping[str, Any]], arms: Sequence[str], name: str) -> str:
    lines: dict[str, list[Point | None]] = {}
    for arm in arms:
        points = [figures.point(c.get(name)) for c in curves if c["mode"] == arm]
        if any(points):
            lines[arm] = [Point(1, 1, 1), *points]
    return curve(FAITH[name], lines, arms, "conversions")


def _counts(curves: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> str:
    """What came of all steps of each arm, and why what was not done was not."""
    rows = []
    for arm in arms:
        own = [c for c in curves if c["mode"] == arm]
        rows.append([mode(arm, arms), *(str(sum(c[n] for c in own) or "·") for n in COUNTED)])
    told = table(["arm", *COUNTED.values()], rows, range(1, 1 + len(COUNTED)))
    why = dict.fromkeys((c["mode"], r) for c in curves for r in c["reasons"])
    reasons = table(["arm", "reason"], [[mode(a, arms), text(r)] for a, r in why])
    return told + (details("Why not", reasons) if reasons else "")


def _steps(curves: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> str:
    """Each step with its figures, folded away."""
    rows = [
        [mode(c["mode"], arms), str(c["k"]), text(c["conversion"]), *(str(c[n] or "·") for n in COUNTED),
         *(figures.value(c.get(n)) for n in FAITH)]
        for c in curves
    ]  # fmt: skip
    head = ["arm", "k", "conversion", *COUNTED.values(), *(n.lower() for n in FAITH.values())]
    return details("Step by step", table(head, rows, range(3, len(head))))


def _losses(losses: Sequence[Mapping[str, Any]], arms: Sequence[str], name: str) -> str:
    """The mean that a conversion takes away."""
    found = [x for x in losses if x["metric"] == name]
    lines = []
    for conversion in dict.fromkeys(x["conversion"] for x in found):
        points = {x["mode"]: figures.point(x) for x in found if x["conversion"] == conversion}
        lines.append(Line(conversion.replace("-to-", " → "), points))
    rows = [
        [mode(x["mode"], arms), text(x["conversion"]), f"{figures.signed(-x['mean'])}<br><small>"
         f"{figures.signed(-x['high'])} – {figures.signed(-x['low'])}</small>", str(x["n"])]
        for x in found
    ]  # fmt: skip
    told = details("Figures", table(["arm", "conversion", "change", "meanings"], rows, (2, 3))) if rows else ""
    if not lines:
        return ""
    note = "Less than 0 is a gain, and drawn at 0." if any(x["mean"] < 0 for x in found) else ""
    return f"<div>{intervals('Lost: ' + FAITH[name].lower(), lines, arms, note=note)}{told}</div>"


def _paired(pairs: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> str:
    note = "Meanings for which both arms have a value; p-values are corrected by Holm's method over this table."
    return section("The arms against each other", para(note, "soft"), figures.pair_table(pairs, arms)) if pairs else ""


def _examples(result: Mapping[str, Any], arms: Sequence[str], shown: Shown) -> list[str]:
    """The first meanings on their way, an arm beside the other."""
    out = []
    for item in list(dict.fromkeys(r["item"] for r in result["rows"]))[:EXAMPLES]:
        rows = [r for r in result["rows"] if r["item"] == item and r["seed"] == result["run"]["seeds"][0]]
        cards = [card(f"<p>{mode(r['mode'], arms)}</p>", *_way(r, shown)) for r in rows if _began(r)]
        if cards:
            out.append(f"<h3>{text(item)}</h3>{grid(cards)}")
    return out


def _began(row: Mapping[str, Any]) -> bool:
    return bool(row["steps"]) and row["steps"][0]["status"] != "cannot"


def _way(row: Mapping[str, Any], shown: Shown) -> list[str]:
    parts = []
    for step in row["steps"]:
        if step["status"] in ("broken", "cannot"):
            break
        kept = f" · kept {number(step['scores']['kept'])}" if "kept" in step["scores"] else ""
        parts.append(f"<p><small>{step['k']} {text(step['conversion'].replace('-to-', ' → '))}{kept}</small></p>")
        if step["artifact"]:
            parts.append(shown(step["artifact"]))
            parts.append(para(f"read as: {step['reading'][:200]}", "soft") if step["reading"] else "")
        elif step["said"]:
            parts.append(para(step["said"]))
        if step["reason"]:
            parts.append(para(step["reason"], "bad"))
    return parts
