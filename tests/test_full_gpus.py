"""Experts on GPUs that are pretended (benchmarks/pretend_gpu.py): where tensors lie, and what there is room for.

Every kind of loader of the full profile goes through it, with the tiny checkpoints of test_full_experts.py.
"""

import contextlib
import gc
import io
import threading
from dataclasses import replace

import pytest
import torch
from full_rig import hub, ready_expert, registry, small_expert, things  # noqa: F401  # fixtures
from PIL import Image
from pretend_gpu import pretended
from test_full_experts import GUIDES, READERS, SEERS, SPEAKERS, STEPPED
from test_full_whisper import tiny_expert

from anyloom.core.errors import ExpertError
from anyloom.tools.contracts import Run
from anyloom.tools.fakes import tiny_wav
from anyloom.tools.residency import Residency

PLAIN = {"canny", "line-segments"}  # no model in them
ON_GPU = sorted({*STEPPED, *READERS, *SPEAKERS, *SEERS, *GUIDES, "speecht5", "stable-diffusion-1-5"} - PLAIN)
MB = 1_000_000


def used(expert, things, run=None):
    return expert.run({p.name: things[p.name] for p in expert.tool.params}, run or Run(seed=3))


def kinds(expert):
    """The precision of everything that an expert has loaded."""
    found = {}
    for name, held in vars(expert).items():
        for part, module in getattr(held, "components", {"": held}).items():
            if isinstance(module, torch.nn.Module):
                tensors = [*module.named_parameters(), *module.named_buffers()]
                found |= {f"{name}.{part}.{n}": t.dtype for n, t in tensors}
    return found


# -- what is pretended ------------------------------------------------------------------------------


def test_what_a_gpu_refuses_is_refused():
    with pretended(2, memory=1000) as gpus:
        one, other = torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
        assert (one.device.index, other.device.index) == (0, 1)
        assert (one + one).tolist() == [2, 2, 2]
        for wrong in (other, torch.ones(3)):
            with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
                one + wrong
        assert (one + torch.tensor(1.0)).tolist() == [2, 2, 2], "a single number may come from the CPU"
        assert one[torch.tensor([0, 2])].tolist() == [1, 1], "and so may indices"
        with pytest.raises(RuntimeError, match="indices should be"):
            torch.ones(3)[one.long()]
        with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
            one.numpy()
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator"):
            torch.randn(3, device="cuda", generator=torch.Generator("cpu"))
        with pytest.raises(torch.OutOfMemoryError, match="GPU 1 has a capacity of 1000 bytes of which 988 are free"):
            torch.zeros(300, device="cuda:1")
        assert one.cpu().numpy().sum() == 3
        assert gpus[0].held == gpus[1].held == 12
    assert not torch.cuda.is_available() or torch.version.cuda


def test_memory_is_held_as_long_as_somebody_holds_the_tensor():
    with pretended(memory=1 << 20) as gpus:
        layer = torch.nn.Linear(10, 10)
        layer.to("cuda")
        assert gpus[0].held == 440
        view = layer.weight[:2]
        layer.to("cpu")
        gc.collect()
        assert gpus[0].held == 400, "the view holds all of what it looks at"
        del view
        assert (gpus[0].held, gpus[0].most) == (0, 440)
        assert torch.cuda.mem_get_info(0) == (1 << 20, 1 << 20)


def test_threads_that_begin_meanwhile_have_it_too():
    found = []
    with pretended() as gpus:
        thread = threading.Thread(target=lambda: found.append(torch.ones(2, device="cuda:0").sum().item()))
        thread.start()
        thread.join()
        assert gpus[0].most > 0
    assert found == [2]


def test_what_is_only_counted_has_the_same_shapes_and_sizes():
    def passed(count):
        with pretended(memory=1 << 30, count=count) as gpus, torch.no_grad():
            torch.manual_seed(1)
            net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.GroupNorm(4, 16), torch.nn.SiLU()).to("cuda")
            made = torch.nn.functional.scaled_dot_product_attention(
                *(net(torch.ones(2, 3, 80, 80, device="cuda")).flatten(2) for _ in range(3))
            )
            return made.shape, made.dtype, gpus[0].held, gpus[0].most

    assert passed(count=True) == passed(count=False)


# -- experts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ON_GPU)
def test_an_expert_works_on_the_gpu_it_was_sent_to_after_a_rest_in_main_memory(registry, hub, things, name):
    with pretended(2) as gpus:
        expert = ready_expert(registry, hub, name, "cuda:1")
        before, held = kinds(expert), gpus[1].held
        assert held > 0
        assert expert.move("cpu")
        gc.collect()
        assert gpus[1].held == 0
        assert torch.float16 not in kinds(expert).values()
        assert expert.move("cuda:1")
        assert kinds(expert) == before, "what half precision is not for comes back as it was"
        assert used(expert, things)[0].data
        assert gpus[0].most == 0, "all of it stays on the second GPU"
        expert.unload()
        gc.collect()
        assert gpus[1].held < held / 10, "some models of transformers keep a mask or two in caches of their own"


