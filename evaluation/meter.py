"""What one answer costs: wall and processor seconds, peak memory, model calls, tokens.

    with Meter() as meter:
        answer = …
    costs_of(meter, answer)        # {"seconds": …, "cpu_seconds": …, "peak_bytes": …, "model_calls": …, …}

Peak memory is this process's largest resident size while the meter ran, where the system lets it be reset (Linux),
and since the process began elsewhere; `peak_of` says which.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..graphs.state import Answer

WRITTEN = ("plan_tokens", "completion_tokens", "output_tokens", "answer_tokens")
READ = ("prompt_tokens", "input_tokens")


class Meter:
    """Runs while an answer is made."""

    def __enter__(self) -> Meter:
        self.peak_of = "item" if _reset() else "process"
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu
        self.peak_bytes = peak()


def costs_of(meter: Meter, answer: Answer | None) -> dict[str, Any]:
    """The meter's numbers and what the answer tells of calls and tokens (None: it tells nothing)."""
    costs: dict[str, Any] = {
        "seconds": round(meter.seconds, 3), "cpu_seconds": round(meter.cpu_seconds, 3), "peak_bytes": meter.peak_bytes,
        "peak_of": meter.peak_of, "model_calls": None, "tokens_written": None, "tokens_read": None, "cached": 0,
    }  # fmt: skip
    if answer is None:
        return costs
    told = answer.costs
    ran = sum(1 for r in answer.results if r.status != "skipped" and not r.cached)
    costs["model_calls"] = int(told.get("model_calls", 0) or 0) + int(told.get("calls", 0) or 0) + ran
    costs["cached"] = sum(r.cached for r in answer.results)
    for name, keys in (("tokens_written", WRITTEN), ("tokens_read", READ)):
        known = [told[k] for k in keys if isinstance(told.get(k), int | float)]
        costs[name] = int(sum(known)) if known else None
    return costs


def peak() -> int:
    """Bytes; the process's largest resident size."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _reset() -> bool:
    """Lets the largest size begin anew from the present one."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
