"""Runtime: everything the graphs work with, in one frozen bundle; and Executor, who runs experts.

    runtime = open_runtime(settings)                 # nothing is loaded or fetched yet
    graph = build_cascade(runtime, checkpointer)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..core.artifacts import ArtifactStore
from ..core.errors import AnyloomError, ExpertError, PluginError
from ..core.events import Emit, ignore
from ..tools.contracts import Expert, Output, Run
from .cache import ResultCache

if TYPE_CHECKING:
    from ..controller.base import Controller
    from ..core.settings import Settings
    from ..tools.registry import Registry
    from ..tools.residency import Residency, Use


@dataclass(frozen=True)
class Job:
    """One call of an expert. `timeout` counts from when it begins to run, not while it waits or loads.

    `prepare()` gives its arguments, or None when there is nothing to run (the result is known);
    `keep(outputs, seconds)` stores what was made. Both read and write the store, so they are called
    on this machine, off the event loop, as are `on_start` and `on_load`.
    """

    expert: type[Expert]
    run: Run
    prepare: Callable[[], Mapping[str, Any] | None]
    keep: Callable[[list[Output], float], Any]
    timeout: float | None = None
    on_start: Callable[[], None] = lambda: None
    on_load: Callable[[], None] = lambda: None


class Executor(Protocol):
    """Runs experts somewhere. Raises an AnyloomError (ExpertError for whatever else the expert raises)."""

    async def perform(self, job: Job) -> Any:
        """What `job.keep` returned, or None. When cancelled or out of time it sets `job.run.stop` and does not wait."""
        ...

    async def aclose(self, grace: float) -> None:
        """Waits up to `grace` seconds for what still runs after it was told to stop."""
        ...


class ThreadExecutor:
    """Runs experts in threads of this process, a thread a call, one call at a time per expert.

    Threads are the process's own kind (daemons): an expert that never looks at `run.check` cannot
    keep the program from ending. Its seat in memory is given back only when it really ends.
    """

    def __init__(self, residency: Residency):
        self.residency = residency
        self._running: set[threading.Thread] = set()

    async def perform(self, job: Job) -> Any:
        """All of it in one thread: where every core is busy, each change of threads costs milliseconds."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        use = self.residency.use(job.expert, job.on_load)
        timer = asyncio.timeout(None)

        def begun() -> None:
            if job.timeout is not None and not ended.done():
                timer.reschedule(loop.time() + job.timeout)

        def work() -> None:
            made: Any = None
            fault: BaseException | None = None
            try:
                made = _call(job, use, lambda: loop.call_soon_threadsafe(begun))
            except BaseException as e:  # a plugin's code, SystemExit included: judged below
                fault = e
            self._running.discard(threading.current_thread())
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, ended, made, fault)

        thread = threading.Thread(target=work, daemon=True, name=f"anyloom-{job.expert.name}")
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
                use.give_up()  # it may still wait for its turn

    async def aclose(self, grace: float = 5.0) -> None:
        """Waits for threads that were told to stop."""
        end = time.monotonic() + grace
        while any(t.is_alive() for t in tuple(self._running)) and time.monotonic() < end:
            await asyncio.sleep(0.01)


def _call(job: Job, use: Use, begun: Callable[[], Any]) -> Any:
    """In the thread: waits for the expert, runs it, gives its seat in memory back, and then keeps what was made."""
    args = job.prepare()
    if args is None:
        return None
    job.on_start()
    with use as instance:
        begun()
        started = time.perf_counter()
        outputs = instance.run(args, job.run)
        seconds = time.perf_counter() - started
    return job.keep(checked(job.expert, outputs), seconds)


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


@dataclass(frozen=True)
class Runtime:
    """What the graphs need. All parts are shared by every run."""

    settings: Settings
    registry: Registry
    store: ArtifactStore
    controller: Controller
    executor: Executor
    cache: ResultCache | None = None
    residency: Residency | None = None


def open_runtime(settings: Settings, emit: Emit = ignore, **parts: Any) -> Runtime:
    """A Runtime out of settings; `parts` replace what would be opened (registry, controller, executor, …).

    `emit` hears of downloads, from any thread.
    """
    from ..tools.registry import Registry
    from ..tools.residency import Residency

    weights = parts.pop("weights", None)
    if weights is None:
        from ..core.weights import Weights

        weights = Weights(settings.cache_dir, offline=settings.offline, emit=emit)
    if "residency" not in parts:
        parts["residency"] = Residency(settings.memory, weights, settings.device)
    if "controller" not in parts:
        from ..controller.chat import open_controller

        parts["controller"] = open_controller(settings.controller, weights, settings.cache_dir, settings.max_tasks)
    if "cache" not in parts:
        parts["cache"] = ResultCache(settings.data_dir / "results.sqlite") if settings.result_cache else None
    if "store" not in parts:
        parts["store"] = ArtifactStore(settings.data_dir / "artifacts", settings.limits)
    if "registry" not in parts:
        parts["registry"] = Registry(settings)
    if "executor" not in parts:
        parts["executor"] = ThreadExecutor(parts["residency"])
    return Runtime(settings=settings, **parts)
