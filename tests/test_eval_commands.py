"""`anyloom eval`, `eval chains`, `eval diff` and `compare` as a user meets them: processes, files, exit codes."""

import io
import json
import re
from pathlib import Path

import pytest
from eval_rig import SUITE
from test_cli import home, run  # noqa: F401  (home is a fixture)

from anyloom.agent.cli import cli
from anyloom.agent.side_by_side import SideBySide
from anyloom.agent.terminal import open_console
from anyloom.core.events import AnswerText, PlanMade, TaskDone, TaskFailed
from anyloom.evaluation.items import read_suite
from anyloom.evaluation.suites.shapes import shapes

DOCS = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text()

WORDS = """
[[item]]
id = "hello"
conversion = "text-to-text"
request = "say hello"
references = ["Hello to you."]

[[item]]
id = "bye"
conversion = "text-to-text"
request = "say good bye"
expect = {concept = "bye"}
"""


@pytest.fixture
def words(home):  # noqa: F811
    (home / "words.toml").write_text(WORDS)
    return home


def test_a_suite_is_measured_reported_resumed_and_compared(words):
    arguments = ("eval", "--suite", "words.toml", "--modes", "cascade", "--seeds", "2")
    done = run(words, *arguments, "--out", "a", controller="talk")
    assert done.returncode == 0, done.stderr
    assert "text-to-text" in done.stdout
    result = json.loads((words / "a" / "result.json").read_text())
    assert len(result["rows"]) == 4
    assert ("Without a judge here" in done.stderr) == (not result["run"]["judges"])
    kept = {r["item"]: r["scores"].get("kept") for r in result["rows"] if r["seed"] == 0}
    assert kept == {"hello": None, "bye": 0.0}
    assert "Cascade and end-to-end" in (words / "a" / "report.html").read_text()
    assert not (words / "data").exists(), "the user's own runs are left alone"
    again = run(words, *arguments, "--out", "a", controller="talk")
    assert again.returncode == 2
    assert "--resume" in again.stderr
    before = (words / "a" / "rows.jsonl").read_text()
    resumed = run(words, *arguments, "--out", "a", "--resume", controller="talk")
    assert resumed.returncode == 0, resumed.stderr
    assert (words / "a" / "rows.jsonl").read_text() == before
    (words / "a" / "report.html").unlink()
    assert run(words, "eval", "report", "a").returncode == 0
    assert (words / "a" / "report.html").exists()
    same = run(words, "eval", "diff", "a", "a/result.json")
    assert (same.returncode, "name two" in same.stderr) == (0, False)
    assert "Nothing differs." in same.stdout


def test_what_is_wrong_is_said_in_a_sentence(words):
    for arguments, said in (
        (("eval", "--modes", "cascad"), "cascade, end2end or both"),
        (("eval", "--suite", "nowhere"), "There is no suite 'nowhere'"),
        (("eval", "chains", "--via", "smell"), "cannot go through 'smell'"),
        (("eval", "diff", "words.toml", "x"), "is no JSON"),
        (("compare", " "), "The request is empty"),
    ):
        done = run(words, *arguments, controller="talk")
        assert done.returncode == 2, arguments
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_chains_that_cannot_be_served_say_so(words):
    done = run(words, "eval", "chains", "--arms", "true-readers", "--steps", "2", "--limit", "1",
               "--via", "audio", controller="lost")  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((words / "anyloom-chains" / "result.json").read_text())
    assert result["rows"][0]["status"] in ("cannot", "failed")
    assert result["rows"][0]["reason"] in done.stdout


def test_compare_answers_in_both_modes_and_leaves_a_page(words):
    done = run(words, "compare", "make it grey", "--attach", "cat.png", "--meaning", "a grey picture")
    assert done.returncode == 0, done.stderr
    assert "pillow-classic" in done.stdout
    assert "end2end" in done.stdout
    result = json.loads((words / "anyloom-compare" / "result.json").read_text())
    cascade, end2end = result["sides"]
    assert (cascade["status"], cascade["steps"][0]["task"]) == ("done", "image-to-image")
    assert end2end["status"] == "cannot"
    assert end2end["reason"] in done.stdout
    assert str(words) not in json.dumps(result), "results name no folder"
    assert (words / "anyloom-compare" / "report.html").read_text().count("<img src=") == 2
    again = run(words, "compare", "make it grey", "--attach", "cat.png", "--modes", "cascade")
    assert again.returncode == 0, "a comparison takes the place of the one before"
    (words / "mine.toml").write_text(SUITE)
    (words / "anyloom-compare" / "run.json").write_text("{}")
    refused = run(words, "compare", "make it grey", "--attach", "cat.png")
    assert (refused.returncode, "choose another --out" in refused.stderr) == (2, True)


def test_the_halves_stand_beside_each_other_at_a_terminal():
    out = io.StringIO()
    console = open_console(file=out, force_terminal=True, width=110)
    with SideBySide(console, ("cascade", "end2end")) as view:
        say = view.of("cascade")
        say(PlanMade(({"task": "text-to-image", "id": 0, "args": {"text": "a heart"}},), (), "local", 0.1))
        say(TaskDone(0, "text-to-image", "pocket", 1.5, False, ({"name": "heart.png"},)))
        say(AnswerText("Here \x1b]0;it is."))
        view.done("cascade", "2.0 s")
        view.of("end2end")(TaskFailed(0, "make-image", "It broke.", False))
        view.done("end2end", "It broke.")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    last = shown[shown.rindex("cascade") :]
    assert re.search(r"1\.5 s heart\.png.*make-image  It broke\.", last)
    assert "Here \ufffd]0;it is." in last
    assert "\x1b]0;" not in out.getvalue()


def test_without_a_terminal_each_mode_is_told_in_lines():
    out = io.StringIO()
    with SideBySide(open_console(file=out), ("cascade", "end2end")) as view:
        view.of("cascade")(AnswerText("Hello."))
        view.done("cascade", "2.0 s")
    assert out.getvalue().split() == ["cascade", "Answer", "Hello.", "2.0", "s"]


def test_the_documentation_names_what_there_is(tmp_path):
    lines = re.findall(r"^anyloom (.*)$", "".join(re.findall(r"```sh\n(.*?)```", DOCS, re.S)), re.M)
    assert len(lines) >= 4
    for line in lines:
        words = line.split("#")[0].split()
        command = cli.commands[words[0]]
        if words[0] == "eval" and words[1] in command.commands:
            command = command.commands[words[1]]
        known = {o for p in command.params for o in p.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", line)) <= known, line
    for option in re.findall(r"^\| `(--[a-z]+)", DOCS, re.M):
        assert option in {o for p in cli.commands["eval"].params for o in p.opts}
    assert f"`shapes` ({len(shapes().items)} items" in DOCS
    (tmp_path / "docs.toml").write_text(re.search(r"```toml\n(.*?)```", DOCS, re.S)[1])
    assert [i.id for i in read_suite(str(tmp_path / "docs.toml")).items] == ["heart", "cat", "note"]
