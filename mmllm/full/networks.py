"""The networks of the full generators: built from their published sizes, or opened from a pipeline's folder.

networks = built("stable-diffusion-1.5", narrow=False, setting)     # under torch.device("meta"): counts
networks = opened("stable-diffusion-1.5", folder, setting)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import WeightsError
from ..contracts import Setting

_SD: dict[str, Any] = {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}  # fmt: skip
_ZEROSCOPE: dict[str, Any] = {
    "sample_size": 32, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024,
    "attention_head_dim": 64, "down_block_types": ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
    "up_block_types": ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
}  # fmt: skip
_AUDIOLDM: dict[str, Any] = {
    "sample_size": 128, "in_channels": 8, "out_channels": 8, "layers_per_block": 2,
    "block_out_channels": (256, 512, 768, 1280), "cross_attention_dim": (256, 512, 768, 1280), "attention_head_dim": 32,
    "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",), "class_embed_type": "simple_projection",
    "projection_class_embeddings_input_dim": 512, "class_embeddings_concat": True,
}  # fmt: skip
_CLIP_L: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
}  # fmt: skip
_CLIP_H: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
    "hidden_act": "gelu",
}  # fmt: skip
_VAE: dict[str, Any] = {"block_out_channels": (128, 256, 512, 512), "latent_channels": 4, "layers_per_block": 2}
_SOUND_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512), "latent_channels": 8, "layers_per_block": 2, "in_channels": 1,
    "out_channels": 1, "scaling_factor": 0.9227,
}  # fmt: skip
_VOCODER: dict[str, Any] = {
    "model_in_dim": 64, "sampling_rate": 16000, "upsample_initial_channel": 1024, "normalize_before": False,
    "upsample_rates": [5, 4, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 8, 4, 4],
}  # fmt: skip
_DDIM: dict[str, Any] = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
_AUDIO_DDIM: dict[str, Any] = {**_DDIM, "beta_start": 0.0015, "beta_end": 0.0195}


@dataclass
class Networks:
    """A generator's parts. `tokens` turns captions into ids and a mask; `condition` is the width the UNet reads."""

    unet: Any
    vae: Any
    text_encoder: Any
    scheduler: Any
    tokens: Callable[[Sequence[str], torch.device], tuple[Tensor, Tensor]]
    condition: int
    vocoder: Any = None
    side: int = 512
    picture: tuple[int, int] = (320, 576)
    frames: int = 24
    bands: int = 64
    shrink: int = 8


def built(kind: str, narrow: bool, setting: Setting) -> Networks:
    """The architecture with random (or meta) weights."""
    made = {"stable-diffusion-1.5": _picture, "zeroscope-v2-576w": _video, "audioldm-l-full": _sound}[kind](narrow)
    return _settled(made, setting)


def opened(kind: str, folder: Path, setting: Setting) -> Networks:
    """The networks out of a folder in diffusers' layout; WeightsError when something is missing."""
    import diffusers
    import transformers

    audio = kind == "audioldm-l-full"
    unet_class = diffusers.UNet3DConditionModel if kind.startswith("zeroscope") else diffusers.UNet2DConditionModel
    text_class = transformers.ClapTextModelWithProjection if audio else transformers.CLIPTextModel
    try:
        unet: Any = unet_class.from_pretrained(folder, subfolder="unet")
        vae: Any = diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae")
        text: Any = text_class.from_pretrained(folder, subfolder="text_encoder")
        vocoder: Any = transformers.SpeechT5HifiGan.from_pretrained(folder, subfolder="vocoder") if audio else None
        scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
    except (OSError, ValueError, KeyError) as e:
        raise WeightsError(f"'{folder}' is no {kind} in diffusers' layout ({' '.join(str(e).split())[:160]}).") from e
    condition = text.config.projection_dim if audio else text.config.hidden_size
    made = Networks(unet, vae, text, scheduler, _tokens(tokenizer), condition, vocoder)
    made.shrink = 2 ** (len(vae.config.block_out_channels) - 1)
    if audio:
        made.bands = vocoder.config.model_in_dim
        made.frames = 512
    else:
        made.side = int(unet.config.sample_size) * made.shrink
    return _settled(made, setting)


def _picture(narrow: bool) -> Networks:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    if narrow:
        unet = UNet2DConditionModel(**{**_SD, **_narrow_blocks(2), "sample_size": 8, "attention_head_dim": 4,
                                       "cross_attention_dim": 32})  # fmt: skip
        vae, text = _vae(AutoencoderKL, {**_VAE, **_NARROW_VAE}), _clip(_narrow_text(32))
        return Networks(unet, vae, text, DDIMScheduler(**_DDIM), _bytes(77), 32, side=16, shrink=2)
    unet = UNet2DConditionModel(**_SD)
    return Networks(unet, _vae(AutoencoderKL, _VAE), _clip(_CLIP_L), DDIMScheduler(**_DDIM), _bytes(77), 768)


