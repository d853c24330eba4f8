"""Chains of conversions: what is left of a meaning after each, who is to blame, and what cannot be begun."""

import pytest
import rig
from eval_rig import FakeJudge, bench

from anyloom.core.errors import InputError
from anyloom.evaluation.chains import ChainJob, carried, chain_figures, recipe_of, run_chains
from anyloom.tools.fakes import Fakes

PLANS = {
    "draw": [rig.task("text-to-image", 0, text="a thing")],
    "describe": [rig.task("image-to-text", 0, image="text-to-image.png")],
    "say aloud": [rig.task("text-to-speech", 0, text="a thing")],
    "write down": [rig.task("automatic-speech-recognition", 0, audio="text-to-speech.wav")],
}
SAID = {"image-to-text": "a blue star", "automatic-speech-recognition": "a star"}
JUDGES = {"image": FakeJudge(concept="blue heart", colour="blue")}


def made(tmp_path, said=SAID, judges=JUDGES, **fakes):
    return bench(tmp_path, plans=PLANS, judge=judges, fakes=Fakes(answers=said, **fakes), retries=0)


async def run(tmp_path, job, **options):
    here = made(tmp_path, **options)
    rows = await run_chains(here, job, tmp_path / "out")
    await here.aclose()
    return rows, chain_figures(rows, job), here


def test_the_way_goes_through_what_was_named():
    job = ChainJob(via=("image", "speech"), steps=6)
    assert job.way == (
        "text-to-image", "image-to-text", "text-to-speech", "speech-to-text", "text-to-image", "image-to-text",
    )  # fmt: skip
    assert ChainJob(steps=1).way == ("text-to-image",)
    assert len(ChainJob(limit=3).starts) == 3
    assert {"colour"} == set(ChainJob().starts[0].expect) - {"concept"}
    assert ChainJob(via=("audio",)).starts[0].meaning == "a siren"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"via": ("smell",)}, "cannot go through 'smell'"), ({"arms": ("cascad",)}, "no arm 'cascad'"),
        ({"steps": 0}, "0 steps"), ({"steps": 13}, "13 steps"), ({"seeds": ()}, "Nothing is to be measured"),
    ],
)  # fmt: skip
def test_a_job_that_makes_no_sense_is_one_sentence(fields, said):
    with pytest.raises(InputError, match=said):
        ChainJob(**fields)


async def test_each_step_is_read_and_the_loss_stands_where_it_arose(tmp_path):
    job = ChainJob(via=("image", "speech"), steps=4, arms=("cascade",), limit=1)
    (row,), figures, here = await run(tmp_path, job)
    kept = [s["scores"]["kept"] for s in row["steps"]]
    assert kept == [1.0, 0.5, 0.0, 0.0], "the captioner loses the thing, the recogniser the colour"
    assert [s["said"] for s in row["steps"]] == ["", "a blue star", "", "a star"]
    assert row["status"] == "done"
    assert [r.text for r in here.engine.runtime.controller.asked][2] == 'say aloud: "a blue star"'
    lost = {x["conversion"]: x["mean"] for x in figures["losses"] if x["metric"] == "kept"}
    assert lost == {"text-to-image": 0.0, "image-to-text": 0.5, "text-to-speech": 0.5, "speech-to-text": 0.0}
    assert [c["kept"]["mean"] for c in figures["curves"]] == kept


async def test_what_cannot_be_judged_is_not_claimed(tmp_path):
    job = ChainJob(via=("image",), steps=2, arms=("cascade",), limit=1)
    _, figures, _ = await run(tmp_path, job, judges={"audio": FakeJudge()})
    seen, told = figures["curves"]
    assert "kept" not in seen
    assert seen["unread"] == 1
    assert told["kept"]["mean"] == 0.5
    assert {x["conversion"] for x in figures["losses"]} == {"text-to-image + image-to-text"}


