"""Tiny pipelines of diffusers that make pictures and video, and tiny models that look at pictures."""

import functools

import tiny_tokens


def text_encoder(folder, width=32):
    """CLIP's text side with its tokenizer, as (model, tokenizer)."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    size = tiny_tokens.clip(folder / "tokens")
    config = CLIPTextConfig(
        bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1, hidden_size=width, intermediate_size=37,
        num_attention_heads=4, num_hidden_layers=2, vocab_size=size, projection_dim=width,
    )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokens")
    return CLIPTextModel(config), tokenizer


def vae():
    """A VAE of SD's kind; pictures are twice as long as latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1,
    )  # fmt: skip


def unet(channels=4, cross=32, **more):
    """A UNet of SD's kind."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=channels, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross, norm_num_groups=4, attention_head_dim=4, **more,
    )  # fmt: skip


def scheduler():
    """SD 1.5's."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )


def checker(flags=False):
    """SD's safety checker, one that holds every picture back or none, with its feature extractor."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    vision = {"hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision |= {"image_size": 30, "patch_size": 10}
    made = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, text_config={}, projection_dim=16))
    with torch.no_grad():
        made.concept_embeds.normal_()
        made.special_care_embeds.normal_()
        made.concept_embeds_weights.fill_(-2.0 if flags else 2.0)
        made.special_care_embeds_weights.fill_(2.0)
    return made, CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30})


def stable_diffusion(folder, flags=False, channels=4, kind="StableDiffusionPipeline"):
    """Stable Diffusion 1.5 with its safety checker; InstructPix2Pix has eight channels."""
    import diffusers

    text, tokenizer = text_encoder(folder)
    safety, extractor = checker(flags)
    pipe = getattr(diffusers, kind)(
        vae=vae(), text_encoder=text, tokenizer=tokenizer, unet=unet(channels), scheduler=scheduler(),
        safety_checker=safety, feature_extractor=extractor,
    )  # fmt: skip
    pipe.save_pretrained(folder)


def stable_diffusion_xl(folder):
    """Two text encoders, and sizes as a condition."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModelWithProjection

    text, tokenizer = text_encoder(folder)
    pipe = StableDiffusionXLPipeline(
        vae=vae(), text_encoder=text, tokenizer=tokenizer, text_encoder_2=CLIPTextModelWithProjection(text.config),
        tokenizer_2=tokenizer, scheduler=EulerDiscreteScheduler(), unet=unet(
            cross=64, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 32, transformer_layers_per_block=1,
        ),
    )  # fmt: skip
    pipe.save_pretrained(folder)


def controlnet(folder):
    """A ControlNet for `unet()`."""
    from diffusers import ControlNetModel

    ControlNetModel.from_unet(unet(), conditioning_embedding_out_channels=(8, 8)).save_pretrained(folder)


def text_to_video(folder):
    """Zeroscope's pipeline, saved as its repository is: pickles, no safetensors."""
    from diffusers import DDIMScheduler, TextToVideoSDPipeline, UNet3DConditionModel

    net = UNet3DConditionModel(
        block_out_channels=(8, 8), layers_per_block=1, sample_size=16, in_channels=4, out_channels=4, norm_num_groups=2,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32, attention_head_dim=4,
    )  # fmt: skip
    text, tokenizer = text_encoder(folder)
    pipe = TextToVideoSDPipeline(vae=vae(), text_encoder=text, tokenizer=tokenizer, unet=net, scheduler=DDIMScheduler())
    pipe.save_pretrained(folder)


def blip(folder, kind):
    """BLIP for captions or for questions."""
    import transformers

    size = tiny_tokens.bert(folder, more=("[DEC]", "[ENC]"))
    text = {"vocab_size": size, "hidden_size": 16, "encoder_hidden_size": 16, "intermediate_size": 20}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2, "bos_token_id": 6, "sep_token_id": 3, "pad_token_id": 0}
    text |= {"projection_dim": 8, "eos_token_id": 3}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 20,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    config = transformers.BlipConfig(text_config=text, vision_config={**vision, "patch_size": 16}, projection_dim=8)
    getattr(transformers, kind)(config).save_pretrained(folder)
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    processor = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.BlipProcessor(processor, tokenizer).save_pretrained(folder)


def detr(folder):
    """DETR on a small ResNet of transformers."""
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"])
    config = DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, backbone=None, use_pretrained_backbone=False, d_model=16,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_queries=5, num_labels=3, id2label={0: "cat", 1: "dog", 2: "car"},
    )  # fmt: skip
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)


