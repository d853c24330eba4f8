"""Dispatch: dataflow without waves, and what becomes of a plan when tasks fail, hang or are stopped."""

import asyncio
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rig import dispatch, picture, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import ExpertError
from anyloom.core.events import Notice, TaskDone, TaskFailed, TaskProgress, TaskStarted
from anyloom.graphs.state import Request, derive_seed
from anyloom.tools.contracts import Expert, Output, Param, Tool
from anyloom.tools.fakes import Fakes


def steps(count):
    """Tools that read up to eight texts, one for each task, so that no two share an expert."""
    params = tuple(Param(f"p{n}", "text", required=False) for n in range(8))
    return [Tool(f"step-{n}", "A step.", params, "text") for n in range(count)]


def graph(edges):
    """A plan of `step-N` tasks: `edges[n]` are the tasks that task n reads from."""
    args = [{f"p{k}": f"<resource>-{d}" for k, d in enumerate(deps)} for deps in edges]
    return [task(f"step-{n}", n, **given) for n, given in enumerate(args)]


async def test_an_uneven_plan_takes_as_long_as_its_longest_path(tmp_path):
    fakes = Fakes(tools=steps(4), delay={"step-0": 0.1, "step-1": 0.9, "step-2": 0.9, "step-3": 0.1})
    best = 9.0
    for _ in range(4):  # on a busy machine threads may be woken late
        started = time.perf_counter()
        results = await dispatch(tmp_path, graph([[], [], [0], [1]]), fakes, request=Request("x", fresh=True))
        best = min(best, time.perf_counter() - started)
        assert [r.status for r in results] == ["ok"] * 4
        if best <= 1.1 * 1.0:
            return
    raise AssertionError(f"{best:.2f} s for a path of 1 s; waves would take 1.8 s")


async def test_errors_call_files_by_the_names_that_the_user_knows(tmp_path):
    class Blind(Expert):
        """Sees nothing."""

        name = "blind"
        tool = Tool("look", "Looks.", (Param("image", "image"),), "text")

        def run(self, args, run):
            raise ExpertError(f"Nothing is to be seen in '{Path(args['image']).name}'.")

    fakes = Fakes()
    fakes.experts = [*fakes.experts, Blind]
    [result] = await dispatch(tmp_path, [task("look", 0, image="cat.png")], fakes, files=[picture(tmp_path)])
    assert result.error == "Nothing is to be seen in 'cat.png'."


async def test_results_feed_later_arguments_of_any_modality(tmp_path):
    fakes = Fakes()
    plan = [
        task("image-to-text", 0, image="cat.png"),
        task("text-to-speech", 1, text="<resource>-0"),
        task("automatic-speech-recognition", 2, audio="<resource>-1"),
        task("text-to-video", 3, text="<resource>-2"),
        task("video-to-text", 4, video="<resource>-3"),
        task("text-to-image", 5, text="<resource>-4"),
        task("visual-question-answering", 6, image="<resource>-5", text="what is it?"),
    ]
    results = await dispatch(tmp_path, plan, fakes, files=[picture(tmp_path)])
    assert [r.status for r in results] == ["ok"] * 7
    assert fakes.called("text-to-speech")[0].args["text"] == results[0].text
    question = fakes.called("visual-question-answering")[0].args
    assert question["text"] == "what is it?"
    assert question["image"].read_bytes().startswith(b"\x89PNG")
    assert results[5].artifacts[0].provenance.inputs == (results[4].artifacts[0].sha256,)


async def test_a_text_file_is_read_where_a_text_is_wanted(tmp_path):
    from anyloom.core.artifacts import ArtifactStore

    note = ArtifactStore(tmp_path / "data" / "artifacts").add_text("Buy milk.", "note.txt")
    fakes = Fakes()
    await dispatch(tmp_path, [task("text-to-speech", 0, text="note.txt")], fakes, files=[note])
    assert fakes.calls[0].args == {"text": "Buy milk."}


async def test_a_failure_skips_what_needs_it_and_nothing_else(tmp_path):
    seen = []
    fakes = Fakes(tools=steps(5), broken={"step-1"})
    results = await dispatch(tmp_path, graph([[], [], [1], [0], [2, 3]]), fakes, seen=seen)
    assert [r.status for r in results] == ["ok", "failed", "skipped", "ok", "skipped"]
    assert "broken" in results[1].error
    assert "task 1 (step-1)" in results[2].error
    assert {(e.id, e.skipped) for e in seen if isinstance(e, TaskFailed)} == {(1, False), (2, True), (4, True)}


