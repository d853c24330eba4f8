"""The registry: what is offered, what is refused and why, and that the built-ins come in like strangers."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from anyloom.core.errors import UnknownName
from anyloom.core.settings import Settings
from anyloom.tools.builtin import TOOLS
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool
from anyloom.tools.fakes import Fakes
from anyloom.tools.registry import Registry

SHOUT = Tool("shout-text", "Writes a text in capital letters.", (Param("text", "text"),), "text")


class Shout(Expert):
    """Writes in capitals."""

    name = "shout"
    tool = SHOUT

    def run(self, args, run):
        return [Output.text(args["text"].upper())]


def variant(base=Shout, **changes):
    return type("Variant", (base,), changes)


def failure(*experts, tools=()):
    registry = Registry.of(experts, tools)
    assert len(registry.failures) == 1, registry.failures
    return str(registry.failures[0])


def test_an_expert_brings_its_tool_along():
    registry = Registry.of([Shout])
    assert registry.tools() == (SHOUT,) == registry.offered()
    assert registry.experts("shout-text") == (Shout,)
    assert registry.expert("shout") is Shout
    assert registry.failures == ()


def test_a_tool_without_expert_is_known_and_not_offered():
    registry = Registry.of([Shout], TOOLS)
    assert {t.name for t in registry.tools()} == {*(t.name for t in TOOLS), "shout-text"}
    assert registry.offered() == (SHOUT,)
    assert registry.experts("text-to-image") == ()


def test_tools_that_lack_memory_alone_are_told_of():
    small, large = variant(name="small", card=Card(memory=2 * 10**9)), variant(name="large", card=Card(memory=10**12))
    registry = Registry.of([large, small], memory=10**9)
    assert registry.too_small() == {
        "shout-text": "'small' needs 2.0 GB of memory and the budget is 1.0 GB; raise --memory"
    }
    assert Registry.of([large, small], memory=2 * 10**9).too_small() == {}
    assert Registry.of([variant(name="gone", available=classmethod(lambda cls: "absent"))], memory=1).too_small() == {}


def test_profile_device_memory_and_the_experts_own_word_decide_what_is_offered():
    full = variant(name="full", card=Card(profiles=("full",)))
    gpu = variant(name="gpu", card=Card(devices=("cuda",)))
    huge = variant(name="huge", card=Card(memory=10**12))
    absent = variant(name="absent", available=classmethod(lambda cls: "pip install absent"))
    faulty = variant(name="faulty", available=classmethod(lambda cls: 1 / 0))
    registry = Registry.of([full, gpu, huge, absent, faulty], memory=10**9)
    assert registry.offered() == ()
    assert "profile full" in registry.reason(full)
    assert "cuda" in registry.reason(gpu)
    assert "--memory" in registry.reason(huge)
    assert registry.reason(absent) == "pip install absent"
    assert "ZeroDivisionError" in registry.reason(faulty)
    assert full not in registry.experts("shout-text")
    assert full in registry.all_experts()
    assert Registry.of([full], profile="full").offered() == (SHOUT,)


def test_unknown_names_hint_at_near_ones():
    registry = Registry.of([Shout])
    with pytest.raises(UnknownName, match="did you mean 'shout'"):
        registry.expert("shuot")
    with pytest.raises(UnknownName, match="did you mean 'shout-text'"):
        registry.experts("shout-txt")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (type("NoName", (Expert,), {"tool": SHOUT, "run": Shout.run}), "has no name"),
        (type("NoRun", (Expert,), {"name": "x", "tool": SHOUT}), "does not write `run`"),
        (type("NoTool", (Expert,), {"name": "x", "run": Shout.run}), "has no tool"),
        (variant(name="x", card=Card(speed="warp")), "speed 'warp'"),
        (variant(name="x", card=Card(quality=7)), "quality 7"),
        (variant(name="x", card={"speed": "fast"}), "not a Card"),
        (variant(name="x", tool=Tool("t", "", (), "smell")), "makes 'smell'"),
        (variant(name="x", tool=Tool("t", "", (Param("a", "url"),), "text")), "takes 'url'"),
        (variant(name="x", tool=Tool("t", "", (Param("a", "text"), Param("a", "text")), "text")), "'a' twice"),
        (Shout(), "no Expert class"),
        (variant(name="x", tool=Tool("shout-text", "Else.", (), "audio")), "is not the known one"),
        (variant(name="shout"), "is taken by"),
    ],
)
def test_a_broken_contract_is_a_reported_failure(broken, said):
    assert said in failure(Shout, broken)
    assert Registry.of([Shout, broken]).all_experts() == (Shout,)


def test_a_function_that_fails_is_a_reported_failure():
    def experts():
        raise RuntimeError("no such model")

    assert "did not say what it offers (RuntimeError: no such model)" in failure(Shout, experts)
    assert Registry.of([lambda: [Shout]]).all_experts() == (Shout,)


def test_built_ins_come_in_by_entry_points():
    registry = Registry(Settings(device="cpu"))
    assert registry.failures == ()
    assert set(TOOLS) <= set(registry.tools())
    offered = {t.name for t in registry.offered()}
    assert {
        "automatic-speech-recognition",
        "text-to-speech",
        "optical-character-recognition",
        "summarization",
    } <= offered
    assert {"image-to-image", "question-answering", "document-question-answering", "sentence-similarity"} <= offered


def test_every_card_is_complete():
    for expert in Registry(Settings()).all_experts():
        assert expert.__doc__, expert.name
        assert expert.card.licence, expert.name
        if expert.available() is None and not expert.card.source.startswith(
            "https://"
        ):  # one of our own has a card here
            assert (Path(__file__).parents[1] / expert.card.source).is_file(), expert.name
        assert expert.card.memory >= expert.card.size / 4, expert.name


def test_fakes_serve_every_built_in_tool(tmp_path):
    fakes = Fakes(flaky={"text-to-image": 1})
    registry = fakes.registry()
    assert registry.failures == ()
    assert registry.offered() == TOOLS
    image = registry.experts("text-to-image")[0]()
    run = SimpleNamespace(seed=3, check=lambda: None, progress=lambda *a: None)
    with pytest.raises(Exception, match="failed once more"):
        image.run({"text": "a cat"}, run)
    first, again = (image.run({"text": "a cat"}, run)[0].data for _ in range(2))
    assert first == again
    assert [c.error != "" for c in fakes.calls] == [True, False, False]


def test_fake_pictures_sounds_and_videos_open(tmp_path):
    from anyloom.core.media import Limits, inspect_file
    from anyloom.tools.contracts import Run

    fakes = Fakes()
    for tool, name in (("text-to-image", "a.png"), ("text-to-speech", "a.wav"), ("text-to-video", "a.mp4")):
        made = fakes.registry().experts(tool)[0]().run({"text": "x"}, Run())[0]
        (tmp_path / name).write_bytes(made.data)
        assert inspect_file(tmp_path / name, Limits()).modality == made.modality