def vit(folder):
    """A ViT with three classes."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        id2label={0: "cat", 1: "dog", 2: "car"}, label2id={"cat": 0, "dog": 1, "car": 2},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def resnet(folder):
    """A ResNet with three classes."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    labels = {0: "cat", 1: "dog", 2: "car"}
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], id2label=labels)
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)


def dpt(folder):
    """DPT on a small ViT."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, is_hybrid=False,
    )  # fmt: skip
    DPTForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def depth_anything(folder):
    """Depth Anything on a small DINOv2."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    backbone = Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=1, image_size=56, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        head_hidden_size=8,
    )  # fmt: skip
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    size = {"height": 56, "width": 56}
    DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(folder)


def mask2former(folder):
    """Mask2Former on a small Swin."""
    import torch
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    backbone = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2, image_size=64, patch_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Mask2FormerConfig(
        backbone_config=backbone, hidden_dim=32, feature_size=32, mask_feature_size=32, num_queries=5, encoder_layers=1,
        decoder_layers=2, num_attention_heads=2, encoder_feedforward_dim=16, dim_feedforward=16,
        id2label={0: "cat", 1: "sky", 2: "grass"},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    head = "model.transformer_module.decoder.mask_predictor.mask_embedder.2.0.bias"
    with torch.no_grad():  # every mask covers the whole picture, and all of it is sky: else nothing would be found
        model.model.pixel_level_module.decoder.mask_projection.bias.fill_(9)
        dict(model.named_parameters())[head].fill_(9)
        model.class_predictor.bias[1] = 9
    model.save_pretrained(folder)
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def upernet(folder):
    """UperNet on a small ConvNeXt."""
    from transformers import ConvNextConfig, SegformerImageProcessor, UperNetConfig, UperNetForSemanticSegmentation

    backbone = ConvNextConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = UperNetConfig(
        backbone_config=backbone, hidden_size=16, pool_scales=[1, 2], auxiliary_channels=8, auxiliary_in_channels=8,
        id2label={0: "wall", 1: "sky", 2: "floor"}, label2id={"wall": 0, "sky": 1, "floor": 2},
    )  # fmt: skip
    UperNetForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def hed(folder):
    """HED at its full size, as its net has one size only; its file as it is kept after the fetch."""
    from safetensors.torch import save_file

    from anyloom.tools.experts.full.control_pictures import hed as net

    save_file(net().state_dict(), folder / "ControlNetHED.pth.safetensors")


def vitpose(folder):
    """ViTPose on a small ViT, 17 joints."""
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation, VitPoseImageProcessor

    backbone = VitPoseBackboneConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=[64, 48], patch_size=[16, 16],
        out_indices=[1], out_features=None, mlp_ratio=1,
    )  # fmt: skip
    VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17)).save_pretrained(folder)
    VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(folder)


def rtdetr(folder):
    """RT-DETR on a small ResNet; everything it sees is a person."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"]
    )
    config = RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], encoder_layers=1,
        encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16, num_queries=4, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_denoising=0, eval_size=None,
        id2label={0: "person", 1: "person"}, label2id={"person": 0}, feat_strides=[8, 16, 32],
    )  # fmt: skip
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


PICTURES = {
    "lllyasviel/Annotators": hed,
    "usyd-community/vitpose-base-simple": vitpose,
    "PekingU/rtdetr_r50vd": rtdetr,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": stable_diffusion,
    "tests/held-back": functools.partial(stable_diffusion, flags=True),
    "timbrooks/instruct-pix2pix": functools.partial(
        stable_diffusion, channels=8, kind="StableDiffusionInstructPix2PixPipeline"
    ),
    "stabilityai/stable-diffusion-xl-base-1.0": stable_diffusion_xl,
    "lllyasviel/sd-controlnet-canny": controlnet,
    "cerspense/zeroscope_v2_576w": text_to_video,
    "Salesforce/blip-image-captioning-base": functools.partial(blip, kind="BlipForConditionalGeneration"),
    "Salesforce/blip-vqa-base": functools.partial(blip, kind="BlipForQuestionAnswering"),
    "facebook/detr-resnet-50": detr,
    "google/vit-base-patch16-224": vit,
    "microsoft/resnet-50": resnet,
    "Intel/dpt-large": dpt,
    "depth-anything/Depth-Anything-V2-Small-hf": depth_anything,
    "facebook/mask2former-swin-tiny-coco-panoptic": mask2former,
    "openmmlab/upernet-convnext-small": upernet,
}
