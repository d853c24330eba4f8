"""`anyloom chat` without a terminal: conversations that are opened, stopped, taken back, compared and saved."""

import asyncio
import json
import os
import re
import signal

from chat_rig import DRAW, Person, begin, do, printed
from rig import task, untrained

from anyloom.agent.chat.commands import lift, read
from anyloom.controller.fakes import ScriptedController
from anyloom.tools.fakes import Fakes, tiny_png

SPEAK = [task("text-to-speech", 0, text="hello")]


async def stopped(talk, fakes, line):
    """Types a line, and Ctrl-C as soon as something is made."""
    work = asyncio.create_task(do(talk, line))
    while not fakes.calls:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(work, 10)


def test_files_that_a_request_names_by_full_path_are_attached(tmp_path):
    cat, dog = tmp_path / "cat.png", tmp_path / "my dog.png"
    for file in (cat, dog):
        file.write_bytes(tiny_png(b"abc"))
    assert lift(f"describe {cat}, please") == ("describe cat.png, please", [str(cat)])
    assert lift(f"join '{dog}' and {cat}") == ("join my dog.png and cat.png", [str(dog), str(cat)])
    escaped = str(dog).replace(" ", "\\ ")
    assert lift(f"describe {escaped}") == ("describe my dog.png", [str(dog)])
    address = f"file://{str(dog).replace(' ', '%20')}"
    assert lift(f"describe {address}")[1] == [str(dog)]
    assert lift("what is /nowhere/at.png and 3/4 of https://a.b/c?") == (
        "what is /nowhere/at.png and 3/4 of https://a.b/c?", []
    )  # fmt: skip
    assert read(str(dog)).words == (str(dog),)  # some terminals do not quote what is dropped


async def test_a_dropped_file_goes_with_the_request_it_is_in(tmp_path):
    picture = tmp_path / "cat.png"
    picture.write_bytes(tiny_png(b"abc"))
    talk = begin(tmp_path, [task("image-to-text", 0, image="cat.png")])
    await do(talk, f"describe '{picture}'")
    assert talk.exchanges[0].request.text == "describe cat.png"
    assert talk.exchanges[0].answer.ok


async def test_a_file_of_the_conversation_is_attached_by_its_number(tmp_path):
    talk = begin(tmp_path)
    await do(talk, "draw a cat", "/attach 1", "/attach 9")
    assert [a.modality for a in talk.attached] == ["image"]
    assert "'9' is the number of no file; there are: 1 to 2." in printed(talk)


async def test_two_files_of_one_name_are_told_apart(tmp_path):
    for n in (1, 2):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "cat.png").write_bytes(tiny_png(bytes([n, n, n])))
    talk = begin(tmp_path)
    await do(talk, f"/attach {tmp_path}/[12]/cat.png", f"/attach {tmp_path}/1/cat.png", "/attach")
    assert [a.name for a in talk.attached] == ["cat.png", "cat-2.png"]
    assert "cat.png is attached already" in printed(talk)
    await do(talk, "/detach")
    assert talk.attached == []


async def test_undo_takes_back_what_was_stopped_and_not_what_was_answered(tmp_path):
    fakes = Fakes()
    talk = begin(tmp_path, plans={"speak": SPEAK, "draw": DRAW}, fakes=fakes)
    await do(talk, "speak")
    fakes.calls.clear()
    fakes.delay = {"image-to-text": 5}
    await stopped(talk, fakes, "draw")
    assert "/resume goes on with it" in printed(talk)
    await do(talk, "/undo")
    assert "taken back: draw" in printed(talk)
    assert [t.request for t in await talk.agent.engine.history(talk.thread)] == ["speak"]
    await do(talk, "/resume")
    assert "Nothing was stopped here." in printed(talk)
    again = await talk.agent.engine.resume(talk.thread)  # gives the answer before, and runs nothing
    assert [r.task for r in again.results] == ["text-to-speech"]
    assert len(fakes.called("text-to-speech")) == 0
    await do(talk, "/undo", "/undo")
    assert await talk.agent.engine.history(talk.thread) == ()
    assert "There is nothing to take back" in printed(talk)


