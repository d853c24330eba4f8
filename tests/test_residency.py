"""Experts in memory: loaded once, evicted when idle, never while running, handed back when nobody waits."""

import asyncio
import itertools
import threading
import time

import pytest

from anyloom.core.errors import ExpertError, WeightsError
from anyloom.tools.accelerators import Gpu
from anyloom.tools.builtin import tool
from anyloom.tools.contracts import Card, Expert, Run
from anyloom.tools.fakes import Fakes
from anyloom.tools.residency import Residency

MB = 1_000_000


def kit(count=3, budget=2, **options):
    """Fakes of 1 MB each, and room for `budget` of them."""
    fakes = Fakes(memory=MB, **options)
    return fakes, Residency(budget * MB, fakes.weights), fakes.experts[:count]


def names(residency):
    return [r.name for r in residency.loaded()]


def test_loads_once_and_evicts_the_one_unused_for_longest():
    fakes, residency, (a, b, c) = kit()
    for expert in (a, b, a, c):
        with residency.use(expert):
            pass
    assert fakes.loads == [a.name, b.name, c.name]
    assert fakes.unloads == [b.name]
    assert names(residency) == [c.name, a.name]


def test_what_runs_is_not_evicted_and_others_wait_for_room():
    fakes, residency, (a, b, c) = kit()
    entered = threading.Event()

    def third():
        with residency.use(c):
            entered.set()

    with residency.use(a), residency.use(b):
        thread = threading.Thread(target=third)
        thread.start()
        assert not entered.wait(0.1)
        assert fakes.unloads == []
        assert {r.busy for r in residency.loaded()} == {True}
    assert entered.wait(5)
    thread.join()
    assert len(fakes.unloads) == 1


def test_one_run_at_a_time_per_expert_and_different_ones_together():
    fakes, residency, _ = kit(delay=0.05)
    args = {e: {p.name: "x" for p in e.tool.params} for e in fakes.experts}
    writers = [e for e in fakes.experts if all(p.modality == "text" for p in e.tool.params)][:2]

    async def one(expert):
        async with residency.use(expert) as instance:
            return await asyncio.to_thread(instance.run, args[expert], Run())

    async def all_of_them():
        await asyncio.gather(*(one(e) for e in writers for _ in range(3)))

    asyncio.run(all_of_them())
    for expert in writers:
        calls = sorted((c for c in fakes.calls if c.expert == expert.name), key=lambda c: c.started)
        assert all(x.ended <= y.started for x, y in itertools.pairwise(calls))
    first, second = (next(c for c in fakes.calls if c.expert == e.name) for e in writers)
    assert first.started < second.ended
    assert second.started < first.ended
    assert sorted(fakes.loads) == sorted(e.name for e in writers)


async def test_many_who_wait_do_not_keep_out_the_one_who_runs():
    fakes, residency, _ = kit(delay=0.01)
    expert = next(e for e in fakes.experts if e.tool.name == "text-to-image")

    async def one():
        async with residency.use(expert) as instance:
            return await asyncio.to_thread(instance.run, {"text": "x"}, Run())

    assert len(await asyncio.wait_for(asyncio.gather(*(one() for _ in range(60))), 20)) == 60


async def test_a_cancelled_waiter_leaves_no_trace():
    _, residency, (a, _, _) = kit()

    async def wait_for_it():
        async with residency.use(a):
            raise AssertionError("it was busy")

    async with residency.use(a):
        waiter = asyncio.create_task(wait_for_it())
        await asyncio.sleep(0.05)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    async with asyncio.timeout(5), residency.use(a):
        pass
    assert [r.busy for r in residency.loaded()] == [False]


async def test_cancelled_while_loading_it_stays_usable():
    gate = threading.Event()

    class Slow(Expert):
        name = "slow"
        tool = tool("text-to-image")

        def load(self, device, weights):
            gate.wait(5)

        def run(self, args, run):
            return []

    residency = Residency(None, Fakes().weights)

    async def use_it():
        async with residency.use(Slow):
            raise AssertionError("was cancelled before")

    user = asyncio.create_task(use_it())
    await asyncio.sleep(0.05)
    user.cancel()
    with pytest.raises(asyncio.CancelledError):
        await user
    gate.set()
    async with asyncio.timeout(5), residency.use(Slow) as instance:
        assert instance.name == "slow"


