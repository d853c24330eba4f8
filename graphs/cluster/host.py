"""Host: one expert in a process of its own on a machine of the cluster; a Ray actor.

One call at a time, as everywhere, or one batch; who comes in between waits. A call has a key, and what was made under
a key is kept for a while: whoever asks again (a front end that came back, a driver that lost its line)
gets that, or joins in while it is being made. Nothing here knows of Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import Cancelled
from ...tools.contracts import Expert, Output, Run
from ..batch import Pending, perform
from ..executor import checked
from .messages import Call, ExpertRef, Fault, Latest, Look, Reply

KEPT_SECONDS = 600.0  # a result is kept for who lost it on the way
KEPT_BYTES = 256 << 20
IDLE_SECONDS = 900.0  # then the process ends and its memory is free
STOP_GRACE = 30.0  # an expert that is deaf to a stop for so long ends with its process


@dataclass
class _Call:
    """A call, who waits for it, and the other calls that are performed together with it."""

    call: Call
    files: tuple[bytes, ...] = ()
    latest: Latest = field(default_factory=Latest)
    stop: threading.Event = field(default_factory=threading.Event)
    owners: set[str] = field(default_factory=set)
    task: asyncio.Task[Reply] | None = None
    replied: Future[Reply] = field(default_factory=Future)
    others: Sequence[_Call] = ()
    ended: float = 0.0
    size: int = 0

    def reply(self, reply: Reply) -> None:
        """Ends it, unless it has ended already."""
        with contextlib.suppress(InvalidStateError):
            self.replied.set_result(reply)


class Host:
    """The methods that drivers call. `die` ends the process; tests give another."""

    def __init__(self, ref: ExpertRef, gpu: bool, die: Callable[[], None] = lambda: os._exit(0)):
        self.ref = ref
        self.device = "cuda" if gpu else "cpu"
        self._die = die
        self._calls: dict[str, _Call] = {}
        self._waiting: deque[_Call] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"anyloom-{ref.name}")
        self._instance: Expert | None = None
        self._leaving = False
        self._idle_since = time.monotonic()
        self._tidying: asyncio.Task[None] | None = None

    async def ready(self) -> tuple[int, list[str]] | None:
        """Its process, and the keys it has or is making; None when it is leaving."""
        if self._leaving:
            return None
        if self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy())
        return os.getpid(), list(self._calls)

    async def run(self, call: Call, *files: bytes) -> Reply:
        """Performs the call, or joins the one with the same key."""
        mine = self._calls.get(call.key)
        if mine is None and self._leaving:
            return Reply(leaving=True)
        if mine is None:
            mine = self._calls[call.key] = _Call(call, files)
            mine.task = asyncio.create_task(self._perform(mine))
        mine.owners.add(call.owner)
        assert mine.task is not None
        return await asyncio.shield(mine.task)

    async def look(self, key: str) -> Look:
        """How far that call is."""
        mine = self._calls.get(key)
        return Look("gone") if mine is None else mine.latest.look

    async def stop(self, key: str, owner: str) -> None:
        """The owner no longer waits; the last one to go stops the expert at its next check."""
        mine = self._calls.get(key)
        if mine is None or mine.task is None or mine.task.done():
            return
        mine.owners.discard(owner)
        if mine.owners:
            return
        mine.stop.set()
        if any(not other.stop.is_set() for other in mine.others):  # the batch goes on for them
            mine.reply(Reply(fault=Fault("Cancelled", "Stopped.")))
        await asyncio.wait({mine.task}, timeout=STOP_GRACE)
        if not mine.task.done():
            self._die()

    async def retire(self, drain: bool = False) -> float | None:
        """Ends the process if it is idle, to make room: seconds of idleness, else None. `drain`: as soon as it is."""
        busy = self._busy()
        if busy and not drain:
            return None
        self._leaving = True
        if not busy:
            asyncio.get_running_loop().call_later(0.05, self._die)
        return None if busy else time.monotonic() - self._idle_since

    async def idle(self) -> float:
        """Seconds since its last call ended; 0 while there is one."""
        return 0.0 if self._busy() else time.monotonic() - self._idle_since

    # -- the work ----------------------------------------------------------------------------------

    async def _perform(self, mine: _Call) -> Reply:
        loop = asyncio.get_running_loop()
        self._waiting.append(mine)
        self._thread.submit(self._in_thread)
        reply = await asyncio.wrap_future(mine.replied)
        mine.files, mine.others = (), ()
        mine.ended = self._idle_since = time.monotonic()
        mine.size = sum(len(o.data) for o in reply.outputs)
        if reply.fault is not None:  # asked again, it is tried again
            self._calls.pop(mine.call.key, None)
        if self._leaving and not self._busy(besides=mine):
            loop.call_later(0.5, self._die)
        return reply

    def _in_thread(self) -> None:
        """Performs what waits, together where the expert can. Called once for every call, so it may find nothing."""
        import tempfile

        taken = self._take(1)
        if not taken:
            return
        first = taken[0]
        try:
            if first.stop.is_set():
                raise Cancelled("Stopped.")
            if self._instance is None:
                first.latest.look = Look("loading")
                self._instance = self._load()
            taken += self._take(self._instance.batch - 1)
            for mine in taken:
                mine.others = [other for other in taken if other is not mine]
            with tempfile.TemporaryDirectory(prefix="anyloom-host-") as folder:
                self._together(self._instance, taken, Path(folder))
        except BaseException as e:  # loading runs a plugin's code; a disk may be full
            for mine in taken:
                mine.reply(Reply(fault=Fault.of(e, self.ref.name)))

    def _take(self, most: int) -> list[_Call]:
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _together(self, expert: Expert, taken: list[_Call], folder: Path) -> None:
        calls = []
        for number, mine in enumerate(taken):
            args: dict[str, str | Path] = dict(mine.call.texts)
            for n, ((name, suffix), data) in enumerate(zip(mine.call.files, mine.files, strict=True)):
                args[name] = folder / f"{number}-{n}{suffix}"
                args[name].write_bytes(data)  # type: ignore[union-attr]  # a path, by the line above
            run = Run(mine.call.seed, self.device, mine.latest, mine.stop)
            calls.append(Pending(args, run, functools.partial(mine.latest, 0, 0, "")))
        perform(expert, calls)
        for pending, mine in zip(calls, taken, strict=True):
            try:
                outputs, seconds = pending.outcome.result()
                mine.reply(Reply(tuple(_plain(o) for o in checked(type(expert), outputs)), seconds))
            except BaseException as e:  # a plugin's code, SystemExit included
                mine.reply(Reply(fault=Fault.of(e, self.ref.name)))

    def _load(self) -> Expert:
        from ...core.errors import AnyloomError, ExpertError
        from ...core.settings import load_settings
        from ...core.weights import Weights

        settings = load_settings()
        expert = self.ref.find()
        try:
            instance = expert()
            instance.load(self.device, expert.fetch(Weights(settings.cache_dir, offline=settings.offline)))
        except AnyloomError:
            raise
        except Exception as e:
            raise ExpertError(f"The expert '{expert.name}' could not be loaded: {type(e).__name__}: {e}") from e
        return instance

    # -- tidying -----------------------------------------------------------------------------------

    def _busy(self, besides: _Call | None = None) -> bool:
        return any(c.task is not None and not c.task.done() for c in self._calls.values() if c is not besides)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(5)
            now = time.monotonic()
            done = sorted((c.ended, k) for k, c in self._calls.items() if c.task is not None and c.task.done())
            total = sum(self._calls[k].size for _, k in done)
            for ended, key in done:
                if now - ended > KEPT_SECONDS or total > KEPT_BYTES:
                    total -= self._calls.pop(key).size
            if not self._busy() and now - self._idle_since > IDLE_SECONDS:
                with contextlib.suppress(Exception):
                    if self._instance is not None:
                        self._instance.unload()
                self._die()


def _plain(output: Output) -> Output:
    """The output with its bytes as bytes, however the expert held them."""
    return Output(bytes(output.data), output.media_type, output.stem, dict(output.facts))
