"""XTTS on a tiny checkpoint in coqui's own format; runs where coqui-tts is installed (`nox -s coqui`)."""

import io
import json
import wave

import pytest

pytest.importorskip("TTS", reason="coqui-tts has an environment of its own: nox -s coqui")

import torch
from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
from TTS.tts.models.xtts import Xtts as Model

from anyloom.core.errors import Cancelled, ExpertError, InputError
from anyloom.tools.contracts import Run
from anyloom.tools.experts.full.coqui import Xtts, XttsClone
from anyloom.tools.fakes import tiny_wav

LETTERS = ["[STOP]", "[UNK]", "[SPACE]", "[START]", "[en]", *"abcdefghijklmnopqrstuvwxyz.,!?'"]


def vocabulary(file):
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.BPE({w: n for n, w in enumerate(LETTERS)}, [], unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(LETTERS[:5])
    made.save(str(file))
    assert json.loads(file.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """config.json, vocab.json, model.pth, speakers_xtts.pth."""
    made = tmp_path_factory.mktemp("xtts")
    torch.manual_seed(1)
    vocabulary(made / "vocab.json")
    args = XttsArgs(
        gpt_layers=1, gpt_n_model_channels=64, gpt_n_heads=2, gpt_max_audio_tokens=20, gpt_max_text_tokens=40,
        gpt_max_prompt_tokens=10, gpt_number_text_tokens=len(LETTERS), gpt_start_text_token=3, gpt_stop_text_token=0,
        gpt_num_audio_tokens=34, gpt_start_audio_token=32, gpt_stop_audio_token=33, decoder_input_dim=64,
        gpt_use_perceiver_resampler=True,
    )  # fmt: skip
    config = XttsConfig(model_args=args)
    config.save_json(str(made / "config.json"))
    model = Model.init_from_config(config)
    model.init_models()
    torch.save({"model": model.state_dict()}, made / "model.pth")
    speaker = {"gpt_cond_latent": torch.randn(1, 32, 64), "speaker_embedding": torch.randn(1, 512, 1)}
    torch.save({"Claribel Dervla": speaker}, made / "speakers_xtts.pth")
    return made


def test_it_speaks_at_24_khz_and_stops(folder):
    expert = Xtts()
    expert.load("cpu", {"folder": folder})
    told = []
    output = expert.run({"text": "A box. A hill."}, Run(seed=1, progress=lambda *what: told.append(what)))[0]
    with wave.open(io.BytesIO(output.data)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (24_000, 1)
        assert sound.getnframes() > 0
    assert [t[0] for t in told] == [0, 1, 2]
    run = Run(seed=1)
    run.progress = lambda *what: run.stop.set()
    with pytest.raises(Cancelled):
        expert.run({"text": "A box. A hill."}, run)


def test_an_unknown_voice_is_named(folder):
    expert = Xtts.configured({"voice": "Nobody"})()
    expert.load("cpu", {"folder": folder})
    with pytest.raises(ExpertError, match="no voice 'Nobody'; it has Claribel Dervla"):
        expert.run({"text": "A box."}, Run())


def test_a_voice_is_taken_from_a_recording(folder, tmp_path):
    (tmp_path / "voice.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=22050, seconds=7))
    expert = XttsClone()
    expert.load("cpu", {"folder": folder})
    assert expert.run({"text": "A box.", "audio": tmp_path / "voice.wav"}, Run(seed=1))[0].media_type == "audio/wav"
    (tmp_path / "blip.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=22050, seconds=0.5))
    with pytest.raises(InputError, match="is shorter than a second; a voice wants some six seconds"):
        expert.run({"text": "A box.", "audio": tmp_path / "blip.wav"}, Run())
