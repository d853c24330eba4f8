"""Steps of an answer: what went into each task and what came out, in words, and how far the meaning moved there.

    steps = await walk(bench, answer, files, "a blue heart")
    steps[0].moved       # 1 - cosine of what went in and what came out, 0…1; None when one of them cannot be read
    losses(rows)         # the same over a suite: a mean for each mode and task, the dearest first

Pictures, clips and sounds are read by the judge of their modality, speech by the recogniser. The cascade hears with
the same recogniser: what speaking and hearing lose together stands at the step that speaks. The end-to-end mode has no
steps but its outputs; what goes in there is the meaning itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..controller.plan import referenced
from ..core.artifacts import Artifact
from .intervals import mean

if TYPE_CHECKING:
    from ..graphs.state import Answer, Result
    from .bench import Bench

SPEAKS, HEARS = "text-to-speech", "automatic-speech-recognition"
SHORT = 300  # characters of what went in and came out that are kept


@dataclass(frozen=True)
class Step:
    """One task. `kept` is how near what came out is to the first meaning; None where it cannot be told."""

    id: int
    task: str
    expert: str
    status: str
    into: str | None
    out: str | None
    moved: float | None
    kept: float | None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


async def walk(bench: Bench, answer: Answer, files: Iterable[Artifact], meaning: str) -> list[Step]:
    """The steps of an answer in plan order."""
    known = {f.name: f for f in files}
    results = {r.id: r for r in answer.results}
    said: dict[int, str | None] = {}
    steps = []
    for task in answer.plan:
        result = results.get(task["id"])
        if result is None:
            continue
        parts = [await _argument(bench, task["task"], str(v), known, said) for v in task["args"].values()]
        into = " ".join(p for p in parts if p) if parts and None not in parts else None
        if not task["args"]:
            into = meaning or None
        said[result.id] = out = await _made(bench, result)
        near = bench.near(into, out) if into and out else None
        kept = bench.near(meaning, out) if meaning and out else None
        steps.append(Step(
            result.id, result.task, result.expert, result.status, _short(into), _short(out),
            None if near is None else round(1 - near, 6), None if kept is None else round(kept, 6), result.error,
        ))  # fmt: skip
    return steps


async def _argument(
    bench: Bench, task: str, value: str, known: Mapping[str, Artifact], said: Mapping[int, str | None]
) -> str | None:
    """What an argument says; None when nobody can tell."""
    reference = referenced(value)
    if reference is not None:
        return said.get(reference)
    if value not in known:
        return value
    file = known[value]
    return await bench.read(file, "speech" if task == HEARS else file.modality)


async def _made(bench: Bench, result: Result) -> str | None:
    """What a task's outputs say."""
    kinds = {a.sha256: "speech" if result.task == SPEAKS else a.modality for a in result.artifacts}
    words = [await bench.read(a, kinds[a.sha256]) for a in result.artifacts]
    return " ".join(w for w in words if w) or None


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= SHORT else text[: SHORT - 1] + "…"


def losses(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """By mode and task: how far the meaning moved, over the items where it could be read on both sides."""
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        for step in row.get("steps") or ():
            key = (row["mode"], step["task"])
            counts[key]["steps"] += 1
            counts[key]["broken"] += step["status"] != "ok"
            if step["moved"] is not None:
                found[key][row["item"]].append(step["moved"])
            elif step["status"] == "ok":
                counts[key]["unread"] += 1
    out = []
    for (mode, task), count in counts.items():
        interval = mean([fmean(v) for v in found[mode, task].values()])
        moved = interval.to_json() if interval else None
        out.append({"mode": mode, "task": task, "moved": moved, **{k: count[k] for k in ("steps", "broken", "unread")}})
    return sorted(out, key=lambda x: (x["mode"], -(x["moved"] or {"mean": -1.0})["mean"], x["task"]))
