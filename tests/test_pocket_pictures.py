"""Pocket pictures and clips: data by rule, layouts, memory, paths, and a training of everything at toy size."""

import io
import json

import pytest
import torch
from PIL import Image
from pocket_rig import toy_data

from anyloom.core.errors import InputError, WeightsError
from anyloom.core.packaged import MINILM
from anyloom.core.settings import load_settings
from anyloom.core.weights import Weights
from anyloom.pocket.generators.autoencoder import AutoencoderConfig
from anyloom.pocket.generators.image import PocketImage
from anyloom.pocket.generators.layouts import LAYOUTS, arranged
from anyloom.pocket.generators.memory import Memory, Wanted
from anyloom.pocket.generators.paths import moved, numbers, places, tracked
from anyloom.pocket.generators.text import Features
from anyloom.pocket.generators.unet import UNetConfig
from anyloom.pocket.generators.video import PocketVideo
from anyloom.training.pocket.data import Manifest
from anyloom.training.pocket.image_scenes import SceneWriter
from anyloom.training.pocket.loop import Budget
from anyloom.training.pocket.splits import held_colour
from anyloom.training.pocket.video_scenes import PATHS


def test_scenes_repeat_by_number_and_never_show_what_is_held_out(tmp_path):
    writer = SceneWriter(Manifest.load(toy_data(tmp_path)), seed=3)
    some = [writer.scene(n) for n in range(1500)]
    again = SceneWriter(Manifest.load(tmp_path), seed=3)
    assert some[::-1] == [again.scene(n) for n in reversed(range(1500))]
    assert {s.layout for s in some} == set(LAYOUTS)
    items = {i.row: i for i in Manifest.load(tmp_path).items if i.modality == "image"}
    for scene in some:
        for sprite in scene.sprites:
            assert items[sprite.row].split == "train"
        for concept, colour in zip(scene.concepts, scene.colours, strict=True):
            name = next(i.name for i in items.values() if i.concept == concept)
            assert not colour or not held_colour(colour, name.split()[1])


def test_a_layout_puts_both_things_where_it_says():
    dark, pale = torch.full((1, 3, 64, 64), -1.0), torch.full((1, 3, 64, 64), 0.0)
    beside = arranged(dark, pale, "beside")[0, 0]
    assert beside[32, 15] == pytest.approx(-1)
    assert beside[32, 48] == pytest.approx(0)
    assert beside[2, 32] == pytest.approx(1)
    assert arranged(dark, pale, "whole") is dark


def test_memory_gives_the_wanted_style_first_and_another_second():
    latents = torch.arange(3).float()[:, None, None, None].expand(3, 4, 16, 16) / 3
    memory = Memory(latents.clone(), ["1", "1", "2"], ["fluent", "noto", "noto"], {})
    assert memory.styles_for(Wanted("1", style="noto"), 0) == ("noto", "fluent")
    assert memory.styles_for(Wanted("1", style="fluent"), 0) == ("fluent", "noto")
    assert memory.styles_for(Wanted("2", style="fluent"), 0) == ("noto", "noto")
    assert memory.styles_for(Wanted("1", other="2"), 5) == ("noto", "noto")
    assert {memory.styles_for(Wanted("1"), seed)[0] for seed in range(20)} == {"fluent", "noto"}


def test_memory_survives_its_file_and_says_when_it_is_none(tmp_path):
    memory = Memory(torch.randn(2, 4, 16, 16), ["1", "2"], ["fluent", "noto"], {"thing": ["1", "2"]})
    memory.save(tmp_path)
    again = Memory.open(tmp_path)
    assert again.rows == memory.rows
    assert again.words == memory.words
    assert (again.latents - memory.latents).abs().max() < 0.03
    with pytest.raises(WeightsError):
        Memory.open(tmp_path / "nothing")


