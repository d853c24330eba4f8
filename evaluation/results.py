"""A finished run as one JSON file and one page.

result = await suite_result(bench, job, rows, out)      # figures, rows, items, machine: plain JSON types
write(result, out, from_store(bench.store))             # out/result.json, out/report.html
result = read(Path("out"))                              # or a result.json; InputError when it is none
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Artifact, write_atomic
from ..core.errors import AnyloomError, InputError
from .chains import ChainJob, chain_figures
from .judges import SENSES
from .runner import RUN, Job, Row
from .summary import summarise

if TYPE_CHECKING:
    from .bench import Bench
    from .report.inline import Load

RESULT, REPORT = "result.json", "report.html"
Features = dict[str, dict[str, list[list[float]]]]


async def suite_result(bench: Bench, job: Job, rows: Sequence[Row], out: Path) -> dict[str, Any]:
    """Everything that the page and `eval diff` need."""
    given = {sense: await _given(bench, job, sense) for sense in SENSES if sense in bench.judges}
    features = await asyncio.to_thread(seen, bench, rows, given)
    figures = await asyncio.to_thread(summarise, rows, job.suite, features)
    run = json.loads((out / RUN).read_text(encoding="utf-8"))
    return {"format": 1, "kind": "suite", "run": run, "figures": figures, "rows": list(rows),
            "items": [i.to_json() for i in job.suite.items]}  # fmt: skip


def chain_result(job: ChainJob, rows: Sequence[Row], out: Path) -> dict[str, Any]:
    """The same of chains."""
    run = json.loads((out / RUN).read_text(encoding="utf-8"))
    figures = chain_figures(rows, job)
    return {"format": 1, "kind": "chains", "run": run, "figures": figures, "rows": list(rows)}


def seen(bench: Bench, rows: Sequence[Row], given: Mapping[str, list[list[float]]]) -> Features:
    """The judge's features of what was made, by conversion and mode; the references are the suite's own media."""
    found: Features = {}
    for row in rows:
        made = next((a for a in row["artifacts"] if a["sha256"] == row["output"]), None)
        if made is None or not given.get(made["modality"]) or row["conversion"].endswith("-speech"):
            continue
        vector = bench.features(Artifact.from_json({**made, "provenance": None}))
        if vector is not None:
            sets = found.setdefault(row["conversion"], {"reference": given[made["modality"]]})
            sets.setdefault(row["mode"], []).append(vector)
    return found


async def _given(bench: Bench, job: Job, sense: str) -> list[list[float]]:
    """Features of the media of a modality that the suite's items attach, each once."""
    vectors: dict[str, list[float] | None] = {}
    for item in job.suite.items:
        if item.source != sense:
            continue
        try:
            files = await bench.attached(item, job.suite.folder)
        except AnyloomError:
            continue
        vectors |= {a.sha256: bench.features(a) for a in files if a.sha256 not in vectors}
    return [v for v in vectors.values() if v is not None]


def write(result: Mapping[str, Any], out: Path, load: Load) -> Path:
    """Writes both files; returns the page."""
    from .report.pages import page_of

    text = json.dumps(result, ensure_ascii=False, indent=1, sort_keys=True)
    write_atomic(out / RESULT, text.encode())
    write_atomic(out / REPORT, page_of(result, load).encode())
    return out / REPORT


def read(where: Path) -> dict[str, Any]:
    """A result from its file or its folder."""
    file = where / RESULT if where.is_dir() else where
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise InputError(f"'{file}' cannot be read ({e.strerror}); name a {RESULT} of `anyloom eval`.") from e
    except ValueError as e:
        raise InputError(f"'{file}' is no JSON; name a {RESULT} of `anyloom eval`.") from e
    if not isinstance(data, dict) or data.get("format") != 1 or data.get("kind") not in ("suite", "chains", "pair"):
        raise InputError(f"'{file}' is no result of `anyloom eval`; name a {RESULT}.")
    return data
