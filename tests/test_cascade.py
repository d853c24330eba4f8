"""The cascade: planning with repair and bridges, approval, replanning, and answers that cite only what exists."""

import asyncio
import re
import sqlite3
from dataclasses import replace
from typing import Any, TypedDict

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rig import engine, parts, picture, runtime, settings, task

from anyloom.controller.fakes import ScriptedController
from anyloom.controller.followups import alone
from anyloom.controller.plan import Plan
from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import InputError, PlanError, UnknownName
from anyloom.core.events import AnswerDone, AnswerText, PlanMade, RunStarted, TaskDone
from anyloom.graphs.cascade import build_cascade, make_graph
from anyloom.graphs.citations import LINK_MARK, MARK, Citations
from anyloom.graphs.engine import Engine, NeedsApproval
from anyloom.graphs.spoken import follows, hearing
from anyloom.graphs.state import Request
from anyloom.tools.fakes import Fakes, tiny_wav
from anyloom.tools.registry import Registry

SPEAK = task("text-to-speech", 0, text="hello")
HEAR = task("automatic-speech-recognition", 1, audio="<resource>-0")
DRAW = task("text-to-image", 2, text="<resource>-1")


async def test_a_request_is_planned_run_and_answered(tmp_path):
    seen = []
    agent = engine(tmp_path, ScriptedController([SPEAK, HEAR, DRAW]))
    answer = await agent.ask(Request("go"), thread="t", emit=seen.append)
    assert answer.ok
    assert [a.modality for a in answer.artifacts] == ["audio", "text", "image"]
    assert [r.status for r in answer.results] == ["ok"] * 3
    assert "[text-to-image.png](text-to-image.png)" in answer.text
    assert answer.costs["model_calls"] == 2
    assert (answer.thread, bool(answer.run)) == ("t", True)
    kinds = [type(e) for e in seen]
    assert (kinds[0], kinds[1], kinds[-1]) == (RunStarted, PlanMade, AnswerDone)
    assert "".join(e.text for e in seen if isinstance(e, AnswerText)) == answer.text
    assert sum(isinstance(e, TaskDone) for e in seen) == 3
    await agent.aclose()


async def test_only_tools_that_can_run_are_offered(tmp_path):
    controller = ScriptedController()
    fakes = Fakes()
    fakes.experts = [e for e in fakes.experts if e.tool.name == "text-to-speech"]
    agent = engine(tmp_path, controller, fakes)
    await agent.ask(Request("hi"))
    assert controller.offered == [("text-to-speech",)]
    await agent.aclose()


async def test_what_lacks_memory_is_said_and_where_nothing_fits_the_request_ends(tmp_path):
    seen, small = [], Fakes(memory=2_000_000)
    agent = Engine(settings(tmp_path), **(parts(small, ScriptedController()) | {
        "registry": Registry.of([*small.experts[1:], small.experts[0]], memory=10),
    }))  # fmt: skip
    with pytest.raises(PlanError, match=r"Nothing can run here: '.*' needs 2 MB of memory .*; raise --memory"):
        await agent.ask(Request("hi"), emit=seen.append)
    await agent.aclose()


async def test_a_picture_is_at_hand_after_a_turn_of_words(tmp_path):
    controller = ScriptedController(plans={"draw": [task("text-to-image", 0, text="a cat")], "say": [SPEAK]})
    agent = engine(tmp_path, controller)
    for text in ("draw a cat", "say hello", "make it black and white", "what is this?"):
        await agent.ask(Request(text), thread="t")
    assert [set(r.files.values()) for r in controller.asked] == [set(), {"image"}, {"audio", "image"}, set()]
    await agent.aclose()


async def test_small_talk_is_answered_directly(tmp_path):
    agent = engine(tmp_path, ScriptedController(answer="Hello to you."))
    answer = await agent.ask(Request("hi"))
    assert (answer.text, answer.plan, answer.ok) == ("Hello to you.", (), True)
    await agent.aclose()


async def test_another_one_is_another_one_however_often(tmp_path):
    fakes = Fakes()
    agent = engine(tmp_path, ScriptedController([task("text-to-image", 0, text="a cat")]), fakes)
    for text in ("draw a cat", *["another one, please"] * 12, "draw a cat"):
        await agent.ask(Request(text, seed=None), thread="t")
    seeds = [call.seed for call in fakes.called("text-to-image")]
    assert len(seeds) == len(set(seeds)) == 13  # and the last is that of the first, which was kept
    await agent.ask(Request("once more", seed=20), thread="t")
    assert fakes.called("text-to-image")[-1].seed not in seeds
    await agent.aclose()


