"""Pocket sounds, encoders, captions and the judge: everything trained at toy size, opened again, and used."""

import io
import json
import wave

import pytest
import torch
from pocket_rig import toy_data, toy_sounds

from anyloom.core.errors import InputError, WeightsError
from anyloom.core.packaged import MINILM
from anyloom.core.settings import load_settings
from anyloom.core.weights import Weights
from anyloom.pocket.captioner import Captioner, CaptionerSizes, Words
from anyloom.pocket.encoders.network import POCKET
from anyloom.pocket.encoders.pocket import PocketEncoder
from anyloom.pocket.generators.audio import PocketAudio
from anyloom.pocket.generators.image import png
from anyloom.pocket.generators.text import Features
from anyloom.pocket.tensors import read_tensors
from anyloom.training.pocket import audio, audio_reader, encoders
from anyloom.training.pocket.audio_data import SoundData, draw
from anyloom.training.pocket.audio_loop import KEPT, Budget
from anyloom.training.pocket.audio_scenes import captions, scenes
from anyloom.training.pocket.audio_words import SceneWords
from anyloom.training.pocket.captions import begin_with, train_captioner
from anyloom.training.pocket.data import Manifest
from anyloom.training.pocket.encoders_data import SoundPool
from anyloom.training.pocket.encoders_pictures import ClipPool, PicturePool
from anyloom.training.pocket.judge import Judge, train_judge


def silent(text):
    """Nobody listens."""


def losses(run):
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row["total"] for row in rows if "total" in row]


def test_scenes_that_are_held_out_are_never_drawn_and_every_scene_can_be_said():
    assert not any(s.held_out for s in draw(3000, seed=1))
    held = [s for s in scenes() if s.held_out]
    assert 0.05 < len(held) / len(scenes()) < 0.15
    assert all(captions(s) and all(c == c.strip() for c in captions(s)) for s in scenes())


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return SoundData.read(toy_sounds(tmp_path_factory.mktemp("sounds")))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return Manifest.load(toy_data(tmp_path_factory.mktemp("toy") / "data"))


@pytest.fixture(scope="module")
def features():
    settings = load_settings({})
    return Features.open(Weights(settings.cache_dir, offline=settings.offline).resolve(MINILM))


@pytest.fixture(scope="module")
def player(tmp_path_factory, sounds, features):
    """pocket-audio after a few steps of every part."""
    out = tmp_path_factory.mktemp("sound")
    budget = Budget(steps=12, batch=4)
    waves = audio.Waves(sounds, budget, 64, 1)
    audio.train_coder(waves, budget, out, silent)
    audio.train_vocoder(waves, Budget(steps=4, batch=4), out, silent)
    some = [s for s in scenes() if s in {*waves.clips.scenes, *waves.test_scenes}]
    said = audio_reader.train_reader(features, Budget(steps=60, batch=64), out, silent, some)
    assert said["voice"] > 0.5  # 60 steps tell most voices apart
    audio.train_flow(waves, SceneWords(features, "cpu", some), Budget(steps=3, batch=4), out, silent)
    return out


@pytest.mark.weights
def test_a_sound_is_three_seconds_repeats_with_its_seed_and_does_not_hurt(player, features):
    model = PocketAudio.open(player, features)
    condition = model.text_condition(["a violin playing a long note"])[0]
    quiet = {"progress": lambda *a: None, "check": lambda: None}
    made = [model.generate(condition, seed=s, options={"steps": 2}, **quiet) for s in (1, 1, 2)]
    assert made[0].data == made[1].data != made[2].data
    with wave.open(io.BytesIO(made[0].data)) as file:
        assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
        assert file.getnframes() == 49_152
        samples = torch.frombuffer(bytearray(file.readframes(49_152)), dtype=torch.int16).float() / 32768
    assert samples.abs().max() < 0.96
    assert abs(float(samples[0])) < 0.02
    with pytest.raises(InputError, match="'steps' is 0"):
        model.generate(condition, seed=1, options={"steps": 0}, **quiet)


@pytest.mark.weights
def test_the_coder_learns_from_the_first_steps_on(player):
    told = losses(player / "run-coder")
    assert told[-1] < told[0]


