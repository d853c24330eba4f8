"""What the tests of graphs/ share: an engine over fake experts and a scripted controller, in a folder of its own."""

from types import SimpleNamespace

from anyloom.controller.fakes import ScriptedController
from anyloom.core.artifacts import ArtifactStore
from anyloom.graphs.dispatch import Dispatch
from anyloom.graphs.engine import Engine
from anyloom.graphs.runtime import open_runtime
from anyloom.graphs.state import Request
from anyloom.controller.plan import Plan
from anyloom.tools.fakes import Fakes

try:
    from anyloom.core.settings import Settings
except (ImportError, TypeError):
    def Settings(**o):
        base = dict(profile="pocket", controller="local", policy="best", pinned={}, data_dir=None, cache_dir=None, memory=None, device="cpu",
            seed=0, task_timeout=60.0, retries=2, max_tasks=16, limits=None, offline=True, result_cache=True)
        return SimpleNamespace(**{**base, **o})


def settings(folder, **options):
    return Settings(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def engine(folder, controller=None, fakes=None, **options):
    """An engine whose every expert is a fake."""
    fakes = fakes or Fakes()
    chosen = settings(folder, **options)
    return Engine(chosen, controller=controller or ScriptedController(), registry=fakes.registry(), weights=fakes.weights)


def runtime(folder, fakes, controller=None, **options):
    return open_runtime(
        settings(folder, **options),
        controller=controller or ScriptedController(),
        registry=fakes.registry(),
        weights=fakes.weights,
    )


def task(name, id, **args):
    return {"task": name, "id": id, "args": args}


async def dispatch(folder, tasks, fakes, files=(), seen=None, controller=None, request=None, **options):
    """Runs a plan outside any graph; one Result a task."""
    work = Dispatch(
        runtime(folder, fakes, controller, **options),
        request or Request("test"),
        Plan.parse(tasks),
        {a.name: a for a in files},
        emit=(seen.append if seen is not None else lambda event: None),
    )
    return await work.run()


def picture(folder, name="cat.png"):
    """A small picture in the engine's store."""
    from anyloom.tools.fakes import tiny_png

    return ArtifactStore(folder / "data" / "artifacts").add_bytes(tiny_png(b"abc"), "image/png", name)
