"""Experts of the full profile on tiny random checkpoints: loaded by their hf: URIs from a hub cache, offline."""

import dataclasses
import io
import wave

import av
import pytest
import torch
from full_rig import SMALL, hub, made, ready_expert, registry, things  # noqa: F401  # fixtures
from PIL import Image

from anyloom.core.errors import Cancelled, ExpertError, InputError, SettingsError
from anyloom.tools.contracts import Run
from anyloom.tools.experts.full.coqui import Xtts
from anyloom.tools.experts.full.diffusion import accepted
from anyloom.tools.experts.full.hub import HubExpert
from anyloom.tools.experts.full.whisper import OpenAIWhisper

PICTURES = [
    "stable-diffusion-1-5",
    "stable-diffusion-1-5-img2img",
    "instruct-pix2pix",
    "stable-diffusion-xl",
    "controlnet-canny-1-0",
]
FILMS = ["zeroscope-v2-576w", "wan-2-1-t2v", "i2vgen-xl", "stable-video-diffusion"]
STEPPED = [*PICTURES, *FILMS, "audioldm2", "audioldm-l"]
READERS = [
    "blip-caption-base", "blip-vqa", "blip2-caption", "blip2-vqa", "smolvlm-caption", "smolvlm-vqa", "donut-docvqa",
    "detr-resnet-50", "rt-detr-r50", "vit-base", "resnet-50", "ast-audioset", "ast-describe",
    "wav2vec2-base-960h", "wav2vec2-keywords", "clap-sounds", "bert-ner", "bart-large-mnli",
    "deberta-v3-base-mnli", "tapas-base-wtq", "tapas-base-tabfact", "distilbert-squad", "roberta-squad2",
    "mpnet-similarity", "multilingual-minilm-similarity", "smollm2-1-7b-write", "bart-large-cnn",
    "flan-t5-base", "madlad400-3b", "opus-mt-en-de", "qwen2-5-1-5b-write", "qwen2-5-1-5b-chat",
]  # fmt: skip
SPEAKERS = {
    "speecht5": 16000,
    "speecht5-voice": 16000,
    "mms-tts-eng": 16000,
    "bark-small": 24000,
    "musicgen-small": 8000,
}
GUIDES = ["canny", "line-segments", "hed", "dpt-normals", "vitpose-base", "conv-tasnet-clean"]
SEERS = ["dpt-large", "depth-anything-v2-small", "mask2former-coco", "upernet-ade"]


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(made, name):
    pipes = []
    output = made(name, change=lambda expert: pipes.append(expert.model))
    picture = Image.open(io.BytesIO(output.data))
    assert picture.format == "PNG"
    assert picture.width in (32, 40)
    assert (output.facts["width"], output.facts["height"]) == picture.size
    assert (output.facts["steps"], output.facts["seed"]) == (3, 3)
    checked = getattr(pipes[0], "safety_checker", None) is not None
    assert checked == (name != "stable-diffusion-xl"), "a safety checker is on wherever the repository has one"


@pytest.mark.parametrize("name", STEPPED)
def test_progress_is_told_for_each_step_and_a_stop_ends_it(made, name):
    told = []
    made(name, Run(seed=3, progress=lambda *what: told.append(what)))
    assert [done for done, _, note in told if note == "steps"][-1] == told[-1][1] >= 2
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    run, told = Run(seed=3), []

    def stop(*what):
        told.append(what)
        run.stop.set()

    run.progress = stop
    with pytest.raises(Cancelled):
        made(name, run)
    assert len(told) == 1


@pytest.mark.parametrize(
    "name", ["stable-diffusion-1-5", "zeroscope-v2-576w", "audioldm2", "musicgen-small", "mms-tts-eng", "bark-small"]
)
def test_the_seed_reproduces(made, name):
    one, two, other = (made(name, Run(seed=seed)).data for seed in (1, 1, 2))
    assert one == two != other


def test_video_has_the_frames_the_size_and_the_rate_that_were_set(made):
    output = made("zeroscope-v2-576w")
    assert output.media_type == "video/mp4"
    with av.open(io.BytesIO(output.data)) as film:
        stream = film.streams.video[0]
        frames = [f.to_ndarray(format="rgb24") for f in film.decode(stream)]
        assert (stream.average_rate, len(frames), frames[0].shape) == (8, 3, (32, 32, 3))
    assert output.facts | {"frames": 3, "fps": 8, "width": 32, "height": 32} == output.facts


@pytest.mark.parametrize("name", FILMS)
def test_films_can_be_played(made, name):
    output = made(name)
    with av.open(io.BytesIO(output.data)) as film:
        assert len(list(film.decode(film.streams.video[0]))) == output.facts["frames"]
    assert output.facts["width"] == output.facts["height"] == 32