async def test_a_stopped_request_is_tried_again_in_its_place(tmp_path):
    fakes = Fakes(delay={"image-to-text": 5})
    talk = begin(tmp_path, fakes=fakes)
    await stopped(talk, fakes, "draw")
    fakes.delay = 0.0
    await do(talk, "/retry 7")
    assert [t.request for t in await talk.agent.engine.history(talk.thread)] == ["draw"]
    assert [x.request.seed for x in talk.exchanges] == [7]
    assert talk.exchanges[0].answer.ok
    await do(talk, "/retry many", "/retry -1")
    assert "'many' is no seed" in printed(talk)
    assert "'-1' is no seed" in printed(talk)
    assert len(talk.exchanges) == 1


async def test_another_program_opens_the_conversation_with_all_that_is_in_it(tmp_path):
    first = begin(tmp_path, thread="cats")
    await do(first, "draw one", "draw two", "/undo", "draw three")
    talk = begin(tmp_path)
    await do(talk, "/resume ca")  # the beginning of its name will do
    shown = printed(talk)
    assert "> draw one" in shown
    assert "> draw three" in shown
    assert "draw two" not in shown
    assert len(talk.gallery.items) == 4
    await do(talk, "/retry", "/plan", "/cost")
    assert "again, with seed 1: draw three" in printed(talk)
    assert "conversation: 2 answers" in printed(talk)
    await do(talk, "/new", "/retry", "/cost", "/save x", "/plan", "/undo")
    assert printed(talk).count("yet") >= 4


async def test_an_interrupted_run_of_another_program_is_finished(tmp_path):
    fakes = Fakes(delay={"image-to-text": 5})
    first = begin(tmp_path, fakes=fakes, thread="cats")
    await stopped(first, fakes, "draw")
    talk = begin(tmp_path)
    await do(talk, "/resume cats")
    assert talk.exchanges[-1].answer.ok
    assert "going on with: draw" in printed(talk)


async def test_a_plan_that_cannot_run_is_asked_about_again(tmp_path):
    edits = [
        "no json", '{"not": "a list"}', None, json.dumps([task("text-to-image", 0, nothing="x")]), json.dumps(SPEAK)
    ]  # fmt: skip
    fakes = Fakes()
    talk = begin(tmp_path, fakes=fakes, person=Person("e", "e", "e", "e", "5", "e", edit=lambda text: edits.pop(0)))
    await do(talk, "/plan on", "draw")
    shown = printed(talk)
    assert "That is no JSON" in shown
    assert "A plan is a list of tasks" in shown
    assert "The plan is as it was." in shown
    assert "The edited plan cannot run" in shown
    assert [c.tool for c in fakes.calls] == ["text-to-speech"]
    assert talk.exchanges[0].answer.ok


async def test_a_plan_can_be_left_waiting_and_taken_up_again(tmp_path):
    class Leaves(Person):
        async def ask(self, question):
            raise asyncio.CancelledError

    talk = begin(tmp_path, person=Leaves(), thread="cats")
    await do(talk, "/plan on", "draw")
    later = begin(tmp_path, person=Person("y"))
    await do(later, "/resume cats")
    assert later.exchanges[-1].answer.ok


async def test_planning_alone_runs_nothing(tmp_path):
    fakes = Fakes()
    talk = begin(tmp_path, fakes=fakes)
    await do(talk, "/plan draw what's in it")
    assert "text-to-image" in printed(talk)
    assert fakes.calls == []
    assert talk.exchanges == []


async def test_comparing_answers_in_every_mode_though_one_cannot(tmp_path):
    talk = begin(tmp_path, DRAW, opens=untrained)
    await do(talk, "/compare", "/compare draw a cat")
    shown = printed(talk)
    assert "Say what should be compared" in shown
    assert "cascade" in shown
    assert "end2end" in shown
    assert talk.exchanges[0].answer.ok
    assert talk.worst  # there is no trained model here, and that is said
    table = shown.split("compared")[-1]
    assert re.search(r"answered +yes +cannot", table)
    assert re.search(r"seconds +\d+\.\d +–", table)
    assert re.search(r"model calls +[1-9] +–", table)
    assert [t.request for t in await talk.agent.engine.history(talk.thread)] == ["draw a cat"]


async def test_comparing_is_a_mode_too(tmp_path):
    talk = begin(tmp_path, DRAW, opens=untrained)
    await do(talk, "/mode compare", "draw a cat", "/retry")
    shown = printed(talk)
    assert "mode: compare" in shown
    assert len(re.findall(r"answered +yes +cannot", shown)) == 2
    await do(talk, "/mode together", "/plan draw")
    assert "there is cascade, end2end, compare" in printed(talk)


