"""The page of a suite's run.

html = suite_page(result, from_store(store))        # result as `results.py` puts it together
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...graphs.citations import unlinked
from ..items import Item
from ..media import made
from ..summary import ALL, STATUSES
from . import figures
from .inline import Load, Shown
from .page import card, details, grid, mode, page, para, said, section, table, text
from .plots import legend, number

EXAMPLES = 2  # items shown of each conversion
MOVED = (
    "How far the meaning moves in one task: 1 less the cosine of what goes in and what comes out, both put into words "
    "(pictures, clips and sounds by the judge, speech by the recogniser). What speaking and hearing lose together "
    "stands at text-to-speech, as the recogniser that reads is the one that hears."
)  # fmt: skip
NO_JUDGE = "none: pictures, sounds and clips are not judged"
HOW = (
    "Facts kept is the share of the expected facts (thing, colour, motion; for speech, words) that the answer keeps, "
    "as named by a judge that neither mode uses. Bars are 95% intervals, by bootstrap over items. An answer without "
    "what was wanted, or an error, counts as 0; what cannot be served here is left out and listed."
)  # fmt: skip


def suite_page(result: Mapping[str, Any], load: Load) -> str:
    """The whole page."""
    run, cells, rows = result["run"], result["figures"]["cells"], result["rows"]
    modes = list(run["modes"])
    answered = {m: sum(r["status"] != "cannot" for r in rows if r["mode"] == m) for m in modes}
    parts = [
        para(
            f"{len({r['item'] for r in rows})} items, {len(run['seeds'])} seed{'s' * (len(run['seeds']) > 1)}, "
            f"{' and '.join(map(said, modes))}, {run['started'][:10]}."
        ),
        *(para(f"The {said(m)} mode could serve none of the items here.", "bad") for m in modes if not answered[m]),
        section("What came", _status(cells, modes), _reasons(cells, modes)),
        section("How much of the meaning is kept", para(HOW, "soft"), legend(modes), grid(_quality(cells, modes))),
        _steps(result["figures"].get("steps", ()), modes),
        section("What it costs", para(_memory_note(rows), "soft"), legend(modes), grid(_costs(cells, modes)),
                details("All figures", figures.cost_table(cells, modes))),
        _paired(result["figures"]["paired"], modes),
        section("All scores", figures.score_table(cells, modes), _sets(result, modes)),
        section("Examples", *_examples(result, modes, Shown(load))),
        section("How this was made", about(run)),
    ]  # fmt: skip
    return page(f"Cascade and end-to-end over the suite {run['suite']}", parts)


def _reasons(cells: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    return details("Why not", figures.reason_table(cells, modes)) if any(c["reasons"] for c in cells) else ""


def _paired(pairs: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    note = "Only items for which both modes have a value; p-values are corrected by Holm's method over this table."
    return section("The modes item by item", para(note, "soft"), figures.pair_table(pairs, modes)) if pairs else ""


def _steps(steps: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    """Which task moves the meaning most."""
    rows = [
        [mode(s["mode"], modes), text(s["task"]), figures.value(s["moved"]), str(s["steps"]), str(s["broken"] or "·"),
         str(s["unread"] or "·")]
        for s in steps
    ]  # fmt: skip
    head = ["mode", "task", "moved", "steps", "broken", "not read"]
    return section("Where the meaning is lost", para(MOVED, "soft"), table(head, rows, (2, 3, 4, 5))) if rows else ""


def _status(cells: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> str:
    rows = [[mode(c["mode"], modes), *(str(c[s]) for s in STATUSES)] for c in cells if c["conversion"] == ALL]
    head = ["mode", "answered", *(text(f"{s}: {figures.WHAT[s]}") for s in STATUSES[1:])]
    return table(head, rows, numbers=(1, 2, 3, 4))


def _quality(cells: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> list[str]:
    near = "Cosine of sentence embeddings of the meaning and of what was read in the answer."
    return [
        figures.plot(cells, modes, "kept", "Facts kept", top=1.0),
        figures.plot(cells, modes, "similarity", "Similarity of meaning", top=1.0, note=near),
        figures.plot(cells, modes, "concept", "The right thing", top=1.0),
        figures.plot(cells, modes, "colour", "The right colour", top=1.0),
        figures.plot(cells, modes, "motion", "The right motion", top=1.0),
        figures.plot(cells, modes, "wer", "Word error rate (less is better)"),
    ]


def _costs(cells: Sequence[Mapping[str, Any]], modes: Sequence[str]) -> list[str]:
    return [
        figures.plot(cells, modes, "seconds", "Seconds an answer", "costs", " s"),
        figures.plot(cells, modes, "peak_bytes", "Peak memory, MB", "costs", scale=1e-6),
    ]


def _memory_note(rows: Sequence[Mapping[str, Any]]) -> str:
    kinds = {r["costs"].get("peak_of") for r in rows} - {None}
    since = (
        "while the answer was made"
        if kinds == {"item"}
        else "since the program began, as this system does not let it be reset"
    )
    loading = "The first answer of a mode includes the loading of its models."
    return f"Of answered items. {loading} Memory is the process's largest, {since}."


def _sets(result: Mapping[str, Any], modes: Sequence[str]) -> str:
    found = figures.set_table(result["figures"]["sets"], modes)
    if not found:
        return ""
    note = (
        "Metrics of whole sets. The Fréchet distance is taken on the judge's own features: it is not FID, and with so "
        "few files it can only be compared between sets of the same size."
    )  # fmt: skip
    return f"<h3>Sets</h3>{para(note, 'soft')}{found}"


def _examples(result: Mapping[str, Any], modes: Sequence[str], shown: Shown) -> list[str]:
    """The first items of each conversion, both answers side by side."""
    items = [Item(**{**i, "attach": tuple(i["attach"]), "references": tuple(i["references"])}) for i in result["items"]]
    out = []
    for conversion in dict.fromkeys(i.conversion for i in items):
        some = [i for i in items if i.conversion == conversion]
        some = sorted(some, key=lambda i: -sum(r["status"] == "done" for r in result["rows"] if r["item"] == i.id))[
            :EXAMPLES
        ]
        cards = []
        for item in some:
            rows = [r for r in result["rows"] if r["item"] == item.id and r["seed"] == result["run"]["seeds"][0]]
            if any(r["status"] == "done" for r in rows):
                cards.append(card(f"<p><b>{text(' → '.join((*item.before, item.request)))}</b></p>", *given(item)))
                cards += [answer(r, modes, shown) for r in rows]
        if cards:
            out.append(f"<h3>{text(conversion.replace('-to-', ' → '))}</h3>{grid(cards)}")
    return out


def given(item: Item) -> list[str]:
    """What an item attaches: made again, or named."""
    out = []
    for one in item.attach:
        if one.get("make") in ("picture", "clip", "sound"):
            data, media_type, name = made(one)
            show = Shown(lambda a, data=data: data)  # type: ignore[misc]  # a default that mypy does not see
            out.append(show({"media_type": media_type, "modality": media_type.split("/")[0], "name": name}))
        else:
            out.append(para(f"recording: “{one['text']}”" if "text" in one else f"file: {one['file']}", "soft"))
    return out


def answer(row: Mapping[str, Any], modes: Sequence[str], shown: Shown) -> str:
    """What one mode made of an item."""
    if row["status"] == "cannot":
        return card(f"<p>{mode(row['mode'], modes)}</p>", para(row["reason"], "soft"))
    wanted = [a for a in row["artifacts"] if a["modality"] != "text"]
    judged = ", ".join(f"{k} {name} ({p:.0%})" for k, (name, p) in row["judged"].items())
    scores = ", ".join(f"{figures.NAMES.get(k, k)} {number(v)}" for k, v in row["scores"].items())
    return card(
        f"<p>{mode(row['mode'], modes)} <small>{number(row['costs'].get('seconds', 0))} s</small></p>",
        *(shown(a) for a in wanted[:4]), para(unlinked(row["text"])[:600]) if row["text"] else "",
        para(row["reason"], "bad") if row["reason"] else "",
        para(f"read as: {row['reading'][:300]}", "soft") if row["reading"] and row["reading"] != row["text"] else "",
        para(f"judge: {judged}", "soft") if judged else "", para(scores, "soft") if scores else "",
    )  # fmt: skip


def about(run: Mapping[str, Any]) -> str:
    """Machine, commit, seeds, settings, as a table."""
    m = run["machine"]
    facts = {
        "commit": m["commit"] or "an installed package", "seeds": ", ".join(map(str, run["seeds"])),
        "started": run["started"],
        **{name: run[name] for name in ("profile", "controller", "policy", "device")},
        "processor": f"{m['processor']}, {m['cores']} cores, {m['memory_bytes'] / 2**30:.0f} GiB",
        "load when it began": "not known" if m.get("load") is None else f"{m['load']} of {m['cores']} cores",
        "system": f"{m['system']}, Python {m['python']}",
        "versions": ", ".join(f"{k} {v}" for k, v in m["versions"].items()),
        "judges": ", ".join(f"{k} {v}" for k, v in run["judges"].items()) or NO_JUDGE,
        **({"suite": f"{run['suite']}, sha256 {run['suite_sha256'][:16]}"} if "suite_sha256" in run else {}),
    }  # fmt: skip
    return table(["", ""], [[text(k), text(v)] for k, v in facts.items()])
