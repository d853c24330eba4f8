"""`anyloom chat` as a person meets it: a real process behind a pseudo-terminal, keys in, characters out.

The controller is a scripted LangChain chat model; what runs is a plugin that takes its time, and the
expert for simple edits of pictures, which has no weights.
"""

import os
import subprocess
import sys

import pytest
from PIL import Image

pytest.importorskip("pty", reason="no pseudo-terminals here")
from pty_rig import Terminal

MODELS = """
from langchain_core.language_models.fake_chat_models import FakeListChatModel

GREY = '[{"task": "image-to-image", "id": 0, "args": {"image": "cat.png", "text": "grayscale"}}]'
COUNT = '[{"task": "count-slowly", "id": 0, "args": {"text": "3"}}]'
BOTH = '''[{"task": "image-to-image", "id": 0, "args": {"image": "cat.png", "text": "grayscale"}},
           {"task": "count-slowly", "id": 1, "args": {"text": "300"}}]'''
grey = FakeListChatModel(responses=[GREY, "Done: [picture.png](picture.png)."])
count = FakeListChatModel(responses=[COUNT, "I counted."])
both = FakeListChatModel(responses=[BOTH, "Both are done."])
talk = FakeListChatModel(responses=["[]", "Hello to you."])
"""
PLUGIN = """
import pathlib, time
from anyloom.tools import Expert, Output, Param, Tool

class Count(Expert):
    name = "counter"
    tool = Tool("count-slowly", "Counts up to a number", (Param("text", "text"),), "text")
    def run(self, args, run):
        pathlib.Path("started").touch()
        last = 2 if pathlib.Path("quick").exists() else int(args["text"])
        for n in range(last):
            run.progress(n, last, "counting")
            run.check()
            time.sleep(0.1)
        return [Output.text("\\n".join(f"and {n}" for n in range(last)) + " \\x1b]0;owned\\x07")]
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "scripted.py").write_text(MODELS)
    (tmp_path / "count_kit.py").write_text(PLUGIN)
    info = tmp_path / "count-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: count\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anyloom.experts]\ncounter = count_kit:Count\n")
    Image.new("RGB", (40, 20), (200, 30, 30)).save(tmp_path / "cat.png")
    return tmp_path


def environment(home, controller, **more):
    terminals = ("TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "TMUX", "KITTY", "PROMPT_TOOLKIT", "VISUAL", "EDITOR")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("ANYLOOM_", *terminals))}
    return keep | {
        "PYTHONPATH": str(home), "ANYLOOM_DATA": str(home / "data"), "ANYLOOM_CACHE": str(home / "cache"),
        "ANYLOOM_OFFLINE": "yes", "HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor",
        "ANYLOOM_CONTROLLER": f"python:scripted:{controller}",
    } | more  # fmt: skip


def chat(home, controller, *arguments, attributes="62;22", **more):
    command = [sys.executable, "-m", "anyloom.agent", "chat", *arguments]
    return Terminal(command, environment(home, controller, **more), home, attributes=attributes)


def enter(term, text, key="\r"):
    """Types at the prompt, once it is there (its last line is the bar below)."""
    term.wait("cascade  ·")
    term.type(text + key)


def leave(term):
    enter(term, "\x04", "")
    assert term.ended() == 0


def piped(home, controller, *arguments, stdin):
    command = [sys.executable, "-m", "anyloom.agent", *arguments]
    env = environment(home, controller)
    return subprocess.run(command, capture_output=True, cwd=home, env=env, input=stdin, timeout=120)


def test_a_whole_conversation(home):
    with chat(home, "grey", "--thread", "cats") as term:
        term.wait("anyloom chat --thread cats")
        enter(term, "/atach cat.png")
        term.wait("There is no command '/atach', did you mean '/attach'?")
        enter(term, f"make it grey: {home}/cat.png")
        term.wait("attached cat.png (image,")
        term.wait("image-to-image")
        term.wait("pillow-classic")
        term.wait("Done: picture.png")
        term.wait("▀")
        term.wait("picture.png  picture, 40 × 20")
        enter(term, "/open 3")
        term.wait("there are: 1 to 1.")
        enter(term, "/save talk.md")
        term.wait("saved to talk.md")
        enter(term, "/undo")
        term.wait("taken back: make it grey: cat.png")
        leave(term)
    assert "\x1b[38;2;" in term.raw  # half blocks in full colour
    assert "\x1b]8;" in term.raw  # and the file as a link
    assert "Traceback" not in term.text
    assert "![picture.png](talk-files/picture.png)" in (home / "talk.md").read_text()
    assert (home / "data" / "chat-history").stat().st_mode & 0o077 == 0


def test_tab_takes_the_only_choice_however_fast_one_types(home):
    (home / "kittens").mkdir()
    Image.new("RGB", (8, 8)).save(home / "kittens" / "two kittens.png")
    with chat(home, "grey") as term:
        enter(term, "/att\t ca\t")
        term.wait("attached cat.png")
        enter(term, "/attach kit\ttwo\t")
        term.wait("attached two kittens.png")
        enter(term, "/attach dog\t")
        term.wait("There is no file 'dog'.")
        leave(term)


def test_a_long_paste_stays_one_request(home):
    lines = "\n".join(f"line {n} of a long text" for n in range(2000))
    with chat(home, "talk", ANYLOOM_LIMITS_TEXT_CHARACTERS="200000") as term:
        enter(term, f"\x1b[200~{lines}\x1b[201~", "")
        term.wait("line 1999 of a long text")
        term.type("\r")
        term.wait("Hello to you.")
        enter(term, f"\x1b[200~{'x' * 300_000}\x1b[201~")
        term.wait("The request has 300,000 characters; shorten it, the limit is 200,000.", 60)
        leave(term)
    assert term.text.count("Hello to you.") == 1


def test_ctrl_c_stops_the_request_and_not_the_program(home):
    with chat(home, "both", "--thread", "t", "--attach", "cat.png") as term:
        enter(term, "count and make it grey")
        term.wait("of 300 counting")
        term.type("\x03")
        term.wait("Stopped. /resume goes on with it")
        enter(term, "half a request", "\x03")
        term.type("\x03\x03")
        term.wait("Ctrl-D or /quit leaves")
        (home / "quick").touch()
        term.resize(70, 20)
        enter(term, "/resume")
        term.wait("going on with: count and make it grey")
        term.wait("and 0 and 1 �]0;owned")
        term.wait("Both are done.")
        enter(term, "/cost")
        term.wait("conversation: 1 answer")
        enter(term, "/quit")
        term.wait("Go on later with: anyloom chat --thread t")
        assert term.ended() == 0
    assert "\x1b]0;" not in term.raw
    assert not list((home / "data").rglob(".part-*"))  # nothing half-written


def test_a_killed_program_is_taken_up_where_it_was(home):
    with chat(home, "both", "--thread", "t", "--attach", "cat.png") as term:
        enter(term, "count and make it grey")
        term.wait("of 300 counting")
        term.process.kill()
    (home / "quick").touch()
    with chat(home, "both", "--thread", "t") as term:
        term.wait("count and make it grey")
        term.wait("Its last request was not finished; /resume")
        enter(term, "/resume")
        term.wait("and 0 and 1")
        term.wait("  1  picture.png")  # what was made before the kill is there too
        leave(term)


def test_plans_are_approved_edited_and_several_lines_typed(home):
    (home / "quick").touch()
    editor = home / "editor.sh"
    editor.write_text("#!/bin/sh\nsed -i 's/\"3\"/\"2\"/' \"$1\"\nsleep 1.1\ntouch \"$1\"\n")
    editor.chmod(0o755)
    with chat(home, "count", EDITOR=str(editor)) as term:
        enter(term, "/plan on")
        term.wait("waits for your yes")
        enter(term, "count\\\rto\x1b\rthree")
        term.wait("[e]dit, or numbers of tasks to drop:")
        term.type("\x03")  # no
        term.wait("The plan was not approved, so nothing was run.")
        enter(term, "/retry")
        term.wait("again, with seed 1: count to three")
        term.wait("Run it?")
        term.type("e\r")
        term.wait("I counted.")
        enter(term, "/plan")
        term.wait("text = 2")
        enter(term, "/threads")
        term.wait("count to three")
        leave(term)
    assert "Traceback" not in term.text


def test_ctrl_c_still_stops_after_a_question_was_answered(home):
    with chat(home, "both", "--attach", "cat.png") as term:
        enter(term, "/plan on")
        term.wait("waits for your yes")
        enter(term, "count and make it grey")
        term.wait("Run it?")
        term.type("y\r")
        term.wait("of 300 counting")
        term.type("\x03")
        term.wait("Stopped.")
        leave(term)


def test_a_terminal_that_says_it_draws_sixel_gets_sixel(home):
    with chat(home, "grey", attributes="62;4;22") as term:
        enter(term, f"'{home}/cat.png'")
        term.wait("attached cat.png")
        enter(term, "make it grey")
        term.wait("picture.png  picture")
        leave(term)
    assert "\x1bPq" in term.raw
    assert "▀" not in term.text


def test_lines_from_a_pipe_are_answered_each_and_the_worst_code_counts(home):
    done = piped(home, "talk", "chat", stdin=b"hello\n\nhello again \xff\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().count("Hello to you.") == 2
    assert b"\x1b" not in done.stdout
    done = piped(home, "talk", "chat", stdin=b"/tolls\nhello\n")
    assert done.returncode == 2
    assert "did you mean '/tools'?" in done.stderr.decode()
    assert "Hello to you." in done.stdout.decode()
    done = piped(home, "talk", "chat", stdin=f"{home}/cat.png\n".encode())
    assert "attached" not in done.stdout.decode()  # what comes through a pipe opens no files


def test_a_pipe_with_commands(home):
    done = piped(home, "grey", "chat", "--thread", "p", stdin=b"/attach cat.png\nmake it grey\n/save out\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (home / "out" / "picture.png").is_file()
    assert b"\x1b" not in done.stdout


def test_ask_takes_its_text_from_a_pipe(home):
    done = piped(home, "talk", "ask", "say it", stdin="a note, grüße".encode())
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    done = piped(home, "talk", "ask", "say it", stdin=(home / "cat.png").read_bytes())
    assert done.returncode == 2
    assert "is no text" in done.stderr.decode()
    assert "--attach" in done.stderr.decode()