async def test_what_is_refused_keeps_its_files_and_is_tried_again_in_another_mode(tmp_path):
    (tmp_path / "cat.png").write_bytes(tiny_png(b"cat"))
    talk = begin(tmp_path, DRAW, opens=untrained)
    await do(talk, "draw", "/mode end2end", f"/attach {tmp_path}/cat.png", "like this one")
    assert "go on with /mode cascade" in printed(talk)
    assert [a.name for a in talk.attached] == ["cat.png"]
    assert not talk.unfinished
    await do(talk, "/mode cascade", "/retry")
    assert talk.attached == []
    assert [t.request for t in await talk.agent.engine.history(talk.thread)] == ["draw", "like this one"]
    assert [a.name for a in talk.exchanges[-1].request.attachments] == ["cat.png"]
    await do(talk, "/mode end2end", "and this", "/undo", "/undo")
    assert [t.request for t in await talk.agent.engine.history(talk.thread)] == ["draw"], "what was refused goes first"


async def test_an_expert_is_pinned_to_its_tool(tmp_path):
    fakes = Fakes(spares=True)
    talk = begin(tmp_path, SPEAK, fakes=fakes)
    names = [e.name for e in talk.agent.engine.runtime.registry.experts("text-to-speech")]
    await do(talk, f"/policy text-to-speech={names[1]}", "speak", "/policy text-to-speech=nobody", "/policy")
    assert [c.expert for c in fakes.calls] == [names[1]]
    assert "No expert 'nobody' performs 'text-to-speech'" in printed(talk)
    assert f"policy: pinned, text-to-speech={names[1]}" in printed(talk)


async def test_saved_as_one_file_with_its_files_in_a_folder(tmp_path):
    talk = begin(tmp_path, controller=ScriptedController(DRAW))
    (tmp_path / "out" / "talk-files").mkdir(parents=True)
    (tmp_path / "out" / "talk-files" / "text-to-image.png").write_text("another file of that name")
    (tmp_path / "other.md").write_text("my diary")
    await do(talk, "draw a cat", f"/save {tmp_path}/out/talk.md", f"/save {tmp_path}/other.md", "/save")
    text = (tmp_path / "out" / "talk.md").read_text()
    assert f"# Conversation {talk.thread}" in text
    assert "text-to-image: [text-to-image.png](talk-files/text-to-image-2.png)" in text  # the answer's link leads there
    assert "![text-to-image.png](talk-files/text-to-image-2.png)" in text
    assert (tmp_path / "out" / "talk-files" / "text-to-image-2.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "other.md").read_text() == "my diary"
    assert "exists and is another text" in printed(talk)
    await do(talk, "draw a dog", f"/save {tmp_path}/out/talk.md")  # the same conversation, grown
    assert "draw a dog" in (tmp_path / "out" / "talk.md").read_text()


async def test_names_and_texts_cannot_reach_the_terminal_as_control_sequences(tmp_path):
    bad = "\x1b]0;owned\x07 \x1b[2J \x9b31m \u202egnp.exe [bold red]x[/]"
    fakes = Fakes(answers={"image-to-text": bad * 20})
    talk = begin(tmp_path, controller=ScriptedController(DRAW, answer=bad), fakes=fakes, terminal=True)
    await do(talk, f"/{bad}", f"/attach {bad}", f"/tools {bad}", f"/mode {bad}", f"/resume {bad}", bad, "/threads")
    for sign in ("\x1b]0;", "\x1b[2J", "\x9b", "\u202e", "\x07"):
        assert sign not in printed(talk)
    assert "[bold red]x[/]" in printed(talk)


async def test_what_nobody_foresaw_is_one_sentence_and_the_talk_goes_on(tmp_path):
    talk = begin(tmp_path, controller=ScriptedController(answer="Hello."))

    class Broken(Person):
        async def ask(self, question):
            raise ZeroDivisionError("never seen before")

    talk.person = Broken()
    talk.agent.engine.runtime.controller._plan = DRAW
    await do(talk, "/plan on", "draw", "/plan off")
    shown = printed(talk)
    assert "An unexpected ZeroDivisionError (never seen before); details are in" in shown
    assert "Plans run at once." in shown
