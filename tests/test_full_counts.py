"""Full-size architectures from their published configurations, on the meta device: the published parameter counts.

Stable Diffusion (Rombach et al. 2022), Zeroscope v2 576w, AudioLDM (Liu et al. 2023), BLIP (Li et al. 2022),
Whisper (Radford et al. 2022); and the table PUBLISHED, a line for each of the others: the class, what its
configuration on the hub sets besides the class's defaults, the count, what was published, and where.
"""

import pytest

pytest.importorskip("diffusers", reason="pip install 'anyloom[full]'")

import torch
import transformers
from full_size import AUDIOLDM2
from gpu_memory import BIG_G, SDXL, UMT5, WAN


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


def config(name, **values):
    return getattr(transformers, f"{name}Config")(**values)


def model(kind, settings):
    return getattr(transformers, kind)(settings)


def of_diffusers(kind, **values):
    import diffusers

    return getattr(diffusers, kind)(**values)


OPT = {
    "model_type": "opt", "hidden_size": 2560, "num_hidden_layers": 32, "ffn_dim": 10_240, "num_attention_heads": 32,
    "word_embed_proj_dim": 2560, "vocab_size": 50_304,
}  # fmt: skip
DPT = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "backbone_out_indices": [5, 11, 17, 23], "neck_hidden_sizes": [256, 512, 1024, 1024],
}  # fmt: skip
QWEN = {
    "vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
QWEN_3B = {**QWEN, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "num_attention_heads": 16}
SMOLLM = {
    "vocab_size": 49_152, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
    "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": True,
}  # fmt: skip
DEBERTA = {
    "vocab_size": 128_100, "type_vocab_size": 0, "relative_attention": True, "position_buckets": 256,
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p", "position_biased_input": False,
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
}  # fmt: skip
SMOLVLM = {
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                      "image_size": 512, "patch_size": 16},
    "text_config": {"model_type": "llama", "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32,
                    "num_attention_heads": 15, "num_key_value_heads": 5, "vocab_size": 49_280},
    "scale_factor": 4,
}  # fmt: skip
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def detr():
    resnet = config("ResNet", out_features=["stage4"])
    own = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None, "num_labels": 91}
    return model("DetrForObjectDetection", config("Detr", backbone_config=resnet, **own))


def mask2former():
    swin = config("Swin", depths=[2, 2, 6, 2], out_features=STAGES)
    return model("Mask2FormerForUniversalSegmentation", config("Mask2Former", backbone_config=swin, num_labels=133))


def upernet():
    convnext = config("ConvNext", depths=[3, 3, 27, 3], hidden_sizes=[96, 192, 384, 768], out_features=STAGES)
    own = {"num_labels": 150, "auxiliary_in_channels": 384}
    return model("UperNetForSemanticSegmentation", config("UperNet", backbone_config=convnext, **own))


def vitpose():
    return model(
        "VitPoseForPoseEstimation",
        config("VitPose", backbone_config=config("VitPoseBackbone"), num_labels=17, use_simple_decoder=True),
    )


