"""Half precision is taken where it is faster, and nowhere else."""

import pytest
import torch

from anyloom.core import llama
from anyloom.core.precision import autocast, fast_bfloat16


@pytest.fixture
def cpu(monkeypatch):
    """Says what the CPU can do."""

    def can(*, machine="x86_64", amx=False, avx=False, onednn=True):
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)

    return can


def test_emulated_products_are_left_alone(cpu):
    cpu()  # oneDNN says yes where it has AVX-512 alone
    assert not fast_bfloat16("cpu")
    assert llama._compute_type("int8", "cpu") == torch.float32
    with autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("can", [{"amx": True}, {"avx": True}, {"machine": "arm64"}])
def test_instructions_of_its_own_are_used(cpu, can):
    cpu(**can)
    assert fast_bfloat16("cpu")
    assert fast_bfloat16("cpu", tiles=True) == can.get("amx", False)
    assert llama._compute_type("int8", "cpu") == torch.bfloat16
    with autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_a_gpu_always_has_it(cpu):
    cpu(onednn=False)
    assert fast_bfloat16("cuda:1")
    assert fast_bfloat16("cuda", tiles=True)