def test_bigger_than_the_budget_is_refused():
    fakes, residency, _ = kit()
    big = type("Big", (fakes.experts[0],), {"name": "big", "card": Card(memory=3 * MB)})
    with pytest.raises(ExpertError, match=r"'big' needs .* raise --memory"), residency.use(big):
        pass
    assert names(residency) == []


def failing(error):
    def load(self, device, weights):
        raise error

    body = {"name": "failing", "tool": tool("text-to-image"), "load": load, "run": lambda *a: []}
    return type("Failing", (Expert,), body)


def test_what_cannot_be_loaded_takes_no_room_and_says_why():
    residency = Residency(100 * MB, Fakes().weights)
    with (
        pytest.raises(ExpertError, match="'failing' could not be loaded: OSError: torn"),
        residency.use(failing(OSError("torn"))),
    ):
        pass
    with (
        pytest.raises(WeightsError, match="not on this disk"),
        residency.use(failing(WeightsError("not on this disk"))),
    ):
        pass
    assert names(residency) == []


async def test_a_load_error_reaches_the_waiter_in_a_loop():
    residency = Residency(None, Fakes().weights)
    with pytest.raises(ExpertError, match="torn"):
        async with residency.use(failing(OSError("torn"))):
            pass


def test_unload_all_lets_a_running_one_finish():
    fakes, residency, (a, b, _) = kit()
    with residency.use(b):
        pass
    with residency.use(a):
        residency.unload_all()
        assert names(residency) == [a.name]
        assert fakes.unloads == [b.name]
    assert names(residency) == []
    assert fakes.unloads == [b.name, a.name]


def test_an_unload_that_fails_stops_nobody():
    broken = type("Broken", (failing(None),), {"load": lambda *a: None, "unload": lambda self: 1 / 0})
    residency = Residency(None, Fakes().weights)
    with residency.use(broken):
        pass
    residency.unload_all()
    assert names(residency) == []


def test_threads_share_fairly_under_pressure():
    _, residency, experts = kit(count=6, budget=2)
    together, most, lock = 0, 0, threading.Lock()

    def work(n):
        nonlocal together, most
        for k in range(5):
            with residency.use(experts[(n + k) % 6]):
                with lock:
                    together += 1
                    most = max(most, together)
                time.sleep(0.001)
                with lock:
                    together -= 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert not any(t.is_alive() for t in threads)
    assert 1 <= most <= 2
    assert len(residency.loaded()) <= 2


def test_weights_are_resolved_by_uri_and_device_is_picked(tmp_path):
    seen = {}

    class Reader(Expert):
        name = "reader"
        tool = tool("text-to-image")
        card = Card(weights=("file:/a", "file:/b"))

        def load(self, device, weights):
            seen.update(weights, device=device)

        def run(self, args, run):
            return []

    class Disk:
        def resolve(self, uri):
            return tmp_path / uri[-1]

    with Residency(None, Disk(), "auto").use(Reader):
        pass
    assert seen == {"file:/a": tmp_path / "a", "file:/b": tmp_path / "b", "device": "cpu"}


# -- several GPUs, stood in for by numbers: what is tested is who is sent where ------------------------


class Gpus:
    """As many as are asked for, each with room for so many experts of 1 MB; `spent` counts what others hold."""

    def __init__(self, count, room):
        self.count, self.room, self.spent = count, room * MB, {}

    def __call__(self):
        return [Gpu(d, self.room, self.room - self.spent.get(d, 0)) for d in (f"cuda:{n}" for n in range(self.count))]


def movable(name, places, full_at=(), moves=True):
    """An expert of 1 MB that notes where it is, and finds no memory on the devices of `full_at`."""

    class Movable(Expert):
        def load(self, device, weights):
            if device in full_at:
                raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory.")
            places.append((self.name, device))

        def move(self, device):
            if moves:
                places.append((self.name, "to", device))
            return moves

        def run(self, args, run):
            return []

    Movable.name, Movable.tool = name, tool("text-to-image")
    Movable.card = Card(memory=MB, devices=("cuda", "cpu"))
    return Movable


