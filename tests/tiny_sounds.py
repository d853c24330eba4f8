"""Tiny models that make sound, speak, and listen."""

import functools
import io
import json
import zipfile

import tiny_tokens


def clap_model():
    """CLAP with its tokenizer-free parts: the model and a feature extractor."""
    from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig

    text = ClapTextConfig(
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        hidden_size=16,
        intermediate_size=37,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=261,
        projection_dim=32,
        max_position_embeddings=130,
    )
    audio = ClapAudioConfig(
        spec_size=256,
        window_size=8,
        num_mel_bins=64,
        intermediate_size=37,
        depths=[1, 1],
        num_attention_heads=[2, 2],
        num_hidden_layers=2,
        hidden_size=32,
        projection_dim=32,
        patch_size=4,
        patch_stride=[4, 4],
        patch_embed_input_channels=4,
        patch_embeds_hidden_size=16,
    )
    config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=32)
    return ClapModel(config), ClapFeatureExtractor(feature_size=64, hop_length=480, fft_window_size=1024)


def vocoder():
    """SpeechT5's HiFi-GAN, as AudioLDM uses it."""
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    return SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=16000,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
            normalize_before=False,
            initializer_range=0.15,
        )
    )


def sound_vae():
    """A VAE of one channel for spectrograms of eight bands."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        in_channels=1,
        out_channels=1,
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
    )


def t5_encoder(folder, width=32):
    """T5's encoder with a tokenizer of characters."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        ("\u2581", -2.0),
        *((c, -3.0) for c in tiny_tokens.CHARACTERS),
    ]
    tokenizer = T5Tokenizer(vocab=words, extra_ids=0, model_max_length=64)
    size = len(tokenizer)
    config = T5Config(
        vocab_size=size,
        d_model=width,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5EncoderModel(config), tokenizer


def audioldm2(folder):
    """AudioLDM 2: two text encoders, a projection, a language model, a UNet, a VAE, a vocoder."""
    from diffusers import AudioLDM2Pipeline, AudioLDM2ProjectionModel, AudioLDM2UNet2DConditionModel, DDIMScheduler
    from transformers import GPT2Config, GPT2Model, RobertaTokenizer

    tiny_tokens.roberta(folder / "tokens")
    clap, extractor = clap_model()
    t5, t5_tokens = t5_encoder(folder / "t5")
    unet = AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=((None, 16, 32),) * 2,
        attention_head_dim=4,
    )
    # The published repositories name GPT2Model here, which diffusers can no longer generate with.
    language = GPT2Model(GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=261, n_positions=99))
    pipe = AudioLDM2Pipeline(
        vae=sound_vae(),
        text_encoder=clap,
        text_encoder_2=t5,
        tokenizer=RobertaTokenizer.from_pretrained(folder / "tokens"),
        projection_model=AudioLDM2ProjectionModel(text_encoder_dim=32, text_encoder_1_dim=32, langauge_model_dim=16),
        tokenizer_2=t5_tokens,
        feature_extractor=extractor,
        language_model=language,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False),
        vocoder=vocoder(),
    )
    pipe.save_pretrained(folder)


def audioldm(folder):
    """AudioLDM: CLAP's sentence vector is the UNet's class."""
    from diffusers import AudioLDMPipeline, DDIMScheduler, UNet2DConditionModel
    from transformers import ClapTextConfig, ClapTextModelWithProjection, RobertaTokenizer

    size = tiny_tokens.roberta(folder / "tokens", 77)
    text = ClapTextConfig(
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        hidden_size=16,
        intermediate_size=37,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=size,
        projection_dim=32,
        max_position_embeddings=130,
    )
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=(8, 16),
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=32,
        class_embeddings_concat=True,
        attention_head_dim=4,
    )
    AudioLDMPipeline(
        vae=sound_vae(),
        text_encoder=ClapTextModelWithProjection(text),
        unet=unet,
        vocoder=vocoder(),
        tokenizer=RobertaTokenizer.from_pretrained(folder / "tokens"),
        scheduler=DDIMScheduler(clip_sample=False),
    ).save_pretrained(folder)


