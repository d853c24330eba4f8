"""Full-size models with random weights on a GPU: seconds and memory of a request, and what each memory option saves.

    python benchmarks/full_size.py --out figures.json              # on a GPU; about two minutes on an H200
    python benchmarks/full_size.py --scale tiny --device cpu       # the same path at toy size
    python benchmarks/full_size.py --only nextgpt --device cpu --steps 2    # in bfloat16; 24 GB of memory and swap

Time and memory do not depend on what the weights are, so that none have to be fetched. Prompts go in as embeddings of
zeros; text encoders lie in memory and are not run. Cases are run in this order until `--seconds`
are over; those after are left out, and named. Memory is the most that torch held at once; on a CPU the most that
the process did so far, what is swapped out not counted. `gpu_memory.py` counts memory where there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import diffusers
import torch
import transformers

from anyloom.mmllm.contracts import Setting
from anyloom.mmllm.full.networks import Networks, built

AUDIOLDM2: dict[str, Any] = {
    "sample_size": 256, "in_channels": 8, "out_channels": 8, "block_out_channels": (128, 256, 384, 640),
    "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 3), "attention_head_dim": 8,
    "up_block_types": (*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"), "cross_attention_dim": ((None, 768, 1024),) * 4,
}  # fmt: skip
FLAN_T5_LARGE: dict[str, Any] = {
    "d_model": 1024, "d_ff": 2816, "d_kv": 64, "num_layers": 24, "num_heads": 16, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
WHISPER_LARGE: dict[str, Any] = {
    "d_model": 1280, "encoder_layers": 32, "decoder_layers": 32, "encoder_attention_heads": 20,
    "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120, "num_mel_bins": 128,
    "vocab_size": 51_866, "max_source_positions": 1500,
}  # fmt: skip
TINY_NEXTGPT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 300,
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Where it runs and at what size."""

    device: str
    tiny: bool
    most_steps: int | None = None

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU to be measured."""
        return self.device.startswith("cuda")

    def steps(self, many: int) -> int:
        """Of denoising; two at toy size."""
        return 2 if self.tiny else min(many, self.most_steps or many)

    def wait(self) -> None:
        """Until the GPU has done what it was told."""
        if self.cuda:
            torch.cuda.synchronize()


@dataclass
class Row:
    """What one case came to."""

    case: str
    what: str
    seconds: float = 0.0
    gigabytes: float = 0.0
    note: str = ""
    each: dict[str, float] = field(default_factory=dict)


@contextmanager
def made_on(machine: Machine, dtype: torch.dtype) -> Iterator[None]:
    """New modules are made on the device, in this precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(machine.device):
            yield
    finally:
        torch.set_default_dtype(before)


