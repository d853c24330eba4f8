"""What full-size models take of a GPU, and what each memory option saves, counted on a machine without one.

    python benchmarks/gpu_memory.py                       # ten models; a quarter of an hour on two cores
    python benchmarks/gpu_memory.py --only sdxl --only wan

The pipelines of `full_size.py` and more run on a pretended GPU (`pretend_gpu.py`), where large tensors are
not computed: what is counted is all that they would hold at once, text encoders included. Workspaces of cuDNN
and the like are not in it: where a GPU was measured it held up to a fifth more (docs/full-profile.md). Two steps.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch
import transformers
from full_size import (
    Machine,
    audioldm2_pipe,
    clip,
    made_on,
    nextgpt,
    picture,
    sound,
    stable_diffusion,
    whisper,
    zeroscope,
)  # fmt: skip
from PIL import Image
from pretend_gpu import Gpu, pretended

HALF = torch.float16
BLOCKS = (128, 256, 512, 512)
VAE: dict[str, Any] = {
    "block_out_channels": BLOCKS, "down_block_types": ("DownEncoderBlock2D",) * 4, "layers_per_block": 2,
    "up_block_types": ("UpDecoderBlock2D",) * 4, "latent_channels": 4, "sample_size": 1024, "force_upcast": True,
}  # fmt: skip
SDXL: dict[str, Any] = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "attention_head_dim": (5, 10, 20),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 2048,
    "transformer_layers_per_block": (1, 2, 10), "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
CLIP_L: dict[str, Any] = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
CLIP_H: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
}  # fmt: skip
BIG_G: dict[str, Any] = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280,
}  # fmt: skip
WAN: dict[str, Any] = {
    "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "text_dim": 4096,
    "freq_dim": 256, "ffn_dim": 8960, "num_layers": 30, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads",
}  # fmt: skip
UMT5: dict[str, Any] = {
    "vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu", "is_encoder_decoder": False,
}  # fmt: skip


ENCODERS = (
    transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection, transformers.T5EncoderModel,
    transformers.UMT5EncoderModel,
)  # fmt: skip


def sdxl(machine: Machine, kind: torch.dtype) -> Any:
    """Stable Diffusion XL base."""
    scheduler = diffusers.EulerDiscreteScheduler()  # its numbers stay on the CPU
    with made_on(machine, kind):
        return diffusers.StableDiffusionXLPipeline(
            vae=diffusers.AutoencoderKL(**VAE), unet=diffusers.UNet2DConditionModel(**SDXL),
            text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_L)),
            text_encoder_2=transformers.CLIPTextModelWithProjection(transformers.CLIPTextConfig(**BIG_G)),
            tokenizer=None, tokenizer_2=None, scheduler=scheduler, add_watermarker=False,
        )  # fmt: skip


def large_picture(machine: Machine, pipe: Any, steps: int) -> Any:
    """One of SDXL's, 1024 x 1024 with guidance."""
    long = torch.zeros(1, 77, 2048, dtype=HALF, device=machine.device)
    short = torch.zeros(1, 1280, dtype=HALF, device=machine.device)
    return pipe(
        prompt_embeds=long, negative_prompt_embeds=long, pooled_prompt_embeds=short,
        negative_pooled_prompt_embeds=short, num_inference_steps=steps,
    )  # fmt: skip


def wan(machine: Machine, kind: torch.dtype) -> Any:
    """Wan 2.1 1.3B."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with made_on(machine, kind):
        return diffusers.WanPipeline(
            tokenizer=None, text_encoder=transformers.UMT5EncoderModel(transformers.UMT5Config(**UMT5)),
            transformer=diffusers.WanTransformer3DModel(**WAN), vae=diffusers.AutoencoderKLWan(),
            scheduler=scheduler,
        )  # fmt: skip


def long_clip(machine: Machine, pipe: Any, steps: int) -> Any:
    """One of Wan's, 81 frames of 832 x 480 with guidance."""
    zeros = torch.zeros(1, 512, 4096, dtype=HALF, device=machine.device)
    return pipe(prompt_embeds=zeros, negative_prompt_embeds=zeros, height=480, width=832, num_frames=81,
                num_inference_steps=steps)  # fmt: skip


def see() -> dict[str, Any]:
    """CLIP ViT-H as both models that set pictures in motion have it, and what prepares its pictures."""
    seen = transformers.CLIPVisionConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14,
        projection_dim=1024,
    )  # fmt: skip
    encoder = transformers.CLIPVisionModelWithProjection(seen)
    return {"image_encoder": encoder, "feature_extractor": transformers.CLIPImageProcessor()}


