"""What the tests of graphs/ share: an engine over fake experts and a scripted controller, in a folder of its own."""

from anyloom.controller.fakes import ScriptedController
from anyloom.controller.plan import Plan
from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import WeightsError
from anyloom.core.settings import Settings
from anyloom.graphs.dispatch import Dispatch
from anyloom.graphs.engine import Engine
from anyloom.graphs.runtime import open_runtime
from anyloom.graphs.state import Request
from anyloom.tools.fakes import Fakes, tiny_png


def parts(fakes, controller):
    """What stands in for models: nothing here loads or fetches anything."""
    return {"controller": controller or ScriptedController(), "registry": fakes.registry(), "weights": fakes.weights}


def settings(folder, **options):
    """Settings that touch nothing outside `folder`."""
    return Settings(data_dir=folder / "data", cache_dir=folder / "cache", **options)


def engine(folder, controller=None, fakes=None, **options):
    """An engine whose every expert is a fake."""
    return Engine(settings(folder, **options), **parts(fakes or Fakes(), controller))


class Untrained(Engine):
    """An engine without an end-to-end model, whether one ships or not."""

    def _end2end(self):
        where = self.data_dir / "mmllm"
        raise WeightsError(f"There are no trained weights here; put some into '{where}', or use --mode cascade.")


def untrained(folder, controller=None, fakes=None, **options):
    """`engine`, without an end-to-end model."""
    return Untrained(settings(folder, **options), **parts(fakes or Fakes(), controller))


def runtime(folder, fakes, controller=None, **options):
    """The same, without an engine around it."""
    return open_runtime(settings(folder, **options), **parts(fakes, controller))


def task(name, id, **args):
    """A task in HuggingGPT's form."""
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
    return ArtifactStore(folder / "data" / "artifacts").add_bytes(tiny_png(b"abc"), "image/png", name)