def measured(machine: Machine, run: Callable[[], Any], warm: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds and the most memory (GB) of `run` after `warm`, and what it gave."""
    warm()
    machine.wait()
    if machine.cuda:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    found = run()
    machine.wait()
    seconds = time.perf_counter() - started
    return seconds, torch.cuda.max_memory_allocated() / 1e9 if machine.cuda else held(machine), found


def half(machine: Machine) -> torch.dtype:
    """Half precision, where the machine has it for everything."""
    return torch.float16 if machine.cuda else torch.float32


def networks(machine: Machine, kind: str, dtype: torch.dtype) -> Networks:
    """The parts of a generator."""
    with made_on(machine, dtype):
        parts = built(kind, machine.tiny, Setting(device=machine.device))
    if not machine.tiny:  # as the published ones have it: the size of a tile
        parts.vae.tile_sample_min_size, parts.vae.tile_latent_min_size = 512, 64
    for part in (parts.unet, parts.vae, parts.text_encoder):
        part.to(dtype).requires_grad_(False).eval()
    return parts


def stable_diffusion(machine: Machine, dtype: torch.dtype) -> Any:
    """diffusers' own pipeline over the parts of Stable Diffusion 1.5."""
    parts = networks(machine, "stable-diffusion-1.5", dtype)
    return diffusers.StableDiffusionPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=None, unet=parts.unet, scheduler=parts.scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def zeroscope(machine: Machine, dtype: torch.dtype) -> Any:
    """The same of Zeroscope v2 576w."""
    parts = networks(machine, "zeroscope-v2-576w", dtype)
    return diffusers.TextToVideoSDPipeline(
        vae=parts.vae, text_encoder=parts.text_encoder, tokenizer=None, unet=parts.unet, scheduler=parts.scheduler
    )


def picture(machine: Machine, pipe: Any, steps: int, side: int = 512) -> Any:
    """One picture of 512 x 512 with guidance."""
    side = 16 if machine.tiny else side
    return pipe(**prompt(machine, pipe), height=side, width=side, num_inference_steps=steps, guidance_scale=7.5)


def clip(machine: Machine, pipe: Any, steps: int) -> Any:
    """One clip of 24 frames of 576 x 320."""
    high, wide, frames = (16, 16, 4) if machine.tiny else (320, 576, 24)
    return pipe(**prompt(machine, pipe), height=high, width=wide, num_frames=frames, num_inference_steps=steps,
                guidance_scale=7.5)  # fmt: skip


def prompt(machine: Machine, pipe: Any) -> dict[str, Any]:
    """Zeros in place of what a text encoder said of a prompt and of nothing."""
    width = pipe.text_encoder.config.hidden_size
    zeros = torch.zeros(1, 77, width, dtype=pipe.unet.dtype, device=machine.device)
    return {"prompt_embeds": zeros, "negative_prompt_embeds": zeros}


def diffusion(
    machine: Machine, name: str, make: Callable[..., Any], use: Callable[..., Any], steps: int
) -> Iterator[Row]:
    """Plain in half precision, a whole request; with each option, and in float32, a few steps of it."""
    steps = machine.steps(steps)
    pipe = make(machine, half(machine))
    pipe.set_progress_bar_config(disable=True)

    def row(what: str, count: int) -> Row:
        seconds, most, _ = measured(machine, lambda: use(machine, pipe, count), lambda: use(machine, pipe, 2))
        return Row(name, what, seconds, most, f"{count} steps")

    yield row("half precision", steps)
    pipe.vae.enable_slicing()
    pipe.vae.enable_tiling()
    few = machine.steps(10)
    yield row("VAE in slices and tiles", few)
    if machine.cuda:
        pipe.enable_model_cpu_offload(device=machine.device)
        yield row("part by part (model offload) too", few)
    del pipe
    emptied(machine)
    pipe = make(machine, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    yield row("float32", few)


def audioldm2_pipe(machine: Machine, kind: torch.dtype) -> Any:
    """diffusers' own pipeline over the parts of AudioLDM 2."""
    small: dict[str, Any] = {"block_out_channels": (32, 32, 64, 64), "attention_head_dim": 8} if machine.tiny else {}
    t5 = {**FLAN_T5_LARGE, "num_layers": 1} if machine.tiny else FLAN_T5_LARGE
    with made_on(machine, kind):
        first = built("audioldm-l-full", False, Setting(device=machine.device))
        unet: Any = diffusers.AudioLDM2UNet2DConditionModel(**{**AUDIOLDM2, **small})
        parts = {
            "text_encoder_2": transformers.T5EncoderModel(transformers.T5Config(**t5)),
            "language_model": transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1 if machine.tiny else 12)),
            "projection_model": diffusers.AudioLDM2ProjectionModel(512, 1024, 768),
        }
    pipe: Any = diffusers.AudioLDM2Pipeline(
        vae=first.vae.to(kind), text_encoder=first.text_encoder.to(kind), tokenizer=None,
        tokenizer_2=None, feature_extractor=None, unet=unet.to(kind), scheduler=first.scheduler,
        vocoder=first.vocoder.to(kind), **parts,
    )  # fmt: skip
    return pipe