async def test_what_a_long_conversation_is_about_is_not_forgotten(tmp_path):
    controller = ScriptedController([task("text-to-image", 0, text="a cat")])
    agent = engine(tmp_path, controller)
    for text in ("draw a cat", "make it blue", *["another one"] * 12):
        await agent.ask(Request(text), thread="t")
    last = controller.asked[-1]
    assert [t.request for t in last.history] == ["draw a blue cat", *["another one"] * 7]
    assert alone(last).text == "draw a blue cat"
    await agent.aclose()


async def test_a_controller_is_told_which_files_came_with_the_request(tmp_path):
    controller = ScriptedController([task("text-to-image", 0, text="a cat")])
    agent = engine(tmp_path, controller)
    await agent.ask(Request("draw a cat"), thread="t")
    await agent.ask(Request("make it blue", (replace(picture(tmp_path), name="text-to-image.png"),)), thread="t")
    assert [r.attached for r in controller.asked] == [(), ("text-to-image.png",)]
    await agent.aclose()


async def test_what_does_not_fit_is_bridged_and_shown(tmp_path):
    seen = []
    fakes = Fakes(answers={"image-to-text": "a cat"})
    agent = engine(tmp_path, ScriptedController([task("text-to-speech", 0, text="cat.png")]), fakes)
    answer = await agent.ask(Request("say it", (picture(tmp_path),)), emit=seen.append)
    assert [t["task"] for t in answer.plan] == ["image-to-text", "text-to-speech"]
    assert "image-to-text" in answer.bridges[0]
    assert next(e for e in seen if isinstance(e, PlanMade)).bridges == answer.bridges
    assert fakes.called("text-to-speech")[0].args == {"text": "a cat"}
    await agent.aclose()


async def test_a_bad_plan_gets_one_round_of_repair(tmp_path):
    controller = ScriptedController([task("text-to-smell", 0, text="rose")], repairs=[[SPEAK]])
    agent = engine(tmp_path, controller)
    answer = await agent.ask(Request("go"))
    assert answer.ok
    assert "text-to-smell" in controller.told[0][0]
    await agent.aclose()


async def test_a_plan_that_stays_bad_is_an_error_that_says_why(tmp_path):
    bad = [task("text-to-smell", 0, text="rose")]
    agent = engine(tmp_path, ScriptedController(bad, repairs=[bad, [SPEAK]]))
    with pytest.raises(PlanError, match="text-to-smell"):
        await agent.ask(Request("go"), thread="t")
    assert [row.state for row in await agent.threads()] == ["failed"]
    await agent.aclose()


@pytest.mark.parametrize(
    ("decision", "ran"),
    [
        ({"approve": True}, ["text-to-speech", "automatic-speech-recognition", "text-to-image"]),
        ({"drop": [2]}, ["text-to-speech", "automatic-speech-recognition"]),
        ({"drop": [1]}, ["text-to-speech"]),
        ({"plan": [task("text-to-image", 0, text="a dog")]}, ["text-to-image"]),
        ({"approve": False}, []),
    ],
)
async def test_a_plan_can_be_approved_cut_edited_or_refused(tmp_path, decision, ran):
    fakes = Fakes()
    agent = engine(tmp_path, ScriptedController([SPEAK, HEAR, DRAW]), fakes)
    with pytest.raises(NeedsApproval) as pause:
        await agent.ask(Request("go", approve=True), thread="t")
    assert [t["id"] for t in pause.value.plan] == [0, 1, 2]
    assert [row.state for row in await agent.threads()] == ["waiting"]
    assert not fakes.calls
    with pytest.raises(NeedsApproval):
        await agent.resume("t")
    answer = await agent.resume("t", **decision)
    assert [c.tool for c in fakes.calls] == ran
    assert [t["task"] for t in answer.plan] == ran
    if not ran:
        assert "not approved" in answer.text
    await agent.aclose()


async def test_an_edited_plan_that_cannot_run_leaves_the_plan_waiting(tmp_path):
    agent = engine(tmp_path, ScriptedController([SPEAK]))
    with pytest.raises(NeedsApproval):
        await agent.ask(Request("go", approve=True), thread="t")
    for bad in ({"plan": [task("nonsense", 0)]}, {"drop": [9]}):
        with pytest.raises(PlanError):
            await agent.resume("t", **bad)
        assert [row.state for row in await agent.threads()] == ["waiting"]
    assert (await agent.resume("t", approve=True)).ok
    with pytest.raises(InputError, match="No plan waits"):
        await agent.resume("t", approve=True)
    await agent.aclose()