def _video(narrow: bool) -> Networks:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel

    if narrow:
        blocks = {**_narrow_blocks(3), "norm_num_groups": 8}
        unet = UNet3DConditionModel(**{**_ZEROSCOPE, **blocks, "sample_size": 8, "attention_head_dim": 4,
                                       "cross_attention_dim": 32})  # fmt: skip
        vae, text = _vae(AutoencoderKL, {**_VAE, **_NARROW_VAE}), _clip(_narrow_text(32))
        return Networks(unet, vae, text, DDIMScheduler(**_DDIM), _bytes(77), 32, side=16, picture=(16, 16), frames=4,
                        shrink=2)  # fmt: skip
    unet = UNet3DConditionModel(**_ZEROSCOPE)
    return Networks(unet, _vae(AutoencoderKL, _VAE), _clip(_CLIP_H), DDIMScheduler(**_DDIM), _bytes(77), 1024, side=256)


def _sound(narrow: bool) -> Networks:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig

    if narrow:
        unet = UNet2DConditionModel(**{
            **_AUDIOLDM, "block_out_channels": (8, 16), "cross_attention_dim": (8, 16), "attention_head_dim": 4,
            "layers_per_block": 1, "norm_num_groups": 4, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "projection_class_embeddings_input_dim": 16,
        })  # fmt: skip
        vae = _vae(AutoencoderKL, {**_SOUND_VAE, **_NARROW_VAE, "latent_channels": 8})
        text = ClapTextModelWithProjection(
            ClapTextConfig(**_narrow_text(16), projection_dim=16, max_position_embeddings=80, pad_token_id=1)
        )
        vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(**{
            **_VOCODER, "model_in_dim": 16, "upsample_initial_channel": 16, "upsample_rates": [4, 4],
            "upsample_kernel_sizes": [8, 8], "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]],
            "initializer_range": 0.15,
        }))  # fmt: skip
        made = Networks(unet, vae, text, DDIMScheduler(**_AUDIO_DDIM), _bytes(77), 16, vocoder, frames=32, bands=16)
        made.shrink = 2
        return made
    unet = UNet2DConditionModel(**_AUDIOLDM)
    text = ClapTextModelWithProjection(ClapTextConfig())
    vocoder = SpeechT5HifiGan(SpeechT5HifiGanConfig(**_VOCODER))
    made = Networks(unet, _vae(AutoencoderKL, _SOUND_VAE), text, DDIMScheduler(**_AUDIO_DDIM), _bytes(77), 512, vocoder)
    made.shrink, made.frames = 4, 512
    return made


_NARROW_VAE: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}


def _narrow_blocks(dimensions: int) -> dict[str, Any]:
    kind = f"{dimensions}D"
    return {
        "block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8,
        "down_block_types": (f"CrossAttnDownBlock{kind}", f"DownBlock{kind}"),
        "up_block_types": (f"UpBlock{kind}", f"CrossAttnUpBlock{kind}"),
    }  # fmt: skip


def _narrow_text(width: int) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": 520}  # fmt: skip


def _vae(kind: Any, sizes: dict[str, Any]) -> Any:
    many = len(sizes["block_out_channels"])
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * many, "up_block_types": ("UpDecoderBlock2D",) * many}
    return kind(**{"scaling_factor": 0.18215, **sizes, **blocks})


def _clip(sizes: dict[str, Any]) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, **sizes}))


def _bytes(length: int) -> Any:
    """Bytes as ids, for architectures without a tokenizer: begin 0, end 2, padding 1."""

    def tokens(captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        rows = [[0, *(3 + b for b in c.encode()[: length - 2]), 2] for c in captions]
        ids = torch.tensor([r + [1] * (length - len(r)) for r in rows], device=device)
        return ids, (ids != 1).long()

    return tokens


def _tokens(tokenizer: Any) -> Any:
    def tokens(captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        most = min(int(tokenizer.model_max_length), 77)
        made = tokenizer(list(captions), padding="max_length", max_length=most, truncation=True, return_tensors="pt")
        return made["input_ids"].to(device), made["attention_mask"].to(device)

    return tokens


def _settled(made: Networks, setting: Setting) -> Networks:
    """On the device and in the precision of the setting; meta weights stay where they are."""
    for network in (made.unet, made.vae, made.text_encoder, made.vocoder):
        if network is not None and not next(network.parameters()).is_meta:
            network.to(setting.device)
            if network.dtype != getattr(torch, setting.dtype):
                network.to(getattr(torch, setting.dtype))
    return made