def test_openai_whisper_listens_on_a_gpu_and_goes_on_on_the_cpu_when_it_is_full(tmp_path):
    made, _ = tiny_expert(tmp_path)
    (tmp_path / "sound.wav").write_bytes(tiny_wav(b"\x09" * 32, rate=16000, seconds=1))
    for room, notes in ((1 << 30, 0), (1000, 1)):
        told = []
        with pretended() as gpus:
            expert = made()
            expert.load("cuda:0", {"folder": tmp_path})
            held = gpus[0].held
            gpus[0].total = held + room
            run = Run(seed=1, progress=lambda *what, told=told: told.append(what))
            with contextlib.suppress(ExpertError):  # a model of random numbers may hear nobody
                expert.run({"audio": tmp_path / "sound.wav"}, run)
            assert 0 < held < gpus[0].most
            assert len([t for t in told if "going on on the CPU" in t[2]]) == notes
            assert told[-1] == (1.0, 1.0, "seconds of audio")


@pytest.mark.parametrize("name", ["stable-diffusion-1-5", "zeroscope-v2-576w", "audioldm2", "wan-2-1-t2v"])
def test_each_way_to_save_memory_takes_less_than_the_one_before(registry, hub, things, name):
    most = []
    for offload in ("none", "model", "sequential"):
        with pretended() as gpus:
            expert = ready_expert(registry, hub, name, "cuda:0", offload=offload)
            assert used(expert, things)[0].data
            most.append(gpus[0].most)
            expert.unload()
    assert most[0] > most[1] > most[2]


def test_a_picture_that_does_not_fit_is_tried_in_tiles_part_by_part_and_at_half_the_size(registry, hub, things):
    """The memory there is against what was said on the way and the picture that came."""
    said = ("pictures in slices and tiles", "parts that rest are moved off the GPU", "half the size")
    for memory, notes, side in ((900_000, 0, 64), (800_000, 2, 64), (600_000, 3, 32)):
        told = []
        with pretended(memory=memory):
            expert = ready_expert(registry, hub, "stable-diffusion-1-5", "cuda:0", offload="none", width=64, height=64)
            run = Run(seed=3, progress=lambda *what, told=told: told.append(what[2]))
            picture = Image.open(io.BytesIO(used(expert, things, run)[0].data))
        assert [t.split(": ")[1] for t in told if t != "steps"] == list(said[:notes])
        assert picture.size == (side, side)


def test_a_pipeline_without_slices_takes_the_next_step_down(registry, hub, things):
    told = []
    with pretended(memory=7_000_000):
        expert = ready_expert(registry, hub, "stable-video-diffusion", "cuda:0", offload="none")
        assert used(expert, things, Run(seed=3, progress=lambda *what: told.append(what[2])))[0].data
    assert "out of memory, trying again: parts that rest are moved off the GPU" in told


def test_auto_lies_whole_where_the_card_s_memory_is_free_and_part_by_part_where_not(registry, hub):
    for memory, placed in ((1 << 40, "none"), (1 << 30, "model")):
        with pretended(memory=memory):
            assert ready_expert(registry, hub, "stable-diffusion-1-5", "cuda:0").placed == placed


@pytest.mark.parametrize("name", ["vit-base", "musicgen-small", "flan-t5-base"])
def test_a_model_that_has_no_room_to_work_goes_on_on_the_cpu(registry, hub, things, name):
    told = []
    with pretended() as gpus:
        expert = ready_expert(registry, hub, name, "cuda:0")
        gpus[0].total = gpus[0].held + 100
        assert used(expert, things, Run(seed=3, progress=lambda *what: told.append(what[2])))[0].data
        assert expert.device == "cpu"
        gc.collect()
        assert gpus[0].held == 0
    assert "the GPU's memory is full: going on on the CPU" in told


def test_two_gpus_are_used_and_who_finds_no_room_rests(registry, hub, things):
    """Real experts under residency, with cards that say that one fits on each GPU."""
    classes = []
    for name in ("vit-base", "bert-ner", "clap-sounds"):
        expert = small_expert(registry, name)
        classes.append(type(name, (expert,), {"card": replace(expert.card, memory=20 * MB)}))
        hub.ready(expert).unload()
    with pretended(2, memory=30 * MB) as gpus:
        residency, places = Residency(None, hub.weights, "auto"), []
        for expert in (*classes, classes[0]):
            with residency.use(expert) as instance:
                assert used(instance, things)[0].data
                places.append(instance.device)
        assert places == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"], "who was unused for longest makes room"
        assert [(r.name, r.device) for r in residency.loaded()] == [
            ("vit-base", "cuda:1"), ("clap-sounds", "cuda:0"), ("bert-ner", "cpu"),
        ]  # fmt: skip
        assert all(g.held > 0 for g in gpus)
        residency.unload_all()
        gc.collect()
        assert [g.held for g in gpus] == [0, 0]


def test_what_stable_diffusion_takes_is_counted_at_full_size():
    """benchmarks/gpu_memory.py; its parts have 1,066 million numbers, two bytes each."""
    import gpu_memory

    with pretended(count=True) as gpus:
        weights, whole, tiles, apart = gpu_memory.taken(
            gpu_memory.Machine("cuda:0", False, 2), gpus[0], "stable-diffusion"
        )
    assert weights == pytest.approx(2.132, abs=0.01)
    assert whole == pytest.approx(2.5, abs=0.1), "an H200 held 2.8 GB"
    assert apart < tiles <= whole