async def test_the_controller_replans_once_and_nothing_finished_runs_again(tmp_path):
    fakes = Fakes(broken={"text-to-image"})
    instead = [SPEAK, HEAR, task("text-to-video", 2, text="<resource>-1")]
    controller = ScriptedController([SPEAK, HEAR, DRAW], repairs=[instead])
    agent = engine(tmp_path, controller, fakes, retries=0)
    answer = await agent.ask(Request("go"))
    assert [t["task"] for t in answer.plan] == ["text-to-speech", "automatic-speech-recognition", "text-to-video"]
    assert answer.ok
    assert len(fakes.called("text-to-speech")) == len(fakes.called("automatic-speech-recognition")) == 1
    assert "broken" in controller.told[0][0]
    await agent.aclose()


async def test_a_new_plan_may_read_from_finished_tasks_it_does_not_list(tmp_path):
    fakes = Fakes(broken={"text-to-image"})
    controller = ScriptedController([SPEAK, HEAR, DRAW], repairs=[[task("text-to-video", 7, text="<resource>-1")]])
    agent = engine(tmp_path, controller, fakes, retries=0)
    answer = await agent.ask(Request("go"))
    assert [r.status for r in answer.results] == ["ok"] * 3
    assert len(fakes.called("automatic-speech-recognition")) == 1
    await agent.aclose()


async def test_a_file_that_is_not_there_is_said_and_no_other_is_taken(tmp_path):
    agent = engine(tmp_path, ScriptedController([task("image-to-text", 0, image="cat.png")]))
    await agent.ask(Request("describe it", (picture(tmp_path),)), thread="t")
    with pytest.raises(InputError, match=r"no file 'dog.png' here; attach it, or name one of .*cat.png"):
        await agent.ask(Request("describe dog.png"), thread="t")
    assert (await agent.ask(Request("describe cat.png"), thread="t")).ok
    await agent.aclose()


@pytest.mark.parametrize("first", [[task("automatic-speech-recognition", 0, audio="ask.wav")], []])
async def test_what_a_recording_asks_for_is_planned_once_it_is_heard(tmp_path, first):
    controller = ScriptedController(
        [], plans={
            "asks for": first,
            "automatic-speech-recognition of": [task("text-to-image", 0, text="a cat")],
        }
    )
    agent = engine(tmp_path, controller, Fakes())
    wav = ArtifactStore(tmp_path / "data" / "artifacts").add_bytes(tiny_wav(b"abc"), "audio/wav", "ask.wav")
    answer = await agent.ask(Request("do what this recording asks for", (wav,)))
    assert [t["task"] for t in answer.plan] == ["automatic-speech-recognition", "text-to-image"]
    assert answer.ok
    assert "ask.wav" not in controller.asked[1].files, "the request is not one of its own files"
    await agent.aclose()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("do what this recording asks for", True),
        ("Please follow the instructions in the voice message.", True),
        ("answer the question in this recording", True),
        ("do as she says", True),
        ("what does he say?", False),
        ("do you know what they talk about?", False),
        ("transcribe this. What is it about?", False),
    ],
)
def test_a_request_to_obey_a_recording_is_told_from_one_about_it(text, wanted):
    heard = Plan.parse([task("automatic-speech-recognition", 0, audio="a.wav")])
    assert follows(text, heard) is wanted
    more = [*heard.to_json(), task("text-to-image", 1, text="<resource>-0")]
    assert not follows(text, Plan.parse(more))


def test_a_plan_that_missed_the_recording_hears_it():
    files = {"a.wav": "audio", "b.png": "image"}
    heard = hearing("do what this recording asks for", Plan(), files)
    assert [(t.task, dict(t.args)) for t in heard.tasks] == [("automatic-speech-recognition", {"audio": "a.wav"})]
    assert not hearing("thanks, that was great", Plan(), files)
    assert not hearing("do what these recordings ask for", Plan(), {**files, "c.wav": "audio"})
    made = Plan.parse([task("text-to-image", 0, text="a cat")])
    assert hearing("do what this recording asks for", made, files) is made


async def test_failures_without_a_better_plan_are_told(tmp_path):
    agent = engine(tmp_path, ScriptedController([SPEAK, HEAR]), Fakes(broken={"text-to-speech"}), retries=0)
    answer = await agent.ask(Request("go"))
    assert not answer.ok
    assert [r.status for r in answer.results] == ["failed", "skipped"]
    assert "broken" in answer.text
    await agent.aclose()


