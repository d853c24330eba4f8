"""Runtime: everything the graphs work with, in one frozen bundle.

    runtime = open_runtime(settings)                 # nothing is loaded or fetched yet
    graph = build_cascade(runtime, checkpointer)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..core.artifacts import ArtifactStore
from ..core.events import Emit, ignore
from .cache import ResultCache
from .executor import Executor, ThreadExecutor

if TYPE_CHECKING:
    from ..controller.base import Controller
    from ..core.settings import Settings
    from ..tools.registry import Registry
    from ..tools.residency import Residency


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


def _on_cluster(settings: Settings, residency: Residency) -> tuple[Settings, Executor]:
    """An executor on the cluster, and settings under which experts are chosen by what its machines have."""
    from .cluster.executor import RayExecutor

    executor = RayExecutor.open(settings.ray, settings.data_dir, residency)
    has = executor.capacity
    device = settings.device if settings.device != "auto" or not has.gpus else "any"
    return replace(settings, device=device, memory=max(has.memory, has.vram, settings.memory)), executor


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
    if "executor" not in parts and settings.ray:
        settings, parts["executor"] = _on_cluster(settings, parts["residency"])
    elif "executor" not in parts:
        parts["executor"] = ThreadExecutor(parts["residency"])
    if "controller" not in parts:
        from ..controller.chat import open_controller

        parts["controller"] = open_controller(settings.controller, weights, settings.cache_dir, settings.max_tasks)
    if "cache" not in parts:
        parts["cache"] = ResultCache(settings.data_dir / "results.sqlite") if settings.result_cache else None
    if "store" not in parts:
        parts["store"] = ArtifactStore(settings.data_dir / "artifacts", settings.limits)
    if "registry" not in parts:
        parts["registry"] = Registry(settings)
    return Runtime(settings=settings, **parts)
