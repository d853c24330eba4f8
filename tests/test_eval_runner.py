"""A suite over both modes: what the rows hold, that seeds decide, and that a kill costs one row at most."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eval_rig import PLANS, FakeJudge, bench, suite, without_costs
from rig import task

from anyloom.core.errors import InputError
from anyloom.evaluation.runner import Job, key_of, read_rows, run_suite
from anyloom.tools.fakes import Fakes

ANSWERS = {
    "blue heart": ("Here.", "image"),
    "red star": ("A star.",),
    "describe": ("a red heart",),
    "say": ("Well.", "audio"),
}


async def run(made, tmp_path, out="out", **options):
    job = Job(suite(tmp_path), **{k: v for k, v in options.items() if k in ("modes", "seeds")})
    rows = await run_suite(made, job, tmp_path / out, resume=options.get("resume", False))
    await made.aclose()
    return {(r["item"], r["mode"]): r for r in rows}


async def test_both_modes_are_asked_and_judged(tmp_path):
    found = await run(bench(tmp_path, ANSWERS), tmp_path)
    assert len(found) == 8
    heart = found["heart", "cascade"]
    assert heart["status"] == "done"
    assert heart["scores"] == {"concept": 1.0, "colour": 1.0, "similarity": heart["scores"]["similarity"], "kept": 1.0}
    assert heart["reading"] == "blue red heart"
    assert heart["judged"]["colour"] == ["blue", 0.9]
    assert heart["artifacts"][0]["sha256"] == heart["output"]
    star = found["star", "cascade"]
    assert (star["scores"]["concept"], star["scores"]["colour"], star["scores"]["kept"]) == (0.0, 0.0, 0.0)
    seen = found["seen", "cascade"]
    assert seen["scores"]["rouge_l"] == seen["scores"]["bleu"] == seen["scores"]["kept"] == 1.0
    spoken = found["spoken", "cascade"]
    assert (spoken["reading"], spoken["scores"]["wer"], spoken["scores"]["kept"]) == ("two apples", 0.0, 1.0)
    assert found["heart", "end2end"]["status"] == found["seen", "end2end"]["status"] == "done"


TURNS = """
[[item]]
id = "turned"
conversion = "image-to-text"
before = ["draw a red star", "draw a blue heart"]
request = "describe it"
expect = {concept = "heart"}
"""


async def test_what_is_before_is_asked_first_in_the_same_conversation(tmp_path):
    plans = {**PLANS, "describe": [task("image-to-text", 0, image="text-to-image-2.png")]}
    made = bench(tmp_path, ANSWERS, plans=plans)
    job = Job(suite(tmp_path, TURNS))
    rows = await run_suite(made, job, tmp_path / "out")
    asked = [(r.text, len(r.history)) for r in made.engine.runtime.controller.asked]
    assert asked == [("draw a red star", 0), ("draw a blue heart", 1), ("describe it", 2)]
    assert [(r["status"], r["scores"]["kept"]) for r in rows] == [("done", 1.0), ("done", 1.0)]
    assert [a["modality"] for a in rows[0]["artifacts"]] == ["text"]
    assert rows[0]["costs"]["model_calls"] == 3, "those before are not counted"
    assert [len(talk) for talk in made.speaker.talks] == [1, 3, 5]
    await made.aclose()


async def test_where_what_is_before_fails_the_item_has_failed(tmp_path):
    made = bench(tmp_path, plans={"describe": []})
    broken = TURNS.replace("draw a red star", "draw cat.png again")
    (row,) = await run_suite(made, Job(suite(tmp_path, broken), modes=("cascade",)), tmp_path / "out")
    assert (row["status"], row["scores"]) == ("failed", {"kept": 0.0})
    assert "There is no file 'cat.png' here" in row["reason"]
    await made.aclose()


async def test_costs_are_those_of_the_run(tmp_path):
    found = await run(bench(tmp_path, ANSWERS, fakes=Fakes(delay={"text-to-image": 0.3})), tmp_path)
    costs = found["heart", "cascade"]["costs"]
    assert costs["seconds"] >= 0.3
    assert costs["peak_bytes"] > 1_000_000
    assert costs["model_calls"] == 3, "a plan, an expert, an answer"
    toy = found["heart", "end2end"]["costs"]
    assert (toy["model_calls"], toy["tokens_written"], toy["tokens_read"]) == (2, 3, 5)


async def test_an_answer_without_what_was_wanted_counts_as_nothing_kept(tmp_path):
    found = await run(bench(tmp_path, ANSWERS), tmp_path)
    row = found["star", "end2end"]
    assert (row["status"], row["scores"]) == ("missed", {"kept": 0.0})
    assert row["reason"] == "The answer held words, and no image."


async def test_a_failing_expert_is_a_failed_row_with_its_reason(tmp_path):
    found = await run(bench(tmp_path, fakes=Fakes(broken={"text-to-image"}), judge=None, retries=0), tmp_path)
    row = found["heart", "cascade"]
    assert (row["status"], row["scores"]) == ("failed", {"kept": 0.0})
    assert "broken, as the test asked" in row["reason"]


async def test_a_mode_without_weights_is_recorded_as_cannot(tmp_path):
    found = await run(bench(tmp_path), tmp_path)
    for item in ("heart", "seen"):
        row = found[item, "end2end"]
        assert (row["status"], row["scores"]) == ("cannot", {})
        assert row["reason"] == "The end-to-end mode has no trained weights here."


async def test_a_conversion_without_its_tool_is_recorded_as_cannot(tmp_path):
    from anyloom.tools.builtin import TOOLS

    some = Fakes(tools=[t for t in TOOLS if t.name != "text-to-image"], answers={"image-to-text": "a red heart"})
    made = bench(tmp_path, fakes=some)
    found = await run(made, tmp_path, modes=("cascade",))
    assert found["heart", "cascade"]["status"] == "cannot"
    assert found["heart", "cascade"]["reason"] == "Nobody performs 'text-to-image' here."
    assert found["seen", "cascade"]["status"] == "done"


async def test_without_a_judge_nothing_is_claimed(tmp_path):
    found = await run(bench(tmp_path, judge=None), tmp_path)
    row = found["heart", "cascade"]
    assert (row["status"], row["scores"], row["reading"]) == ("done", {}, None)


async def test_the_same_seed_gives_the_same_rows(tmp_path):
    rows = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = bench(tmp_path / name, ANSWERS)
        job = Job(suite(tmp_path), seeds=(3, 4))
        rows.append(await run_suite(made, job, tmp_path / name / "out"))
        await made.aclose()
    assert without_costs(rows[0]) == without_costs(rows[1])
    assert len(rows[0]) == 16
    hashes = {r["output"] for r in rows[0] if (r["item"], r["mode"]) == ("heart", "cascade")}
    assert len(hashes) == 2, "another seed draws another picture"


async def test_a_run_is_resumed_without_doing_anything_again(tmp_path):
    made = bench(tmp_path, ANSWERS)
    job = Job(suite(tmp_path), modes=("cascade",))
    told = []

    class Stop(Exception):
        pass

    def stop(done, total, row):
        told.append(row["item"])
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        await run_suite(made, job, tmp_path / "out", told=stop)
    with pytest.raises(InputError, match="--resume"):
        await run_suite(made, job, tmp_path / "out")
    with (tmp_path / "out" / "rows.jsonl").open("a") as file:
        file.write('{"item": "seen", "mo')  # what a kill leaves
    rows = await run_suite(made, job, tmp_path / "out", resume=True, told=lambda d, t, r: told.append(r["item"]))
    assert told == ["heart", "star", "seen", "spoken"]
    assert [r["item"] for r in rows] == told
    assert len(read_rows(tmp_path / "out" / "rows.jsonl")) == 4
    assert len(made.fakes.called("text-to-image")) == 2
    again = await run_suite(made, job, tmp_path / "out", resume=True, told=lambda d, t, r: told.append("again"))
    assert again == rows
    assert "again" not in told
    await made.aclose()


async def test_another_run_is_not_mixed_in(tmp_path):
    await run(bench(tmp_path, ANSWERS), tmp_path)
    with pytest.raises(InputError, match=r"holds a run with seeds \[0\], and now it is \[1\]"):
        await run(bench(tmp_path, ANSWERS), tmp_path, seeds=(1,), resume=True)
    with pytest.raises(InputError, match="judges"):
        await run(bench(tmp_path, ANSWERS, judge={"audio": FakeJudge()}), tmp_path, resume=True)


KILLED = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from eval_rig import bench, suite
from anyloom.evaluation.runner import Job, run_suite
from anyloom.tools.fakes import Fakes
folder = Path({folder!r})
made = bench(folder, fakes=Fakes(delay={{"text-to-speech": 300}}, answers={{"image-to-text": "a red heart"}}))
print("begun", flush=True)
asyncio.run(run_suite(made, Job(suite(folder), ("cascade",)), folder / "out"))
"""