@pytest.mark.parametrize("motion", ["left", "right", "up", "down"])
def test_a_moved_picture_is_measured_to_move_so(motion):
    import random

    picture = torch.ones(3, 64, 64)
    picture[:, 16:48, 16:48] = -0.5
    path = torch.tensor(PATHS[motion](random.Random(1)))
    seen = tracked(moved(picture, path))
    axis, sign = (0, 1) if motion in ("left", "right") else (1, 1)
    sign = -1 if motion in ("left", "up") else 1
    assert (seen[-1, axis] - seen[0, axis]) * sign > 0.3
    assert (places(numbers(path)) - path)[:, [0, 1, 2, 4]].abs().max() < 1e-5


@pytest.fixture(scope="module")
def minilm():
    settings = load_settings({})
    return Weights(settings.cache_dir, offline=settings.offline).resolve(MINILM)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, minilm):
    """Everything of pocket-image and pocket-video at toy size, a few steps each."""
    from anyloom.training.pocket import image, image_ae, reader, video

    data, out = toy_data(tmp_path_factory.mktemp("toy") / "data"), tmp_path_factory.mktemp("runs")
    said = []
    image_ae.train_autoencoder(
        data,
        out,
        Budget(steps=6),
        image_ae.Recipe(batch=8),
        sizes=AutoencoderConfig(encoder=(16, 16), decoder=(16, 16)),
        say=said.append,
    )
    reader.train_reader(
        data, minilm, out, Budget(steps=60), reader.Recipe(captions=240, tests=60, batch=64), say=said.append
    )
    small = UNetConfig(channels=(16, 64), blocks=(1, 1), middle=1, modulation=32)
    image.train_image(data, minilm, out, Budget(steps=4), image.Recipe(scenes=64, batch=8), unet=small, say=said.append)
    video.train_video(data, minilm, out, Budget(steps=4), video.Recipe(clips=40, plain=8, batch=16), say=said.append)
    return out, said


@pytest.mark.weights
def test_training_leaves_a_pipeline_that_draws_and_films(trained, minilm):
    out, _ = trained
    model = PocketImage.open(out / "image" / "pipeline", Features.open(minilm))
    condition = model.text_condition(["a blue box"])
    made = [
        model.generate(condition[0], seed=s, progress=lambda *a: None, check=lambda: None, options={"size": 96})
        for s in (1, 1, 2)
    ]
    assert made[0].data == made[1].data != made[2].data
    assert Image.open(io.BytesIO(made[0].data)).size == (96, 96)
    video = PocketVideo.open(out / "video", model)
    clip = video.generate(
        condition[0], seed=1, progress=lambda *a: None, check=lambda: None, options={"size": 64, "format": "gif"}
    )
    assert Image.open(io.BytesIO(clip.data)).n_frames > 1
    with pytest.raises(InputError, match="'steps' is 0"):
        model.generate(condition[0], seed=1, progress=lambda *a: None, check=lambda: None, options={"steps": 0})


@pytest.mark.weights
def test_the_reader_learns_which_thing_is_meant(trained):
    _, said = trained
    shares = {
        line.split()[0]: float(line.split()[1]) for line in said if line.startswith("  ") and len(line.split()) == 2
    }
    assert shares["thing"] > 0.6, "three things, 60 steps; chance is a third"
    assert shares["colour"] > 0.6


@pytest.mark.weights
def test_a_stopped_training_goes_on_where_it_was(trained, minilm, tmp_path):
    from anyloom.training.pocket import video

    out, _ = trained
    data = out.parent / "none"
    data = next(out.parent.glob("toy*")) / "data"
    before = torch.load(out / "video" / "checkpoint.pt", weights_only=True)["step"]
    video.train_video(
        data,
        minilm,
        out,
        Budget(steps=before + 2),
        video.Recipe(clips=40, plain=8, batch=16),
        resume=True,
        say=lambda s: None,
    )
    assert torch.load(out / "video" / "checkpoint.pt", weights_only=True)["step"] == before + 2
    assert json.loads((out / "reader" / "words.json").read_text())["thing"] == ["1", "2", "3"]
