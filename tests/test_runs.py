"""Run bundles: what is recorded, found again, compared, exported and replayed."""

import json
import zipfile

import pytest
from rig import engine, picture, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import InputError, PlanError, UnknownName
from anyloom.graphs.state import Request
from anyloom.tools.fakes import Fakes

PLAN = [
    task("image-to-text", 0, image="cat.png"),
    task("text-to-speech", 1, text="<resource>-0"),
    task("text-to-image", 2, text="<resource>-0"),
    task("image-to-image", 3, image="<resource>-2", text="grayscale"),
]


@pytest.fixture
def fakes():
    return Fakes(spares=True)


@pytest.fixture
async def agent(tmp_path, fakes):
    made = engine(tmp_path, ScriptedController(PLAN), fakes)
    yield made
    await made.aclose()


@pytest.fixture
async def answer(agent, tmp_path):
    return await agent.ask(Request("go", (picture(tmp_path),), seed=3), thread="t")


async def test_a_bundle_says_all_there_is_to_know(agent, answer):
    bundle = agent.runs.get(answer.run)
    assert (bundle["id"], bundle["thread"], bundle["state"]) == (answer.run, "t", "done")
    assert bundle["request"]["text"] == "go"
    assert [t["task"] for t in bundle["plan"]] == [t["task"] for t in PLAN]
    assert [r["artifacts"][0]["sha256"] for r in bundle["results"]] == [a.sha256 for a in answer.artifacts]
    assert bundle["answer"]["text"] == answer.text
    assert bundle["settings"]["policy"] == "best"
    assert {"anyloom", "python", "langgraph"} <= set(bundle["versions"])
    assert set(bundle["seeds"]) == set(bundle["times"]) == {"0", "1", "2", "3"}
    kinds = [e["event"] for e in agent.runs.events(answer.run)]
    assert (kinds[0], kinds[1], kinds[-1]) == ("run_started", "plan_made", "answer_done")


async def test_runs_are_found_by_the_beginning_of_their_id(agent, answer, tmp_path):
    assert agent.runs.get(answer.run[:4])["id"] == answer.run
    assert agent.runs.get("last")["id"] == answer.run
    other = await agent.ask(Request("again", (picture(tmp_path),)), thread="u")
    assert [r.id for r in agent.runs.list()] == [other.run, answer.run]
    assert [r.thread for r in await agent.threads()] == ["u", "t"]
    for wrong in ("zzz", "", "../x"):
        with pytest.raises(UnknownName, match="There is no run"):
            agent.runs.get(wrong)


async def test_an_unfinished_bundle_is_readable_too(agent):
    with pytest.raises(PlanError):
        await agent.ask(Request("go without the picture"), thread="x")
    bundle = agent.runs.get("last")
    assert (bundle["state"], bundle["answer"]["text"], bundle["results"]) == ("failed", "", [])
    assert "cat.png" in bundle["error"]


async def test_a_plain_replay_runs_everything_and_gives_the_same(agent, answer, fakes):
    before = len(fakes.calls)
    outcome = await agent.replay(answer.run)
    assert outcome.equal
    assert outcome.same == (0, 1, 2, 3)
    assert len(fakes.calls) == before + 4
    assert agent.runs.diff(answer.run, outcome.answer.run) == []
    assert agent.runs.get(outcome.answer.run)["replay_of"] == answer.run


async def test_a_replay_from_a_step_runs_only_what_depends_on_it(agent, answer, fakes):
    before = len(fakes.calls)
    outcome = await agent.replay(answer.run, from_step=2, seed=99)
    assert [c.tool for c in fakes.calls[before:]] == ["text-to-image", "image-to-image"]
    assert (outcome.kept, outcome.same, outcome.changed) == ((0, 1), (), (2, 3))
    assert not outcome.equal
    assert [r.seed for r in outcome.answer.results][2] == 99
    lines = agent.runs.diff(answer.run, outcome.answer.run)
    assert any(line.startswith("task 2 seed:") for line in lines)
    assert any(line.startswith("task 3 output:") for line in lines)
    assert not any(line.startswith(("task 0", "task 1")) for line in lines)


async def test_a_replay_with_another_expert(agent, answer, fakes):
    outcome = await agent.replay(answer.run, from_step=1, expert="spare-text-to-speech")
    experts = [r.expert for r in outcome.answer.results]
    assert experts == ["fake-image-to-text", "spare-text-to-speech", "fake-text-to-image", "fake-image-to-image"]
    lines = agent.runs.diff(answer.run, outcome.answer.run)
    assert "task 1 expert: fake-text-to-speech → spare-text-to-speech" in lines


async def test_a_replay_with_another_seed_changes_every_seed(agent, answer):
    outcome = await agent.replay(answer.run, seed=4)
    assert all(a.seed != b.seed for a, b in zip(answer.results, outcome.answer.results, strict=True))


async def test_a_replay_that_makes_no_sense_says_so(agent, answer):
    with pytest.raises(InputError, match="no task 9"):
        await agent.replay(answer.run, from_step=9)
    with pytest.raises(InputError, match="--from"):
        await agent.replay(answer.run, expert="spare-text-to-speech")
    with pytest.raises(UnknownName, match="did you mean 'spare-text-to-speech'"):
        await agent.replay(answer.run, from_step=1, expert="spare-text-to-speach")


async def test_a_replay_knows_files_of_earlier_turns(tmp_path, fakes):
    draw, tell = task("text-to-image", 0, text="a cat"), task("image-to-text", 0, image="text-to-image.png")
    plans = {"draw": [draw], "tell": [tell]}
    agent = engine(tmp_path, ScriptedController(plans=plans), fakes)
    await agent.ask(Request("draw"), thread="t")
    told = await agent.ask(Request("tell"), thread="t")
    assert (await agent.replay(told.run)).equal
    await agent.aclose()


async def test_export_as_a_folder_and_as_a_zip(agent, answer, tmp_path):
    folder = agent.runs.export(answer.run, tmp_path / "out" / "bundle")
    assert json.loads((folder / "run.json").read_text())["id"] == answer.run
    assert {p.name for p in (folder / "artifacts").iterdir()} == {"cat.png", *(a.name for a in answer.artifacts)}
    file = agent.runs.export(answer.run, tmp_path / "bundle.zip")
    names = set(zipfile.ZipFile(file).namelist())
    assert {"run.json", "events.jsonl", "artifacts/cat.png"} <= names
    with pytest.raises(InputError, match="exists"):
        agent.runs.export(answer.run, file)
    assert not list(tmp_path.glob(".part-*"))
