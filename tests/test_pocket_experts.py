"""The pocket experts on the weights that ship: they draw and film what is asked, and name what they see and hear."""

import wave

import pytest
import torch
from PIL import Image

from anyloom.core.errors import Cancelled, InputError
from anyloom.core.settings import load_settings
from anyloom.core.weights import Weights
from anyloom.pocket import media
from anyloom.pocket.generators.paths import tracked
from anyloom.tools.contracts import Run
from anyloom.tools.experts.pocket.captions import PocketAudioToText, PocketImageToText, PocketVideoToText, PocketVQA
from anyloom.tools.experts.pocket.pictures import PocketTextToImage, PocketTextToVideo
from anyloom.tools.experts.pocket.sounds import PocketTextToAudio
from anyloom.tools.registry import Registry
from anyloom.training.pocket.audio_bank import Bank
from anyloom.training.pocket.audio_render import render
from anyloom.training.pocket.audio_scenes import plainest

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def loaded():
    """Gives an expert, loaded once."""
    settings = load_settings({})
    weights = Weights(settings.cache_dir, offline=settings.offline)
    ready = {}

    def get(kind):
        if kind not in ready:
            ready[kind] = kind()
            ready[kind].load("cpu", kind.fetch(weights))
        return ready[kind]

    return get


def made(expert, folder, seed=0, **args):
    """The first output, as text or as a file."""
    output = expert.run(args, Run(seed=seed))[0]
    if output.modality == "text":
        return output.data.decode()
    file = folder / f"{seed}-{output.file_name}"
    file.write_bytes(output.data)
    return file


def test_a_drawing_has_the_colour_asked_for_and_is_recognised(loaded, tmp_path):
    draw = loaded(PocketTextToImage)
    file = made(draw, tmp_path, text="a blue heart")
    picture = Image.open(file).convert("RGB")
    assert picture.size == (256, 256)
    red, green, blue = picture.resize((3, 3), Image.Resampling.BOX).getpixel((1, 1))
    assert blue > red + 40
    assert blue > green
    assert "heart" in made(loaded(PocketImageToText), tmp_path, image=file)
    assert made(loaded(PocketVQA), tmp_path, image=file, text="what colour is it?") == "blue"


def test_the_same_seed_draws_the_same_and_another_another(loaded, tmp_path):
    draw = loaded(PocketTextToImage)
    one, two, other = (draw.run({"text": "a guitar"}, Run(seed=s))[0].data for s in (3, 3, 4))
    assert one == two != other


def test_progress_is_told_by_step_and_a_stop_is_heard(loaded):
    told = []
    loaded(PocketTextToImage).run(
        {"text": "a house"}, Run(progress=lambda done, total, note: told.append((done, total)))
    )
    assert told[0][0] < told[-1][0] == told[-1][1] == 6
    stopped = Run()
    stopped.stop.set()
    for kind in (PocketTextToImage, PocketTextToVideo):
        with pytest.raises(Cancelled):
            loaded(kind).run({"text": "a house"}, stopped)


@pytest.mark.parametrize("kind", [PocketTextToImage, PocketTextToVideo])
def test_a_description_without_a_word_is_refused(loaded, kind):
    with pytest.raises(InputError, match="no word in it"):
        loaded(kind).run({"text": " ?! "}, Run())


@pytest.mark.parametrize(("said", "axis", "sign"), [("moving up", 1, -1), ("moving right", 0, 1)])
def test_a_film_moves_as_it_says(loaded, tmp_path, said, axis, sign):
    file = made(loaded(PocketTextToVideo), tmp_path, text=f"a rocket {said}")
    way = tracked(media.frames(file, 16, 64) * 2 - 1)
    assert (way[-1, axis] - way[0, axis]) * sign > 0.3
    assert said in made(loaded(PocketVideoToText), tmp_path, video=file)


@pytest.mark.parametrize(("voice", "word"), [("siren", "siren"), ("white noise", "noise"), ("ticking clock", "clock")])
def test_a_sound_is_called_what_it_is(loaded, tmp_path, voice, word):
    scene = plainest(voice)
    wave = torch.from_numpy(render(scene, Bank({}), seed=77))
    (tmp_path / "sound.wav").write_bytes(media.wav(wave))
    assert word in made(loaded(PocketAudioToText), tmp_path, audio=tmp_path / "sound.wav")


@pytest.mark.parametrize(
    ("said", "word"),
    [("a fast drum beat", "drum"), ("white noise", "noise")],
)
def test_a_sound_is_what_was_asked_for(loaded, tmp_path, said, word):
    play = loaded(PocketTextToAudio)
    file = made(play, tmp_path, text=said)
    with wave.open(str(file)) as opened:
        assert (opened.getframerate(), opened.getnchannels()) == (16_000, 1)
        assert 3 < opened.getnframes() / 16_000 < 3.2
    assert word in made(loaded(PocketAudioToText), tmp_path, audio=file)
    assert (
        file.read_bytes()
        == play.run({"text": said}, Run(seed=0))[0].data
        != play.run({"text": said}, Run(seed=1))[0].data
    )


def test_a_sound_tells_its_progress_hears_a_stop_and_wants_a_word(loaded):
    told, play = [], loaded(PocketTextToAudio)
    play.run({"text": "a siren"}, Run(progress=lambda done, total, note: told.append((done, total))))
    assert told[-1] == (16, 16)
    stopped = Run()
    stopped.stop.set()
    with pytest.raises(Cancelled):
        play.run({"text": "a siren"}, stopped)
    with pytest.raises(InputError, match="no word in it"):
        play.run({"text": " ?! "}, Run())


def test_all_pocket_tools_are_offered():
    offered = {t.name for t in Registry(load_settings({})).offered()}
    assert {
        "text-to-image",
        "text-to-video",
        "text-to-audio",
        "image-to-text",
        "video-to-text",
        "audio-to-text",
    } <= offered