def svd(machine: Machine, kind: torch.dtype) -> Any:
    """Stable Video Diffusion XT."""
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type="v_prediction")
    with made_on(machine, kind):
        return diffusers.StableVideoDiffusionPipeline(
            vae=diffusers.AutoencoderKLTemporalDecoder(
                block_out_channels=BLOCKS, down_block_types=VAE["down_block_types"], layers_per_block=2, sample_size=768
            ),
            unet=diffusers.UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20)),
            scheduler=scheduler, **see(),
        )  # fmt: skip


def moved(machine: Machine, pipe: Any, steps: int) -> Any:
    """25 frames of 1024 x 576 from a picture."""
    return pipe(Image.new("RGB", (1024, 576)), num_frames=25, decode_chunk_size=4, num_inference_steps=steps)


def i2vgen(machine: Machine, kind: torch.dtype) -> Any:
    """I2VGen-XL."""
    scheduler = diffusers.DDIMScheduler()
    with made_on(machine, kind):
        return diffusers.I2VGenXLPipeline(
            vae=diffusers.AutoencoderKL(**VAE), unet=diffusers.models.unets.I2VGenXLUNet(), tokenizer=None,
            text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP_H)), scheduler=scheduler,
            **see(),
        )  # fmt: skip


def moved_as_said(machine: Machine, pipe: Any, steps: int) -> Any:
    """16 frames of 1280 x 704 from a picture and a text, with guidance."""
    zeros = torch.zeros(1, 77, 1024, dtype=HALF, device=machine.device)
    return pipe(image=Image.new("RGB", (1280, 704)), prompt_embeds=zeros, negative_prompt_embeds=zeros, height=704,
                width=1280, num_frames=16, decode_chunk_size=4, num_inference_steps=steps)  # fmt: skip


def larger(machine: Machine, pipe: Any, steps: int) -> Any:
    """1024 x 1024 by a model of 512 x 512."""
    return picture(machine, pipe, steps, side=1024)


PIPELINES: dict[str, tuple[str, Callable[..., Any], Callable[..., Any]]] = {
    "stable-diffusion": ("Stable Diffusion 1.5, 512 x 512", stable_diffusion, picture),
    "larger": ("Stable Diffusion 1.5, 1024 x 1024", stable_diffusion, larger),
    "sdxl": ("Stable Diffusion XL, 1024 x 1024", sdxl, large_picture),
    "zeroscope": ("Zeroscope v2 576w, 24 frames of 576 x 320", zeroscope, clip),
    "svd": ("Stable Video Diffusion XT, 25 frames of 1024 x 576", svd, moved),
    "i2vgen": ("I2VGen-XL, 16 frames of 1280 x 704", i2vgen, moved_as_said),
    "wan": ("Wan 2.1 1.3B, 81 frames of 832 x 480", wan, long_clip),
    "audioldm2": ("AudioLDM 2, 9 s", audioldm2_pipe, sound),
}
OTHERS = {"whisper": whisper, "nextgpt": nextgpt}


def taken(machine: Machine, gpu: Gpu, name: str) -> Iterator[float]:
    """GB: weights, a request with all on the GPU, with the VAE in slices and tiles, and part by part too."""
    _, make, use = PIPELINES[name]
    pipe = make(machine, HALF).to(machine.device)  # some numbers are made on the CPU wherever the rest is
    pipe.set_progress_bar_config(disable=True)
    yield gpu.held / 1e9

    def most() -> float:
        gc.collect()
        gpu.most = gpu.held
        for part in pipe.components.values():
            if isinstance(part, ENCODERS):
                part(input_ids=torch.ones(1, 77, dtype=torch.long, device=machine.device))
        use(machine, pipe, 2)
        return gpu.most / 1e9

    yield most()
    for switch in ("enable_slicing", "enable_tiling"):
        with contextlib.suppress(NotImplementedError):  # not every VAE has both
            getattr(pipe.vae, switch)()
    yield most()
    pipe.to("cpu")
    pipe.enable_model_cpu_offload(device=machine.device)
    yield most()


def main() -> None:
    """Counts, and prints a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", action="append", choices=[*PIPELINES, *OTHERS], help="A model; may be repeated.")
    chosen = parser.parse_args().only or [*PIPELINES, *OTHERS]
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    print("| model and request | weights | whole | VAE in slices and tiles | part by part too |\n|---|---|---|---|---|")
    machine = Machine("cuda:0", False, 2)
    for name in (n for n in PIPELINES if n in chosen):
        with pretended(count=True) as gpus:
            figures = " | ".join(f"{gb:.1f}" for gb in taken(machine, gpus[0], name))
            print(f"| {PIPELINES[name][0]} | {figures} |", flush=True)
        gc.collect()
    for name in (n for n in OTHERS if n in chosen):
        with pretended(count=True):
            for row in OTHERS[name](machine):
                print(f"| {row.case}: {row.what} | | {row.gigabytes:.1f} | | |", flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