def on_gpus(count, room, device="cuda"):
    weights = Fakes().weights
    weights.told = []
    weights.emit = weights.told.append
    return Residency(None, weights, device, Gpus(count, room)), weights.told


def used(residency, *experts):
    for expert in experts:
        with residency.use(expert):
            pass
    return {r.name: r.device for r in residency.loaded()}


def test_both_gpus_are_used():
    places = []
    residency, _ = on_gpus(2, room=2)
    assert used(residency, *(movable(n, places) for n in "abcd")) == {
        "a": "cuda:0", "b": "cuda:1", "c": "cuda:0", "d": "cuda:1",
    }  # fmt: skip
    residency, _ = on_gpus(2, room=2, device="cuda:1")
    assert set(used(residency, *(movable(n, places) for n in "ab")).values()) == {"cuda:1"}


def test_a_gpu_that_others_fill_is_left_alone():
    residency, _ = on_gpus(2, room=2)
    residency._gpus.spent["cuda:0"] = 2 * MB
    assert used(residency, movable("a", [])) == {"a": "cuda:1"}


def test_the_one_unused_for_longest_rests_in_main_memory_and_comes_back():
    places = []
    residency, _ = on_gpus(1, room=2)
    a, b, c = (movable(n, places) for n in "abc")
    assert used(residency, a, b, a, c) == {"a": "cuda:0", "b": "cpu", "c": "cuda:0"}
    assert used(residency, b) == {"a": "cpu", "b": "cuda:0", "c": "cuda:0"}
    assert places[2:] == [("b", "to", "cpu"), ("c", "cuda:0"), ("a", "to", "cpu"), ("b", "to", "cuda:0")]


def test_of_two_gpus_the_one_whose_experts_were_unused_for_longest_makes_room():
    places = []
    residency, _ = on_gpus(2, room=1)
    a, b, c = (movable(n, places) for n in "abc")
    assert used(residency, a, b, c) == {"a": "cpu", "b": "cuda:1", "c": "cuda:0"}
    assert used(residency, a) == {"a": "cuda:1", "b": "cpu", "c": "cuda:0"}, "and not the one that was used last"
    assert used(residency, c, a, c, a) == {"a": "cuda:1", "b": "cpu", "c": "cuda:0"}
    assert len(places) == 6, "who has a place keeps it"


def test_who_went_to_main_memory_by_himself_is_taken_back_when_he_is_wanted_again():
    places = []
    residency, _ = on_gpus(1, room=1)
    a = movable("a", places)
    with residency.use(a) as instance:
        instance.device = "cpu"  # what experts of the full profile do when a GPU is full in the middle of a run
    assert {r.name: r.device for r in residency.loaded()} == {"a": "cpu"}
    instance.device = "cuda:0"
    assert used(residency, a) == {"a": "cuda:0"}
    assert places == [("a", "cuda:0"), ("a", "to", "cuda:0")]


def test_who_cannot_be_moved_is_loaded_anew():
    places = []
    residency, _ = on_gpus(1, room=1)
    a, b = (movable(n, places, moves=False) for n in "ab")
    assert used(residency, a, b, a) == {"a": "cuda:0"}
    assert places == [("a", "cuda:0"), ("b", "cuda:0"), ("a", "cuda:0")]


def test_out_of_memory_while_loading_goes_elsewhere_and_is_said():
    residency, told = on_gpus(2, room=2)
    assert used(residency, movable("a", [], full_at=["cuda:0"])) == {"a": "cuda:1"}
    assert [n.text for n in told] == ["'a' finds no room on cuda:0; it is loaded elsewhere."]
    assert used(residency, movable("b", [], full_at=["cuda:0", "cuda:1"]))["b"] == "cpu"
    stuck = movable("c", [], full_at=["cuda:0", "cuda:1"])
    stuck.card = Card(memory=MB, devices=("cuda",))
    with pytest.raises(ExpertError, match=r"'c' finds no room on cuda:. or cuda:.; close other programs") as caught:
        used(residency, stuck)
    assert caught.value.retryable
    assert "c" not in names(residency)
