"""Batches: calls of one expert that wait for it are performed together, where it can do that.

    waiting = Waiting()
    waiting.add(pending)                       # by whoever has a call
    perform(expert, waiting.take(expert.batch))    # by whoever has the expert
    outputs, seconds = pending.outcome.result()

No call is kept back so that a batch may form: the expert takes what has gathered while it was busy.
Each call keeps its own arguments, progress, stop and outcome; one that cannot be performed fails alone.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import Cancelled, PluginError
from ..tools.contracts import Expert, Output, Run


@dataclass(eq=False)
class Pending:
    """A call that waits. `begun` is called when the expert begins with it; `outcome`: outputs, its part of the time."""

    args: Mapping[str, Any]
    run: Run
    begun: Callable[[], Any] = lambda: None
    outcome: Future[tuple[list[Output], float]] = field(default_factory=Future)


class Waiting:
    """The calls that wait for one expert, in the order in which they came. Safe for many threads."""

    def __init__(self) -> None:
        self._calls: deque[Pending] = deque()
        self._lock = threading.Lock()

    def add(self, call: Pending) -> None:
        """At the end."""
        with self._lock:
            self._calls.append(call)

    def discard(self, call: Pending) -> None:
        """Its caller waits no more; nothing when it was taken."""
        with self._lock, contextlib.suppress(ValueError):
            self._calls.remove(call)

    def take(self, most: int) -> list[Pending]:
        """The first calls, at most so many; they wait here no more."""
        with self._lock:
            return [self._calls.popleft() for _ in range(min(most, len(self._calls)))]


def perform(expert: Expert, calls: Sequence[Pending]) -> None:
    """Performs the calls, together if there are several; afterwards each has its outcome."""
    left = []
    for call in calls:
        try:
            if call.run.stop.is_set():
                raise Cancelled("Stopped.")
            call.begun()
            left.append(call)
        except Exception as e:  # `begun` belongs to its caller, whose event loop may be closed
            call.outcome.set_exception(e)
    if len(left) < 2:
        _one_by_one(expert, left)
        return
    started = time.perf_counter()
    made: list[list[Output] | BaseException]
    try:
        made = list(expert.run_batch([(c.args, c.run) for c in left]))
        if len(made) != len(left):
            raise PluginError(f"The expert '{expert.name}' gave {len(made)} results for {len(left)} calls.")
    except Cancelled as e:  # all of them were stopped, or it stops of itself
        made = [e] * len(left)
    except Exception:  # it may be one of them that cannot be performed: the others are not to suffer for it
        _one_by_one(expert, left)
        return
    except BaseException as e:  # a plugin's code, SystemExit included
        made = [e] * len(left)
    share = (time.perf_counter() - started) / len(left)
    for call, result in zip(left, made, strict=True):
        if isinstance(result, BaseException):
            call.outcome.set_exception(result)
        else:
            call.outcome.set_result((result, share))


def _one_by_one(expert: Expert, calls: Sequence[Pending]) -> None:
    for call in calls:
        started = time.perf_counter()
        try:
            outputs = expert.run(call.args, call.run)
        except BaseException as e:  # a plugin's code, SystemExit included
            call.outcome.set_exception(e)
        else:
            call.outcome.set_result((outputs, time.perf_counter() - started))
