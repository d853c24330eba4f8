"""`anyloom chat` without a terminal: what is typed, what is shown, and what is kept."""

import asyncio
import io
import json
import re

import chat_rig
import pytest
from chat_rig import DRAW, Person, do, printed
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rig import engine, settings, task

from anyloom.agent import Agent
from anyloom.agent.board import Board
from anyloom.agent.chat import keeping, preview, setting
from anyloom.agent.chat.commands import COMMANDS, Command, dragged, expand, read
from anyloom.agent.chat.complete import completer
from anyloom.agent.chat.loop import guarded
from anyloom.agent.chat.talk import Quit, Talk
from anyloom.agent.terminal import Names
from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import InputError, UnknownName
from anyloom.core.events import TaskProgress, TaskStarted
from anyloom.core.settings import terminal_pictures
from anyloom.tools.fakes import Fakes, tiny_png


@pytest.fixture
def begin(tmp_path):
    """Opens a conversation over fakes in the test's folder."""
    return lambda plan=DRAW, **how: chat_rig.begin(tmp_path, plan, **how)


def test_a_line_is_a_command_a_file_or_a_request(tmp_path):
    picture = tmp_path / "my cat.png"
    picture.write_bytes(tiny_png(b"abc"))
    assert read("draw a cat") == "draw a cat"
    assert read("/tools text-to-image") == Command("tools", ("text-to-image",), "text-to-image")
    assert read("/exit").name == "quit"
    assert read(f"'{picture}'") == Command("attach", (str(picture),), f"'{picture}'")
    assert read(f"file://{str(picture).replace(' ', '%20')}").words == (str(picture),)
    assert dragged("/nowhere/at/all.png") == []
    assert dragged("what does /etc/passwd mean?") == []
    with pytest.raises(UnknownName, match="/help"):
        read("/tolls")
    assert read("/plan what's in it").rest == "what's in it"  # an apostrophe is no open quote