def musicgen(folder):
    """MusicGen: a T5 encoder, a decoder over codebooks, EnCodec."""
    import transformers

    t5, tokens = t5_encoder(folder / "t5", 16)
    codec = transformers.EncodecConfig(
        num_filters=4,
        hidden_size=8,
        codebook_size=32,
        codebook_dim=8,
        sampling_rate=8000,
        target_bandwidths=[4.0],
        upsampling_ratios=[8, 5],
        num_lstm_layers=1,
    )
    decoder = transformers.MusicgenDecoderConfig(
        vocab_size=32,
        hidden_size=16,
        ffn_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_codebooks=2,
        pad_token_id=32,
        bos_token_id=32,
        max_position_embeddings=256,
    )
    config = transformers.MusicgenConfig(
        text_encoder=t5.config.to_dict() | {"model_type": "t5"},
        audio_encoder=codec.to_dict(),
        decoder=decoder.to_dict(),
    )
    model = transformers.MusicgenForConditionalGeneration(config)
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()  # else every token sounds the same
    model.generation_config.decoder_start_token_id = model.generation_config.pad_token_id = 32
    model.generation_config.bos_token_id = 32
    model.save_pretrained(folder)
    extractor = transformers.EncodecFeatureExtractor(sampling_rate=8000)
    transformers.MusicgenProcessor(extractor, tokens).save_pretrained(folder)


def speecht5(folder, kind="SpeechT5ForTextToSpeech"):
    """SpeechT5, from text or from speech."""
    import sentencepiece
    import transformers

    (folder / "lines.txt").write_text(
        "\n".join(["the quick brown fox jumps over the lazy dog.", "A red box on a hill!"] * 8)
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"),
        model_prefix=str(folder / "spm_char"),
        model_type="char",
        vocab_size=40,
        bos_id=0,
        pad_id=1,
        eos_id=2,
        unk_id=3,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    tokenizer = transformers.SpeechT5Tokenizer(str(folder / "spm_char.model"))
    config = transformers.SpeechT5Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 4),
        num_mel_bins=8,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_units=16,
        speech_decoder_postnet_layers=2,
        num_conv_pos_embedding_groups=2,
        num_conv_pos_embeddings=16,
        max_length=60,
        speaker_embedding_dim=512,
        max_speech_positions=400,
        max_text_positions=200,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    extractor = transformers.SpeechT5FeatureExtractor(num_mel_bins=8)
    transformers.SpeechT5Processor(extractor, tokenizer).save_pretrained(folder)


def hifigan(folder):
    """The vocoder alone, as its repository has it."""
    vocoder().save_pretrained(folder)


def xvectors(folder):
    """An archive of voices: plain numbers of 512."""
    import numpy as np

    with zipfile.ZipFile(folder / "spkrec-xvect.zip", "w") as file:
        for n in range(3):
            out = io.BytesIO()
            np.save(out, np.random.default_rng(n).normal(size=512).astype("float32"))
            file.writestr(f"spkrec-xvect/cmu_us_slt_arctic-wav-arctic_a000{n}.npy", out.getvalue())


def vits(folder):
    """VITS with a vocabulary of letters."""
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    words = {c: n for n, c in enumerate("_abcdefghijklmnopqrstuvwxyz '.,")} | {"<unk>": 31}
    (folder / "vocab.json").write_text(json.dumps(words))
    VitsTokenizer(str(folder / "vocab.json"), pad_token="_", unk_token="<unk>", phonemize=False).save_pretrained(folder)
    VitsModel(
        VitsConfig(
            vocab_size=32,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            ffn_dim=16,
            flow_size=16,
            spectrogram_bins=9,
            upsample_initial_channel=16,
            upsample_rates=[4, 4],
            upsample_kernel_sizes=[8, 8],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            prior_encoder_num_flows=1,
            prior_encoder_num_wavenet_layers=1,
            posterior_encoder_num_wavenet_layers=1,
            duration_predictor_num_flows=1,
            duration_predictor_filter_channels=16,
            depth_separable_num_layers=1,
            duration_predictor_flow_bins=4,
        )
    ).save_pretrained(folder)


