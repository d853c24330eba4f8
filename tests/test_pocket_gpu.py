"""The pocket models that ship on a GPU that is pretended: the end-to-end mode goes there where a machine has one."""

import asyncio
import gc
import io

import numpy as np
import pytest
import rig
from PIL import Image
from pretend_gpu import pretended

from anyloom.controller.fakes import ScriptedController
from anyloom.core.settings import load_settings
from anyloom.core.weights import Weights
from anyloom.graphs.end2end import speaker_source
from anyloom.graphs.engine import Engine
from anyloom.graphs.state import Request
from anyloom.mmllm.contracts import Setting
from anyloom.mmllm.pocket import draw, film, play
from anyloom.pocket import media
from anyloom.tools.contracts import Run
from anyloom.tools.experts.minilm import MiniLMCentroid
from anyloom.tools.fakes import Fakes

pytestmark = pytest.mark.weights
SAID = {draw: "a blue banana", film: "a rocket moving up", play: "a violin"}


@pytest.fixture(scope="module")
def weights():
    settings = load_settings({})
    return Weights(settings.cache_dir, offline=settings.offline)


def numbers(made, folder):
    """What was made, as numbers between -1 and 1."""
    if made.modality == "image":
        return np.asarray(Image.open(io.BytesIO(made.data)), np.float32) / 255
    file = folder / f"made.{'mp4' if made.modality == 'video' else 'wav'}"
    file.write_bytes(made.data)
    if made.modality == "video":
        return media.frames(file, 16, 64).numpy()
    return media.sound(file).numpy()


@pytest.mark.parametrize("factory", SAID)
def test_a_generator_makes_the_same_on_a_gpu(weights, factory, tmp_path):
    def make(device):
        generator = factory({}, Setting(weights, device))
        condition = generator.text_condition([SAID[factory]])[0]
        options = {"progress": lambda *a: None, "check": lambda: None, "options": {}}
        return numbers(generator.generate(condition, seed=1, **options), tmp_path), str(condition.device)

    here, where = make("cpu")
    with pretended(2) as gpus:
        there, place = make("cuda:1")
        assert gpus[0].most == 0
        assert gpus[1].most > 1_000_000
        gc.collect()
    assert (where, place) == ("cpu", "cuda:1")
    assert here.shape == there.shape
    assert np.abs(here - there).mean() < 0.01


def test_the_end_to_end_mode_answers_with_all_its_media(tmp_path):
    settings = rig.settings(tmp_path, device="auto")
    source = speaker_source(load_settings({}))
    with pretended(1) as gpus:
        engine = Engine(settings, **rig.parts(Fakes(), ScriptedController()), end2end=source)

        async def ask():
            return [
                await engine.ask(Request(text, mode="end2end", seed=1))
                for text in ("draw a red car", "make a video of a rocket moving up", "let me hear a violin")
            ]

        answers = asyncio.run(ask())
        assert [[a.modality for a in x.artifacts] for x in answers] == [["image"], ["video"], ["audio"]]
        assert gpus[0].held > 200_000_000
        asyncio.run(engine.aclose())


def test_sentences_are_read_on_a_gpu(weights):
    expert = MiniLMCentroid()
    text = "The cat sat down. It was tired. The dog ran away. It had seen a hare. Nobody saw it again."
    expert.load("cpu", expert.fetch(weights))
    here = expert.run({"text": text}, Run())[0].data
    with pretended(2) as gpus:
        expert.load("cuda:1", expert.fetch(weights))
        assert gpus[1].held > 10_000_000
        assert expert.run({"text": text}, Run())[0].data == here