async def test_an_answer_names_no_file_that_is_not_there(tmp_path):
    lies = "I made ![it](/path/to/cat.png), see https://x.example/cat.gif or [path]"
    truth = " and [text-to-speech.wav](text-to-speech.wav)."
    agent = engine(tmp_path, ScriptedController([SPEAK], answer=lies + truth))
    answer = await agent.ask(Request("go"))
    assert truth in answer.text
    for lie in ("/path/to", "cat.png", "x.example", "cat.gif", "[path]"):
        assert lie not in answer.text
    await agent.aclose()


async def test_what_a_result_says_may_be_repeated(tmp_path):
    fakes = Fakes(answers={"automatic-speech-recognition": "look at report.mp4 or www.example.org"})
    agent = engine(tmp_path, ScriptedController([SPEAK, HEAR]), fakes)
    answer = await agent.ask(Request("go"))
    assert "report.mp4 or www.example.org" in answer.text
    await agent.aclose()


MARKS = [" ", "\n", "[", "](", ")", "(", "!", "."]
NAMES = ["[a](b.png)", "cat.png", "my cat.wav", "x.mp4", "/tmp/dog.jpg", "ok.wav"]
WORDS = st.sampled_from([*MARKS, *NAMES, "made ", "the "])


@examples(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=14), st.integers(1, 9))
@example(["[", " ", "](", "[a](b.png)", ")"], 1)  # a link within a link's target
def test_citations_are_the_same_however_the_text_comes(words, size):
    text = "".join(words)
    names = {"ok.wav", "my cat.wav"}
    guard = Citations(names)
    streamed = "".join(guard.feed(text[i : i + size]) for i in range(0, len(text), size)) + guard.flush()
    assert streamed == Citations(names).clean(text)
    left = streamed
    for name in sorted(names, key=len, reverse=True):
        left = left.replace(name, "")
    assert not re.search(r"\w\.(png|mp4|jpg|wav)\b", left)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("See [speech.wav].", "See [speech.wav]."),
        ("See [dog.wav].", f"See {MARK}."),
        ("See `/tmp/speech.wav`.", f"See `{MARK}`."),
        ("[speech](speech.wav)", "[speech](speech.wav)"),
        ("[speech](sandbox:/mnt/speech.wav)", "speech"),
        ("![](cat.png)", MARK),
        ("[cat.png](cat.png)", MARK),
        ("my cat.png and my speech.wav", f"my {MARK} and my speech.wav"),
        ("[it](javascript:alert(1))", "it"),
        ("[it](javascript:a((1)))", "[it] (javascript:a((1)))"),
        ("[3] and f(x) [y], e.g. this.", "[3] and f(x) [y], e.g. this."),
        ("It is at [image path].", f"It is at {MARK}."),
        ("go to http://a.example/b?c=d.", f"go to {LINK_MARK}."),
        ("as you said: notes.pdf, told.mp3", "as you said: notes.pdf, told.mp3"),
    ],
)
def test_citations(said, shown):
    assert Citations({"speech.wav"}, ["what of told.mp3?"]).clean(said) == shown


async def test_the_conversation_goes_on_with_the_files_that_were_made(tmp_path):
    draw, describe = task("text-to-image", 0, text="a cat"), task("image-to-text", 0, image="text-to-image.png")
    controller = ScriptedController(plans={"draw": [draw], "describe": [describe]})
    agent = engine(tmp_path, controller)
    await agent.ask(Request("draw a cat"), thread="t")
    answer = await agent.ask(Request("describe it"), thread="t")
    assert answer.ok
    assert controller.asked[1].files == {"text-to-image.png": "image"}
    assert controller.asked[1].history[0].request == "draw a cat"
    again = await agent.ask(Request("draw another"), thread="t")
    assert again.artifacts[0].name == "text-to-image-2.png"
    assert [t.request for t in await agent.history("t")] == ["draw a cat", "describe it", "draw another"]
    assert await agent.history("elsewhere") == ()
    await agent.aclose()


async def test_one_answer_at_a_time_in_a_conversation(tmp_path):
    agent = engine(tmp_path, ScriptedController([SPEAK]), Fakes(delay=0.3))
    first = asyncio.create_task(agent.ask(Request("go"), thread="t"))
    await asyncio.sleep(0.1)
    with pytest.raises(InputError, match="being answered"):
        await agent.ask(Request("go"), thread="t")
    assert (await agent.ask(Request("go"), thread="u")).ok
    assert (await first).ok
    await agent.aclose()


