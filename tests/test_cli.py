"""The command line as a user meets it: real processes, exit codes, files, one-sentence errors.

The controller is a scripted LangChain chat model; the expert that runs is the real one without weights.
"""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from anyloom.core.provenance import extract

MODEL = """
from langchain_core.language_models.fake_chat_models import FakeListChatModel

PLAN = '[{"task": "image-to-image", "id": 0, "args": {"image": "cat.png", "text": "grayscale, then rotate 90"}}]'
grey = FakeListChatModel(responses=[PLAN, "Done: [edited.png], and see [secret.png]."])
talk = FakeListChatModel(responses=["[]", "Hello to you."])
lost = FakeListChatModel(responses=["no plan at all"])
loop = FakeListChatModel(responses=[
    '[{"task": "summarization", "id": 0, "args": {"text": "<resource>-1"}},'
    ' {"task": "summarization", "id": 1, "args": {"text": "<resource>-0"}}]'])
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "scripted.py").write_text(MODEL)
    Image.new("RGB", (40, 20), (200, 30, 30)).save(tmp_path / "cat.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    return tmp_path


def run(home, *arguments, controller="grey", stdin="", **extra):
    keep = {k: v for k, v in os.environ.items() if not k.startswith("ANYLOOM_")}
    env = keep | {
        "PYTHONPATH": str(home), "ANYLOOM_DATA": str(home / "data"), "ANYLOOM_CACHE": str(home / "cache"),
        "ANYLOOM_OFFLINE": "yes", "HOME": str(home),
    } | extra  # fmt: skip
    if controller:
        env["ANYLOOM_CONTROLLER"] = f"python:scripted:{controller}"
    return subprocess.run(
        [sys.executable, "-m", "anyloom.agent", *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        env=env,
        input=stdin,
        timeout=120,
    )


def test_ask_shows_plan_tasks_answer_and_files(home):
    done = run(home, "ask", "make it grey", "--attach", "cat.png", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "0  image-to-image  image = cat.png, text = grayscale, then rotate 90" in done.stdout
    assert "pillow-classic" in done.stdout
    assert "secret.png]" not in done.stdout, "an answer may cite only what exists"
    (made,) = (home / "out").iterdir()
    with Image.open(made) as image:
        assert image.size == (20, 40)
        red, green, blue = image.convert("RGB").getpixel((5, 5))
        assert red == green == blue
    assert extract(made)["expert"] == "pillow-classic"
    shown = run(home, "artifact", "show", str(made))
    assert json.loads(shown.stdout)["tool"] == "image-to-image"


def test_runs_are_listed_shown_replayed_and_exported(home):
    run(home, "ask", "make it grey", "-a", "cat.png")
    listed = run(home, "runs", "list").stdout
    name = listed.split()[0]
    assert "make it grey" in listed
    assert "pillow-classic" in run(home, "runs", "show", name).stdout
    again = run(home, "runs", "replay", name)
    assert again.returncode == 0, again.stderr
    assert run(home, "runs", "export", name, "bundle.zip").returncode == 0
    assert (home / "bundle.zip").stat().st_size > 500
    second = run(home, "runs", "list").stdout.split()[0]
    assert run(home, "runs", "diff", name, second).returncode == 0


def test_events_as_json_lines(home):
    done = run(home, "ask", "make it grey", "-a", "cat.png", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [e["event"] for e in events]
    assert kinds[0] == "run_started"
    assert {"plan_made", "task_started", "task_done", "answer_text", "answer_done", "files"} <= set(kinds)


def test_no_tool_needed_is_a_direct_answer_and_text_comes_from_a_pipe(home):
    done = run(home, "ask", stdin="hello there", controller="talk")
    assert done.returncode == 0
    assert "Hello to you." in done.stdout
    assert "Plan" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "controller", "said"),
    [
        (["ask", "grey", "-a", "gone.png"], "grey", "There is no file 'gone.png'"),
        (["ask", "grey", "-a", "empty.png"], "grey", "is empty"),
        (["ask", "grey", "-a", "broken.png"], "grey", "broken or truncated"),
        (["ask", "   "], "grey", "empty"),
        (["ask", "x"], "lost", "no"),
        (["ask", "x"], "loop", "wait for each other"),
        (["ask", "x", "--controller", "nobody"], None, "'controller' is 'nobody'"),
        (["ask", "x", "--controller", "python:nothing:here"], None, "cannot be imported"),
        (["ask", "make it grey", "-a", "cat.png", "--pin", "image-to-image=nobody"], "grey", "nobody"),
        (["ask", "x", "--policy", "worst"], "grey", "worst"),
        (["ask", "x", "--memory", "lots"], "grey", "a size such as 4GiB"),
        (["resume", "no-such-thread"], "grey", "no conversation"),
        (["runs", "show", "zzzz"], "grey", "zzzz"),
        (["artifact", "show", "cat.png"], "grey", "holds no provenance"),
        (["plan", "--requests", "gone.jsonl"], "grey", "cannot be read"),
        (["plan", "x", "--tools", "gone.json"], "grey", "no tool list"),
        (["frobnicate"], "grey", "No such command"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_exit_code_2(home, arguments, controller, said):
    done = run(home, *arguments, controller=controller)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert str(home) not in done.stderr


def test_approval_without_a_terminal_waits_and_can_be_resumed(home):
    asked = run(home, "ask", "make it grey", "-a", "cat.png", "--approve", "--thread", "t1")
    assert asked.returncode == 2
    assert "anyloom resume t1" in asked.stderr
    assert "t1" in run(home, "threads").stdout


def test_plans_in_batch_over_a_foreign_list(home):
    tools = {"nodes": [{"id": "Image-to-Text", "desc": "Describes.", "input-type": ["image"], "output-type": ["text"]}]}
    (home / "tools.json").write_text(json.dumps(tools))
    (home / "r.jsonl").write_text(
        '{"id": "a", "request": "describe", "attach": ["x.png"]}\n\n{"id": 2, "request": ""}\n'
    )
    done = run(home, "plan", "--requests", "r.jsonl", "--tools", "tools.json", "--out", "p.jsonl", controller="lost")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (home / "p.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", 2]
    assert all(line["plan"] == [] and line["error"] for line in lines)


def test_tools_and_doctor(home):
    listed = json.loads(run(home, "tools", "--json").stdout)
    offered = {t["name"] for t in listed["tools"] if t["offered"]}
    assert {"text-to-speech", "optical-character-recognition", "image-to-image"} <= offered
    assert run(home, "tools").returncode == 0
    doctor = run(home, "doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "ANYLOOM_OFFLINE" in doctor.stdout
    assert "piper-joe" in doctor.stdout


def test_a_strangers_plugin_is_offered_and_a_broken_one_is_named(home):
    (home / "shout_kit.py").write_text(
        "from anyloom.tools import Expert, Output, Param, Tool\n"
        "class Shout(Expert):\n"
        "    name = 'shout'\n"
        "    tool = Tool('shout-text', 'Writes a text in capital letters', (Param('text', 'text'),), 'text')\n"
        "    def run(self, args, run):\n"
        "        return [Output.text(args['text'].upper())]\n"
    )
    (home / "broken_kit.py").write_text("import a_library_nobody_has")
    info = home / "kit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit\nVersion: 1.0\n")
    points = "[anyloom.experts]\nshout = shout_kit:Shout\nbroken = broken_kit:Broken\n"
    (info / "entry_points.txt").write_text(points)
    listed = json.loads(run(home, "tools", "--json").stdout)
    assert "shout-text" in {t["name"] for t in listed["tools"] if t["offered"]}
    assert any("broken" in f and "a_library_nobody_has" in f for f in listed["failures"])
    for command in ("tools", "doctor"):
        assert "a_library_nobody_has" in run(home, command).stdout
    (home / "scripted.py").write_text(
        MODEL.replace("PLAN = '", 'PLAN = \'[{"task": "shout-text", "id": 0, "args": {"text": "quiet"}}]\' or \'')
    )
    assert "QUIET" in run(home, "ask", "shout quiet").stdout