PUBLISHED = {
    "sdxl": (
        lambda: of_diffusers("UNet2DConditionModel", **SDXL),
        2_567_463_684,
        "2.6B",
        "UNet; Podell et al. 2023, table 1",
    ),
    "sdxl-text": (
        lambda: model("CLIPTextModelWithProjection", config("CLIPText", **BIG_G)),
        694_659_840,
        "694M",
        "OpenCLIP ViT-bigG; 817M with CLIP ViT-L's 123M; Podell et al. 2023, table 1",
    ),
    "audioldm2": (
        lambda: of_diffusers("AudioLDM2UNet2DConditionModel", **AUDIOLDM2),
        346_943_496,
        "350M",
        "UNet; the card of cvssp/audioldm2",
    ),
    "svd": (
        lambda: of_diffusers("UNetSpatioTemporalConditionModel", num_attention_heads=(5, 10, 20, 20)),
        1_524_623_082,
        "1.52B",
        "UNet; Blattmann et al. 2023",
    ),
    "wan": (
        lambda: of_diffusers("WanTransformer3DModel", **WAN),
        1_418_996_800,
        "1.42B",
        "its 5.68 GB on the hub, 4 bytes each; called 1.3B",
    ),
    "wan-vae": (lambda: of_diffusers("AutoencoderKLWan"), 126_892_531, "127M", "Wan team 2025"),
    "wan-text": (
        lambda: model("UMT5EncoderModel", config("UMT5", **UMT5)),
        5_680_910_336,
        "5.68B",
        "its 22.73 GB on the hub, 4 bytes each",
    ),
    "blip2": (
        lambda: model("Blip2ForConditionalGeneration", config("Blip2", text_config=OPT)),
        3_744_761_856,
        "3.8B",
        "Li et al. 2023, table 2; 3.74B on the hub",
    ),
    "dpt": (lambda: model("DPTForDepthEstimation", config("DPT", **DPT)), 343_030_465, "343M", "Ranftl et al. 2021"),
    "detr": (detr, 41_524_768, "41.6M", "the hub's count; 41M in Carion et al. 2020, table 1"),
    "rt-detr": (
        lambda: model("RTDetrForObjectDetection", config("RTDetr", num_labels=80)),
        42_891_372,
        "42M",
        "Zhao et al. 2023, table 2",
    ),
    "vit": (
        lambda: model("ViTForImageClassification", config("ViT", num_labels=1000)),
        86_567_656,
        "86567656",
        "torchvision",
    ),
    "resnet": (
        lambda: model("ResNetForImageClassification", config("ResNet", num_labels=1000)),
        25_557_032,
        "25557032",
        "torchvision",
    ),
    "mask2former": (mask2former, 47_436_800, "47M", "Cheng et al. 2022, table 1"),
    "upernet": (upernet, 81_877_196, "82M", "Liu et al. 2022, table 4"),
    "vitpose": (vitpose, 85_912_337, "86M", "Xu et al. 2022, table 1"),
    "depth-anything": (
        lambda: model("DepthAnythingForDepthEstimation", config("DepthAnything")),
        24_785_089,
        "24.8M",
        "the card of Depth Anything V2",
    ),
    "smolvlm": (
        lambda: model("Idefics3ForConditionalGeneration", config("Idefics3", **SMOLVLM)),
        507_482_304,
        "0.5B",
        "its name",
    ),
    "qwen2-5-vl": (
        lambda: model("Qwen2ForCausalLM", config("Qwen2", **QWEN_3B)),
        3_085_938_688,
        "3.09B",
        "its language model; the card of Qwen2.5-3B",
    ),
    "qwen2-5": (
        lambda: model("Qwen2ForCausalLM", config("Qwen2", **QWEN)),
        1_543_714_304,
        "1.54B",
        "the card of Qwen2.5-1.5B-Instruct",
    ),
    "smollm2": (
        lambda: model("LlamaForCausalLM", config("Llama", **SMOLLM)),
        1_711_376_384,
        "1711376384",
        "the hub's count",
    ),
    "bart": (
        lambda: model("BartForConditionalGeneration", config("Bart")),
        406_291_456,
        "400M",
        "fairseq's table of models",
    ),
    "distilbart": (
        lambda: model("BartForConditionalGeneration", config("Bart", decoder_layers=6)),
        305_511_424,
        "306M",
        "its card",
    ),
    "bert": (lambda: model("BertModel", config("Bert", vocab_size=28_996)), 108_310_272, "110M", "Devlin et al. 2019"),
    "distilbert": (
        lambda: model("DistilBertModel", config("DistilBert", vocab_size=28_996)),
        65_190_912,
        "66M",
        "Sanh et al. 2019",
    ),
    "roberta": (
        lambda: model("RobertaModel", config("Roberta", max_position_embeddings=514, type_vocab_size=1)),
        124_645_632,
        "125M",
        "Liu et al. 2019; fairseq's table of models",
    ),
    "mpnet": (
        lambda: model("MPNetModel", config("MPNet", max_position_embeddings=514)),
        109_486_464,
        "110M",
        "Song et al. 2020",
    ),
    "minilm": (
        lambda: model("BertModel", config("Bert", vocab_size=250_037, hidden_size=384, intermediate_size=1536)),
        117_653_760,
        "117M",
        "21M and 96M of embeddings; the card of microsoft/Multilingual-MiniLM-L12-H384",
    ),
    "deberta": (
        lambda: model("DebertaV2Model", config("DebertaV2", **DEBERTA)),
        183_831_552,
        "184M",
        "86M and 98M of embeddings; the card of microsoft/deberta-v3-base",
    ),
    "wav2vec2": (lambda: model("Wav2Vec2ForCTC", config("Wav2Vec2")), 94_396_320, "95M", "Baevski et al. 2020"),
    "ast": (
        lambda: model("ASTForAudioClassification", config("AST", num_labels=527)),
        86_594_063,
        "87M",
        "Gong et al. 2021",
    ),
}


