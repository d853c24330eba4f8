"""More tiny checkpoints: vision-language models, Donut, Bark, and the pipelines from a picture to a video."""

import json

import tiny_tokens
import torch
from tiny_pictures import text_encoder, vae

VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def smolvlm(folder):
    """SmolVLM, which is an Idefics 3: a SigLIP, pixel shuffle, a Llama."""
    import transformers

    marks = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    turns = (
        "{% for m in messages %}{{ m['role'] }}:{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}Assistant:"
    )
    size = tiny_tokens.fast(folder, turns, 4096, marks)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    config = transformers.Idefics3Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **WORDS, "num_key_value_heads": 2, "vocab_size": size, "pad_token_id": 0},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    model = transformers.Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    looks = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    transformers.Idefics3Processor(looks, tokenizer, image_seq_len=4, chat_template=turns).save_pretrained(folder)


def blip2(folder):
    """BLIP-2: a ViT, a Q-Former, an OPT."""
    import transformers

    size = tiny_tokens.fast(folder, more=("<image>",))
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    text = {"model_type": "opt", "vocab_size": size, "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "word_embed_proj_dim": 16, "max_position_embeddings": 256}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    config = transformers.Blip2Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 16},
        qformer_config={**WORDS, "encoder_hidden_size": 16, "vocab_size": 8},
        text_config=text,
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = transformers.Blip2ForConditionalGeneration(config)
    with torch.no_grad():  # never the special ones, or nothing may be said
        model.language_model.get_input_embeddings().weight[:4] = 0
    model.save_pretrained(folder)
    looks = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.Blip2Processor(looks, tokenizer, num_query_tokens=4).save_pretrained(folder)


def donut(folder):
    """Donut: a Swin that reads, an mBART that writes."""
    import transformers

    size = tiny_tokens.fast(folder, more=("<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>", "</s_answer>"))
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    encoder = transformers.DonutSwinConfig(
        image_size=[32, 32], patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
    )
    decoder = transformers.MBartConfig(
        vocab_size=size,
        d_model=16,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        max_position_embeddings=128,
        is_decoder=True,
        add_cross_attention=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = config.pad_token_id = 0
    transformers.VisionEncoderDecoderModel(config).save_pretrained(folder)
    looks = transformers.DonutImageProcessor(size={"height": 32, "width": 32}, do_align_long_axis=False)
    transformers.DonutProcessor(looks, tokenizer).save_pretrained(folder)


def bark(folder):
    """Bark: three GPTs, which hand one another tokens of the published numbers, and EnCodec."""
    import transformers

    words = tiny_tokens.bert(folder, 256)
    part = {"num_layers": 1, "num_heads": 2, "hidden_size": 8, "block_size": 1024}
    codec = {"num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "target_bandwidths": [6.0], "num_lstm_layers": 1}
    model = transformers.BarkModel(
        transformers.BarkConfig(
            semantic_config={**part, "input_vocab_size": 129_600, "output_vocab_size": 10_048},
            coarse_acoustics_config={**part, "input_vocab_size": 12_096, "output_vocab_size": 12_096},
            fine_acoustics_config={**part, "input_vocab_size": 1_056, "output_vocab_size": 1_056},
            codec_config={"model_type": "encodec", **codec},
        )
    )
    assert words < 129_600 - 10_048
    for layer in model.codec_model.quantizer.layers:
        layer.codebook.embed.normal_()  # else every token sounds the same
    model.save_pretrained(folder)
    plain = {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
    semantic = {"eos_token_id": 10_000, "text_encoding_offset": 10_048, "text_pad_token": 129_595, "max_new_tokens": 4}
    semantic |= {"semantic_infer_token": 129_599, "semantic_pad_token": 10_000, "semantic_vocab_size": 10_000}
    coarse = {"coarse_semantic_pad_token": 12_048, "coarse_infer_token": 12_050, "n_coarse_codebooks": 2}
    parts = {"semantic_config": {**plain, **semantic}, "coarse_acoustics_config": {**plain, **coarse}}
    parts |= {"fine_acoustics_config": {"temperature": 0.5, "max_fine_history_length": 512, "n_fine_codebooks": 8}}
    told = {"model_type": "bark", "sample_rate": 24_000, "codebook_size": 1024, **parts}
    (folder / "generation_config.json").write_text(json.dumps(told))  # transformers can read one, and write none


VISIONS = ("<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")


def qwen_vl(folder):
    """Qwen2.5-VL: a ViT with windows, merged patches, a Qwen 2 with positions in three directions."""
    import transformers

    turns = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
        "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n"
    )
    size = tiny_tokens.fast(folder, turns, 4096, VISIONS)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    marks = {n: tokenizer.convert_tokens_to_ids(f"<|{w}|>") for n, w in (
        ("image_token_id", "image_pad"), ("video_token_id", "video_pad"), ("vision_start_token_id", "vision_start"),
        ("vision_end_token_id", "vision_end"),
    )}  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    text = {**WORDS, "num_key_value_heads": 1, "vocab_size": size, "max_position_embeddings": 4096}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    vision |= {"patch_size": 14, "spatial_merge_size": 2, "window_size": 112, "fullatt_block_indexes": [0]}
    config = transformers.Qwen2_5_VLConfig(
        text_config={**text, "rope_parameters": rope, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
        vision_config=vision,
        **marks,
    )
    model = transformers.Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    looks = {"min_pixels": 56 * 56, "max_pixels": 112 * 112}
    transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**looks), tokenizer, transformers.Qwen2VLVideoProcessor(**looks), turns
    ).save_pretrained(folder)


def image_encoder(width):
    """CLIP's picture side with its extractor."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**VISION, image_size=224, patch_size=112, projection_dim=width)
    return CLIPVisionModelWithProjection(config), CLIPImageProcessor(
        size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}
    )


def i2vgen(folder):
    """I2VGen-XL."""
    from diffusers import DDIMScheduler, I2VGenXLPipeline
    from diffusers.models.unets import I2VGenXLUNet

    text, tokenizer = text_encoder(folder)
    encoder, extractor = image_encoder(32)
    unet = I2VGenXLUNet(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    I2VGenXLPipeline(
        vae=vae(),
        text_encoder=text,
        tokenizer=tokenizer,
        image_encoder=encoder,
        feature_extractor=extractor,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
    ).save_pretrained(folder)


def svd(folder):
    """Stable Video Diffusion."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )

    encoder, extractor = image_encoder(32)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=8,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
    )
    made = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 64], down_block_types=["DownEncoderBlock2D"] * 2, layers_per_block=1, latent_channels=4
    )
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        prediction_type="v_prediction",
        timestep_type="continuous",
        sigma_min=0.002,
        sigma_max=700.0,
        use_karras_sigmas=True,
        timestep_spacing="leading",
    )
    StableVideoDiffusionPipeline(
        vae=made, image_encoder=encoder, unet=unet, scheduler=scheduler, feature_extractor=extractor
    ).save_pretrained(folder)


def wan(folder):
    """Wan 2.1: a UMT5, a transformer, a video VAE."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    size = tiny_tokens.fast(folder / "tokens")
    config = UMT5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0)
    WanPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokens"),
        text_encoder=UMT5EncoderModel(config),
        vae=AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        transformer=WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=16,
            freq_dim=32,
            ffn_dim=16,
            num_layers=1,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ),
    ).save_pretrained(folder)


MORE = {
    "HuggingFaceTB/SmolVLM-500M-Instruct": smolvlm,
    "Salesforce/blip2-opt-2.7b": blip2,
    "Qwen/Qwen2.5-VL-3B-Instruct": qwen_vl,
    "suno/bark-small": bark,
    "naver-clova-ix/donut-base-finetuned-docvqa": donut,
    "ali-vilab/i2vgen-xl": i2vgen,
    "stabilityai/stable-video-diffusion-img2vid-xt": svd,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": wan,
}