async def test_what_is_retryable_is_tried_again(tmp_path):
    seen = []
    fakes = Fakes(tools=steps(1), flaky={"step-0": 2})
    results = await dispatch(tmp_path, graph([[]]), fakes, seen=seen, retries=2)
    assert results[0].ok
    assert len(fakes.calls) == 3
    assert sum("Trying again" in e.text for e in seen if isinstance(e, Notice)) == 2


async def test_retries_end(tmp_path):
    fakes = Fakes(tools=steps(1), flaky={"step-0": 9})
    results = await dispatch(tmp_path, graph([[]]), fakes, retries=1)
    assert (results[0].status, len(fakes.calls)) == ("failed", 2)


async def test_the_next_expert_takes_over_and_that_is_said(tmp_path):
    seen = []
    fakes = Fakes(tools=steps(1), broken={"step-0"}, spares=True)
    results = await dispatch(tmp_path, graph([[]]), fakes, seen=seen)
    assert (results[0].status, results[0].expert) == ("ok", "spare-step-0")
    assert any("Going on with 'spare-step-0'" in e.text for e in seen if isinstance(e, Notice))


async def test_the_controller_chooses_under_the_policy_llm(tmp_path):
    fakes = Fakes(tools=steps(1), spares=True)
    controller = ScriptedController(choice="spare-step-0")
    results = await dispatch(tmp_path, graph([[]]), fakes, controller=controller, request=Request("x", policy="llm"))
    assert results[0].expert == "spare-step-0"


async def test_what_takes_too_long_is_stopped(tmp_path):
    fakes = Fakes(tools=steps(2), delay={"step-0": 30, "step-1": 0})
    started = time.perf_counter()
    results = await dispatch(tmp_path, graph([[], []]), fakes, task_timeout=0.2)
    assert time.perf_counter() - started < 5
    assert [r.status for r in results] == ["failed", "ok"]
    assert "0.2 s" in results[0].error
    await settled(fakes, 2)
    assert fakes.called("step-0")[0].error == "Stopped."


async def test_a_request_may_bound_the_time_for_all_tasks(tmp_path):
    fakes = Fakes(tools=steps(2), delay=0.3)
    results = await dispatch(tmp_path, graph([[], [0]]), fakes, request=Request("x", max_seconds=0.4))
    assert [r.status for r in results] == ["ok", "failed"]


async def test_cancelling_stops_experts_at_their_next_check(tmp_path):
    fakes = Fakes(tools=steps(3), delay=30)
    seen = []
    work = asyncio.create_task(dispatch(tmp_path, graph([[], [], [0]]), fakes, seen=seen))
    while sum(isinstance(e, TaskProgress) and e.note == "waiting" for e in seen) < 2:
        await asyncio.sleep(0.01)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await settled(fakes, 2)
    assert {c.error for c in fakes.calls} == {"Stopped."}
    assert not fakes.called("step-2")


async def settled(fakes, calls):
    """Waits until this many calls came to their end."""
    for _ in range(300):
        if len(fakes.calls) >= calls:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(fakes.calls)} of {calls} calls ended")


async def test_a_result_is_taken_from_the_cache_the_second_time(tmp_path):
    seen = []
    fakes = Fakes(tools=steps(2))
    plan = graph([[], [0]])
    first = await dispatch(tmp_path, plan, fakes)
    second = await dispatch(tmp_path, plan, fakes, seen=seen)
    assert [r.artifacts for r in first] == [r.artifacts for r in second]
    assert [e.cached for e in seen if isinstance(e, TaskDone)] == [True, True]
    assert not any(isinstance(e, TaskStarted) for e in seen)
    assert len(fakes.calls) == 2
    again = await dispatch(tmp_path, plan, fakes, request=Request("x", fresh=True))
    assert (len(fakes.calls), [r.cached for r in again]) == (4, [False, False])