async def test_a_stopped_run_can_be_resumed(tmp_path):
    fakes = Fakes(delay={"automatic-speech-recognition": 1.0})
    agent = engine(tmp_path, ScriptedController([SPEAK, HEAR]), fakes, result_cache=False)
    done = asyncio.Event()
    work = asyncio.create_task(
        agent.ask(Request("go"), thread="t", emit=lambda e: done.set() if isinstance(e, TaskDone) else None)
    )
    await done.wait()
    await asyncio.sleep(0.1)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert [row.state for row in await agent.threads()] == ["stopped"]
    fakes.delay = 0.0
    answer = await agent.resume("t")
    assert answer.ok
    assert len(fakes.called("text-to-speech")) == 1
    await agent.aclose()


async def test_wrong_names_get_one_clear_sentence(tmp_path):
    agent = engine(tmp_path)
    with pytest.raises(UnknownName, match="no conversation 'nowhere'"):
        await agent.resume("nowhere")
    with pytest.raises(UnknownName, match="did you mean 'cascade'"):
        await agent.ask(Request("go", mode="cascad"))
    with pytest.raises(InputError, match="empty"):
        await agent.ask(Request("  "))
    with pytest.raises(InputError, match="cannot name a conversation"):
        await agent.ask(Request("go"), thread="a\nb")
    await agent.aclose()


async def test_plan_only_runs_nothing(tmp_path):
    fakes, seen = Fakes(), []
    agent = engine(tmp_path, ScriptedController([SPEAK]), fakes)
    checked = await agent.plan_only(Request("go"), emit=seen.append)
    assert [t.task for t in checked.plan.tasks] == ["text-to-speech"]
    assert [type(e) for e in seen] == [PlanMade]
    assert not fakes.calls
    assert not agent.runs.list()
    await agent.aclose()


class Outer(TypedDict, total=False):
    request: Any
    answer: Any
    said: str


async def test_the_cascade_is_a_node_in_somebody_elses_graph(tmp_path):
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import Command

    outer = StateGraph(Outer)
    outer.add_node("cascade", build_cascade(runtime(tmp_path, Fakes(), ScriptedController([SPEAK, HEAR]))))
    outer.add_node("shout", lambda state: {"said": state["answer"]["text"].upper()})
    outer.add_edge(START, "cascade")
    outer.add_edge("cascade", "shout")
    outer.add_edge("shout", END)
    graph = outer.compile(checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "t"}}
    state = await graph.ainvoke({"request": "go"}, config)
    assert "TEXT-TO-SPEECH.WAV" in state["said"]
    asked = await graph.ainvoke({"request": Request("go", approve=True).to_json()}, config)
    assert [t["id"] for t in asked["__interrupt__"][0].value["plan"]] == [0, 1]
    state = await graph.ainvoke(Command(resume={"drop": [1]}), config)
    assert [r["id"] for r in state["answer"]["results"]] == [0]


async def test_no_media_and_few_checkpoints_in_the_database(tmp_path):
    agent = engine(tmp_path, ScriptedController([SPEAK, HEAR, DRAW]))
    for _ in range(5):
        await agent.ask(Request("go", (picture(tmp_path),)), thread="t")
    await agent.aclose()
    file = tmp_path / "data" / "checkpoints.sqlite"
    stored = b"".join(p.read_bytes() for p in file.parent.glob("checkpoints.sqlite*"))
    for magic in (b"RIFF", b"WAVEfmt", b"\x89PNG", b"IHDR", b"IDAT", b"ftyp"):
        assert magic not in stored
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT COUNT(*) FROM checkpoints").fetchone() == (1,)
        assert db.execute("SELECT COUNT(*) FROM writes").fetchone()[0] < 10


def test_langgraph_json_names_a_graph(tmp_path, monkeypatch):
    import importlib
    import json
    from pathlib import Path

    monkeypatch.setenv("ANYLOOM_DATA", str(tmp_path))
    named = json.loads((Path(__file__).parents[1] / "langgraph.json").read_text())["graphs"]["cascade"]
    module, _, attribute = named.partition(":")
    made = getattr(importlib.import_module(module), attribute)
    assert made is make_graph
    assert {"make_plan", "approve", "dispatch", "replan", "respond"} <= set(made().get_graph().nodes)