def sound(machine: Machine, pipe: Any, steps: int) -> Any:
    """Nine seconds of sound at 16 kHz."""
    kind = pipe.unet.dtype
    ones = torch.ones(1, 30, dtype=torch.long, device=machine.device)
    long = torch.zeros(1, 30, 1024, dtype=kind, device=machine.device)
    short = torch.zeros(1, 8, 768, dtype=kind, device=machine.device)

    return pipe(
        prompt_embeds=long, negative_prompt_embeds=long, generated_prompt_embeds=short, attention_mask=ones,
        negative_generated_prompt_embeds=short, negative_attention_mask=ones, num_inference_steps=steps,
        guidance_scale=3.5, audio_length_in_s=0.64 if machine.tiny else 9.0,
    )  # fmt: skip


def audioldm2(machine: Machine) -> Iterator[Row]:
    """AudioLDM 2: 200 steps."""
    steps, pipe = machine.steps(200), audioldm2_pipe(machine, half(machine))
    pipe.set_progress_bar_config(disable=True)
    seconds, most, _ = measured(machine, lambda: sound(machine, pipe, steps), lambda: sound(machine, pipe, 2))
    yield Row("AudioLDM 2", "half precision", seconds, most, f"{steps} steps, 9 s of sound")


def whisper(machine: Machine) -> Iterator[Row]:
    """Whisper large v3's size: half a minute of sound, a hundred tokens."""
    small: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 1} if machine.tiny else {}
    with made_on(machine, half(machine)):
        model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**{**WHISPER_LARGE, **small}))
        heard = torch.zeros(1, 128, 3000)
    model.eval()
    count = 5 if machine.tiny else 100

    def use() -> Any:
        return model.generate(heard, max_new_tokens=count, min_new_tokens=count, do_sample=False)

    seconds, most, _ = measured(machine, use, use)
    yield Row("Whisper large v3", "half precision", seconds, most, f"30 s of sound, {count} tokens")


def nextgpt(machine: Machine) -> Iterator[Row]:
    """The recipe nextgpt-7b: a picture is read, words come, and a picture, a clip and a sound are made."""
    from PIL import Image

    from anyloom.mmllm.dialogue import Seen, Turn
    from anyloom.mmllm.inference import Speaker
    from anyloom.mmllm.model import MultimodalLM
    from anyloom.mmllm.registry import Parts

    dtype = torch.float32 if machine.tiny and not machine.cuda else torch.bfloat16
    started = time.perf_counter()
    with made_on(machine, dtype):
        setting = Setting(device=machine.device, dtype=str(dtype).removeprefix("torch."))
        model = MultimodalLM.build(recipe(machine.tiny), Parts.installed(), setting)
    for part in (model.projectors, model.rows, model.output_projectors):
        part.float()  # as they are trained
    machine.wait()
    yield Row("NExT-GPT 7B", "made", time.perf_counter() - started, held(machine), "all parts, bfloat16")
    speaker, steps = Speaker(model), machine.steps(30)
    count = 4 if machine.tiny else 32 if machine.cuda else 8
    with TemporaryDirectory() as folder:
        shown = Path(folder) / "picture.png"
        Image.new("RGB", (64, 64), (200, 30, 30)).save(shown)
        talk = [Turn("user", (Seen("image", "one"), "What is this?"))]

        def say(tokens: int) -> Any:
            speaker._known.clear()
            speaker._features.clear()
            return speaker.speak(talk, {"one": shown}, max_tokens=tokens)

        seconds, most, reply = measured(machine, lambda: say(count), lambda: say(2))
    yield Row("NExT-GPT 7B", "a picture read, words", seconds, most, f"{len(reply.ids)} tokens")
    for modality in ("image", "audio", "video"):
        size = model.signals.counts[modality]
        with torch.inference_mode():
            states = torch.zeros(1, size, model.backbone.hidden, device=machine.device)
            condition = model.output_projectors[modality](states)[0]

        def use(count: int, modality: str = modality, condition: Any = condition) -> Any:
            return speaker.generate(modality, condition, seed=1, options={"steps": count})

        seconds, most, _ = measured(machine, lambda: use(steps), lambda: use(2))
        yield Row("NExT-GPT 7B", f"signals to {modality}", seconds, most, f"{steps} steps; all parts in memory")


