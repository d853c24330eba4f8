"""Host: one expert in a process of its own on a machine of the cluster; a Ray actor.

One call at a time, as everywhere; who comes in between waits. A call has a key, and what was made under
a key is kept for a while: whoever asks again (a front end that came back, a driver that lost its line)
gets that, or joins in while it is being made. Nothing here knows of Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import Cancelled
from ...tools.contracts import Expert, Output, Run
from ..executor import checked
from .messages import Call, ExpertRef, Fault, Latest, Look, Reply

KEPT_SECONDS = 600.0  # a result is kept for who lost it on the way
KEPT_BYTES = 256 << 20
IDLE_SECONDS = 900.0  # then the process ends and its memory is free
STOP_GRACE = 30.0  # an expert that is deaf to a stop for so long ends with its process


@dataclass
class _Call:
    """A call and who waits for it."""

    latest: Latest = field(default_factory=Latest)
    stop: threading.Event = field(default_factory=threading.Event)
    owners: set[str] = field(default_factory=set)
    task: asyncio.Task[Reply] | None = None
    ended: float = 0.0
    size: int = 0


class Host:
    """The methods that drivers call. `die` ends the process; tests give another."""

    def __init__(self, ref: ExpertRef, gpu: bool, die: Callable[[], None] = lambda: os._exit(0)):
        self.ref = ref
        self.device = "cuda" if gpu else "cpu"
        self._die = die
        self._calls: dict[str, _Call] = {}
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
            mine = self._calls[call.key] = _Call()
            mine.task = asyncio.create_task(self._perform(call, files, mine))
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

    async def _perform(self, call: Call, files: tuple[bytes, ...], mine: _Call) -> Reply:
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(self._thread, self._in_thread, call, files, mine)
        mine.ended = self._idle_since = time.monotonic()
        mine.size = sum(len(o.data) for o in reply.outputs)
        if reply.fault is not None:  # asked again, it is tried again
            self._calls.pop(call.key, None)
        if self._leaving and not self._busy(besides=mine):
            loop.call_later(0.5, self._die)
        return reply

    def _in_thread(self, call: Call, files: tuple[bytes, ...], mine: _Call) -> Reply:
        import tempfile

        try:
            if mine.stop.is_set():
                raise Cancelled("Stopped.")
            if self._instance is None:
                mine.latest.look = Look("loading")
                self._instance = self._load()
            with tempfile.TemporaryDirectory(prefix="anyloom-host-") as folder:
                args: dict[str, str | Path] = dict(call.texts)
                for n, ((name, suffix), data) in enumerate(zip(call.files, files, strict=True)):
                    file = Path(folder) / f"{n}{suffix}"
                    file.write_bytes(data)
                    args[name] = file
                run = Run(call.seed, self.device, mine.latest, mine.stop)
                mine.latest(0, 0, "")
                started = time.perf_counter()
                outputs = self._instance.run(args, run)
                seconds = time.perf_counter() - started
            return Reply(tuple(_plain(o) for o in checked(type(self._instance), outputs)), seconds)
        except BaseException as e:  # a plugin's code, SystemExit included
            return Reply(fault=Fault.of(e, self.ref.name))

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