def test_a_killed_run_goes_on(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd="/")
    rows = tmp_path / "out" / "rows.jsonl"
    until = time.monotonic() + 240  # the machine may be busy
    try:
        while not (rows.exists() and len(rows.read_text().splitlines()) == 3):
            assert time.monotonic() < until
            assert child.poll() is None
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    before = rows.read_text()
    made = bench(tmp_path, fakes=Fakes(answers={"image-to-text": "a red heart"}))
    done = []

    async def go_on():
        found = await run_suite(
            made,
            Job(suite(tmp_path), ("cascade",)),
            tmp_path / "out",
            resume=True,
            told=lambda d, t, r: done.append(key_of(r)),
        )
        await made.aclose()
        return found

    assert len(asyncio.run(go_on())) == 4
    assert done == [("spoken", "cascade", 0)]
    assert rows.read_text().startswith(before)
    assert [c.tool for c in made.fakes.calls] == ["text-to-speech", "automatic-speech-recognition"]


def test_the_folder_says_what_was_run(tmp_path):
    asyncio.run(run(bench(tmp_path, ANSWERS), tmp_path))
    said = json.loads((tmp_path / "out" / "run.json").read_text())
    assert said["judges"] == {"image": "fake"}
    assert said["machine"]["cores"] >= 1
    assert said["machine"]["versions"]["anyloom"]
    assert said["suite_sha256"] == suite(tmp_path).sha256
