"""Chains: a meaning goes through k conversions, text → picture → text → speech → text …, and is read after each.

    job = ChainJob(via=("image", "speech", "video"), steps=6, arms=("cascade", "end2end", "true-readers"))
    rows = await run_chains(bench, job, Path("out"), resume=True)
    figures = chain_figures(rows, job)            # fidelity against k, and what each conversion loses

Every conversion is a request of its own, so that the whole system is measured, its plan too. Two arms more tell what
the cascade's parts cost: in `true-readers` pictures and clips are put into words by the judge, and speech by what was
spoken; in `true-makers` pictures, clips and sounds are drawn by `media.py` from the words. What has no truth in the
data is left to the cascade. After a step that fails nothing is left: the steps behind it count as 0, and are counted.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Artifact
from ..core.errors import InputError
from ..core.events import Emit, ignore
from . import metrics
from .bench import MODES
from .intervals import Paired, holm, mean, paired
from .items import MODALITY, Item
from .measure import Asked, ask, judged, output
from .media import COLOURS, MOTIONS, SHAPES, SOUNDS, made
from .runner import ROWS, Lines, Told, begin, key_of

if TYPE_CHECKING:
    from .bench import Bench

READERS, MAKERS = "true-readers", "true-makers"
ARMS = (*MODES, READERS, MAKERS)
VIA = ("image", "audio", "video", "speech")
MOST_STEPS, MOST_WORDS = 12, 200
FIDELITY = ("kept", "similarity")
ASKS = {
    "text-to-image": "draw {}", "text-to-video": "make a video of {}", "text-to-audio": "make the sound of {}",
    "text-to-speech": 'say aloud: "{}"', "image-to-text": "describe this picture",
    "video-to-text": "describe what happens in this video", "audio-to-text": "what can be heard in this recording?",
    "speech-to-text": "write down what is said in this recording",
}  # fmt: skip
SEEN = (
    ("heart", "blue"), ("star", "red"), ("fish", "orange"), ("house", "green"), ("tree", "purple"),
    ("flower", "yellow"), ("bell", "blue"), ("crescent moon", "yellow"), ("heart", "green"), ("star", "pink"),
    ("fish", "purple"), ("house", "red"), ("tree", "green"), ("flower", "blue"), ("bell", "red"),
    ("crescent moon", "orange"),
)  # fmt: skip
HEARD = ("a siren", "white noise", "beeps", "a ticking clock", "a pure tone", "a sweep")


@dataclass(frozen=True)
class ChainJob:
    """What is to be measured. `via` is what lies between two texts, in turn."""

    via: tuple[str, ...] = ("image", "speech", "video")
    steps: int = 6
    arms: tuple[str, ...] = MODES
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None

    def __post_init__(self) -> None:
        if unknown := [v for v in self.via if v not in VIA]:
            raise InputError(f"A chain cannot go through '{unknown[0]}'; it can go through {', '.join(VIA)}.")
        if unknown := [a for a in self.arms if a not in ARMS]:
            raise InputError(f"There is no arm '{unknown[0]}'; there is {', '.join(ARMS)}.")
        if not 1 <= self.steps <= MOST_STEPS:
            raise InputError(f"A chain of {self.steps} steps cannot be made; give 1 to {MOST_STEPS}.")
        if not self.via or not self.arms or not self.seeds:
            raise InputError("Nothing is to be measured: give something to go through, an arm and a seed.")

    @property
    def starts(self) -> tuple[Item, ...]:
        """The meanings: coloured things, or sounds where the chain goes through sound."""
        if "audio" in self.via:
            found = [Item(s, self.way[0], s, expect={"concept": (_bare(s),)}, meaning=s) for s in HEARD]
        else:
            facts = [(f"{'an' if c[0] in 'aeiou' else 'a'} {c} {s}", s, c) for s, c in SEEN]
            found = [Item(t, self.way[0], t, expect={"concept": (s,), "colour": (c,)}, meaning=t) for t, s, c in facts]
        return tuple(found[: self.limit])

    @property
    def way(self) -> tuple[str, ...]:
        """The conversions in order."""
        through = [self.via[n // 2 % len(self.via)] for n in range(self.steps)]
        return tuple(f"text-to-{v}" if n % 2 == 0 else f"{v}-to-text" for n, v in enumerate(through))


def _bare(said: str) -> str:
    return said.removeprefix("a ").removeprefix("an ")


async def run_chains(
    bench: Bench, job: ChainJob, out: Path, *, resume: bool = False, told: Told = lambda done, total, row: None,
    emit: Emit = ignore,
) -> list[dict[str, Any]]:  # fmt: skip
    """One row a chain, written when it is through; returns all rows. InputError: `out` holds another run."""
    head = {"suite": "chains", "way": list(job.way), "modes": list(job.arms), "seeds": list(job.seeds),
            "starts": [i.meaning for i in job.starts], **bench.describe()}  # fmt: skip
    rows = {key_of(r): r for r in begin(out, "chains", head, resume)}
    work = [(arm, item, seed) for arm in job.arms for item in job.starts for seed in job.seeds]
    done = sum((item.id, arm, seed) in rows for arm, item, seed in work)
    before = ""
    with Lines(out / ROWS) as lines:
        for arm, item, seed in work:
            if (item.id, arm, seed) in rows:
                continue
            if before and before != arm:
                await asyncio.to_thread(bench.rest)
            before = arm
            row = await Chain(bench, arm, item, seed, emit).run(job.way)
            lines.add(row)
            rows[key_of(row)] = row
            done += 1
            told(done, len(work), row)
    return [rows[(item.id, arm, seed)] for arm, item, seed in work]


class Chain:
    """One meaning on its way through one arm."""

    def __init__(self, bench: Bench, arm: str, item: Item, seed: int, emit: Emit = ignore):
        self.bench, self.arm, self.item, self.seed, self.emit = bench, arm, item, seed, emit
        self.words = item.meaning
        self.file: Artifact | None = None
        self.seconds = 0.0

    async def run(self, way: Sequence[str]) -> dict[str, Any]:
        """The chain's row, as plain JSON types. Its `status` is that of the first step that was not done."""
        steps: list[dict[str, Any]] = []
        for k, conversion in enumerate(way, 1):
            last = steps[-1]["status"] if steps else "done"
            if last == "done":
                steps.append(await self._step(k, conversion))
            else:
                ended = "cannot" if last == "cannot" else "broken"
                reason = steps[-1]["reason"]
                steps.append(_row(k, conversion, ended, reason, {} if ended == "cannot" else _nothing()))
        bad = next((s for s in steps if s["status"] != "done"), None)
        return {
            "item": self.item.id, "mode": self.arm, "seed": self.seed, "status": bad["status"] if bad else "done",
            "reason": bad["reason"] if bad else "", "steps": steps, "costs": {"seconds": round(self.seconds, 3)},
        }  # fmt: skip

    async def _step(self, k: int, conversion: str) -> dict[str, Any]:
        """One conversion: what came, and what can be read in it of the first meaning."""
        target = conversion.split("-to-")[1]
        asked, came = await self._convert(conversion)
        if came is None:
            return _row(k, conversion, asked.status, asked.reason, {} if asked.status == "cannot" else _nothing())
        item = Item(self.item.id, conversion, "", expect=self.item.expect, meaning=self.item.meaning)
        found = await judged(self.bench, item, came)
        scores = {n: v for n, v in found["scores"].items() if n in (*FIDELITY, "concept", "colour")}
        row = _row(k, conversion, "done", "", scores, found["reading"])
        if target == "text":
            text = came if isinstance(came, str) else self.bench.store.text(came)
            self.words, self.file = carried(text), None
            row["said"] = self.words
        else:
            assert isinstance(came, Artifact)
            self.file = came
            row["artifact"] = {n: getattr(came, n) for n in ("sha256", "media_type", "modality", "name", "size")}
        return row

    async def _convert(self, conversion: str) -> tuple[Asked, Artifact | str | None]:
        """By the truth, where this arm has one for it; else by asking."""
        source, target = conversion.split("-to-")
        if self.arm == READERS and target == "text":
            return self._true_reading(source)
        if self.arm == MAKERS and source == "text" and target != "speech":
            return self._true_making(target)
        mode = self.arm if self.arm in MODES else "cascade"
        if why := self.bench.why_not(mode, source, target):
            return Asked("cannot", why), None
        text = ASKS[conversion].format(self.words)
        files = () if self.file is None else (self.file,)
        asked = await ask(self.bench, text, files, mode, self.seed, MODALITY[target], self.emit)
        self.seconds += asked.costs.get("seconds", 0.0)
        came = output(asked.answer, MODALITY[target]) if asked.status == "done" and asked.answer else None
        return asked, came

    def _true_reading(self, source: str) -> tuple[Asked, str | None]:
        """What was spoken; of all else what the judge says."""
        from .judges import in_words

        if source == "speech":
            return Asked("done"), self.words  # the words from which the speech was made
        assert self.file is not None
        if source not in self.bench.judges:
            return Asked("cannot", f"No judge of {source} has weights here, so there is no true reading."), None
        saying = self.bench.says(self.file)
        said = in_words(saying) if saying else ""
        return (Asked("done"), said) if said else (Asked("failed", "The judge could say nothing of it."), None)

    def _true_making(self, target: str) -> tuple[Asked, Artifact | None]:
        """Drawn from the words, where they name something that can be drawn."""
        recipe = recipe_of(self.words, target)
        if recipe is None:
            return Asked("failed", f"'{self.words[:60]}' names nothing that can be drawn from the data."), None
        data, media_type, name = made(recipe)
        stored: Artifact = self.bench.store.add_bytes(data, media_type, name)
        return Asked("done"), stored