def close(count, published):
    """Whether a count is what was published, up to one in the last digit that was given."""
    if published.isdigit():
        return count == int(published)
    digits, unit = published[:-1], {"M": 1e6, "B": 1e9}[published[-1]]
    zeros = 0 if "." in digits else len(digits) - len(digits.rstrip("0"))
    step = 10 ** (zeros - len(digits.partition(".")[2]))
    return abs(count / unit - float(digits)) <= step


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    make, exact, published, source = PUBLISHED[name]
    found = count(make)
    assert found == exact
    assert close(found, published), f"{found:,} is not {published} ({source})"


T5 = {
    "flan-t5-base": (768, 2048, 64, 12, 12, 32_128, "247577856", "the hub's count; 250M in Chung et al. 2022"),
    "flan-t5-large": (1024, 2816, 64, 24, 16, 32_128, "780M", "Chung et al. 2022, table 2"),
    "madlad": (1024, 8192, 128, 32, 16, 256_000, "3B", "Kudugunta et al. 2023"),
}


@pytest.mark.parametrize("name", T5)
def test_t5_of_the_second_generation(name):
    """Its head is its own: transformers ties it until a checkpoint is read that has one."""
    width, inner, head, layers, heads, words, published, source = T5[name]
    settings = config(
        "T5", vocab_size=words, d_model=width, d_ff=inner, d_kv=head, num_layers=layers, num_decoder_layers=layers,
        num_heads=heads, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    found = count(lambda: model("T5ForConditionalGeneration", settings)) + words * width
    assert close(found, published), f"{found:,} is not {published} ({source})"


def test_musicgen_small_is_named_after_its_attention_and_feed_forward_layers():
    """Copet et al. 2023 say 300M; attention to the text, embeddings and heads are not in that."""
    with torch.device("meta"):
        decoder = model("MusicgenForCausalLM", config("MusicgenDecoder"))
    sizes = {name: p.numel() for name, p in decoder.named_parameters()}
    own = sum(n for name, n in sizes.items() if ".self_attn." in name or ".fc" in name)
    assert close(own, "300M")
    assert sum(sizes.values()) == 419_584_000


def test_bark_small_is_three_times_eighty_million_without_embeddings():
    """80M each, says the table of models of suno-ai/bark."""
    sizes = {"num_layers": 12, "num_heads": 12, "hidden_size": 768}
    with torch.device("meta"):
        part = model("BarkSemanticModel", config("BarkSemantic", **sizes, input_vocab_size=129_600))
    assert close(sum(p.numel() for name, p in part.named_parameters() if name.startswith("layers.")), "80M")
