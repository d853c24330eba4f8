"""A suite over modes and seeds: one JSON line per (item, mode, seed), written at once, so that a kill loses one row.

    job = Job(suite, modes=("cascade", "end2end"), seeds=(0, 1))
    rows = await run_suite(bench, job, Path("out"), resume=True, told=print)

The folder holds `run.json` (suite, settings, machine, commit), `rows.jsonl`, and `work/` with what was made. Rows hold
no clock and no path but for costs: two runs with one seed agree on everything else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Artifact, write_atomic
from ..core.errors import AnyloomError, InputError, StorageError
from ..core.events import Emit, ignore
from .bench import MODES
from .machine import machine
from .measure import Asked, measure, row_of

if TYPE_CHECKING:
    from .bench import Bench
    from .items import Item, Suite

FORMAT = 1
ROWS, RUN, WORK = "rows.jsonl", "run.json", "work"
Row = dict[str, Any]
Told = Callable[[int, int, Row], None]


@dataclass(frozen=True)
class Job:
    """What is to be measured."""

    suite: Suite
    modes: tuple[str, ...] = MODES
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if unknown := [m for m in self.modes if m not in MODES]:
            raise InputError(f"There is no mode '{unknown[0]}'; there is {', '.join(MODES)}.")
        if not self.modes or not self.seeds:
            raise InputError("Nothing is to be measured: give at least one mode and one seed.")

    def work(self) -> list[tuple[str, Item, int]]:
        """Mode by mode, so that the models of one are loaded once and not counted with the other."""
        return [(m, i, s) for m in self.modes for i in self.suite.items for s in self.seeds]


def key_of(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """What a row is the measure of."""
    return row["item"], row["mode"], row["seed"]


async def run_suite(
    bench: Bench, job: Job, out: Path, *, resume: bool = False, told: Told = lambda done, total, row: None,
    emit: Emit = ignore,
) -> list[Row]:  # fmt: skip
    """Measures what is not measured yet; returns all rows in the job's order. InputError: `out` holds another run."""
    head = {"suite": job.suite.name, "suite_sha256": job.suite.sha256, "modes": list(job.modes),
            "seeds": list(job.seeds), **bench.describe()}  # fmt: skip
    rows = {key_of(r): r for r in begin(out, "suite", head, resume)}
    work = job.work()
    done = sum((item.id, mode, seed) in rows for mode, item, seed in work)
    attached: dict[str, tuple[Artifact, ...] | AnyloomError] = {}
    with Lines(out / ROWS) as lines:
        before = ""
        for mode, item, seed in work:
            if (item.id, mode, seed) in rows:
                continue
            if before and before != mode:
                await asyncio.to_thread(bench.rest)
            before = mode
            row = await _row(bench, job.suite, item, mode, seed, attached, emit)
            lines.add(row)
            rows[key_of(row)] = row
            done += 1
            told(done, len(work), row)
    return [rows[(item.id, mode, seed)] for mode, item, seed in work]


async def _row(
    bench: Bench, suite: Suite, item: Item, mode: str, seed: int,
    attached: dict[str, tuple[Artifact, ...] | AnyloomError], emit: Emit,
) -> Row:  # fmt: skip
    """One row; what an item attaches is made once for all its rows."""
    if bench.why_not(mode, item.source, item.target, bool(item.words)):
        return await measure(bench, item, (), mode, seed, emit)
    if item.id not in attached:
        try:
            attached[item.id] = await bench.attached(item, suite.folder)
        except AnyloomError as e:
            attached[item.id] = e
    files = attached[item.id]
    if isinstance(files, AnyloomError):
        return row_of(item, mode, seed, Asked("cannot", str(files)))
    return await measure(bench, item, files, mode, seed, emit)


def begin(out: Path, kind: str, head: Mapping[str, Any], resume: bool) -> list[Row]:
    """Opens the folder: rows that are there already, or none and a new `run.json`."""
    file, here = out / RUN, {"format": FORMAT, "kind": kind, **head}
    if file.exists():
        if not resume:
            raise InputError(f"'{out}' holds a run already; go on with it by --resume, or choose another --out.")
        try:
            there = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise InputError(f"'{file}' cannot be read; choose another --out.") from e
        for name, value in here.items():
            if there.get(name) != value:
                raise InputError(
                    f"'{out}' holds a run with {name} {_short(there.get(name))}, and now it is {_short(value)}; "
                    "choose another --out."
                )
        return read_rows(out / ROWS)
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = json.dumps({**here, "machine": machine(), "started": started}, indent=1, ensure_ascii=False)
    write_atomic(file, text.encode())
    return []


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def read_rows(file: Path) -> list[Row]:
    """The whole rows of a file; a last line that a kill cut short is taken away. StorageError for other damage."""
    if not file.exists():
        return []
    data = file.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        write_atomic(file, whole)
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError as e:
        raise StorageError(f"'{file}' is damaged ({e}); remove it, or choose another --out.") from e


class Lines:
    """A file that grows by whole lines."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> Lines:
        try:
            self._out = self.file.open("a", encoding="utf-8")
        except OSError as e:
            raise StorageError(f"Cannot write '{self.file}' ({e.strerror}); choose another folder with --out.") from e
        return self

    def __exit__(self, *exc: object) -> None:
        self._out.close()

    def add(self, row: Row) -> None:
        """Written before the next one begins."""
        try:
            self._out.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._out.flush()
        except OSError as e:
            raise StorageError(f"Cannot write '{self.file}' ({e.strerror}); free some space.") from e