@pytest.mark.weights
def test_a_folder_without_the_parts_is_refused(player, features, tmp_path):
    with pytest.raises(WeightsError):
        PocketAudio.open(tmp_path, features)


@pytest.fixture(scope="module")
def senses(tmp_path_factory, sounds, pictures):
    """Encoders of all senses and the captioner, small and hardly trained."""
    out = tmp_path_factory.mktemp("enc")
    pools = [
        PicturePool(pictures, "cpu", painted=8),
        ClipPool(pictures, "cpu", painted=4),
        SoundPool(sounds, "cpu", 64),
    ]
    sizes = {sense: encoders.slim(own) for sense, own in POCKET.items()}
    encoders.train_encoder(pools[0], sizes["image"], Budget(steps=30, batch=12, rate=3e-3), out, silent)
    encoders.train_encoder(pools[1], sizes["video"], Budget(steps=4, batch=4), out, silent, out / "image.safetensors")
    encoders.train_encoder(pools[2], sizes["audio"], Budget(steps=4, batch=4), out, silent)
    opened = {sense: PocketEncoder.open(out / f"{sense}.safetensors") for sense in POCKET}
    before = out / "run-image" / KEPT
    train_captioner(pools, opened, Budget(steps=12, batch=8, rate=3e-3), out, silent, before)
    return out, opened


def test_encoders_learn_and_a_clip_is_seen_through_the_pictures_trunk(senses):
    out, opened = senses
    told = losses(out / "run-image")
    assert told[-1] < told[0]
    own, clip = opened["image"].network.trunk, opened["video"].network.trunk
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), clip.parameters(), strict=True))
    assert (out / "video.safetensors").stat().st_size < 0.8 * (out / "image.safetensors").stat().st_size
    (out / "video.safetensors").rename(out.parent / "alone.safetensors")
    with pytest.raises(WeightsError):
        PocketEncoder.open(out.parent / "alone.safetensors")
    (out.parent / "alone.safetensors").rename(out / "video.safetensors")


def test_a_captioner_begins_with_what_the_encoders_run_knew(senses, pictures, sounds):
    out, _ = senses
    told = Words.of(PicturePool(pictures, "cpu", painted=2).texts())
    more = Words.of([*told.words, "zither"])
    captioner = Captioner(CaptionerSizes(len(more), sees=32), more)
    begin_with(captioner, out / "run-image" / KEPT, told)
    kept, _ = read_tensors(out / "run-image" / KEPT)
    old, new = told.words.index("ball"), more.words.index("ball")
    assert torch.equal(captioner.embed.weight[new], kept["average.captioner.embed.weight"][old])
    assert torch.equal(captioner.enter["image"].weight, kept["average.captioner.enter.image.weight"])


def test_captions_and_answers_are_words_of_the_list(senses, pictures, tmp_path):
    out, opened = senses
    captioner = Captioner.open(out / "captioner.safetensors")
    picture = torch.from_numpy(pictures.array("image")[0][..., :3].copy()).permute(2, 0, 1) / 127.5 - 1
    (tmp_path / "ball.png").write_bytes(png(picture, 64))
    seen = opened["image"].encode(opened["image"].prepare(tmp_path / "ball.png")[None])
    said = captioner.write("image", seen) + captioner.write("image", seen, ["what colour is it"])
    assert len(said) == 2
    assert all(set(s.split()) <= set(captioner.words.words) for s in said)


def test_a_judge_is_trained_saved_and_asked(pictures, tmp_path):
    pool = PicturePool(pictures, "cpu", painted=8, other=True)
    found = train_judge(pool, 3, 1, Budget(steps=40, batch=16, rate=3e-3), tmp_path, silent)
    assert set(found) == {"concept", "colour", "style", "count"}
    judge = Judge.open(tmp_path / "judge-image.safetensors")
    said = judge.says(next(pool.tests()).items)
    assert said[0]["concept"][0] in ("red ball", "blue box", "green hill")
    told = losses(tmp_path / "run-judge-image")
    assert told[-1] < told[0]
    with pytest.raises(WeightsError):
        Judge.open(tmp_path / "nothing.safetensors")