def recipe_of(words: str, target: str) -> dict[str, str] | None:
    """A recipe of `media.py` for what a text names; None when it names nothing that is there."""
    if target == "audio":
        kind = next((s for s in SOUNDS if metrics.holds(words, [s])), None)
        return {"make": "sound", "kind": kind} if kind else None
    shape = next((s for s in SHAPES if metrics.holds(words, [s])), None)
    colour = next((c for c in COLOURS if metrics.holds(words, [c])), None)
    if shape is None or colour is None:
        return None
    if target == "image":
        return {"make": "picture", "shape": shape, "colour": colour}
    motion = next((m for m in MOTIONS if metrics.holds(words, [m, f"{m}ing"])), MOTIONS[0])
    return {"make": "clip", "shape": shape, "colour": colour, "motion": motion}


def carried(text: str) -> str:
    """A text as the next request quotes it: one line, no quotes, not endless."""
    return " ".join(text.replace('"', "'").split())[:MOST_WORDS].strip()


def _nothing() -> dict[str, float]:
    return dict.fromkeys(FIDELITY, 0.0)


def _row(
    k: int, conversion: str, status: str, reason: str, scores: Mapping[str, float], reading: str | None = None
) -> dict[str, Any]:
    return {"k": k, "conversion": conversion, "status": status, "reason": reason, "scores": dict(scores),
            "reading": reading, "said": "", "artifact": None}  # fmt: skip