async def test_seeds_follow_from_request_and_task(tmp_path):
    fakes = Fakes(tools=steps(2))
    results = await dispatch(tmp_path, graph([[], []]), fakes, request=Request("x", seed=7))
    assert [r.seed for r in results] == [derive_seed(7, 0), derive_seed(7, 1)]
    assert len({derive_seed(s, t) for s in range(20) for t in range(20)}) == 400
    named = await dispatch(tmp_path, graph([[]]), fakes, request=Request("x", steps={"0": {"seed": 5}}))
    assert named[0].seed == 5


async def test_file_names_are_not_given_twice(tmp_path):
    from dataclasses import replace

    attached = replace(picture(tmp_path), name="text-to-image.png")
    plan = [task("text-to-image", n, text=f"a cat, {n}") for n in range(3)]
    results = await dispatch(tmp_path, plan, Fakes(), files=[attached])
    names = [r.artifacts[0].name for r in results]
    assert sorted(names) == ["text-to-image-2.png", "text-to-image-3.png", "text-to-image-4.png"]


class Odd(Expert):
    """Misbehaves as its instance is told."""

    name = "odd"
    tool = steps(1)[0]
    how = staticmethod(lambda args, run: [])

    def run(self, args, run):
        return type(self).how(args, run)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda a, r: 1 / 0, "ZeroDivisionError"),
        (lambda a, r: exit(3), "SystemExit"),
        (lambda a, r: next(iter(())), "StopIteration"),
        (lambda a, r: [], "did not return a list of Outputs"),
        (lambda a, r: "text", "did not return a list of Outputs"),
        (lambda a, r: [Output(b"x", "image/png")], "made image where"),
        (lambda a, r: (_ for _ in ()).throw(ExpertError("No luck.")), "No luck."),
    ],
)
async def test_a_plugin_that_misbehaves_is_a_failed_task(tmp_path, how, said):
    from anyloom.tools.registry import Registry

    class Own(Odd):
        pass

    Own.how = staticmethod(how)
    fakes = Fakes(tools=[])
    fakes.experts = [Own]
    fakes.tools = [Own.tool]
    assert isinstance(fakes.registry(), Registry)
    results = await dispatch(tmp_path, graph([[]]), fakes)
    assert results[0].status == "failed"
    assert said in results[0].error


async def test_an_expert_that_never_looks_keeps_its_seat_until_it_ends(tmp_path):
    """Out of time, yet running: nobody else may use the same instance meanwhile."""
    inside, most, lock = [0], [0], threading.Lock()

    def deaf(args, run):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.3)
        with lock:
            inside[0] -= 1
        return [Output.text("done")]

    class Deaf(Odd):
        how = staticmethod(deaf)

    fakes = Fakes(tools=[])
    fakes.experts, fakes.tools = [Deaf], [Deaf.tool]
    plan = [task("step-0", n, p0=str(n)) for n in range(3)]
    results = await dispatch(tmp_path, plan, fakes, task_timeout=0.1)
    assert {r.status for r in results} == {"failed"}
    assert most[0] == 1


@st.composite
def broken_plans(draw):
    count = draw(st.integers(1, 8))
    edges = [draw(st.lists(st.integers(0, n - 1), unique=True, max_size=3)) if n else [] for n in range(count)]
    return edges, draw(st.sets(st.integers(0, count - 1), max_size=3))


@examples(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(broken_plans())
def test_any_plan_with_any_failures(case):
    edges, broken = case
    bad = set(broken)
    for n, deps in enumerate(edges):
        if bad & set(deps):
            bad.add(n)
    fakes = Fakes(tools=steps(len(edges)), broken={f"step-{n}" for n in broken})
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(dispatch(Path(folder), graph(edges), fakes, seen=seen, retries=0))
    assert [r.id for r in results] == list(range(len(edges)))
    skipped = {n for n, deps in enumerate(edges) if bad & set(deps)}
    for r in results:
        wanted = "skipped" if r.id in skipped else "failed" if r.id in broken else "ok"
        assert r.status == wanted
    ran = [c.tool for c in fakes.calls]
    assert sorted(ran) == sorted(f"step-{n}" for n in range(len(edges)) if n not in skipped)
    ended = [e.id for e in seen if isinstance(e, TaskDone | TaskFailed)]
    assert sorted(ended) == list(range(len(edges)))
