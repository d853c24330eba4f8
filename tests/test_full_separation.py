"""Recordings cleaned, and two voices apart: Conv-TasNet on tiny weights, and with weights that let all through."""

import io
import wave

import numpy as np
import pytest
import torch
from full_rig import hub, made, ready_expert, registry, things  # noqa: F401  # fixtures
from safetensors.torch import save_file
from tiny_sounds import conv_tasnet_state

from anyloom.core.errors import Cancelled, InputError, WeightsError
from anyloom.tools.contracts import Run
from anyloom.tools.experts.full.separation import OVERLAP, PIECE, RATE, conv_tasnet, ordered
from anyloom.tools.fakes import tiny_wav


def heard(output):
    with wave.open(io.BytesIO(output.data)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (RATE, 1)
        return np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32767


@pytest.mark.parametrize(
    ("name", "stems"), [("conv-tasnet-clean", ["speech"]), ("conv-tasnet-apart", ["voice-1", "voice-2"])]
)
def test_each_source_is_a_file_as_long_as_the_recording(registry, hub, things, name, stems):
    outputs = ready_expert(registry, hub, name).run(things, Run())
    assert [o.stem for o in outputs] == stems
    assert [len(heard(o)) for o in outputs] == [RATE // 2] * len(stems)
    assert outputs[0].facts == {"rate": RATE, "seconds": 0.5, "sources": len(stems)}


def open_net(sources):
    """Weights that let everything through: the filters are the samples themselves, all masks are 1."""
    state = {k: torch.zeros_like(v) for k, v in conv_tasnet_state(sources, filters=16).items()}
    for n in ("encoder", "decoder"):
        state[f"{n}.filterbank._filters"] = torch.eye(16)[:, None]
    state["masker.mask_net.1.bias"] += 1
    return state


def test_what_the_net_lets_through_comes_out_as_loud_as_it_was_also_across_pieces(registry, hub, tmp_path):
    expert = ready_expert(registry, hub, "conv-tasnet-clean")
    expert.model = conv_tasnet(open_net(1)).eval()
    expert.model.load_state_dict(open_net(1))
    sound = np.random.default_rng(1).standard_normal(2 * PIECE + 777).astype(np.float32) * 0.1
    told = []
    with torch.inference_mode():
        made = expert.apart(sound, Run(progress=lambda *what: told.append(what)))
    assert made.shape == (1, len(sound))
    np.testing.assert_allclose(made[0, 8:-16], sound[8:-16], atol=2e-3)
    assert [t[0] for t in told] == [0, 1, 2, 3]


def test_voices_keep_their_places_from_piece_to_piece():
    one, two = np.sin(np.arange(OVERLAP) / 9), np.sin(np.arange(OVERLAP) / 23)
    assert ordered(np.stack([one, two]), np.stack([two, one]) * 0.5) == [1, 0]
    assert ordered(np.stack([one, two]), np.stack([one, two])) == [0, 1]


def test_the_net_has_the_size_of_the_paper():
    """5.1 million parameters: 512 filters of 16 samples, 3 x 8 blocks of 512 channels (Luo and Mesgarani 2019)."""
    state = conv_tasnet_state(2, width=128, filters=512, wide=512, depth=24)
    with torch.device("meta"):
        assert sum(p.numel() for p in conv_tasnet(state).parameters()) == 5_050_545


def test_a_stop_ends_it(registry, hub, tmp_path):
    run = Run()
    run.progress = lambda *what: run.stop.set()
    (tmp_path / "long.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=RATE, seconds=41))
    expert = ready_expert(registry, hub, "conv-tasnet-clean")
    with pytest.raises(Cancelled):
        expert.run({"audio": tmp_path / "long.wav"}, run)


def test_what_cannot_be_cleaned_is_one_sentence(registry, hub, tmp_path):
    expert = ready_expert(registry, hub, "conv-tasnet-clean")
    (tmp_path / "blip.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=RATE, seconds=0.01))
    with pytest.raises(InputError, match=r"'blip\.wav' is shorter than a tenth of a second"):
        expert.run({"audio": tmp_path / "blip.wav"}, Run())
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=r"'other\.safetensors' holds no Conv-TasNet"):
        expert.open([tmp_path / "other.safetensors"])
