"""What the tests of the full profile share: its registry, tiny checkpoints in a hub cache, arguments for every tool."""

import pytest

pytest.importorskip("diffusers", reason="pip install 'anyloom[full]'")

import torch
from PIL import Image, ImageDraw
from tiny_models import TinyHub

from anyloom.core.settings import Settings
from anyloom.tools.contracts import Run
from anyloom.tools.fakes import tiny_wav
from anyloom.tools.registry import Registry

SMALL = {"steps": 3, "width": 32, "height": 32, "frames": 3, "fps": 8, "seconds": 0.01, "tokens": 8, "least": 0.0}


@pytest.fixture(scope="session")
def registry():
    return Registry(Settings(profile="full", device="cpu", memory=1 << 40))


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    torch.set_num_threads(1)
    return TinyHub(tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="session")
def things(tmp_path_factory):
    """An argument for every name that a tool of the profile has."""
    folder = tmp_path_factory.mktemp("things")
    picture = Image.new("RGB", (60, 40), "white")
    ImageDraw.Draw(picture).rectangle((10, 10, 30, 30), fill="red")
    picture.save(folder / "picture.png")
    (folder / "sound.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=16000, seconds=0.5))
    return {
        "image": folder / "picture.png", "audio": folder / "sound.wav", "text": "a red box on a hill",
        "other": "a red cube", "context": "The box is red. It is big.", "labels": "sport, art",
        "table": "name,age\nAnn,3\nBob,4", "language": "",
    }  # fmt: skip


@pytest.fixture
def made(registry, hub, things):
    """Runs an expert, made small, and gives its output; `run` hears of its progress."""

    def call(name, run=None, change=lambda expert: None, **args):
        ready = ready_expert(registry, hub, name)
        change(ready)
        given = {p.name: things[p.name] for p in ready.tool.params} | args
        return ready.run(given, run or Run(seed=3))[0]

    return call


def small_expert(registry, name, **options):
    """The class of an expert, set to make little."""
    expert = registry.expert(name)
    small = {k: type(expert.defaults[k])(v) for k, v in {**SMALL, **options}.items() if k in expert.defaults}
    return expert.configured(small)


def ready_expert(registry, hub, name, device="cpu", **options):
    """The same, loaded."""
    return hub.ready(small_expert(registry, name, **options), device)