async def test_after_a_failure_nothing_is_left_and_that_is_counted(tmp_path):
    job = ChainJob(via=("image", "speech"), steps=4, arms=("cascade",), limit=2)
    rows, figures, here = await run(tmp_path, job, broken={"image-to-text"})
    assert [s["status"] for s in rows[0]["steps"]] == ["done", "failed", "broken", "broken"]
    assert rows[0]["status"] == "failed"
    assert "broken, as the test asked" in rows[0]["reason"]
    assert [c["kept"]["mean"] for c in figures["curves"]] == [0.5, 0.0, 0.0, 0.0], "one of the two is a blue heart"
    assert [c["broken"] for c in figures["curves"]] == [0, 0, 2, 2]
    assert not here.fakes.called("text-to-speech")


async def test_a_mode_without_weights_is_left_out_and_not_zero(tmp_path):
    job = ChainJob(via=("image",), steps=2, arms=("cascade", "end2end"), limit=1)
    rows, figures, _ = await run(tmp_path, job)
    without = [c for c in figures["curves"] if c["mode"] == "end2end"]
    assert [(c["cannot"], "kept" in c) for c in without] == [(1, False), (1, False)]
    assert rows[1]["reason"] == "The end-to-end mode has no trained weights here."
    assert figures["paired"] == []


async def test_true_readers_take_the_captioner_out(tmp_path):
    job = ChainJob(via=("image", "speech"), steps=4, arms=("cascade", "true-readers"), limit=1)
    rows, figures, here = await run(tmp_path, job)
    true = rows[1]
    assert true["steps"][1]["said"] == "blue heart"
    assert [s["scores"]["kept"] for s in true["steps"]] == [1.0, 1.0, 0.0, 1.0], "what was spoken is known"
    assert len(here.fakes.called("image-to-text")) == 1, "by the cascade alone"
    apart = next(p for p in figures["paired"] if (p["conversion"], p["metric"]) == ("after 2", "kept"))
    assert (apart["modes"], apart["difference"], apart["p"]) == (["cascade", "true-readers"], -0.5, None)


async def test_true_readers_need_a_judge(tmp_path):
    job = ChainJob(via=("image",), steps=2, arms=("true-readers",), limit=1)
    (row,), _, _ = await run(tmp_path, job, judges={"audio": FakeJudge()})
    assert row["steps"][1]["status"] == "cannot"
    assert "No judge of image has weights" in row["reason"]


async def test_true_makers_draw_what_the_words_name(tmp_path):
    job = ChainJob(via=("image",), steps=4, arms=("true-makers",), limit=1)
    plans = {**PLANS, "describe": [rig.task("image-to-text", 0, image="blue-heart.png")]}
    here = bench(tmp_path, plans=plans, judge=JUDGES, fakes=Fakes(answers={"image-to-text": "a blue heart"}))
    (row,) = await run_chains(here, job, tmp_path / "out")
    assert [s["scores"]["kept"] for s in row["steps"]] == [1.0, 1.0, 1.0, 1.0]
    assert row["steps"][0]["artifact"]["name"] == "blue-heart.png"
    assert not here.fakes.called("text-to-image")
    await here.aclose()


def test_words_that_name_nothing_make_nothing():
    assert recipe_of("a red fish moving up", "video") == {
        "make": "clip", "shape": "fish", "colour": "red", "motion": "up",
    }  # fmt: skip
    assert recipe_of("a red thing", "image") is None
    assert recipe_of("the sound of a siren", "audio") == {"make": "sound", "kind": "siren"}
    assert carried('he said\n"hello"  ') == "he said 'hello'"


async def test_chains_are_resumed_without_doing_them_again(tmp_path):
    job = ChainJob(via=("image",), steps=2, arms=("cascade",), limit=2)
    here = made(tmp_path)

    class Stop(Exception):
        pass

    def stop(done, total, row):
        raise Stop

    with pytest.raises(Stop):
        await run_chains(here, job, tmp_path / "out", told=stop)
    told = []
    rows = await run_chains(here, job, tmp_path / "out", resume=True, told=lambda d, t, r: told.append((d, r["item"])))
    assert told == [(2, "a red star")]
    assert len(rows) == 2
    with pytest.raises(InputError, match="holds a run with way"):
        await run_chains(here, ChainJob(via=("speech",), limit=2), tmp_path / "out", resume=True)
    await here.aclose()
