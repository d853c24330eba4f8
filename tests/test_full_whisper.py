"""openai-whisper on a tiny checkpoint in its own format: written, opened, heard with, stopped."""

import contextlib
import dataclasses

import pytest
import torch

from anyloom.core.errors import Cancelled, ExpertError
from anyloom.tools.contracts import Run
from anyloom.tools.experts.full.whisper import experts
from anyloom.tools.fakes import tiny_wav

whisper_model = pytest.importorskip("whisper.model", reason="pip install openai-whisper")
SIZES = {"tiny": 37.76e6, "base": 72.59e6, "small": 241.7e6, "medium": 763.9e6, "large-v3": 1543.5e6}


def tiny_expert(folder):
    """The expert of Whisper tiny, its checkpoint a still smaller one with the same words; and what was written."""
    torch.manual_seed(1)
    size = {"n_audio_ctx": 1500, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 1}
    size |= {"n_text_ctx": 16, "n_text_state": 16, "n_text_head": 2, "n_text_layer": 1}
    dims = whisper_model.ModelDimensions(n_mels=80, n_vocab=51865, **size)
    file = folder / "tiny.pt"
    model = whisper_model.Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding)  # it is whatever lay in memory; NaN equals nothing
    torch.save({"dims": dataclasses.asdict(dims), "model_state_dict": model.state_dict()}, file)
    expert = next(e for e in experts() if e.name == "whisper-tiny")
    return type("Tiny", (expert,), {"checkpoint": str(file)}), model.state_dict()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    expert, written = tiny_expert(tmp_path_factory.mktemp("whisper"))
    made = expert()
    made.load("cpu", {"folder": None})
    made.written = written
    return made


@pytest.fixture
def sound(tmp_path):
    (tmp_path / "sound.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=16000, seconds=1))
    return tmp_path / "sound.wav"


def test_what_was_written_is_what_was_opened(tiny):
    opened = tiny.model.state_dict()
    assert opened.keys() == tiny.written.keys()
    assert all(torch.equal(opened[k].float(), v.float()) for k, v in tiny.written.items())
    assert tiny.model.dims.n_text_state == 16


def test_it_listens_and_tells_how_far_it_is(tiny, sound):
    told = []
    run = Run(seed=1, progress=lambda *what: told.append(what))
    with contextlib.suppress(ExpertError):  # a model of random numbers may hear nobody
        assert tiny.run({"audio": sound}, run)[0].facts["seconds"] == 1.0
    assert told[-1] == (1.0, 1.0, "seconds of audio")


def test_a_stop_ends_it_at_the_next_token(tiny, sound):
    run = Run(seed=1)
    run.progress = lambda *what: run.stop.set()
    with pytest.raises(Cancelled):
        tiny.run({"audio": sound}, run)
    assert not tiny.model.decoder._forward_pre_hooks


@pytest.mark.parametrize("size", SIZES)
def test_the_cards_know_the_size_of_the_checkpoints(size):
    card = next(e for e in experts() if e.name == f"whisper-{size}").card
    assert card.size == pytest.approx(2 * SIZES[size], rel=0.02), "two bytes a parameter"
