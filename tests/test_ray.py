"""Experts on a real Ray cluster: the same results as in threads, and what becomes of a task when things break."""

import asyncio
import json
import os
import signal
import time

import pytest
from ray_cluster import machines  # noqa: F401 a fixture
from ray_experts import EXPERTS, Step
from rig import task

from anyloom.controller.plan import Plan
from anyloom.core.errors import ExpertError
from anyloom.core.events import Notice, TaskDone, TaskProgress
from anyloom.core.settings import Settings
from anyloom.graphs.cluster.executor import RayExecutor
from anyloom.graphs.cluster.messages import ExpertRef, Needs
from anyloom.graphs.dispatch import Dispatch
from anyloom.graphs.runtime import open_runtime
from anyloom.graphs.state import Request
from anyloom.tools.registry import Registry


class Front:
    """A front end on the cluster, in a folder of its own; its experts note in `log` what they did."""

    def __init__(self, folder, address, executor=None):
        self.log = folder / "log.txt"
        folder.mkdir(exist_ok=True)
        settings = Settings(data_dir=folder / "data", cache_dir=folder / "cache", ray=address, retries=0)
        parts = {"executor": executor} if executor else {}
        self.runtime = open_runtime(settings, registry=Registry.of(EXPERTS), controller=object(), **parts)

    def text(self, name, **todo):
        return json.dumps({"log": str(self.log), "name": name, **todo})

    async def run(self, *tasks, seen=None, fresh=False, seconds=None):
        plan = Plan.parse(list(tasks))
        request = Request("go", fresh=fresh, max_seconds=seconds)
        emit = seen.append if seen is not None else lambda event: None
        return await Dispatch(self.runtime, request, plan, {}, emit=emit).run()

    def lines(self, word="end"):
        text = self.log.read_text() if self.log.exists() else ""
        return [line.split()[1] for line in text.splitlines() if line.startswith(word)]

    def pids(self, word="begin"):
        text = self.log.read_text() if self.log.exists() else ""
        return [int(line.split()[2]) for line in text.splitlines() if line.startswith(word)]

    async def until(self, count, word="begin"):
        """Waits until so many calls began."""
        for _ in range(2400):
            if len(self.lines(word)) >= count:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"only {self.lines(word)} after 120 s")

    async def close(self):
        await self.runtime.executor.aclose(1)


@pytest.fixture(scope="module")
def executor(tmp_path_factory, machines):  # noqa: F811
    """One connection for most of the tests: each costs seconds of a processor."""
    made = RayExecutor.open(machines.address, tmp_path_factory.mktemp("executor"), None)
    yield made
    made.gateway.close()


@pytest.fixture
def front(tmp_path, machines, executor):  # noqa: F811
    return Front(tmp_path / "front", machines.address, executor)


async def test_a_plan_gives_the_same_as_in_threads(tmp_path, front):
    def plan():
        first = front.text("one", seconds=0.3)
        return (
            task("noise", 0, text="x"),
            task("step-a", 1, text=first),
            task("step-b", 2, text=front.text("two"), p0="<resource>-1", file="<resource>-0"),
        )

    seen = []
    results = await front.run(*plan(), seen=seen)
    assert [r.status for r in results] == ["ok"] * 3, results
    assert "two on cpu size 5120" in results[2].text
    assert sorted(front.lines()) == ["one", "two"]
    assert any(isinstance(e, TaskProgress) and e.note == "stepping" for e in seen)
    assert os.getpid() not in front.pids()
    settings = Settings(data_dir=tmp_path / "t", cache_dir=tmp_path / "t")
    threads = open_runtime(settings, registry=Registry.of(EXPERTS), controller=object())
    here = await Dispatch(threads, Request("go"), Plan.parse(list(plan())), {}).run()
    assert [[a.sha256 for a in r.artifacts] for r in here] == [[a.sha256 for a in r.artifacts] for r in results]


async def test_weights_are_loaded_once_and_shared_by_front_ends(tmp_path, front, machines):  # noqa: F811
    other = Front(tmp_path / "other", machines.address)
    other.log = front.log
    await front.run(task("step-c", 0, text=front.text("a")))
    await other.run(task("step-c", 0, text=front.text("b")))
    await other.close()
    assert len(set(front.pids())) == 1


async def test_two_machines_share_the_work_of_one_expert(front):
    done = []
    for turn in range(20):  # the second machine's process may take longer to start than one plan takes
        names = [f"t{turn}-{n}" for n in range(12)]
        results = await front.run(*(task("step-a", n, text=front.text(t, seconds=0.4)) for n, t in enumerate(names)))
        assert [r.status for r in results] == ["ok"] * 12
        done += names
        if len(set(front.pids())) == 2:
            break
    assert len(set(front.pids())) == 2
    assert sorted(front.lines()) == sorted(done)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("input", "no"), ("expert", "no"), ("other", "failed with ValueError: no"), ("exit", "SystemExit")],
)
async def test_errors_cross_over(front, kind, said):
    (result,) = await front.run(task("step-a", 0, text=front.text("x", fails=kind)))
    assert result.status == "failed"
    assert said in result.error
    (result,) = await front.run(task("step-a", 0, text=front.text("x")))
    assert result.ok


