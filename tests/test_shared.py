"""Several front ends on one Redis server: one conversation, one cache, one store; and a server that dies."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from filelock import Timeout
from redis_server import redis_server  # noqa: F401 a fixture
from rig import engine, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import InputError, StorageError
from anyloom.core.events import TaskDone
from anyloom.graphs.checkpoints import open_checkpoints
from anyloom.graphs.shared.checkpoints import open_redis_checkpoints
from anyloom.graphs.shared.link import Link, shown
from anyloom.graphs.shared.lock import LeaseLock
from anyloom.graphs.state import Request
from anyloom.tools.fakes import Fakes

DRAW = [task("text-to-image", 0, text="a cat")]
CHAIN = [
    task("text-to-image", 0, text="a cat"),
    task("image-to-text", 1, image="<resource>-0"),
    task("text-to-speech", 2, text="<resource>-1"),
]


def front(folder, server, fakes=None, plan=DRAW, **options):
    """A front end on a machine of its own."""
    return engine(folder, ScriptedController(plan), fakes or Fakes(), redis=server.url, **options)


async def test_what_one_front_end_made_another_one_has(tmp_path, redis_server):  # noqa: F811
    here, there = front(tmp_path / "a", redis_server), front(tmp_path / "b", redis_server)
    answer = await here.ask(Request("draw a cat"), thread="t")
    picture = answer.artifacts[0]
    assert there.store.holds(picture)
    assert there.store.path(picture).read_bytes() == here.store.path(picture).read_bytes()
    assert (await there.history("t"))[0].request == "draw a cat"
    assert [(r.id, r.thread, r.state) for r in there.runs.list()] == [(answer.run, "t", "done")]
    assert there.runs.get(answer.run[:6])["answer"]["ok"]
    again = await there.ask(Request("draw a cat"), thread="t")
    assert again.results[0].cached
    assert len(await here.history("t")) == 2


async def test_a_plain_server_gets_the_saver_that_it_can_serve(redis_server):  # noqa: F811
    link = Link.open(redis_server.url)
    assert ("plainredis" in link.describe()) is not link.searches
    from langgraph.checkpoint.conformance import checkpointer_test, validate

    @checkpointer_test(name="shared")
    async def saver():
        async with open_redis_checkpoints(link) as opened:
            yield opened

    report = await validate(saver)
    assert report.passed_all_base()


async def test_one_answer_at_a_time_over_all_front_ends(tmp_path, redis_server):  # noqa: F811
    slow = Fakes(delay={"text-to-image": 0.6})
    here, there = front(tmp_path / "a", redis_server, slow), front(tmp_path / "b", redis_server)
    first = asyncio.create_task(here.ask(Request("draw"), thread="t"))
    await asyncio.sleep(0.3)
    with pytest.raises(InputError, match="being answered right now"):
        await there.ask(Request("draw"), thread="t")
    assert (await first).ok
    assert (await there.ask(Request("draw"), thread="t")).ok


def test_a_process_that_died_here_holds_nothing(redis_server):  # noqa: F811
    held = "import sys, time; from anyloom.graphs.shared.link import Link; from anyloom.graphs.shared.lock import *;"
    held += "LeaseLock(Link.open(sys.argv[1]), 'test:lock').__enter__(); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", held, redis_server.url], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        mine = LeaseLock(Link.open(redis_server.url), "test:lock")
        with pytest.raises(Timeout), mine:
            pass
        holder.kill()
        holder.wait()
        with mine, pytest.raises(Timeout), LeaseLock(Link.open(redis_server.url), "test:lock"):
            pass


def test_a_holder_elsewhere_is_waited_for(redis_server):  # noqa: F811
    link = Link.open(redis_server.url)
    link.client.set("test:lock", f"other-host 5 pid:[1]|{2**22 + 1}|a")
    with pytest.raises(Timeout), LeaseLock(link, "test:lock"):
        pass


async def test_a_page_elsewhere_follows_a_running_request(tmp_path, redis_server):  # noqa: F811
    slow = Fakes(delay={"text-to-image": 0.3})
    here, there = front(tmp_path / "a", redis_server, slow), front(tmp_path / "b", redis_server)
    work = asyncio.create_task(here.ask(Request("draw"), thread="t", run="0123456789"))
    await asyncio.sleep(0.2)
    kinds = await asyncio.to_thread(lambda: [e["event"] for _, e in there.runs.follow("0123456789", 5)])
    await work
    assert kinds[0] == "run_started"
    assert kinds[-1] == "answer_done"
    assert "task_done" in kinds


@pytest.mark.parametrize("way", ["killed", "frozen"])
async def test_a_server_that_is_away_for_a_while_costs_time_and_nothing_else(tmp_path, redis_server, way):  # noqa: F811
    fakes = Fakes(delay={"text-to-image": 0.4, "image-to-text": 0.4})
    here = front(tmp_path / "a", redis_server, fakes, CHAIN)

    def outage():
        time.sleep(0.5)
        redis_server.kill() if way == "killed" else redis_server.freeze()
        time.sleep(1.5)
        redis_server.start() if way == "killed" else redis_server.freeze(False)

    trouble = threading.Thread(target=outage)
    trouble.start()
    seen = []
    answer = await here.ask(Request("go"), thread="t", emit=seen.append)
    await asyncio.to_thread(trouble.join)
    assert answer.ok
    assert sorted(c.tool for c in fakes.calls) == ["image-to-text", "text-to-image", "text-to-speech"]
    assert sum(isinstance(e, TaskDone) for e in seen) == 3
    assert here.runs.get(answer.run)["state"] == "done"
    assert all(here.store.verify(a) for a in answer.artifacts)


async def test_another_machine_finishes_what_a_dead_one_began(tmp_path, redis_server):  # noqa: F811
    first = Fakes()
    here = front(tmp_path / "a", redis_server, first, CHAIN)

    class Dies(Exception):
        pass

    def die(event):
        if isinstance(event, TaskDone) and event.id == 1:
            raise Dies

    with pytest.raises(Dies):
        await here.ask(Request("go"), thread="t", emit=die)
    second = Fakes()
    answer = await front(tmp_path / "b", redis_server, second, CHAIN).resume("t")
    assert answer.ok
    assert [c.tool for c in second.calls] == ["text-to-speech"]


def test_no_server_is_one_sentence(tmp_path):
    with pytest.raises(StorageError, match=r"No Redis server answers at redis://:\*\*\*@127.0.0.1:1/0"):
        engine(tmp_path, redis="redis://:secret@127.0.0.1:1/0")


def test_a_password_is_not_shown():
    assert shown("redis://me:secret@host:1/0") == "redis://me:***@host:1/0"


async def test_without_a_server_nothing_changes(tmp_path):
    async with open_checkpoints(tmp_path / "c.sqlite") as saver:
        assert "Sqlite" in type(saver).__name__
    assert engine(tmp_path).shared is None


async def test_the_same_thing_asked_for_twice_at_once_is_made_once(tmp_path, redis_server):  # noqa: F811
    delay = {"text-to-image": 0.5}
    fakes = [Fakes(delay=delay), Fakes(delay=delay)]
    fronts = [front(tmp_path / str(n), redis_server, f) for n, f in enumerate(fakes)]
    answers = await asyncio.gather(*(f.ask(Request("draw a cat")) for f in fronts))
    assert sum(len(f.calls) for f in fakes) == 1
    assert sorted(a.results[0].cached for a in answers) == [False, True]
    assert answers[0].artifacts[0].sha256 == answers[1].artifacts[0].sha256
