"""The pages: whole, loading nothing, showing what was made, saying what was not; and one request in both modes."""

import json
import re
from html.parser import HTMLParser

import rig
from eval_rig import FakeJudge, bench, suite

from anyloom.core.errors import ExpertError
from anyloom.evaluation.chains import ChainJob, run_chains
from anyloom.evaluation.pair import lines, meaning_of, pair_result, side, unread, watched
from anyloom.evaluation.report.inline import Shown, from_store
from anyloom.evaluation.report.plots import Line, Point, curve, intervals, nice, number
from anyloom.evaluation.results import RESULT, chain_result, read, suite_result, write
from anyloom.evaluation.runner import Job, run_suite
from anyloom.tools.fakes import Fakes

STEPS = {
    "draw": [
        rig.task("text-to-image", 0, text="a blue heart"), rig.task("image-to-text", 1, image="<resource>-0"),
        rig.task("text-to-speech", 2, text="<resource>-1"),
    ],
    "describe": [rig.task("image-to-text", 0, image="red-heart.png")],
}  # fmt: skip
SAID = {"image-to-text": "a blue star", "automatic-speech-recognition": "a blue star"}


class Page(HTMLParser):
    """What a browser would load, and the words."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "data", "action", "srcset")]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def page(path):
    found = Page(path.read_text())
    assert all(s.startswith("data:") for s in found.sources), "nothing is loaded from anywhere"
    assert "script" not in found.tags
    assert "url(" not in path.read_text()
    return found


async def pair(tmp_path, answers=None, **options):
    made = bench(tmp_path, answers, plans=STEPS, fakes=options.pop("fakes", Fakes(answers=SAID)), retries=0, **options)
    sides = [
        await side(made, m, "draw a blue heart and say it", (), seed=0, meaning="a blue heart")
        for m in ("cascade", "end2end")
    ]
    result = pair_result(made, "draw a blue heart and say it", (), "a blue heart", sides)
    where = write(result, tmp_path / "out", from_store(made.store))
    await made.aclose()
    return result, where


async def test_one_request_shows_where_each_lost_the_meaning(tmp_path):
    result, where = await pair(tmp_path, {"draw": ("Here it is.", "image")})
    cascade, end2end = result["sides"]
    drawn, told, spoken = cascade["steps"]
    assert (drawn["into"], drawn["out"]) == ("a blue heart", "blue red heart")
    assert (told["into"], told["out"]) == ("blue red heart", "a blue star")
    assert told["moved"] > 0.1 > spoken["moved"] == 0.0
    assert [o["kind"] for o in cascade["outputs"]] == ["image", "speech"]
    assert (end2end["status"], end2end["outputs"][0]["kind"]) == ("done", "image")
    assert end2end["steps"][0]["into"] == "a blue heart"
    table = dict(lines(result["sides"]))
    assert table["answered"] == ["yes", "yes"]
    assert table["lost most in"][0].startswith("image-to-text")
    assert table["model calls"] == ["5", "2"]
    shown = page(where)
    assert shown.tags.count("img") == 2
    assert shown.tags.count("audio") == 1
    assert "image-to-text" in shown.text
    assert read(tmp_path / "out") == json.loads(json.dumps(result))


async def test_a_side_without_weights_is_said_and_the_other_answers(tmp_path):
    result, where = await pair(tmp_path)
    assert [s["status"] for s in result["sides"]] == ["done", "cannot"]
    assert dict(lines(result["sides"]))["answered"] == ["yes", "cannot"]
    assert dict(lines(result["sides"]))["seconds"][1] == "–"
    assert "The end-to-end mode has no trained weights here." in page(where).text
    assert result["agreement"] is None


async def test_a_step_that_fails_is_named(tmp_path):
    result, where = await pair(tmp_path, fakes=Fakes(answers=SAID, broken={"image-to-text"}))
    assert result["sides"][0]["status"] == "failed"
    assert dict(lines(result["sides"]))["lost most in"][0] == "image-to-text (failed)"
    assert "broken, as the test asked" in page(where).text


async def test_without_judges_pictures_are_not_read_and_that_is_said(tmp_path):
    result, where = await pair(tmp_path, judge={"audio": FakeJudge()})
    drawn, told, _ = result["sides"][0]["steps"]
    assert (drawn["out"], drawn["moved"], told["into"], told["moved"]) == (None, None, None, None)
    assert told["kept"] is not None
    assert "nobody here can read it" in page(where).text
    assert unread(bench(tmp_path, judge={"audio": FakeJudge()})).startswith("Without a judge here: image, video;")


async def test_the_meaning_is_what_is_attached_where_it_can_be_read(tmp_path):
    made = bench(tmp_path)
    cat = rig.picture(tmp_path)
    assert await meaning_of(made, "describe it", (cat,)) == "blue red heart"
    assert await meaning_of(made, "draw a cat", ()) == "draw a cat"
    assert await meaning_of(bench(tmp_path, judge={"audio": FakeJudge()}), "describe it", (cat,)) == "describe it"


async def test_an_answer_from_another_door_is_measured_too(tmp_path):
    made = bench(tmp_path)

    async def fails():
        raise ExpertError("The model is out of sorts.")

    one = await watched(made, "cascade", fails(), (), "a heart")
    assert (one["status"], one["reason"]) == ("failed", "The model is out of sorts.")
    assert one["costs"]["seconds"] >= 0


async def test_the_page_of_a_suite_has_both_modes_and_their_files(tmp_path):
    made = bench(tmp_path, {"blue heart": ("Here.", "image"), "describe": ("a red heart",)})
    job = Job(suite(tmp_path))
    rows = await run_suite(made, job, tmp_path / "out")
    result = await suite_result(made, job, rows, tmp_path / "out")
    where = write(result, tmp_path / "out", from_store(made.store))
    await made.aclose()
    shown = page(where)
    assert {"svg", "img", "audio", "table"} <= set(shown.tags)
    for words in ("Facts kept", "end-to-end", "The modes item by item", "Where the meaning is lost", "seeds"):
        assert words in shown.text, words
    assert "The answer held words, and no image." in shown.text
    steps = {(s["mode"], s["task"]) for s in result["figures"]["steps"]}
    assert {("cascade", "text-to-image"), ("end2end", "make-image")} <= steps


async def test_the_page_of_chains_has_the_curve_and_says_what_was_left_out(tmp_path):
    made = bench(tmp_path, plans={"draw": [rig.task("text-to-image", 0, text="a thing")],
                                  "describe": [rig.task("image-to-text", 0, image="text-to-image.png")]})  # fmt: skip
    job = ChainJob(via=("image",), steps=2, limit=2)
    rows = await run_chains(made, job, tmp_path / "out")
    where = write(chain_result(job, rows, tmp_path / "out"), tmp_path / "out", from_store(made.store))
    await made.aclose()
    shown = page(where)
    assert "end-to-end could not begin any chain here." in shown.text
    assert "text → image → text" in shown.text
    assert "polyline" in shown.tags
    assert json.loads((tmp_path / "out" / RESULT).read_text())["kind"] == "chains"


def test_what_models_say_is_never_markup(tmp_path):
    evil = '<img src=x onerror="alert(1)">\x1b[31m'
    shown = Shown(lambda one: evil.encode())({"modality": "text", "media_type": "text/plain", "name": evil})
    assert "<img" not in shown
    assert "\x1b" not in shown
    assert "&lt;img" in shown


def test_what_is_too_large_for_a_page_is_said():
    show = Shown(lambda one: b"0" * 5_000_000)
    assert "is not shown" in show({"modality": "image", "media_type": "image/png", "name": "big.png"})
    assert "no longer stored" in Shown(lambda one: None)({"modality": "image", "media_type": "x", "name": "gone.png"})


def test_plots_say_what_has_no_value():
    lines_ = [Line("text → image", {"cascade": Point(0.5, 0.4, 0.6, 6), "end2end": None}, {"end2end": "not judged"})]
    drawn = intervals("Kept", lines_, ("cascade", "end2end"), top=1.0)
    assert "not judged" in drawn
    assert ">0.5<" in drawn
    assert intervals("Kept", [Line("x", {"cascade": None})], ("cascade",)) == ""
    assert curve("F", {"cascade": [None, None]}, ("cascade",), "k") == ""
    assert (nice(0.7), nice(13), number(0.0), number(123.4), number(0.126)) == (0.8, 15, "0", "123", "0.13")
