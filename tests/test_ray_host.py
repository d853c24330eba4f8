"""A host by itself, and what an expert asks of a machine: everything of the cluster that needs no Ray."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from ray_experts import Step, StepB

from anyloom.core.errors import Cancelled, ExpertError, InputError, PluginError
from anyloom.graphs.cluster import host as host_module
from anyloom.graphs.cluster.driver import persist
from anyloom.graphs.cluster.host import Host
from anyloom.graphs.cluster.messages import Call, ExpertRef, Fault, Needs
from anyloom.graphs.cluster.pool import Group, Machine, _roomy
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool


class Rig:
    """A host of step-a, what it noted, and whether its process would have ended."""

    def __init__(self, folder):
        self.log = folder / "log.txt"
        self.died = threading.Event()
        self.host = Host(ExpertRef.of(Step), False, die=self.died.set)

    def call(self, key, owner="me", **todo):
        text = json.dumps({"log": str(self.log), "name": key, **todo})
        return self.host.run(Call(key, owner, {"text": text}, (), 1))

    def ends(self):
        return [line.split()[1] for line in self.log.read_text().splitlines() if line.startswith("end")]


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


async def test_the_same_work_is_done_once_for_all_who_ask(rig):
    first, second = await asyncio.gather(rig.call("k", "a", seconds=0.2), rig.call("k", "b", seconds=0.2))
    later = await rig.call("k", "c", seconds=0.2)
    assert first.outputs == second.outputs == later.outputs
    assert rig.ends() == ["k"]
    assert (await rig.host.ready())[1] == ["k"]


async def test_what_failed_is_tried_again(rig):
    assert (await rig.call("k", fails="expert")).fault.kind == "ExpertError"
    assert (await rig.call("k")).fault is None


async def test_one_who_goes_does_not_stop_the_work_of_another(rig):
    one, two = (asyncio.create_task(rig.call("k", o, seconds=0.5)) for o in ("a", "b"))
    await asyncio.sleep(0.2)
    await rig.host.stop("k", "a")
    assert (await two).fault is None
    assert (await one).fault is None
    three = asyncio.create_task(rig.call("other", "c", seconds=30))
    await asyncio.sleep(0.2)
    assert (await rig.host.look("other")).note == "stepping"
    await rig.host.stop("other", "c")
    assert (await three).fault.kind == "Cancelled"
    assert not rig.died.is_set()


async def test_an_expert_that_is_deaf_ends_with_its_process(rig, monkeypatch):
    monkeypatch.setattr(host_module, "STOP_GRACE", 0.1)
    work = asyncio.create_task(rig.call("k", seconds=1, deaf=True))
    await asyncio.sleep(0.2)
    await rig.host.stop("k", "me")
    assert rig.died.is_set()
    await work


async def test_an_idle_host_leaves_and_a_busy_one_only_when_it_is_done(rig):
    work = asyncio.create_task(rig.call("k", seconds=0.5))
    await asyncio.sleep(0.2)
    assert await rig.host.retire() is None
    assert (await rig.host.ready()) is not None
    assert await rig.host.retire(drain=True) is None
    assert (await rig.call("new")).leaving
    assert await rig.host.ready() is None
    assert (await work).fault is None
    await asyncio.sleep(0.7)
    assert rig.died.is_set()


def test_a_head_that_could_not_start_our_server_is_asked_again():
    answers = [ConnectionAbortedError("Traceback:\n  line 1\nRuntimeError: server failed\n")] * 2
    told = []

    def join():
        if answers:
            raise answers.pop()

    persist(join, told.append, seconds=10, pause=0)
    assert (len(told), answers) == (2, [])
    answers[:] = [ConnectionAbortedError("no")] * 2
    with pytest.raises(ConnectionAbortedError):
        persist(join, told.append, seconds=0, pause=0.1)
    answers[:] = [RuntimeError("another version of Ray")]  # it would be the same next time
    with pytest.raises(RuntimeError):
        persist(join, told.append, seconds=10, pause=0)
    assert len(told) == 2


def test_errors_are_the_same_on_both_sides():
    for error in (InputError("a"), ExpertError("b", retryable=True), Cancelled("c")):
        back = Fault.of(error, "x").error()
        assert (type(back), str(back), getattr(back, "retryable", None)) == (
            type(error), str(error), getattr(error, "retryable", None),
        )  # fmt: skip
    assert str(Fault.of(ValueError("no"), "x").error()) == "'x' failed with ValueError: no"


def test_an_expert_is_found_by_its_name_with_its_options():
    class Set(Step):
        pass

    assert ExpertRef.of(Step).find() is Step
    assert ExpertRef.of(StepB).find() is StepB
    with pytest.raises(PluginError, match="install the same on both"):
        replace(ExpertRef.of(Step), version="0.0.0").find()
    with pytest.raises(PluginError, match="install its plugin there"):
        replace(ExpertRef.of(Step), module="no_such_kit").find()
    with pytest.raises(PluginError, match="other weights"):
        replace(ExpertRef.of(Step), weights=("file:/x",)).find()
    unknown = ExpertRef.of(type("Made", (Expert,), {"name": "made-here", "run": lambda self, args, run: []}))
    assert unknown.module == ""
    with pytest.raises(PluginError, match="no expert 'made-here'"):
        unknown.find()


def test_an_expert_of_the_registry_keeps_its_options():
    from anyloom.core.settings import load_settings
    from anyloom.tools.registry import Registry

    made = Registry(load_settings({"experts": {"stable-diffusion-1-5": {"steps": 7}}}, {}))
    expert = next(e for e in made.all_experts() if e.options.get("steps") == 7)
    ref = ExpertRef.of(expert)
    assert ref.module == ""  # made by a function: known by its name
    found = ref.find()
    assert (found.name, found.option("steps"), found is expert) == (expert.name, 7, False)


def card(**facts):
    tool = Tool("t", "T.", (Param("text", "text"),), "text")
    run = lambda self, args, run: [Output.text("")]  # noqa: E731
    return type("Made", (Expert,), {"name": "made", "tool": tool, "card": Card(**facts), "run": run})


def test_what_a_card_asks_for():
    both, only = card(memory=6 << 30, devices=("cpu", "cuda")), card(memory=30 << 30, devices=("cuda",))
    assert Needs.of(card(memory=5, speed="medium"), "cuda", 24 << 30) == Needs(1.0, 0.0, 5)
    assert Needs.of(both, "cuda", None).gpus == 0.0  # no GPU anywhere
    assert Needs.of(both, "cpu", 24 << 30).gpus == 0.0  # not wanted
    assert Needs.of(both, "cuda", 24 << 30) == Needs(0.1, 0.29, 2 << 30)  # three share one
    assert Needs.of(both, "cuda", 0).gpus == 1.0  # nobody told how large it is
    assert Needs.of(only, "cuda", 24 << 30).gpus == 1.0
    assert Needs.of(only, "cuda", None).gpus == 1.0


def test_the_machine_with_the_most_room_is_taken_and_no_machine_twice():
    group = Group(ExpertRef.of(Step), Needs(1, 0, 10))
    small, large = Machine("a", "127.0.0.4", Needs(2, 0, 100)), Machine("b", "127.0.0.5", Needs(4, 0, 100))
    assert _roomy(group, [small, large], []) == (large, 0)
    there = f"{group.prefix}b|0"
    assert _roomy(group, [small, large], [there]) == (small, 0)
    assert _roomy(group, [small, large], [there, f"{group.prefix}a|0"]) is None
    full = "host|other|0|1.5|0.0|10|a|0"
    assert _roomy(group, [small], [full]) is None
    gpu = Group(ExpertRef.of(Step), Needs(0.1, 0.5, 10))
    two = Machine("c", "127.0.0.6", Needs(4, 2, 100))
    names = [f"{gpu.prefix}c|{n}" for n in range(3)]
    assert _roomy(gpu, [two], names) == (two, 3)
    assert _roomy(gpu, [two], [*names, f"{gpu.prefix}c|3"]) is None
