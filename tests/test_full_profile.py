"""The full profile as a whole: what it offers, what its cards say, what can be set, and that listing it is cheap."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anyloom.core.errors import SettingsError, WeightsError
from anyloom.core.settings import FULL_MEMORY, Settings, load_settings
from anyloom.core.weights import Status, Weights
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool
from anyloom.tools.experts.full.hub import commercial
from anyloom.tools.experts.full.revisions import REVISIONS, moves, revision
from anyloom.tools.options import configure
from anyloom.tools.registry import Registry

CONTROLS = ("canny", "depth", "hed", "mlsd", "normal", "openpose", "seg")
HUGGINGGPT = [
    "token-classification", "text2text-generation", "summarization", "translation", "question-answering",
    "conversational", "text-generation", "sentence-similarity", "tabular-classification", "object-detection",
    "image-classification", "image-to-image", "image-to-text", "text-to-image", "text-to-video",
    "visual-question-answering", "document-question-answering", "image-segmentation", "depth-estimation",
    "text-to-speech", "automatic-speech-recognition", "audio-to-audio", "audio-classification", "canny-control",
    "hed-control", "mlsd-control", "normal-control", "openpose-control", *(f"{c}-text-to-image" for c in CONTROLS),
]  # fmt: skip


@pytest.fixture(scope="module")
def registry():
    return Registry(Settings(profile="full", device="cpu", memory=1 << 40))


def of_the_hub(registry, tool):
    return [e for e in registry.experts(tool) if e.card.profiles == ("full",)]


@pytest.mark.parametrize("tool", HUGGINGGPT)
def test_every_task_type_has_an_expert_of_its_own(registry, tool):
    assert of_the_hub(registry, tool), f"no model of the field performs {tool}"


def test_most_task_types_leave_a_choice(registry):
    assert len(HUGGINGGPT) == len(set(HUGGINGGPT)) == 35
    assert sum(len(of_the_hub(registry, t)) >= 2 for t in HUGGINGGPT) >= 28
    assert not registry.failures


def test_cards_are_whole(registry):
    mine = [e for e in registry.all_experts() if ".full." in e.__module__]
    assert len(mine) > 80
    for expert in mine:
        card = expert.card
        assert card.licence, expert.name
        assert (expert.__doc__ or "").strip(), expert.name
        if card.weights:
            assert card.size > 1e6, expert.name
            assert card.memory > 1e8, expert.name
            assert card.source.startswith("https://"), expert.name
        assert all(u.startswith("hf:") for u in card.weights), expert.name


def test_gated_and_non_commercial_weights_are_known_as_such(registry):
    assert not commercial(registry.expert("zeroscope-v2-576w").card.licence)
    assert not commercial(registry.expert("audioldm2").card.licence)
    assert not commercial(registry.expert("sd-turbo").card.licence)
    assert not commercial(registry.expert("mask2former-coco").card.licence)
    assert not commercial(registry.expert("xtts-v2").card.licence)
    assert commercial(registry.expert("stable-diffusion-1-5").card.licence)
    assert commercial("Apache-2.0")
    assert "accept it, then --pin" in registry.reason(registry.expert("stable-video-diffusion"))


class Absent:
    """Weights of which nothing is on this disk yet."""

    def __init__(self):
        self.told = []
        self.emit = self.told.append

    def status(self, uri):
        return Status(uri, False)

    def resolve(self, uri):
        self.told.append(uri)
        return Path(uri)


def test_a_licence_that_forbids_commercial_use_is_said_before_the_fetch(registry):
    weights = Absent()
    registry.expert("zeroscope-v2-576w").fetch(weights)
    assert "its licence (CC-BY-NC-4.0) forbids commercial use" in weights.told[0].text
    assert weights.told[1:] == [f"hf:cerspense/zeroscope_v2_576w@{revision('cerspense/zeroscope_v2_576w')}"]
    weights = Absent()
    registry.expert("stable-diffusion-1-5").fetch(weights)
    assert len(weights.told) == 1


def test_xtts_says_its_licence_before_the_fetch_too(registry, tmp_path):
    told = []
    weights = Weights(tmp_path, offline=True, emit=told.append)
    with pytest.raises(WeightsError, match="coqui/XTTS-v2 cannot be fetched"):
        registry.expert("xtts-v2").fetch(weights)
    assert "its licence (CPML (Coqui Public Model License, non-commercial)) forbids commercial use" in told[0].text


def test_none_of_it_is_offered_in_pocket():
    pocket = Registry(Settings(device="cpu"))
    assert not {t.name for t in pocket.offered()} & {"canny-text-to-image", "translation", "object-detection"}


def test_listing_costs_no_model_library():
    code = (
        "import sys; from anyloom.tools.registry import Registry; from anyloom.core.settings import load_settings;"
        "r = Registry(load_settings({'profile': 'full', 'device': 'cpu'})); r.offered();"
        "print([m for m in ('torch', 'transformers', 'diffusers', 'pandas', 'PIL', 'numpy') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert ran.stdout.strip() == "[]"


# -- options -----------------------------------------------------------------------------------------

DRAW = Tool("draw", "Draws.", (Param("text", "text"),), "text")


class Pencil(Expert):
    """Draws."""

    name = "pencil"
    tool = DRAW
    family = "pens"
    card = Card(memory=1)
    defaults = {"steps": 50, "guidance": 7.5, "negative": "", "fine": False}  # noqa: RUF012

    def run(self, args, run):
        return [Output.text(json.dumps([self.option("steps"), self.option("guidance")]))]


class Brush(Pencil):
    """Draws broadly."""

    name = "brush"


def test_the_narrower_table_wins():
    tables = {"draw": {"steps": 10, "guidance": 5}, "pens": {"steps": 20}, "brush": {"steps": 30}}
    made = configure([Pencil, Brush], tables)
    assert [made[n].option("steps") for n in ("pencil", "brush")] == [20, 30]
    assert made["pencil"].option("guidance") == 5.0
    assert isinstance(made["pencil"].option("guidance"), float)
    assert Pencil.option("steps") == 50
    assert configure([Pencil], {})["pencil"] is Pencil


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"pencl": {}}, r"\[experts.pencl\]: there is no expert, tool or family 'pencl', did you mean 'pencil'"),
        ({"pencil": {"step": 3}}, r"there is no option 'step', did you mean 'steps'"),
        ({"pencil": {"steps": "many"}}, r"'steps' is 'many', and must be a whole number"),
        ({"pencil": {"steps": -1}}, r"'steps' is -1, and must be a whole number of at least 0"),
        ({"pencil": {"fine": 1}}, r"'fine' is 1, and must be true or false"),
        ({"pencil": {"negative": 3}}, r"'negative' is 3, and must be a text"),
    ],
)
def test_wrong_options_are_named(tables, said):
    with pytest.raises(SettingsError, match=said):
        configure([Pencil, Brush], tables)


def test_options_come_from_the_settings_file_and_keys_are_never_shown(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[experts.stable-diffusion-1-5]\nsteps = 20\n[experts.openai]\nkey = "sk-very-secret"\n')
    settings = load_settings({"profile": "full", "device": "cpu"}, {"ANYLOOM_CONFIG": str(file)})
    assert settings.experts["openai"]["key"] == "sk-very-secret"
    assert "sk-very-secret" not in repr(settings) + str(settings.experts)
    registry = Registry(settings)
    assert registry.expert("stable-diffusion-1-5").option("steps") == 20
    assert registry.expert("stable-diffusion-xl").option("steps") == 50
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {"ANYLOOM_EXPERTS": '{"key": "sk-very-secret"}'})
    assert "sk-very-secret" not in str(caught.value)


def test_a_revision_can_be_pinned():
    tables = {"blip-caption-large": {"revision": "0123abc"}}
    registry = Registry(Settings(profile="full", device="cpu", experts=tables))
    pinned, other = registry.expert("blip-caption-large"), registry.expert("blip-vqa")
    assert pinned.card.weights == ("hf:Salesforce/blip-image-captioning-large@0123abc",)
    assert other.card.weights == (f"hf:Salesforce/blip-vqa-base@{revision('Salesforce/blip-vqa-base')}",)
    tables = {"controlnet-hed-1-0": {"revision": "0123abc 4567def"}}
    both = Registry(Settings(profile="full", device="cpu", experts=tables)).expert("controlnet-hed-1-0")
    assert [uri.partition("@")[2] for uri in both.card.weights] == ["0123abc", "4567def"]


def test_most_repositories_are_pinned_and_what_is_pinned_is_used(registry):
    uris = {u for e in registry.all_experts() if ".full." in e.__module__ for u in e.card.weights}
    used = {u[3:].removeprefix("datasets/").partition("@")[0] for u in uris}
    assert set(REVISIONS) - used == {"coqui/XTTS-v2"}, "which coqui's own loader opens"
    assert registry.expert("xtts-v2").option("revision") == REVISIONS["coqui/XTTS-v2"]
    moving = {u for u in uris if moves(u.partition("@")[2].partition("/")[0])}
    assert len(moving) < len(uris) / 3
    assert "hf:facebook/detr-resnet-50@no_timm" in moving


def test_the_full_profile_has_a_budget_of_its_own():
    assert load_settings({"profile": "full"}, {"ANYLOOM_CONFIG": "/dev/null"}).memory == FULL_MEMORY
    assert load_settings({"profile": "full", "memory": "4GiB"}, {"ANYLOOM_CONFIG": "/dev/null"}).memory == 4 << 30