def wav2vec2(folder, kind="Wav2Vec2ForCTC", **more):
    """wav2vec 2.0 for words or for classes."""
    import transformers

    words = {w: n for n, w in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"])}
    config = transformers.Wav2Vec2Config(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 4),
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
        num_conv_pos_embeddings=16,
        classifier_proj_size=8,
        **more,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor()
    if kind != "Wav2Vec2ForCTC":
        extractor.save_pretrained(folder)
        return
    (folder / "vocab.json").write_text(json.dumps(words))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)


def ast(folder):
    """The audio spectrogram transformer with three classes."""
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    config = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=64,
        num_mel_bins=32,
        patch_size=8,
        id2label={0: "Speech", 1: "Music", 2: "Dog"},
        label2id={"Speech": 0, "Music": 1, "Dog": 2},
    )
    ASTForAudioClassification(config).save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=64).save_pretrained(folder)


def clap(folder):
    """CLAP whole, with its processor."""
    from transformers import ClapProcessor, RobertaTokenizer

    tiny_tokens.roberta(folder)
    model, extractor = clap_model()
    model.save_pretrained(folder)
    ClapProcessor(extractor, RobertaTokenizer.from_pretrained(folder)).save_pretrained(folder)


def conv_tasnet(folder, sources=1, width=4, filters=8):
    """Conv-TasNet in Asteroid's names, its file as it is kept after the fetch."""
    from safetensors.torch import save_file

    save_file(conv_tasnet_state(sources, width, filters), folder / "pytorch_model.bin.safetensors")


def conv_tasnet_state(sources, width=4, filters=8, wide=8, length=16, depth=2):
    """Random weights for it."""
    import torch

    state = {f"{n}.filterbank._filters": (filters, 1, length) for n in ("encoder", "decoder")}
    state |= {f"masker.bottleneck.0.{n}": (filters,) for n in ("gamma", "beta")}
    state |= {"masker.bottleneck.1.weight": (width, filters, 1), "masker.bottleneck.1.bias": (width,)}
    for n in range(depth):
        block = f"masker.TCN.{n}"
        state |= {f"{block}.shared_block.{k}.weight": (1,) for k in (1, 4)}
        state |= {f"{block}.shared_block.{k}.{v}": (wide,) for k in (2, 5) for v in ("gamma", "beta")}
        state |= {f"{block}.shared_block.0.weight": (wide, width, 1), f"{block}.shared_block.0.bias": (wide,)}
        state |= {f"{block}.shared_block.3.weight": (wide, 1, 3), f"{block}.shared_block.3.bias": (wide,)}
        for end in ("res_conv", "skip_conv"):
            state |= {f"{block}.{end}.weight": (width, wide, 1), f"{block}.{end}.bias": (width,)}
    state |= {"masker.mask_net.0.weight": (1,), "masker.mask_net.1.bias": (sources * filters,)}
    state |= {"masker.mask_net.1.weight": (sources * filters, width, 1)}
    return {k: torch.randn(shape) * 0.5 for k, shape in state.items()}


SOUNDS = {
    "JorisCos/ConvTasNet_Libri1Mix_enhsingle_16k": conv_tasnet,
    "JorisCos/ConvTasNet_Libri2Mix_sepclean_16k": functools.partial(conv_tasnet, sources=2),
    "cvssp/audioldm2": audioldm2,
    "cvssp/audioldm-l-full": audioldm,
    "facebook/musicgen-small": musicgen,
    "microsoft/speecht5_tts": speecht5,
    "microsoft/speecht5_vc": functools.partial(speecht5, kind="SpeechT5ForSpeechToSpeech"),
    "microsoft/speecht5_hifigan": hifigan,
    "Matthijs/cmu-arctic-xvectors": xvectors,
    "facebook/mms-tts-eng": vits,
    "facebook/wav2vec2-base-960h": wav2vec2,
    "superb/wav2vec2-base-superb-ks": functools.partial(
        wav2vec2, kind="Wav2Vec2ForSequenceClassification", id2label={0: "yes", 1: "no"}, label2id={"yes": 0, "no": 1}
    ),
    "MIT/ast-finetuned-audioset-10-10-0.4593": ast,
    "laion/clap-htsat-fused": clap,
}
