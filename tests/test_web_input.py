"""The page's handlers without a browser (its loop and Playwright's do not share a file): refusals, modes, plans."""

import json
from pathlib import Path

import pytest
from hostile import HOSTILE_LIMITS, hostile_files
from rig import engine, settings, task, untrained

from anyloom.agent import Agent
from anyloom.controller.fakes import ScriptedController
from anyloom.tools.fakes import Fakes, tiny_png

pytest.importorskip("gradio")
DRAW = [task("text-to-image", 0, text="a cat")]
EMPTY = {"text": "", "files": []}


def door_over(folder, engine):
    from anyloom.agent.web.session import Door

    agent = Agent(settings(folder))
    agent._engine = engine
    return Door(agent)


async def answered(door, text, files=(), thread="", mode="cascade", approve=False):
    """The page's state after each event: conversation, plan, thread, what goes back into the box, …"""
    asked = [text, *map(str, files)]
    return [s async for s in door.answer("ada", thread, asked, [], mode, "best", 0, 0, approve, None)]


def said(state):
    return "\n".join(m["content"] for m in state[0] if isinstance(m["content"], str)).replace("\u2060", "")


async def test_a_refused_request_is_in_the_box_again_and_the_next_one_is_answered(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    door = door_over(tmp_path, engine(tmp_path, ScriptedController(DRAW)))
    box, chat, asked, _ = await door.put({"text": "grey please", "files": [str(bad)]}, [], None)
    assert box == EMPTY
    assert [m["content"] for m in chat] == ["bad.png", "grey please"], "no broken picture is shown"
    refused = (await answered(door, "grey please", [bad]))[-1]
    assert "bad.png" in said(refused)
    assert refused[3] == asked
    assert door.give_back(EMPTY, refused[3]) == ({"text": "grey please", "files": [str(bad)]}, [])
    assert door.give_back({"text": "never mind", "files": []}, refused[3])[0] != {"text": "grey please"}
    assert door.owners.threads("browser:ada") == [], "what was refused is no conversation"
    good = (await answered(door, "draw a cat", thread=refused[2]))[-1]
    assert "made by text-to-image" in said(good)
    assert good[3] == []
    await door.agent.engine.aclose()


async def test_pictures_are_shown_and_what_browsers_cannot_show_is_named(tmp_path):
    (tmp_path / "cat.png").write_bytes(tiny_png(b"abc"))
    (tmp_path / "cat.heic").write_bytes(b"\x00\x00\x00\x18ftypheic")
    door = door_over(tmp_path, engine(tmp_path))
    files = [str(tmp_path / n) for n in ("cat.png", "cat.heic")]
    _, chat, _, _ = await door.put({"text": "", "files": files}, [], None)
    assert [m["content"] for m in chat] == [{"path": files[0]}, "cat.heic"]


async def test_every_mode_can_be_chosen_and_without_a_trained_model_one_sentence_says_what_to_do(tmp_path):
    door = door_over(tmp_path, untrained(tmp_path, ScriptedController(DRAW)))
    assert [name for _, name in door.modes()] == ["cascade", "end2end", "compare"]
    state = (await answered(door, "draw a cat", mode="end2end"))[-1]
    assert "choose the mode 'Cascade'" in said(state)
    assert "--mode" not in said(state)
    assert str(tmp_path) not in said(state)
    assert state[3] == ["draw a cat"]
    state = (await answered(door, "draw a cat", mode="compare"))[-1]
    assert "made by text-to-image" in said(state)
    assert "choose the mode 'Cascade'" in said(state)
    await door.agent.engine.aclose()


async def test_both_modes_are_compared(tmp_path):
    pytest.importorskip("torch")
    from test_end2end import wishing

    over, _ = wishing(tmp_path, ("Here is a cat.", "image"))
    over.runtime.controller._plan = DRAW
    states = await answered(door_over(tmp_path, over), "draw a cat", mode="compare")
    assert any("waits for its turn" in s[1] for s in states)
    assert "Cascade: " in said(states[-1])
    assert "End to end: Here is a cat." in said(states[-1])
    panel = states[-1][1]
    for shown in ("text-to-image", "make-image", '<th scope="col">Cascade</th>', "model calls", "1 task: 0"):
        assert shown in panel
    report = states[-1][0][-1]["content"]["path"]
    assert report.endswith("comparison.html")
    assert "draw a cat" in Path(report).read_text(encoding="utf-8")
    await over.aclose()


async def test_a_plan_that_was_edited_badly_still_waits(tmp_path):
    door = door_over(tmp_path, engine(tmp_path, ScriptedController(DRAW)))
    waiting = (await answered(door, "draw a cat", approve=True))[-1]
    thread, edited = waiting[2], waiting[7]
    for bad in ("[{", '[{"task": "fly", "id": 0}]', "7"):
        state = [s async for s in door.decide("ada", thread, [], ["0 text-to-image"], bad, None)][-1]
        assert state[5]["visible"], bad
        assert state[7] == bad
    good = json.dumps([{**json.loads(edited)[0], "args": {"text": "a dog"}}])
    states = [s async for s in door.decide("ada", thread, [], ["0 text-to-image"], good, None)]
    assert "made by text-to-image" in said(states[-1])
    assert "done" in states[-1][1], "the plan that goes on is drawn, though it is not announced again"
    await door.agent.engine.aclose()


async def test_a_stop_is_drawn_and_leaves_nothing_half_written(tmp_path):
    fakes = Fakes(delay=30)
    door = door_over(tmp_path, engine(tmp_path, ScriptedController(DRAW), fakes))
    run = door.answer("ada", "", ["draw a cat"], [], "cascade", "best", 0, 0, False, None)
    async for state in run:
        if "running" in state[1]:
            break
    thread = state[2]
    await run.aclose()
    assert door.stopped("bob", thread, None)[0] != state[0], "another's"
    chat, panel = door.stopped("ada", thread, None)
    assert [m["content"][:8] for m in chat] == ["Stopped."]
    assert "stopped" in panel
    assert "running" not in panel
    fakes.delay = 0
    again = [s async for s in door.resume("ada", thread, [], None)]
    assert any("text-to-image" in s[1] for s in again)
    assert "made by text-to-image" in said(again[-1])
    assert door.stopped("ada", thread, None)[0] != chat, "nothing runs any more"
    await door.agent.engine.aclose()


async def test_bad_files_get_one_sentence_in_the_conversation(tmp_path):
    from anyloom.agent.web.session import Door

    agent = Agent(settings(tmp_path, limits=HOSTILE_LIMITS))
    agent._engine = engine(tmp_path, ScriptedController(), limits=HOSTILE_LIMITS)
    door = Door(agent)
    for bad in hostile_files(tmp_path / "bad"):
        told = (await answered(door, "what is this", [bad.path]))[-1][0][-1]
        if bad.said is not None:
            assert bad.said in told["content"].replace("\u2060", ""), bad.name
            assert "\n" not in told["content"]