async def test_a_stop_crosses_over(front):
    work = asyncio.create_task(front.run(task("step-a", 0, text=front.text("long", seconds=60))))
    await front.until(1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    started = time.monotonic()
    (result,) = await front.run(task("step-a", 0, text=front.text("after")))
    assert result.ok
    assert time.monotonic() - started < 50
    assert front.lines() == ["after"]


async def test_time_is_limited(front):
    (result,) = await front.run(task("step-a", 0, text=front.text("long", seconds=60)), seconds=2)
    assert result.status == "failed"
    assert "took longer than" in result.error
    assert front.lines() == []


async def test_a_worker_that_is_killed_is_replaced_and_nothing_finished_runs_twice(front, tmp_path):
    seen = []
    plan = [
        task("step-a", 0, text=front.text("first")),
        task("step-b", 1, text=front.text("dies", seconds=0.2, once=str(tmp_path / "once")), p0="<resource>-0"),
        task("step-a", 2, text=front.text("last"), p0="<resource>-1"),
    ]
    results = await front.run(*plan, seen=seen)
    assert [r.status for r in results] == ["ok"] * 3, results
    assert front.lines() == ["first", "dies", "last"]
    assert front.lines("begin").count("dies") == 2
    assert any("died; 'step-b' is run again" in e.text for e in seen if isinstance(e, Notice))
    assert sum(isinstance(e, TaskDone) for e in seen) == 3


async def test_an_expert_that_kills_its_process_every_time_is_given_up(front):
    (result,) = await front.run(task("step-c", 0, text=front.text("x", dies=True)))
    assert result.status == "failed"
    assert "lost its worker 3 times" in result.error
    assert front.lines("begin") == ["x"] * 3


async def test_a_driver_that_is_killed_is_replaced_and_the_running_task_goes_on(front):
    seen = []
    work = asyncio.create_task(front.run(task("step-b", 0, text=front.text("long", seconds=3)), seen=seen))
    await front.until(1)
    os.kill(front.runtime.executor.gateway._process.pid, signal.SIGKILL)
    (result,) = await work
    assert result.ok
    assert front.lines() == front.lines("begin") == ["long"]
    assert any("does not answer" in e.text for e in seen if isinstance(e, Notice))


async def test_a_front_end_that_comes_back_gets_what_was_being_made(tmp_path, front, machines):  # noqa: F811
    other = Front(tmp_path / "other", machines.address)
    other.log = front.log
    plan = task("step-b", 0, text=front.text("long", seconds=3))
    work = asyncio.create_task(other.run(plan))
    await front.until(1)
    os.kill(other.runtime.executor.gateway._process.pid, signal.SIGKILL)
    other.runtime.executor.gateway._closing.set()  # as if the whole front end were gone
    (result,) = await front.run(plan)
    work.cancel()
    assert result.ok
    assert front.lines() == front.lines("begin") == ["long"]


async def test_what_either_machine_kept_is_not_made_again_for_a_new_front_end(tmp_path, front, machines):  # noqa: F811
    plan = [task("step-a", n, text=front.text(f"t{n}", seconds=0.3)) for n in range(8)]
    await front.run(*plan)
    assert len(set(front.pids())) == 2
    other = Front(tmp_path / "other", machines.address)
    results = await other.run(*plan)
    await other.close()
    assert [r.status for r in results] == ["ok"] * 8
    assert sorted(front.lines("begin")) == sorted(f"t{n}" for n in range(8))


async def test_a_machine_that_is_lost_costs_only_what_ran_there(front, machines):  # noqa: F811
    third = machines.add(cpus=1)
    plan = [task("step-c", n, text=front.text(f"t{n}", seconds=1.0)) for n in range(6)]
    work = asyncio.create_task(front.run(*plan))
    await front.until(3)
    machines.remove(third)
    results = await work
    assert [r.status for r in results] == ["ok"] * 6, results
    assert sorted(front.lines()) == sorted(f"t{n}" for n in range(6))


async def test_what_no_machine_can_hold_is_one_sentence(front, monkeypatch):
    from anyloom.graphs.cluster import pool

    (result,) = await front.run(task("huge", 0, text=front.text("x")))
    assert result.status == "failed"
    assert "raise --memory" in result.error  # by its card, before the cluster is asked
    monkeypatch.setattr(pool, "FIT", 0.0)
    needs = Needs(1.0, 1.0, 10**15)
    group = pool.Group(ExpertRef.of(Step), needs)
    alone = pool.Machine("id", "127.0.0.4", Needs(1, 0, 1))
    assert not alone.has(needs)
    assert "None of the 1 machines of the Ray cluster has 1 GPU and 1 processors" in pool._nowhere(group, [alone])


async def test_an_idle_expert_leaves_to_make_room_for_another(front):
    """Each of the two machines has 0.5 GB: two of these experts cannot be on one at a time, three need room."""
    for name in ("wide-a", "wide-b", "wide-c"):
        (result,) = await front.run(task(name, 0, text=front.text(name)))
        assert result.ok, result
    assert front.lines() == ["wide-a", "wide-b", "wide-c"]


def test_no_cluster_is_one_sentence(tmp_path):
    with pytest.raises(ExpertError, match=r"No Ray cluster answers at 127.0.0.1:1 .*anyloom worker --head"):
        RayExecutor.open("127.0.0.1:1", tmp_path, None)


def test_an_expert_of_the_settings_stays_here():
    from anyloom.graphs.cluster.executor import stays
    from anyloom.tools.adapters.mcp import _MCP

    assert stays(_MCP)
    assert not stays(Step)
