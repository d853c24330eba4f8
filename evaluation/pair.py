"""One request through both modes: what each made, what it took, and where it lost the meaning.

sides = [await side(bench, mode, text, files, seed=0, meaning="a blue heart") for mode in MODES]
result = pair_result(bench, text, files, meaning, sides)       # plain JSON types, for the page
for name, cells in lines(sides): …                             # for a terminal: one cell for each mode
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Artifact
from ..core.errors import AnyloomError
from ..core.events import Emit, ignore
from .bench import Bench, open_encoder
from .judges import open_judges
from .machine import machine
from .measure import CANNOT, Asked, ask
from .meter import Meter, costs_of
from .steps import SPEAKS, walk

if TYPE_CHECKING:
    from ..graphs.engine import Engine
    from ..graphs.state import Answer

KEPT = ("sha256", "media_type", "modality", "name", "size")


async def meaning_of(bench: Bench, text: str, files: Sequence[Artifact]) -> str:
    """What the answer should be about: what is attached, where all of it can be read, else the request's words."""
    readings = [await bench.read(f, f.modality) for f in files]
    known = [r for r in readings if r]
    return " ".join(known) if files and len(known) == len(files) else text


async def side(
    bench: Bench, mode: str, text: str, files: Sequence[Artifact], *, seed: int, meaning: str, emit: Emit = ignore
) -> dict[str, Any]:
    """One mode's answer with everything that is measured of it."""
    if mode in bench.cannot:
        return await side_of(bench, mode, Asked("cannot", bench.cannot[mode]), files, meaning)
    return await side_of(bench, mode, await ask(bench, text, files, mode, seed, "", emit), files, meaning)


async def watched(
    bench: Bench, mode: str, work: Awaitable[Answer], files: Sequence[Artifact], meaning: str
) -> dict[str, Any]:
    """The same of an answer that another door makes, such as the chat."""
    answer, fault = None, None
    with Meter() as meter:
        try:
            answer = await work
        except AnyloomError as e:
            fault = e
    broken = [r.error for r in answer.results if not r.ok] if answer else []
    reason = str(fault) if fault else next(iter(broken), "")
    status = "cannot" if isinstance(fault, CANNOT) else "failed" if reason else "done"
    return await side_of(bench, mode, Asked(status, reason, answer, costs_of(meter, answer)), files, meaning)


def beside(engine: Engine) -> Bench:
    """A bench over an engine that answers already; what measures is used where its weights are here."""
    settings = dataclasses.replace(engine.settings, offline=True)
    return Bench(engine, open_judges(settings), open_encoder(settings))


async def side_of(bench: Bench, mode: str, asked: Asked, files: Sequence[Artifact], meaning: str) -> dict[str, Any]:
    """The same of an answer that is there already."""
    answer = asked.answer
    made = [] if answer is None else await _outputs(bench, answer, meaning)
    steps = [] if answer is None else await walk(bench, answer, files, meaning)
    words = answer.text.strip() if answer else ""
    best = made[-1]["near"] if made else _near(bench, meaning, words)
    seconds = {r.id: round(r.seconds, 3) for r in answer.results} if answer else {}
    return {
        "mode": mode, "status": asked.status, "reason": asked.reason, "text": words, "outputs": made, "near": best,
        "steps": [{**s.to_json(), "seconds": seconds.get(s.id, 0.0)} for s in steps], "costs": dict(asked.costs),
    }  # fmt: skip


async def _outputs(bench: Bench, answer: Answer, meaning: str) -> list[dict[str, Any]]:
    """What was made besides words: what can be read in it, and how near that is."""
    out = []
    for result in answer.results:
        for a in result.artifacts:
            if a.modality == "text":
                continue
            kind = "speech" if result.task == SPEAKS else a.modality
            reading = await bench.read(a, kind)
            said = {} if kind == "speech" else bench.says(a) or {}
            out.append({
                **{k: getattr(a, k) for k in KEPT}, "kind": kind, "reading": reading, "task": result.task,
                "judged": {k: [name, round(p, 4)] for k, (name, p) in said.items()},
                "near": _near(bench, meaning, reading or ""),
            })  # fmt: skip
    return out


def _near(bench: Bench, one: str, two: str) -> float | None:
    near = bench.near(one, two) if one and two else None
    return None if near is None else round(near, 4)


def pair_result(
    bench: Bench, text: str, files: Sequence[Artifact], meaning: str, sides: Sequence[Mapping[str, Any]], seed: int = 0
) -> dict[str, Any]:
    """Everything for `result.json` and the page."""
    heard = [s["outputs"][-1]["reading"] if s["outputs"] else s["text"] for s in sides]
    agree = _near(bench, *heard) if len(heard) == 2 and all(heard) else None
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    run = {"modes": [s["mode"] for s in sides], "seeds": [seed], "started": started, "machine": machine(),
           **bench.describe()}  # fmt: skip
    attached = [{k: getattr(f, k) for k in KEPT} for f in files]
    return {"format": 1, "kind": "pair", "run": run, "request": text, "attached": attached, "meaning": meaning,
            "agreement": agree, "sides": list(sides)}  # fmt: skip


def lines(sides: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """A table in words: what is measured, and a cell for each mode. Rows that nobody has a value for are left out."""
    rows: list[tuple[str, list[str]]] = [
        ("answered", [{"done": "yes", "failed": "no: failed", "cannot": "cannot"}[s["status"]] for s in sides]),
        ("seconds", [_cost(s, "seconds", "{:.1f}") for s in sides]),
        ("processor seconds", [_cost(s, "cpu_seconds", "{:.1f}") for s in sides]),
        ("peak memory, MB", [_cost(s, "peak_bytes", "{:.0f}", 1e-6) for s in sides]),
        ("model calls", [_cost(s, "model_calls", "{:.0f}") for s in sides]),
        ("tokens read", [_cost(s, "tokens_read", "{:.0f}") for s in sides]),
        ("tokens written", [_cost(s, "tokens_written", "{:.0f}") for s in sides]),
        ("made", [", ".join(o["name"] for o in s["outputs"]) for s in sides]),
        ("read as", ["; ".join(o["reading"] or "not read" for o in s["outputs"]) for s in sides]),
        ("near the meaning", ["" if s["near"] is None else f"{s['near']:.2f}" for s in sides]),
        ("lost most in", [_worst(s) for s in sides]),
    ]
    return [(name, [c or "–" for c in cells]) for name, cells in rows if any(cells)]


def _cost(one: Mapping[str, Any], name: str, form: str, scale: float = 1.0) -> str:
    value = one["costs"].get(name)
    return "" if value is None or one["status"] == "cannot" else form.format(value * scale)


def _worst(one: Mapping[str, Any]) -> str:
    broken = next((s for s in one["steps"] if s["status"] == "failed"), None)
    if broken:
        return f"{broken['task']} (failed)"
    read = [s for s in one["steps"] if s["moved"] is not None]
    worst = max(read, key=lambda s: s["moved"], default=None)
    return f"{worst['task']} ({worst['moved']:.2f})" if worst and worst["moved"] >= 0.005 else ""


def unread(bench: Bench) -> str:
    """What cannot be read here, in a sentence; empty when all can."""
    lacks = [s for s in ("image", "video", "audio") if s not in bench.judges]
    if not lacks:
        return ""
    return f"Without a judge here: {', '.join(lacks)}; what is made of these is kept, and not judged."