def test_patterns_name_several_files(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(tiny_png(b"abc"))
    assert expand((str(tmp_path / "*.png"),)) == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert expand(("https://example.org/a?b=1",)) == ["https://example.org/a?b=1"]
    with pytest.raises(InputError, match="No file fits"):
        expand((str(tmp_path / "*.wav"),))


async def test_a_request_is_answered_and_its_files_are_numbered(begin):
    talk = begin()
    await do(talk, "draw a cat and describe it", "/open 7", "/plan", "/cost")
    shown = printed(talk)
    assert "text-to-image" in shown
    assert [a.modality for a in talk.gallery.items] == ["image", "text"]
    assert "  1  text-to-image.png  picture, 8 × 8" in shown
    assert "'7' is the number of no file; there are: 1 to 2." in shown
    assert "[ok, fake-" in shown
    assert "conversation: 1 answer," in shown


async def test_attachments_are_checked_at_once_and_go_with_the_next_request(begin, tmp_path):
    good, bad = tmp_path / "cat.png", tmp_path / "broken.png"
    good.write_bytes(tiny_png(b"abc"))
    bad.write_bytes(tiny_png(b"abc")[:20])
    talk = begin([task("image-to-text", 0, image="cat.png")])
    await do(talk, f"/attach {good}", f"/attach {bad}", f"/attach {tmp_path / 'none.png'}")
    assert [a.name for a in talk.attached] == ["cat.png"]
    await do(talk, "describe it")
    assert talk.attached == []
    assert talk.exchanges[0].answer.ok
    assert "broken.png" in printed(talk)


async def test_undo_retry_and_save(begin, tmp_path):
    talk = begin()
    await do(talk, "draw a cat", "/retry", "/retry 40")
    history = await talk.agent.engine.history(talk.thread)
    assert [t.request for t in history] == ["draw a cat"]  # a retry takes the place of what it repeats
    assert talk.exchanges[-1].request.seed == 40
    assert len({a.sha256 for a in talk.gallery.items if a.modality == "image"}) == 3
    await do(talk, "draw a cat", f"/save {tmp_path / 'out'}", "/undo", "/undo", "/undo")
    assert "nothing to take back" in printed(talk)
    assert await talk.agent.engine.history(talk.thread) == ()
    text = (tmp_path / "out" / "conversation.md").read_text()
    assert text.count("**You:** draw a cat") == 2
    assert list((tmp_path / "out").glob("*.png"))


async def test_a_plan_waits_for_a_yes_and_can_be_changed(begin):
    def edit(text):
        plan = json.loads(text)
        plan[0]["args"]["text"] = "a dog"
        return json.dumps(plan)

    fakes = Fakes()
    talk = begin(fakes=fakes, person=Person("maybe", "1", "e", "n", edit=edit))
    await do(talk, "/plan on", "draw", "draw", "draw")
    assert "neither yes, no, edit nor" in printed(talk)
    assert [c.tool for c in fakes.calls] == ["text-to-image", "text-to-image", "image-to-text"]
    assert fakes.calls[1].args["text"] == "a dog"


async def test_ctrl_c_stops_the_request_and_resume_finishes_it(begin):
    fakes = Fakes(delay={"image-to-text": 5})
    talk = begin(fakes=fakes)
    work = asyncio.create_task(guarded(talk, "draw a cat"))
    while not any(c.tool == "text-to-image" for c in fakes.calls):
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    import os
    import signal

    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(work, 10)
    assert "Stopped." in printed(talk)
    fakes.delay["image-to-text"] = 0
    await do(talk, "/resume")
    assert [c.tool for c in fakes.calls].count("text-to-image") == 1
    assert talk.exchanges[-1].answer.ok


async def test_conversations_are_listed_and_opened(begin):
    talk = begin(thread="cats")
    await do(talk, "draw a cat", "/new", "/threads", "/resume dogs", "/resume cats")
    shown = printed(talk)
    assert "cats" in shown
    assert "There is no conversation 'dogs'" in shown
    assert talk.thread == "cats"
    assert talk.gallery.items  # those of the earlier exchange can be opened


async def test_settings_of_the_conversation(begin):
    talk = begin()
    await do(talk, "/mode nextgpt", "/policy fastest", "/policy cleverest", "/controller nobody")
    await do(talk, "/tools text-to-speech")
    shown = printed(talk)
    assert "There is no mode 'nextgpt'" in shown
    assert talk.policy == "fastest"
    assert "text -> audio" in shown
    with pytest.raises(Quit):
        await talk.take(read("/quit"))


def test_every_command_has_its_method_and_help():
    assert {n for m in (setting, keeping) for n in dir(m) if n.startswith("do_")} == {f"do_{name}" for name in COMMANDS}


async def test_control_sequences_in_results_are_not_obeyed(begin):
    talk = begin([task("text-generation", 0, text="\x1b]0;owned\x07\x1b[2J")])
    await do(talk, "say it")
    assert "\x1b]0;" not in printed(talk)


def test_completion_knows_commands_their_arguments_files_and_tools(tmp_path):
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    words = completer({"mode": lambda: ["cascade"], "policy": lambda: ["a=b"]}, lambda: ["text-to-image"])

    def offered(text, asked=False):
        return [c.text for c in words.get_completions(Document(text), CompleteEvent(completion_requested=asked))]

    assert offered("/re") == ["retry", "resume"]
    assert offered("/mode c") == ["cascade"]
    assert offered("/policy a=") == ["a=b"]
    assert offered("draw /re") == []
    (tmp_path / "cat.png").write_bytes(tiny_png(b"abc"))
    (tmp_path / "my dog.png").write_bytes(tiny_png(b"abc"))
    assert offered(f"/attach {tmp_path}/ca") == [f"{tmp_path}/cat.png"]
    assert offered(f"/attach cat.png {tmp_path}/my\\ d") == [f"'{tmp_path}/my dog.png'"]
    assert offered(f"describe '{tmp_path}/my d") == [f"'{tmp_path}/my dog.png'"]
    assert offered("use text-to-i") == []  # not while somebody types a sentence
    assert offered("use text-to-i", asked=True) == ["text-to-image"]


@pytest.mark.parametrize("protocol", ["kitty", "iterm", "sixel"])
def test_pictures_in_the_terminals_own_protocol(protocol):
    from PIL import Image

    image = Image.new("RGB", (20, 14), "red")
    image.paste("blue", (0, 0, 10, 14))
    sent = preview.PROTOCOLS[protocol](image)
    start = {"kitty": "\x1b_G", "iterm": "\x1b]1337;File=", "sixel": "\x1bP"}[protocol]
    assert sent.startswith(start)
    if protocol == "sixel":  # 10 blue columns, then 10 red ones, in each of three bands
        assert sent.count("-") == 3
        assert sent.endswith("\x1b\\")
    else:
        import base64
        import re

        bare = re.sub(r"\x1b_G[^;]*;|\x1b\\", "", sent) if protocol == "kitty" else sent[:-1].split(":")[1]
        data = base64.b64decode(bare)
        assert Image.open(io.BytesIO(data)).getpixel((15, 5)) == (255, 0, 0)


def test_half_blocks_show_the_upper_pixel_in_ink_and_the_lower_behind():
    from PIL import Image

    image = Image.new("RGB", (2, 2), "red")
    image.paste("blue", (0, 1, 2, 2))
    text = preview.half_blocks(image, 2)
    assert text.plain == "▀▀"
    assert str(text.spans[0].style) == "#ff0000 on #0000ff"


def test_which_terminal_draws_how():
    assert terminal_pictures({"TERM": "xterm-kitty"}) == "kitty"
    assert terminal_pictures({"TERM_PROGRAM": "iTerm.app"}) == "iterm"
    assert terminal_pictures({"TERM": "foot"}) == "sixel"
    assert terminal_pictures({"TERM": "xterm-256color"}) == ""
    assert terminal_pictures({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}) == ""


async def test_bad_files_and_addresses_get_the_sentence_of_every_door(tmp_path):
    from hostile import HOSTILE_ADDRESSES, HOSTILE_LIMITS, hostile_files

    agent = Agent(settings(tmp_path, limits=HOSTILE_LIMITS))
    agent._engine = engine(tmp_path, ScriptedController(), limits=HOSTILE_LIMITS)
    talk = Talk(agent, Console(file=io.StringIO(), width=400), Person())
    for bad in hostile_files(tmp_path / "bad"):
        talk.console.file = io.StringIO()
        await guarded(talk, f'/attach "{bad.path}"')
        assert (bad.said or "attached") in printed(talk), bad.name
        assert "\x1b" not in printed(talk)
    attached = len(talk.attached)
    for address in HOSTILE_ADDRESSES[:6]:
        talk.console.file = io.StringIO()
        await guarded(talk, f"/attach {address}")
        assert len(printed(talk).strip().splitlines()) == 1, printed(talk)
    assert len(talk.attached) == attached


@given(
    st.lists(st.sampled_from(["[a.png]", "(a.png)", "(b)", "[a](b)", "[", "]", "!", "(", ")", "x "]), max_size=9),
    st.integers(1, 9),
)
def test_a_file_is_named_without_its_link_however_the_text_comes(words, size):
    text = "".join(["see ![my a.png](my a.png) and [docs](https://x.y) ", *words])
    names = Names()
    said = "".join(names.feed(text[n : n + size]) for n in range(0, len(text), size)) + names.flush()
    assert said.startswith("see my a.png and [docs](https://x.y) ")
    assert said == re.sub(r"!?\[([^\[\]\n]+)\]\(\1\)", r"\1", text)


def test_a_mode_without_a_plan_does_not_say_that_it_plans():
    board = Board(Console(file=io.StringIO(), width=60, force_terminal=True))
    assert board.doing == "planning"
    board.take(TaskProgress(0, 0.0, 0.0, "loading mmllm-pocket"))
    assert board.doing == "loading mmllm-pocket"
    board.take(TaskStarted(0, "make-image", "mmllm-pocket"))
    assert board.doing == ""
    board.take(TaskProgress(0, 1.0, 4.0, "denoising"))
    assert (board.doing, board.rows[0].step) == ("", (1.0, 4.0, "denoising"))
