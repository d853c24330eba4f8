"""Which expert is tried first, which are left out, and what is said when none is left."""

import pytest

from anyloom.core.errors import ExpertError, SettingsError, UnknownName
from anyloom.tools.contracts import Card, Expert, Param, Tool
from anyloom.tools.selection import cards, pick_device, rank

TOOL = Tool("draw", "Draws.", (Param("text", "text"),), "image")


def expert(name, **card):
    body = {"name": name, "tool": TOOL, "card": Card(**card), "run": lambda *a: [], "__doc__": f"{name} draws."}
    return type(name, (Expert,), body)


QUICK = expert("quick", speed="instant", quality=0.2)
GOOD = expert("good", speed="slow", quality=0.9, memory=4_000_000_000)
FAIR = expert("fair", speed="medium", quality=0.5)
GPU = expert("gpu", speed="fast", quality=1.0, devices=("cuda",))
GATED = expert("gated", quality=0.95, gated=True, licence="OpenRAIL")
ALL = [FAIR, GPU, GATED, QUICK, GOOD]


def names(*args, **kwargs):
    return [e.name for e in rank("draw", *args, **kwargs)]


def test_best_is_by_quality():
    assert names(ALL, "best") == ["good", "fair", "quick"]


def test_fastest_is_by_speed_then_by_what_was_measured():
    assert names(ALL, "fastest") == ["quick", "fair", "good"]
    twin = expert("twin", speed="medium", quality=0.1)
    assert names([FAIR, twin], "fastest", seconds={"fair": 9.0, "twin": 2.0}) == ["twin", "fair"]


def test_device_and_memory_filter():
    assert names(ALL, "best", device="cuda:0") == ["gpu", "good", "fair", "quick"], "those of the CPU run there"
    assert names(ALL, "best", device="cpu") == ["good", "fair", "quick"]
    assert names(ALL, "best", memory=10**9) == ["fair", "quick"]


def test_a_pinned_expert_comes_first_and_the_rest_is_the_fallback():
    assert names(ALL, "pinned", pinned={"draw": "quick"}) == ["quick", "good", "fair"]
    assert names(ALL, "pinned", pinned={"speak": "joe"}) == ["good", "fair", "quick"]
    assert names(ALL, "fastest", pinned={"draw": "good"}) == ["good", "quick", "fair"]


def test_gated_weights_are_used_when_the_user_names_them():
    assert names(ALL, "pinned", pinned={"draw": "gated"})[0] == "gated"


def test_a_pin_that_cannot_be_followed_is_an_error():
    with pytest.raises(UnknownName, match="No expert 'quik' performs 'draw', did you mean 'quick'"):
        names(ALL, "pinned", pinned={"draw": "quik"})
    with pytest.raises(SettingsError, match=r"'gpu' is pinned for 'draw' and cannot run here: needs cuda"):
        names(ALL, "pinned", pinned={"draw": "gpu"})


def test_the_controller_chooses_from_the_cards():
    seen = {}

    def choose(tool, words):
        seen.update(words)
        return "quick"

    assert names(ALL, "llm", choose=choose) == ["quick", "good", "fair"]
    assert seen == cards([GOOD, FAIR, QUICK])
    assert seen["quick"] == "quick draws; takes at once, quality 0.2 of 1, 50 MB of memory, Apache-2.0"


def test_a_choice_that_does_not_exist_falls_back_to_best_and_says_so():
    said = []
    assert names(ALL, "llm", choose=lambda tool, words: "dall-e", say=said.append)[0] == "good"
    assert names(ALL, "llm", say=said.append)[0] == "good"
    assert "'dall-e', which is none of them" in said[0]
    assert "nobody was there to choose" in said[1]


def test_when_none_is_left_every_reason_is_given():
    with pytest.raises(
        ExpertError, match=r"gpu: needs cuda .* gated: its weights ask for acceptance .*--pin draw=gated"
    ):
        names([GPU, GATED], "best")
    with pytest.raises(ExpertError, match="No expert of this profile performs 'draw'"):
        names([], "best")


def test_unknown_policy():
    with pytest.raises(SettingsError, match="did you mean 'fastest'"):
        names(ALL, "fast")


def test_auto_device_takes_the_processor_where_there_is_no_choice():
    assert pick_device(QUICK, "auto") == "cpu"
    assert pick_device(GPU, "cuda:1") == "cuda:1"
    assert pick_device(QUICK, "cuda:1") == "cpu"