def chain_figures(rows: Sequence[Mapping[str, Any]], job: ChainJob) -> dict[str, Any]:
    """Fidelity against k, what each conversion loses, and the arms against each other; plain JSON types."""
    return {"curves": _curves(rows, job), "losses": _losses(rows, job), "paired": _pairs(rows, job)}


def at_step(rows: Sequence[Mapping[str, Any]], arm: str, k: int, name: str) -> dict[str, float]:
    """By start, the mean over the seeds of a figure at step k."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        value = row["steps"][k - 1]["scores"].get(name)
        if row["mode"] == arm and value is not None:
            found[row["item"]].append(value)
    return {item: fmean(values) for item, values in found.items()}


def _curves(rows: Sequence[Mapping[str, Any]], job: ChainJob) -> list[dict[str, Any]]:
    out = []
    for arm in job.arms:
        for k, conversion in enumerate(job.way, 1):
            steps = [r["steps"][k - 1] for r in rows if r["mode"] == arm]
            counts = {s: sum(x["status"] == s for x in steps) for s in ("done", "missed", "failed", "broken", "cannot")}
            means = {n: found.to_json() for n in FIDELITY if (found := mean(list(at_step(rows, arm, k, n).values())))}
            unread = sum(x["status"] == "done" and "kept" not in x["scores"] for x in steps)
            reasons = list(dict.fromkeys(x["reason"] for x in steps if x["reason"]))[:3]
            out.append({"mode": arm, "k": k, "conversion": conversion, **counts, "unread": unread, **means,
                        "reasons": reasons})  # fmt: skip
    return out


def _losses(rows: Sequence[Mapping[str, Any]], job: ChainJob) -> list[dict[str, Any]]:
    """How much each conversion takes; where a step could not be read, it and the next stand together."""
    out = []
    for arm in job.arms:
        for name in FIDELITY:
            found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            for row in rows:
                if row["mode"] == arm:
                    for label, lost in _lost(row, name):
                        found[label][row["item"]].append(lost)
            for label, items in found.items():
                interval = mean([fmean(v) for v in items.values()])
                assert interval is not None
                out.append({"mode": arm, "metric": name, "conversion": label, **interval.to_json()})
    return out


def _lost(row: Mapping[str, Any], name: str) -> list[tuple[str, float]]:
    before, passed, out = 1.0, [], []
    for step in row["steps"]:
        if step["status"] in ("broken", "cannot"):
            break
        passed.append(step["conversion"])
        value = step["scores"].get(name)
        if value is not None:
            out.append((" + ".join(passed), before - value))
            before, passed = value, []
    return out


def _pairs(rows: Sequence[Mapping[str, Any]], job: ChainJob) -> list[dict[str, Any]]:
    """Each two arms at each k, over the starts that both have a value for; corrected over the whole table."""
    heads: list[dict[str, Any]] = []
    found: list[Paired] = []
    for one, two in combinations(job.arms, 2):
        for k in range(1, job.steps + 1):
            for name in FIDELITY:
                if (test := paired(at_step(rows, one, k, name), at_step(rows, two, k, name))) is not None:
                    heads.append({"conversion": f"after {k}", "metric": name, "modes": [one, two]})
                    found.append(test)
    return [{**head, **test.to_json()} for head, test in zip(heads, holm(found), strict=True)]
