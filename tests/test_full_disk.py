"""A disk that is full in the middle of a request: it stops with one sentence, and is finished when there is room."""

import json
import resource

import pytest
from ray_experts import EXPERTS
from rig import settings, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import StorageError
from anyloom.graphs.engine import Engine
from anyloom.graphs.state import Request
from anyloom.tools.registry import Registry


@pytest.fixture
def small_files():
    """No file may have more than 2 MB, for this process; gives what takes the limit away."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_the_request_stops_and_resume_finishes_it(tmp_path, small_files):
    log = tmp_path / "log.txt"
    log.touch()

    def step(name):
        return json.dumps({"log": str(log), "name": name})

    plan = [
        task("step-a", 0, text=step("first")),
        task("noise", 1, text="<resource>-0"),  # five megabytes
        task("step-b", 2, text=step("last"), file="<resource>-1"),
    ]
    engine = Engine(settings(tmp_path), controller=ScriptedController(plan), registry=Registry.of(EXPERTS))
    with pytest.raises(StorageError, match=r"Cannot write .*free some space"):
        await engine.ask(Request("go"), "talk")
    assert [r.state for r in await engine.threads()] == ["failed"]
    small_files()
    answer = await engine.resume("talk")
    assert [r.status for r in answer.results] == ["ok"] * 3
    assert all(engine.store.verify(a) for a in answer.artifacts)
    ends = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("end")]
    assert ends == ["first", "last"]
    await engine.aclose()
