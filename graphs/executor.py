"""Executor: who runs experts. The graphs hand it a Job and get back what was kept of it.

    executor = ThreadExecutor(residency)               # in threads of this process
    executor = RayExecutor(link)                       # on the machines of a Ray cluster (graphs/ray/)
    made = await executor.perform(job)

The graphs, their policies and their events do not change with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import AnyloomError, Cancelled, ExpertError, PluginError
from ..tools.contracts import Expert, Output, Run
from .batch import Pending, Waiting, perform

if TYPE_CHECKING:
    from ..tools.residency import Residency, Use


@dataclass(frozen=True)
class Job:
    """One call of an expert. `timeout` counts from when it begins to run, not while it waits or loads.

    `prepare()` gives its arguments, or None when there is nothing to run (the result is known);
    `keep(outputs, seconds)` stores what was made. Both read and write the store, so they are called
    on this machine, off the event loop, as are the others. `say` tells the user of something unusual.
    `key()`, after `prepare`, names the work by its content; with "" it has no twin.
    """

    expert: type[Expert]
    run: Run
    prepare: Callable[[], Mapping[str, Any] | None]
    keep: Callable[[list[Output], float], Any]
    timeout: float | None = None
    on_start: Callable[[], None] = lambda: None
    on_load: Callable[[], None] = lambda: None
    say: Callable[[str], None] = lambda text: None
    key: Callable[[], str] = lambda: ""


class Executor(Protocol):
    """Runs experts somewhere. Raises an AnyloomError (ExpertError for whatever else the expert raises)."""

    async def perform(self, job: Job) -> Any:
        """What `job.keep` returned, or None. When cancelled or out of time it sets `job.run.stop` and does not wait."""
        ...

    async def aclose(self, grace: float) -> None:
        """Waits up to `grace` seconds for what still runs after it was told to stop."""
        ...


class JobThreads(ABC):
    """What executors have in common: a thread a call, its time limit, its cancelling and its errors.

    Threads are the process's own kind (daemons): an expert that never looks at `run.check` cannot
    keep the program from ending.
    """

    def __init__(self) -> None:
        self._running: set[threading.Thread] = set()

    @abstractmethod
    def work(self, job: Job, begun: Callable[[], Any]) -> Any:
        """In the thread: performs the job; calls `begun` when the expert really begins."""

    def left(self, job: Job) -> None:
        """Nobody waits for the job any more; `job.run.stop` is set. Called in the event loop."""

    async def perform(self, job: Job) -> Any:
        """All of it in one thread: where every core is busy, each change of threads costs milliseconds."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        timer = asyncio.timeout(None)

        def begun() -> None:
            if job.timeout is not None and not ended.done():
                timer.reschedule(loop.time() + job.timeout)

        def go() -> None:
            made: Any = None
            fault: BaseException | None = None
            try:
                made = self.work(job, lambda: loop.call_soon_threadsafe(begun))
            except BaseException as e:  # a plugin's code, SystemExit included: judged below
                fault = e
            self._running.discard(threading.current_thread())
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, ended, made, fault)

        thread = threading.Thread(target=go, daemon=True, name=f"anyloom-{job.expert.name}")
        self._running.add(thread)
        try:
            async with timer:
                thread.start()
                return await ended
        except TimeoutError as e:
            raise ExpertError(
                f"'{job.expert.name}' took longer than {job.timeout:g} s and was stopped; raise task_timeout."
            ) from e
        except AnyloomError:
            raise
        except Exception as e:
            raise ExpertError(f"'{job.expert.name}' failed with {type(e).__name__}: {one_line(e)}") from e
        finally:
            if not ended.done() or ended.cancelled():
                job.run.stop.set()
                self.left(job)

    async def aclose(self, grace: float = 5.0) -> None:
        """Waits for threads that were told to stop."""
        end = time.monotonic() + grace
        while any(t.is_alive() for t in tuple(self._running)) and time.monotonic() < end:
            await asyncio.sleep(0.01)


class ThreadExecutor(JobThreads):
    """Runs experts in threads of this process, one call at a time per expert, or one batch where it can.

    The seat of an expert in memory is given back only when its call really ends. Whoever gets the seat
    performs what waits, its own call first or with the others; who was taken along waits no more for it.
    """

    def __init__(self, residency: Residency):
        super().__init__()
        self.residency = residency
        self._uses: dict[int, Use] = {}
        self._waiting: dict[type[Expert], Waiting] = {}

    def work(self, job: Job, begun: Callable[[], Any]) -> Any:
        """Waits for the expert, runs it, gives its seat in memory back, and then keeps what was made."""
        args = job.prepare()
        if args is None:
            return None
        job.on_start()
        waiting = self._waiting.setdefault(job.expert, Waiting())
        use = self._uses[id(job)] = self.residency.use(job.expert, job.on_load)
        call = Pending(args, job.run, begun)
        call.outcome.add_done_callback(lambda _: use.give_up())
        waiting.add(call)
        try:
            if job.run.stop.is_set():
                use.give_up()
            with use as instance:
                while not call.outcome.done() and (calls := waiting.take(max(1, job.expert.batch))):
                    perform(instance, calls)
        except Cancelled:
            if not call.outcome.done():
                raise
        finally:
            waiting.discard(call)
            self._uses.pop(id(job), None)
        outputs, seconds = call.outcome.result()
        return job.keep(checked(job.expert, outputs), seconds)

    def left(self, job: Job) -> None:
        """It may still wait for its turn."""
        if use := self._uses.get(id(job)):
            use.give_up()


def _settle(ended: asyncio.Future[Any], made: Any, fault: BaseException | None) -> None:
    if ended.done():
        return
    if fault is None:
        ended.set_result(made)
    elif isinstance(fault, Exception) and not isinstance(fault, StopIteration):
        ended.set_exception(fault)
    else:  # SystemExit and its like must not end the program that called a plugin
        ended.set_exception(RuntimeError(f"{type(fault).__name__}: {fault}"))


def checked(expert: type[Expert], outputs: Any) -> list[Output]:
    """What an expert returned, if it is what its tool promises; else PluginError."""
    if not isinstance(outputs, list) or not outputs or not all(isinstance(o, Output) for o in outputs):
        raise PluginError(f"The expert '{expert.name}' did not return a list of Outputs; its plugin is broken.")
    if all(o.modality != expert.tool.output for o in outputs):
        promised = f"'{expert.tool.name}' makes {expert.tool.output}"
        raise PluginError(
            f"The expert '{expert.name}' made {outputs[0].modality} where {promised}; its plugin is broken."
        )
    return outputs


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, at most 300 characters."""
    return " ".join(str(error).split())[:300] or "no message"
