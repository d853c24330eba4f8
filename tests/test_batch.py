"""Batches: calls that wait for one expert are performed together, and each caller gets what is its own."""

import asyncio

import pytest
from ray_experts import Crowd
from rig import settings

from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import Cancelled, ExpertError, InputError
from anyloom.core.settings import load_settings
from anyloom.core.weights import Weights
from anyloom.graphs.cluster.host import Host
from anyloom.graphs.cluster.messages import Call, ExpertRef
from anyloom.graphs.executor import Job, ThreadExecutor
from anyloom.tools.contracts import Run
from anyloom.tools.experts.minilm import MiniLMSimilarity
from anyloom.tools.experts.pocket.captions import PocketImageToText
from anyloom.tools.fakes import NoWeights, tiny_png
from anyloom.tools.residency import Residency


@pytest.fixture
def crowd():
    Crowd.reset()
    yield Crowd
    Crowd.gate.set()


@pytest.fixture
def threads():
    return ThreadExecutor(Residency(None, NoWeights()))


class Rig:
    """Calls of one expert in threads; the first is running and holds the others up until the gate opens."""

    def __init__(self, executor, expert=Crowd):
        self.executor, self.expert = executor, expert
        self.heard = {}

    def ask(self, text, timeout=None):
        heard = self.heard.setdefault(text, [])
        run = Run(seed=len(self.heard), progress=lambda done, total, note: heard.append(note))
        job = Job(self.expert, run, lambda: {"text": text}, lambda outputs, s: outputs[0].data.decode(), timeout)
        return asyncio.create_task(self.executor.perform(job))

    async def behind(self, *texts):
        first = self.ask("first")
        await until(lambda: Crowd.sizes == [1])
        others = [self.ask(t) for t in texts]
        waiting = self.executor._waiting[self.expert]
        await until(lambda: len(waiting._calls) == len(texts))
        return first, others


async def until(true):
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


async def test_what_gathered_is_performed_at_once_and_each_gets_its_own(crowd, threads):
    rig = Rig(threads)
    texts = [f"call {n}" for n in range(5)]
    first, others = await rig.behind(*texts)
    crowd.gate.set()
    assert await asyncio.gather(first, *others) == ["FIRST", *(t.upper() for t in texts)]
    assert crowd.sizes[0] == 1
    assert sorted(crowd.sizes[1:]) == [1, 4]  # at most four at once
    assert sum("of 4" in rig.heard[t] for t in texts) == 4


async def test_one_that_is_stopped_before_or_during_the_batch_leaves_the_others_alone(crowd, threads):
    rig = Rig(threads)
    first, others = await rig.behind("early", "late", "stays")
    others[0].cancel()
    crowd.second.clear()
    await until(lambda: len(threads._waiting[crowd]._calls) == 2)
    crowd.gate.set()
    await until(lambda: crowd.sizes == [1, 2])
    others[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await others[1]
    crowd.second.set()
    assert await others[2] == "STAYS"
    assert await first == "FIRST"
    assert crowd.stopped == ["late"]


async def test_a_time_limit_counts_from_the_beginning_of_the_batch(crowd, threads):
    rig = Rig(threads)
    first, _ = await rig.behind()
    crowd.second.clear()
    short, long = rig.ask("short", timeout=0.3), rig.ask("long")
    await asyncio.sleep(0.5)
    assert not short.done()  # it waits, which does not count
    crowd.gate.set()
    with pytest.raises(ExpertError, match=r"took longer than 0\.3 s"):
        await short
    crowd.second.set()
    assert await asyncio.gather(first, long) == ["FIRST", "LONG"]


async def test_one_that_cannot_be_performed_fails_alone(crowd, threads):
    for bad, sizes in (("bad", [1, 3]), ("worse", [1, 3, 1, 1, 1])):  # told for one; raised for all
        crowd.reset()
        first, others = await Rig(threads).behind("one", bad, "two")
        crowd.gate.set()
        one, wrong, two = await asyncio.gather(*others, return_exceptions=True)
        assert (one, two, await first) == ("ONE", "TWO", "FIRST")
        assert isinstance(wrong, InputError)
        assert crowd.sizes == sizes


async def test_a_host_of_a_cluster_does_the_same(crowd):
    host = Host(ExpertRef.of(Crowd), False, die=lambda: crowd.stopped.append("process"))

    def ask(text):
        return asyncio.create_task(host.run(Call(text, "me", {"text": text}, (), 1)))

    first = ask("first")
    await until(lambda: crowd.sizes == [1])
    crowd.second.clear()
    others = [ask(t) for t in ("one", "bad", "late")]
    await until(lambda: len(host._waiting) == 3)
    crowd.gate.set()
    await until(lambda: crowd.sizes == [1, 3])
    assert (await host.look("one")).note == "of 3"
    await host.stop("late", "me")
    assert (await others[2]).fault.kind == "Cancelled"  # at once, while the batch goes on
    crowd.second.set()
    assert (await others[0]).outputs[0].data == b"ONE"
    assert (await others[1]).fault.kind == "InputError"
    assert (await first).outputs[0].data == b"FIRST"
    assert crowd.stopped == ["late"]  # and the process lives


def test_a_run_of_all_stops_with_the_last():
    runs = [Run(), Run()]
    both = Run.of_all(runs)
    runs[0].stop.set()
    both.check()
    runs[1].stop.set()
    with pytest.raises(Cancelled):
        both.check()


# -- pocket experts --------------------------------------------------------------------------------------


def gathered(expert, calls):
    """What `calls` give when they wait together behind one, and how often the networks were called for them."""
    wanted = load_settings()
    residency = Residency(None, Weights(wanted.cache_dir, offline=wanted.offline))
    executor = ThreadExecutor(residency)
    counted = []

    def job(args):
        return Job(expert, Run(), lambda: args, lambda outputs, seconds: outputs[0].data.decode())

    async def go():
        with residency.use(expert) as instance:  # the seat is taken, so that all of them wait
            network = instance.encoder.model if expert is MiniLMSimilarity else instance.encoder.network
            network.register_forward_hook(lambda *_: counted.append(1))
            alone = [instance.run(args, Run())[0].data.decode() for args in calls]
            assert len(counted) == len(calls)
            counted.clear()
            work = [asyncio.create_task(executor.perform(job(args))) for args in calls]
            await until(lambda: expert in executor._waiting and len(executor._waiting[expert]._calls) == len(calls))
        return alone, await asyncio.gather(*work)

    alone, together = asyncio.run(go())
    return alone, together, len(counted)


def test_captions_of_waiting_pictures_take_one_pass(tmp_path):
    store = ArtifactStore(settings(tmp_path).data_dir)
    pictures = [store.add_bytes(tiny_png(bytes([n * 40] * 3)), "image/png", f"{n}.png") for n in range(5)]
    alone, together, passes = gathered(PocketImageToText, [{"image": store.path(p)} for p in pictures])
    assert together == alone
    assert passes == 1


def test_likenesses_of_waiting_pairs_take_one_pass():
    pairs = [("a cat sleeps", "a kitten naps"), ("a cat sleeps", "shares fell"), ("rain", "It rains a lot today.")]
    alone, together, passes = gathered(MiniLMSimilarity, [{"text": a, "other": b} for a, b in pairs])
    assert together == alone
    assert len(set(together)) == 3
    assert passes == 1
