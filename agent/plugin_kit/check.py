"""Tries an expert out: whether it keeps the contract that the rest of anyloom relies on.

    for finding in check_expert(Shout): print(finding.ok, finding.what, finding.problem)
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.artifacts import EXTENSIONS
from ...core.errors import AnyloomError, Cancelled, PluginError
from ...tools.contracts import Expert, Output, Run

STOP_SECONDS = 10.0
SLACK = 1.5  # times the card's memory, and
SPARE = 300_000_000  # bytes on top, that loading may take


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `problem` is one sentence, empty when all is well."""

    what: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is as it should be."""
        return not self.problem


def check_expert(expert: type[Expert], weights: Any = None, device: str = "cpu") -> list[Finding]:
    """Everything there is to find out. `weights` resolves URIs (core.weights.Weights) where the card names any."""
    from ...tools.registry import check_expert as check_contract

    try:
        check_contract(expert)
    except PluginError as e:
        return [Finding("contract", str(e))]
    reason = expert.available()
    if reason is not None:
        return [Finding("contract"), Finding("available", f"It says that it cannot run here: {reason}")]
    with tempfile.TemporaryDirectory(prefix="anyloom-check-") as folder:
        return [Finding("contract"), *_Trial(expert, weights, device, Path(folder)).findings()]


class _Trial:
    """One expert, loaded and run on samples."""

    def __init__(self, expert: type[Expert], weights: Any, device: str, folder: Path):
        from .samples import write_samples

        self.expert, self.weights, self.device = expert, weights, device
        samples = write_samples(folder)
        self.args = {p.name: samples.get(p.modality, "") for p in expert.tool.params}

    def findings(self) -> Iterator[Finding]:
        instance = self.expert()
        loaded = self._try("load", lambda: self._load(instance))
        yield loaded
        if not loaded.ok:
            return
        for what, look in (
            ("outputs", self._outputs), ("seed", self._same_again), ("quiet", self._quiet), ("stop", self._stops),
            ("errors", self._errors), ("unload", self._unload),
            *([("batch", self._batch)] if self.expert.batch > 1 else []),
        ):  # fmt: skip
            yield self._try(what, lambda look=look: look(instance))  # type: ignore[misc]

    def _try(self, what: str, work: Callable[[], str]) -> Finding:
        try:
            return Finding(what, work() or "")
        except AnyloomError as e:
            return Finding(what, f"It failed on a plain sample: {e}")
        except Exception as e:
            return Finding(what, f"It raised {type(e).__name__}: {' '.join(str(e).split())[:200]}")

    def _load(self, instance: Expert) -> str:
        before = _memory()
        paths = self.expert.fetch(self.weights) if self.expert.card.weights else {}
        instance.load(self.device, paths)
        taken, told = _memory() - before, self.expert.card.memory
        if taken > SLACK * told + SPARE:
            return f"It takes {taken / 1e6:.0f} MB once loaded, and its card says {told / 1e6:.0f} MB."
        return ""

    def _outputs(self, instance: Expert) -> str:
        from ...graphs.executor import checked

        for output in checked(self.expert, instance.run(dict(self.args), Run(seed=1))):
            if output.media_type not in EXTENSIONS:
                return f"'{output.media_type}' is a media type that anyloom does not know."
            if problem := _undecodable(output):
                return problem
        return ""

    def _same_again(self, instance: Expert) -> str:
        one, two = ([o.data for o in instance.run(dict(self.args), Run(seed=7))] for _ in range(2))
        return "" if one == two else "The same arguments and seed gave other bytes; draw all chance from `run.seed`."

    def _quiet(self, instance: Expert) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            instance.run(dict(self.args), Run(seed=1))
        return f"It prints ('{out.getvalue()[:40]!r}'); report with `run.progress`." if out.getvalue() else ""

    def _stops(self, instance: Expert) -> str:
        run = Run(seed=1)
        run.stop.set()
        ended: list[str] = []

        def work() -> None:
            try:
                instance.run(dict(self.args), run)
                ended.append("It ran to its end although it was stopped; call `run.check()` between steps.")
            except Cancelled:
                ended.append("")
            except Exception as e:
                ended.append(f"Stopped, it raised {type(e).__name__} and not Cancelled.")

        thread = threading.Thread(target=work, daemon=True)
        started = time.monotonic()
        thread.start()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            return f"It still ran {STOP_SECONDS:.0f} s after it was stopped; call `run.check()` between steps."
        quick = time.monotonic() - started < 0.5  # over before anybody could want to stop it
        return "" if quick and ended[0].startswith("It ran") else ended[0]

    def _errors(self, instance: Expert) -> str:
        files = [p for p in self.expert.tool.params if p.modality not in ("text", "url")]
        if not files:
            return ""
        with tempfile.NamedTemporaryFile(suffix=".bin") as broken:
            broken.write(b"this is no media file")
            broken.flush()
            try:
                instance.run({**self.args, files[0].name: Path(broken.name)}, Run(seed=1))
            except AnyloomError as e:
                return "" if len(str(e).splitlines()) == 1 else "Its error for a broken file is more than one line."
            except Exception as e:
                kind = type(e).__name__
                return f"For a broken file it raised {kind}; raise InputError or ExpertError with a sentence."
        return ""

    def _batch(self, instance: Expert) -> str:
        from ...graphs.executor import checked

        made = list(instance.run_batch([(dict(self.args), Run(seed=n)) for n in (1, 2)]))
        if len(made) != 2:
            return f"For two calls `run_batch` gave {len(made)} results; give one for each, in order."
        for result in made:
            if isinstance(result, Exception):
                raise result
            checked(self.expert, result)
        return ""

    def _unload(self, instance: Expert) -> str:
        instance.unload()
        self._load(instance)
        return self._outputs(instance)


def _undecodable(output: Output) -> str:
    """What is wrong with the bytes of an output, looked at as those of a stranger's file."""
    from ...core.media import Limits, inspect_file

    if output.media_type == "text/plain":
        return "" if output.data.decode("utf-8", "ignore").encode() == output.data else "Its text is not UTF-8."
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / output.file_name
        file.write_bytes(output.data)
        try:
            found = inspect_file(file, Limits())
        except AnyloomError as e:
            return f"What it made cannot be read: {e}"
    if found.modality != output.modality:
        return f"What it made is {found.modality}, and it says {output.media_type}."
    return ""


def _memory() -> int:
    """Resident bytes of this process; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