def test_the_defaults_are_those_of_the_literature(registry):
    draw, film, sound = (
        registry.expert(n).defaults for n in ("stable-diffusion-1-5", "zeroscope-v2-576w", "audioldm-l")
    )
    assert (draw["guidance"], draw["steps"], draw["width"], draw["height"]) == (7.5, 50, 512, 512)
    assert (film["guidance"], film["steps"], film["height"], film["width"], film["frames"]) == (7.5, 50, 320, 576, 24)
    assert (sound["guidance"], sound["steps"], sound["seconds"]) == (7.5, 50, 9.0)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("stable-diffusion-1-5", "negative", "a dog"),
        ("stable-diffusion-1-5", "guidance", 30.0),
        ("stable-diffusion-1-5", "steps", 2),
        ("stable-diffusion-1-5", "width", 16),
        ("stable-diffusion-1-5-img2img", "strength", 1.0),
        ("instruct-pix2pix", "image_guidance", 30.0),
        ("zeroscope-v2-576w", "frames", 2),
        ("musicgen-small", "seconds", 0.02),
    ],
)
def test_what_is_set_changes_what_is_made(registry, hub, things, name, option, value):
    seen = []
    for options in ({}, {option: value}):
        expert = ready_expert(registry, hub, name, **options)
        output = expert.run({p.name: things[p.name] for p in expert.tool.params}, Run(seed=3))[0]
        seen.append(output.data)
    assert seen[0] != seen[1]


WORDS = {  # an option, and what pipelines of diffusers call it
    "steps": ("num_inference_steps",), "guidance": ("guidance_scale", "max_guidance_scale"),
    "negative": ("negative_prompt",), "width": ("width", "image"), "height": ("height", "image"),
    "frames": ("num_frames",), "seconds": ("audio_length_in_s",), "strength": ("strength",),
    "control": ("controlnet_conditioning_scale",), "image_guidance": ("image_guidance_scale",),
}  # fmt: skip
UNKNOWN = {("stable-video-diffusion", "negative")}  # it reads no text


def test_every_pipeline_knows_every_option_that_its_expert_has(registry):
    import diffusers

    mine = [e for e in registry.all_experts() if e.family == "diffusers"]
    assert len(mine) > 25
    for expert in mine:
        kind = getattr(diffusers, expert.pipeline)
        known = accepted(kind.__call__)
        for option in set(expert.defaults) & set(WORDS):
            told = (expert.name, option)
            assert bool(known & set(WORDS[option])) == (told not in UNKNOWN), (
                f"{told}: {kind.__name__} has no such word"
            )
        assert "generator" in known, "the seed"


@pytest.mark.parametrize(("name", "rate"), [*SPEAKERS.items(), ("audioldm2", 16000), ("audioldm-l", 16000)])
def test_sound_is_wav_at_the_model_s_rate(made, name, rate):
    output = made(name)
    with wave.open(io.BytesIO(output.data)) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (rate, 1, 2)
        assert sound.getnframes() > 0
        assert output.facts["rate"] == rate


@pytest.mark.parametrize("name", READERS)
def test_texts(made, registry, name):
    told = []
    output = made(name, Run(seed=3, progress=lambda *what: told.append(what)))
    assert output.media_type == "text/plain"
    assert output.data.decode().strip()
    assert told
    assert registry.expert(name).tool.output == "text"


@pytest.mark.parametrize("name", SEERS)
def test_what_is_seen_is_as_big_as_the_picture(made, name):
    picture = Image.open(io.BytesIO(made(name).data))
    assert picture.size == (60, 40)
    assert picture.mode == ("L" if name.startswith("d") else "RGB")


def test_things_have_boxes_in_pixels(made):
    output = made("detr-resnet-50")
    assert output.facts["count"] == len(output.data.decode().splitlines()) == 5
    assert all(t["label"] in ("cat", "dog", "car") and len(t["box"]) == 4 for t in output.facts["things"])


def test_a_question_is_answered_from_a_long_text(made):
    long = " ".join(f"The box number {n} is red." for n in range(60))
    told = []
    said = made("distilbert-squad", Run(progress=lambda *what: told.append(what)), context=long)
    assert said.data.decode() in long
    assert told[-1][1] > 3


def test_the_safety_checker_holds_pictures_back(registry, hub, things):
    expert = registry.expert("stable-diffusion-1-5").configured({**{k: SMALL[k] for k in ("steps", "width", "height")}})
    held = type("Held", (expert,), {"card": dataclasses.replace(expert.card, weights=("hf:tests/held-back@main",))})
    with pytest.raises(ExpertError, match="safety checker of 'stable-diffusion-1-5' withheld"):
        hub.ready(held).run(things, Run())


def test_out_of_memory_is_tried_again_smaller_and_said(made):
    told = []

    def crowd(expert):
        def look(module, inputs):
            if inputs[0].shape[-1] > 8:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        expert.model.unet.register_forward_pre_hook(look)

    output = made("stable-diffusion-1-5", Run(seed=3, progress=lambda *what: told.append(what[2])), crowd)
    assert Image.open(io.BytesIO(output.data)).size == (16, 16)
    said = [note for note in told if note != "steps"]
    assert [s.split(": ")[1] for s in said] == [
        "pictures in slices and tiles", "parts that rest are moved off the GPU", "half the size",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["stable-diffusion-1-5", "vit-base"])
