"""One item asked of one mode: what came, whether it is what was wanted, how much of the meaning it keeps.

    row = await measure(bench, item, files, "cascade", seed)

A row's `status`:
    done      the wanted modality came
    missed    an answer came, without the wanted modality
    failed    the run, or the task that should have made it, ended in an error
    cannot    the mode cannot serve this at all: no weights, no such tool; `reason` says why in a sentence

`scores["kept"]` is the share of the expected facts (concept, colour, style, motion; the words, as 1 - WER) that the
answer keeps. It is 0 for what is missed or failed, absent for what cannot be served or judged.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Artifact
from ..core.errors import AnyloomError, SettingsError, UnknownName, WeightsError
from ..core.events import Emit, ignore
from ..graphs.state import Answer, Request
from . import metrics
from .judges import named
from .meter import Meter, costs_of
from .steps import walk

if TYPE_CHECKING:
    from .bench import Bench
    from .items import Item

CANNOT = (WeightsError, SettingsError, UnknownName)


@dataclass(frozen=True)
class Asked:
    """One request, answered or not. `answer` is None where `status` is cannot or failed before an answer."""

    status: str
    reason: str = ""
    answer: Answer | None = None
    costs: Mapping[str, Any] = field(default_factory=dict)


async def ask(
    bench: Bench, text: str, files: Sequence[Artifact], mode: str, seed: int, wants: str, emit: Emit = ignore,
    before: Sequence[str] = (),
) -> Asked:
    """Asks one mode. `wants` is the modality that must come; empty, when any answer will do. `before`: what is asked
    first in the same conversation, with the same files, and not measured.

    A bench keeps no results (`open_bench`), so that what an answer costs is what it takes. `fresh` would do that as
    well, and would take the cascade's second try at a plan away.
    """
    request = Request(text, () if before else tuple(files), mode=mode, seed=seed)
    answer, fault = None, None
    thread = secrets.token_hex(8)
    try:
        for n, earlier in enumerate(before):
            first = Request(earlier, () if n else tuple(files), mode=mode, seed=seed)
            await bench.engine.ask(first, thread=thread, emit=emit)
    except AnyloomError as e:
        return Asked("cannot" if isinstance(e, CANNOT) else "failed", str(e))
    with Meter() as meter:
        try:
            answer = await bench.engine.ask(request, thread=thread, emit=emit)
        except AnyloomError as e:
            fault = e
    costs = costs_of(meter, answer)
    if fault is not None or answer is None:
        return Asked("cannot" if isinstance(fault, CANNOT) else "failed", str(fault), None, costs)
    broken = [r.error for r in answer.results if not r.ok]
    if not wants:
        return Asked("failed" if broken else "done", broken[0] if broken else "", answer, costs)
    if output(answer, wants) is not None:
        return Asked("done", "", answer, costs)
    if broken:
        return Asked("failed", broken[0], answer, costs)
    made = sorted({str(a.modality) for a in answer.artifacts}) or ["words"]
    return Asked("missed", f"The answer held {' and '.join(made)}, and no {wants}.", answer, costs)


def output(answer: Answer, wants: str) -> Artifact | str | None:
    """The last output of the wanted modality; of text the words themselves, from a task before the answer's own."""
    made = [a for r in answer.results if r.ok for a in r.artifacts if a.modality == wants]
    if made or wants != "text":
        return made[-1] if made else None
    return (answer.text.strip() or None) if answer.ok else None  # else it tells of the failure


async def measure(
    bench: Bench, item: Item, files: Sequence[Artifact], mode: str, seed: int, emit: Emit = ignore
) -> dict[str, Any]:
    """The row of one item, mode and seed, as plain JSON types."""
    why = bench.why_not(mode, item.source, item.target, bool(item.words))
    asked = Asked("cannot", why) if why else await ask(
        bench, item.request, files, mode, seed, item.wants, emit, item.before
    )  # fmt: skip
    row = row_of(item, mode, seed, asked)
    if asked.answer is not None:
        row["steps"] = [s.to_json() for s in await walk(bench, asked.answer, files, item.meaning)]
    if asked.status == "done" and asked.answer is not None:
        made = output(asked.answer, item.wants)
        assert made is not None
        row |= await judged(bench, item, made)
    elif asked.status in ("missed", "failed"):
        row["scores"] = {"kept": 0.0}
    return row


def row_of(item: Item, mode: str, seed: int, asked: Asked) -> dict[str, Any]:
    """A row before anything of it is judged."""
    return {
        "item": item.id, "conversion": item.conversion, "mode": mode, "seed": seed, "status": asked.status,
        "reason": asked.reason, "text": asked.answer.text if asked.answer else "", "reading": None, "judged": {},
        "scores": {}, "steps": [], "artifacts": _listed(asked.answer), "output": "", "costs": dict(asked.costs),
    }  # fmt: skip


def _listed(answer: Answer | None) -> list[dict[str, Any]]:
    if answer is None:
        return []
    keys = ("sha256", "media_type", "modality", "name", "size")
    return [{k: getattr(a, k) for k in keys} for a in answer.artifacts]


async def judged(bench: Bench, item: Item, made: Artifact | str) -> dict[str, Any]:
    """What was read in an output, and its scores."""
    said: Mapping[str, tuple[str, float]] = {}
    if isinstance(made, str):
        reading: str | None = made
    else:
        reading = await bench.read(made, item.target)
        if item.target not in ("text", "speech"):
            said = bench.says(made) or {}
    words = item.target in ("text", "speech")
    scores: dict[str, float] = {}
    for kind, right in item.expect.items():
        if words and reading is not None:
            scores[kind] = float(metrics.holds(reading, right))
        elif kind in said:
            scores[kind] = float(named(said[kind][0], right))
    if words and reading is not None:
        scores |= _of_words(item, reading)
    if item.meaning and reading and (near := bench.near(item.meaning, reading)) is not None:
        scores["similarity"] = near
    facts = [scores[k] for k in item.expect if k in scores]
    facts += [max(0.0, 1 - scores["wer"])] if "wer" in scores else []
    if facts:
        scores["kept"] = sum(facts) / len(facts)
    return {
        "reading": reading, "judged": {k: [name, round(p, 4)] for k, (name, p) in said.items()},
        "scores": {k: round(v, 6) for k, v in scores.items()}, "output": "" if isinstance(made, str) else made.sha256,
    }  # fmt: skip


def _of_words(item: Item, reading: str) -> dict[str, float]:
    """Metrics that compare words with words."""
    scores = {}
    if item.words:
        scores["wer"] = metrics.wer(reading, item.words)
    if item.references and item.target == "text":
        scores["bleu"] = metrics.bleu(reading, item.references)
        scores["rouge_l"] = metrics.rouge_l(reading, item.references)
    return scores