def recipe(tiny: bool) -> Any:
    """`nextgpt-7b`, or the same with every width reduced."""
    from importlib import resources
    from tomllib import loads

    from anyloom.mmllm.recipe import Recipe

    if not tiny:
        return Recipe.read("nextgpt-7b")
    data = loads((resources.files("anyloom.mmllm.recipes") / "nextgpt-7b.toml").read_text(encoding="utf-8"))
    data["backbone"] = {"kind": "vicuna-7b", **TINY_NEXTGPT}
    for part in data["input"].values():
        part["encoder"] |= {"width": 32, "layers": 2}
    for part in data["output"].values():
        part["generator"] = {"kind": part["generator"], "narrow": True}
        part["projector"] = {"kind": "transformer", "width": 32, "layers": 1}
    return Recipe.parse(data)


def held(machine: Machine) -> float:
    """GB in use now; on a CPU the most so far."""
    if machine.cuda:
        return torch.cuda.memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def emptied(machine: Machine) -> None:
    """Gives back what nobody holds."""
    gc.collect()
    if machine.cuda:
        torch.cuda.empty_cache()


def cases(machine: Machine) -> dict[str, Callable[[], Iterator[Row]]]:
    """In the order in which they are run."""
    return {
        "stable-diffusion": lambda: diffusion(machine, "Stable Diffusion 1.5", stable_diffusion, picture, 50),
        "nextgpt": lambda: nextgpt(machine),
        "audioldm2": lambda: audioldm2(machine),
        "whisper": lambda: whisper(machine),
        "zeroscope": lambda: diffusion(machine, "Zeroscope v2 576w", zeroscope, clip, 50),
    }


def main() -> None:
    """Runs the cases and prints a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full")
    parser.add_argument("--only", action="append", help="A case; may be repeated.")
    parser.add_argument("--seconds", type=float, default=600, help="No case is begun after these.")
    parser.add_argument("--out", type=Path, help="A file for the figures, as JSON.")
    parser.add_argument("--steps", type=int, help="Of denoising, at most.")
    chosen = parser.parse_args()
    machine = Machine(chosen.device, chosen.scale == "tiny", chosen.steps)
    name = torch.cuda.get_device_name() if machine.cuda else "CPU"
    print(f"{name}; torch {torch.__version__}, diffusers {diffusers.__version__}, transformers "
          f"{transformers.__version__}; random weights{', toy size' if machine.tiny else ''}\n")  # fmt: skip
    print("| model | how | seconds | GB at most | |\n|---|---|---|---|---|", flush=True)
    rows, began = [], time.monotonic()
    for case, rows_of in cases(machine).items():
        if chosen.only and case not in chosen.only:
            continue
        left = held(machine) if machine.cuda else 0.0  # by a case that failed
        try:
            for row in rows_of():
                row.gigabytes -= left
                rows.append(row)
                print(f"| {row.case} | {row.what} | {row.seconds:.2f} | {row.gigabytes:.1f} | {row.note} |", flush=True)
                if time.monotonic() - began > chosen.seconds:
                    break
        except Exception as e:  # one case's failure does not cost the others
            print(f"| {case} | failed: {type(e).__name__}: {' '.join(str(e).split())[:200]} | | | |", flush=True)
            if machine.tiny:
                raise
        emptied(machine)
        if time.monotonic() - began > chosen.seconds:
            print(f"\nThe time was over in or after {case}; what comes behind was left out.")
            break
    if chosen.out:
        chosen.out.write_text(json.dumps({"device": name, "rows": [vars(r) for r in rows]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