def test_when_nothing_helps_the_error_says_what_to_do(made, name):
    def crowd(expert):
        def look(module, inputs):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        getattr(expert.model, "unet", expert.model).register_forward_pre_hook(look)

    with pytest.raises(ExpertError, match=rf"'{name}' ran out of memory .* smaller model") as caught:
        made(name, change=crowd)
    assert caught.value.retryable


def test_a_model_that_fills_the_gpu_goes_on_on_the_cpu_and_says_so(made):
    told = []

    def crowd(expert):
        expert.device = "cuda:0"  # as if it lay there

        def look(module, inputs):
            if expert.device != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        expert.model.register_forward_pre_hook(look)

    output = made("vit-base", Run(seed=3, progress=lambda *what: told.append(what[2])), crowd)
    assert output.data
    assert "the GPU's memory is full: going on on the CPU" in told


def test_empty_texts_are_refused(made):
    for name in ("stable-diffusion-1-5", "flan-t5-base", "musicgen-small", "qwen2-5-1-5b-chat"):
        with pytest.raises(InputError):
            made(name, text="  ")
    with pytest.raises(InputError, match="no labels"):
        made("bart-large-mnli", labels=" , ")
    with pytest.raises(InputError, match="CSV"):
        made("tapas-base-wtq", table="name,age\nAnn")


def test_a_translator_of_one_pair_leaves_other_languages_to_the_next(made):
    with pytest.raises(ExpertError, match="into 'de' only, and 'french' is wanted") as caught:
        made("opus-mt-en-de", language="French")
    assert not caught.value.retryable
    assert made("madlad400-3b", language="German").data
    with pytest.raises(InputError, match="'klingon' is no language known here"):
        made("madlad400-3b", language="Klingon")


def test_qwen_vl_answers_about_a_picture(made):
    pytest.importorskip("torchvision", reason="its processor reads videos too, and wants torchvision")
    told = []
    assert made("qwen2-5-vl-vqa", Run(seed=3, progress=lambda *what: told.append(what))).data
    assert told[-1][:2] == (8, 8)


def test_labels_are_judged_by_the_class_that_means_that_they_follow(made):
    """Which is the last of BART's and the first of DeBERTa's."""
    for name, place in (("bart-large-mnli", 2), ("deberta-v3-base-mnli", 0)):

        def judge(expert, place=place):
            more = iter((0.0, 5.0))

            def follow(module, inputs, seen):
                seen.logits[0, place] += next(more)

            expert.model.register_forward_hook(follow)

        said = made(name, change=judge, labels="sport, art").facts
        assert said["label"] == "art", "the second was made the likelier one"


def test_a_head_of_its_own_is_not_tied(made):
    """FLAN-T5 and MADLAD have one, which transformers would share with the embeddings."""
    seen = []
    made("flan-t5-base", change=lambda expert: seen.append(expert.model))
    assert not torch.equal(seen[0].lm_head.weight, seen[0].shared.weight)


def test_every_kind_of_loader_is_tried(registry):
    """Of each class of experts, with each class of models, at least one has a tiny checkpoint that a test opens."""
    tried = {*STEPPED, *READERS, *SPEAKERS, *SEERS, *GUIDES}

    def kind(expert):
        return expert.__name__, getattr(expert, "kind", ""), getattr(expert, "pipeline", "")

    away = (Xtts, OpenAIWhisper)  # nox -s coqui; tests/test_full_whisper.py
    mine = [e for e in registry.all_experts() if issubclass(e, HubExpert) and not issubclass(e, away)]
    assert len(mine) > 80
    assert {kind(e) for e in mine} == {kind(registry.expert(name)) for name in tried}


def test_an_unknown_way_to_save_memory_is_refused(registry, hub):
    with pytest.raises(SettingsError, match="'offload' is 'always', and must be one of auto, none, model"):
        ready_expert(registry, hub, "stable-diffusion-1-5", offload="always")


def test_unloading_lets_everything_go(registry, hub):
    ready = ready_expert(registry, hub, "blip-caption-base")
    assert isinstance(ready, HubExpert)
    ready.unload()
    assert not hasattr(ready, "model")
    assert not hasattr(ready, "processor")


@pytest.mark.parametrize("name", ["vit-base", "speecht5", "mpnet-similarity", "vitpose-base", "stable-diffusion-1-5"])
def test_a_model_can_be_moved_and_works_on(registry, hub, things, name):
    """Residency sends idle ones from a GPU to main memory and back."""
    expert = ready_expert(registry, hub, name)
    assert expert.move("cpu") is True
    assert expert.run({p.name: things[p.name] for p in expert.tool.params}, Run(seed=3))[0].data


def test_a_pipeline_whose_parts_come_and_go_is_not_moved(registry, hub):
    expert = ready_expert(registry, hub, "stable-diffusion-1-5")
    expert.placed = "model"
    assert expert.move("cpu") is False
