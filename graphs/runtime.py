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
from dataclasses import dataclass, field
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
    from ..tools.residency import Residency


@dataclass(frozen=True)
class Job:
    """One call of an expert. `timeout` counts from when it begins to run, not while it waits or loads."""

    expert: type[Expert]
    args: Mapping[str, Any]
    run: Run
    timeout: float | None = None
    on_load: Callable[[], None] = lambda: None
    on_start: Callable[[], None] = lambda: None


class Executor(Protocol):
    """Runs experts somewhere. Raises an AnyloomError (ExpertError for whatever else the expert raises)."""

    async def perform(self, job: Job) -> list[Output]:
        """The expert's outputs. When cancelled or out of time it sets `job.run.stop` and does not wait."""
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

    async def perform(self, job: Job) -> list[Output]:
        """The expert's outputs, made in a thread."""
        loop = asyncio.get_running_loop()
        use = self.residency.use(job.expert, job.on_load)
        instance = await use.__aenter__()  # left by the thread itself, when the run really ends
        job.on_start()
        ended: asyncio.Future[list[Output]] = loop.create_future()

        def work() -> None:
            outputs: list[Output] = []
            fault: BaseException | None = None
            try:
                outputs = instance.run(job.args, job.run)
            except BaseException as e:  # a plugin's code, SystemExit included: judged below
                fault = e
            finally:
                use.__exit__(None, None, None)
                self._running.discard(threading.current_thread())
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, ended, outputs, fault)

        thread = threading.Thread(target=work, daemon=True, name=f"anyloom-{job.expert.name}")
        self._running.add(thread)
        thread.start()
        try:
            async with asyncio.timeout(job.timeout):
                outputs = await ended
        except TimeoutError as e:
            raise ExpertError(
                f"'{job.expert.name}' took longer than {job.timeout:g} s and was stopped; allow more with --task-timeout."
            ) from e
        except AnyloomError:
            raise
        except Exception as e:
            raise ExpertError(f"'{job.expert.name}' failed with {type(e).__name__}: {one_line(e)}") from e
        finally:
            if not ended.done() or ended.cancelled():
                job.run.stop.set()
        return checked(job.expert, outputs)

    async def aclose(self, grace: float = 5.0) -> None:
        """Waits for threads that were told to stop."""
        end = time.monotonic() + grace
        while any(t.is_alive() for t in tuple(self._running)) and time.monotonic() < end:
            await asyncio.sleep(0.01)


def _settle(ended: asyncio.Future[list[Output]], outputs: list[Output], fault: BaseException | None) -> None:
    if ended.done():
        return
    if fault is None:
        ended.set_result(outputs)
    elif isinstance(fault, Exception) and not isinstance(fault, StopIteration):
        ended.set_exception(fault)
    else:  # SystemExit and its like must not end the program that called a plugin
        ended.set_exception(RuntimeError(f"{type(fault).__name__}: {fault}"))


def checked(expert: type[Expert], outputs: Any) -> list[Output]:
    """What an expert returned, if it is what its tool promises; else PluginError."""
    if not isinstance(outputs, list) or not outputs or not all(isinstance(o, Output) for o in outputs):
        raise PluginError(f"The expert '{expert.name}' did not return a list of Outputs; its plugin is broken.")
    if all(o.modality != expert.tool.output for o in outputs):
        raise PluginError(
            f"The expert '{expert.name}' made {outputs[0].modality} where '{expert.tool.name}' makes {expert.tool.output}; "
            "its plugin is broken."
        )
    return outputs


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, at most 300 characters."""
    return " ".join(str(error).split())[:300] or "no message"


@dataclass(frozen=True)
class Runtime:
    """What the graphs need. `emit` hears what happens outside any run's graph (downloads)."""

    settings: Settings
    registry: Registry
    store: ArtifactStore
    controller: Controller
    executor: Executor
    cache: ResultCache | None = None
    residency: Residency | None = None
    emit: Emit = field(default=ignore)


def open_runtime(settings: Settings, emit: Emit = ignore, **parts: Any) -> Runtime:
    """A Runtime out of settings; `parts` replace what would be opened (registry, controller, executor, …)."""
    from ..tools.registry import Registry
    from ..tools.residency import Residency

    weights = parts.pop("weights", None)
    if weights is None:
        from ..core.weights import Weights

        weights = Weights(settings.cache_dir, offline=settings.offline)
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
    return Runtime(settings=settings, emit=emit, **parts)
