"""Full-size architectures from their published configurations, on the meta device: the published parameter counts.

Stable Diffusion (Rombach et al. 2022), Zeroscope v2 576w, AudioLDM (Liu et al. 2023), BLIP (Li et al. 2022),
Whisper (Radford et al. 2022).
"""

import pytest

pytest.importorskip("diffusers", reason="pip install 'anyloom[full]'")

import torch
import transformers


def count(make):
    with torch.device("meta"):
        return sum(p.numel() for p in make().parameters())


SD = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}


def test_stable_diffusion():
    from diffusers import AutoencoderKL, UNet2DConditionModel

    assert count(lambda: UNet2DConditionModel(**SD)) == 859_520_964
    second = {"attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True}
    assert count(lambda: UNet2DConditionModel(**{**SD, **second})) == 865_910_724
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = {"block_out_channels": (128, 256, 512, 512), "latent_channels": 4, "layers_per_block": 2, **blocks}
    assert count(lambda: AutoencoderKL(**vae)) == 83_653_863
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    assert count(lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**text))) == 123_060_480
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
    assert (
        count(lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**large, hidden_act="gelu")))
        == 340_387_840
    )


def test_instruct_pix2pix_has_eight_channels_in():
    from diffusers import UNet2DConditionModel

    more = 4 * 9 * 320  # four channels, 3 x 3, to 320
    assert count(lambda: UNet2DConditionModel(**{**SD, "in_channels": 8})) == 859_520_964 + more


def test_zeroscope():
    from diffusers import UNet3DConditionModel

    config = {
        "sample_size": 32,
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 1024,
        "attention_head_dim": 64,
        "down_block_types": ("CrossAttnDownBlock3D",) * 3 + ("DownBlock3D",),
        "up_block_types": ("UpBlock3D",) + ("CrossAttnUpBlock3D",) * 3,
    }
    assert count(lambda: UNet3DConditionModel(**config)) == 1_411_233_860


def test_audioldm():
    from diffusers import UNet2DConditionModel

    def unet(width):
        return UNet2DConditionModel(
            sample_size=128,
            in_channels=8,
            out_channels=8,
            block_out_channels=tuple(width * n for n in (1, 2, 3, 5)),
            down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 3,
            cross_attention_dim=tuple(width * n for n in (1, 2, 3, 5)),
            up_block_types=("CrossAttnUpBlock2D",) * 3 + ("UpBlock2D",),
            attention_head_dim=32,
            layers_per_block=2,
            class_embed_type="simple_projection",
            projection_class_embeddings_input_dim=512,
            class_embeddings_concat=True,
        )

    assert count(lambda: unet(128)) == 185_036_552
    assert count(lambda: unet(256)) == 739_139_080


def test_blip():
    config = transformers.BlipConfig(vision_config={"image_size": 384})
    assert count(lambda: transformers.BlipForConditionalGeneration(config)) == 223_971_644


WHISPER = {
    "tiny": (384, 6, 4, 80, 51865, 37_760_640),
    "base": (512, 8, 6, 80, 51865, 72_593_920),
    "small": (768, 12, 12, 80, 51865, 241_734_912),
    "medium": (1024, 16, 24, 80, 51865, 763_857_920),
    "large-v2": (1280, 20, 32, 80, 51865, 1_543_304_960),
    "large-v3": (1280, 20, 32, 128, 51866, 1_543_490_560),
}


@pytest.mark.parametrize("size", WHISPER)
def test_whisper(size):
    width, heads, layers, bands, words, expected = WHISPER[size]
    config = transformers.WhisperConfig(
        d_model=width,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        num_mel_bins=bands,
        vocab_size=words,
    )
    assert count(lambda: transformers.WhisperForConditionalGeneration(config)) == expected
