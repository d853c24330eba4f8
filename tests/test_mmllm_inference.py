"""Inference of the end-to-end model at toy size: whole signal runs, streaming, prefixes, seeds; checkpoints."""

import json
import threading

import pytest
import torch
from mmllm_rig import toy_model, toy_recipe

from anyloom.core.errors import Cancelled, InputError, WeightsError
from anyloom.core.llama import Llama
from anyloom.mmllm import checkpoint
from anyloom.mmllm.backbones.decoder import CompactBackbone, CompactDecoder
from anyloom.mmllm.contracts import Setting
from anyloom.mmllm.dialogue import Made, Seen, Turn, Words
from anyloom.mmllm.fakes import byte_tokenizer, tiny_png, toy_parts
from anyloom.mmllm.inference import MOST_MEDIA, Speaker, stopped
from anyloom.mmllm.model import Batch, MultimodalLM


@pytest.fixture
def files(tmp_path):
    for n in range(3):
        (tmp_path / f"{n}.png").write_bytes(tiny_png(bytes([n, n, n])))
    return {f"{n}.png": tmp_path / f"{n}.png" for n in range(3)}


def eager(model, modality="image", pull=60.0):
    """Makes the model want a medium: the first row of its run points where the states do."""
    speaker = Speaker(model)
    with torch.no_grad():
        state = speaker._read(speaker.layout.lay(ask("draw a cat"), answer=True), {}, lambda: None)[1][-1]
        first = model.signals.run(modality)[0] - model.signals.base
        model.rows.rows[first] = pull * state / state.norm()
    return Speaker(model)


def ask(text, *seen):
    return [Turn("user", (*(Seen("image", s) for s in seen), text))]


def test_runs_are_whole_whatever_is_sampled():
    model = toy_model()
    speaker = Speaker(model)
    kinds = {tuple(model.signals.run(m)) for m in model.signals.counts}
    begun = 0
    for seed in range(12):
        reply = speaker.speak(ask("draw a cat"), {}, temperature=3.0, seed=seed, max_tokens=60)
        ids = reply.ids
        at = 0
        while at < len(ids):
            modality = model.signals.begins(ids[at])
            if modality:
                run = model.signals.run(modality)
                assert tuple(ids[at : at + len(run)]) in kinds
                at += len(run)
                begun += 1
            else:
                assert ids[at] < model.signals.base, "no tag and no middle of a run is ever sampled"
                at += 1
        assert len(reply.media) <= MOST_MEDIA
    assert begun > 3, "some runs were begun, or this test shows nothing"


def test_a_condition_is_the_same_in_training_and_at_inference():
    """Forced runs, read in one pass with a cache, give what the teacher-forced model gives."""
    model = toy_model()
    speaker = eager(model)
    reply = speaker.speak(ask("draw a cat"), {}, max_tokens=3)
    assert reply.media[0].modality == "image"
    laid = speaker.layout.lay(ask("draw a cat"), answer=True)
    ids = torch.tensor([laid.ids + reply.ids])
    batch = Batch(ids, ids, torch.ones_like(ids), made={"image": torch.tensor([[0, len(laid.ids)]])})
    with torch.no_grad():
        vectors = model.splice(batch)
        states = model.backbone.read(vectors, batch.mask)
        taught = model.output_projectors["image"](model.runs("image", states, vectors, batch.made["image"]))[0]
    assert torch.allclose(taught, reply.media[0].condition, atol=1e-4)


def test_media_are_told_before_the_words_end():
    model = toy_model()
    order = []
    told = {"on_text": order.append, "on_media": order.append}
    eager(model).speak(ask("draw a cat"), {}, max_tokens=30, temperature=1.0, **told)
    assert not isinstance(order[0], str)
    assert any(isinstance(o, str) for o in order[1:]), "the words went on"


def test_text_comes_in_pieces_that_join_to_the_whole():
    speaker = Speaker(toy_model())
    pieces = []
    reply = speaker.speak(ask("hello"), {}, temperature=1.0, seed=2, max_tokens=30, on_text=pieces.append)
    assert len(pieces) > 3
    assert "".join(pieces) == reply.text


def test_seeds_reproduce():
    speaker = Speaker(toy_model())
    said = [speaker.speak(ask("hello"), {}, temperature=1.0, seed=s, max_tokens=12).ids for s in (4, 4, 5)]
    assert said[0] == said[1] != said[2]


def test_what_was_read_before_is_not_read_again(files):
    model = toy_model()
    warm, cold = Speaker(model), Speaker(model)
    first = warm.speak(ask("what is this?", "0.png"), files, max_tokens=8)
    talk = [*ask("what is this?", "0.png"), Turn("assistant", ("A cat.",)), *ask("and this?", "1.png")]
    again = warm.speak(talk, files, max_tokens=8)
    assert again.cached_tokens > first.prompt_tokens - 15
    assert again.ids == cold.speak(talk, files, max_tokens=8).ids
    other = [*ask("what is this?", "2.png"), *talk[1:]]
    assert warm.speak(other, files, max_tokens=8).cached_tokens < 20, "another picture under the same words"


def test_several_pictures_anywhere_in_the_words(files):
    model = toy_model()
    talk = [Turn("user", ("compare ", Seen("image", "0.png"), " with ", Seen("image", "1.png"), " please"))]
    laid = model.layout().lay(talk, answer=True)
    assert [p.key for _, p in laid.seen] == ["0.png", "1.png"]
    assert laid.ids.count(model.signals.close) == 2
    swapped = [Turn("user", ("compare ", Seen("image", "1.png"), " with ", Seen("image", "0.png"), " please"))]
    both = [model.layout().lay(t, answer=True) for t in (talk, swapped)]
    vectors = [Speaker(model)._read(one, files, lambda: None)[1] for one in both]
    assert not torch.allclose(*vectors)


def test_what_an_earlier_answer_made_is_seen_later(files):
    layout = toy_model().layout()
    talk = [*ask("draw a cat"), Turn("assistant", ("Here. ", Made("image", "a cat", "0.png")))]
    assert not layout.lay(talk).seen
    later = layout.lay([*talk, *ask("what was it?")], answer=True)
    assert [p.key for _, p in later.seen] == ["0.png"]
    assert len(later.made) == 1


def test_stopping_stops():
    speaker = Speaker(toy_model())
    flag = threading.Event()
    with pytest.raises(Cancelled):
        speaker.speak(ask("hello"), {}, temperature=1.0, on_text=lambda t: flag.set(), check=stopped(flag))


def test_a_file_that_is_gone_is_one_sentence():
    with pytest.raises(InputError, match=r"'gone.png' of the conversation is not there; attach it again"):
        Speaker(toy_model()).speak(ask("hello", "gone.png"), {})


def test_control_tokens_of_a_user_are_plain_text():
    words = Words(byte_tokenizer())
    ids = words.plain("a<|im_end|>b")
    assert max(ids) < 256
    assert words.text(ids) == "a<|im_end|>b"


# -- checkpoints -----------------------------------------------------------------------------------


def saved_base(folder):
    """The toy backbone as a folder that every loader reads."""
    model = toy_model()
    base = toy_parts().make("backbone", "toy", {}, Setting())
    base.lm.save_pretrained(folder / "base")
    base.tokenizer.save(str(folder / "base" / "tokenizer.json"))
    return folder / "base", model


def test_checkpoints_bring_the_same_model_back(tmp_path):
    model, other = toy_model(seed=1), toy_model(seed=2)
    checkpoint.save(model, tmp_path / "one", ["1", "2"])
    assert checkpoint.load(other, tmp_path / "one") == ["1", "2"]
    assert all(torch.equal(p, other.deltas()[n]) for n, p in model.deltas().items())
    opened = checkpoint.open_trained(tmp_path / "one", toy_parts(), Setting())
    said = [Speaker(m).speak(ask("hello"), {}, max_tokens=10).ids for m in (model, opened)]
    assert said[0] == said[1]
    size = sum(f.stat().st_size for f in (tmp_path / "one").rglob("*.safetensors"))
    assert size < 4.3 * sum(p.numel() for p in model.deltas().values()) + 40_000, "deltas alone"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f, m: f.__setitem__("tokens", {"[IMG0]": 5}), "other tokens"),
        (lambda f, m: f["backbone"].__setitem__("sketch", [9.0] * 16), "another base model"),
        (lambda f, m: f["generators"].__setitem__("image", ["else", 5, 12]), "other generators"),
        (lambda f, m: f["files"].pop("rows.safetensors"), r"lacks 'rows' \(rows.safetensors\)"),
        (lambda f, m: f["files"]["projectors.safetensors"]["tensors"].__setitem__("x", [1]), "has the unknown 'x'"),
        (lambda f, m: f["files"]["rows.safetensors"].__setitem__("sha256", "0"), "is not what its manifest says"),
        (lambda f, m: f.__setitem__("format", 99), "has format 99"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(tmp_path, spoil, says):
    checkpoint.save(toy_model(seed=1), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    spoil(manifest, None)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    model = toy_model(seed=2)
    before = {n: p.clone() for n, p in model.deltas().items()}
    with pytest.raises(WeightsError, match=says):
        checkpoint.load(model, tmp_path)
    assert all(torch.equal(p, before[n]) for n, p in model.deltas().items())


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    checkpoint.save(toy_model(), tmp_path)
    with pytest.raises(WeightsError, match="'inputs' differs"):
        checkpoint.load(toy_model(toy_recipe(image={"tokens": 6})), tmp_path)


def test_the_compact_decoder_says_what_transformers_says(tmp_path, files):
    """Our own runner with LoRA merged in, against transformers with adapters beside: the same states."""
    base, model = saved_base(tmp_path)
    with torch.no_grad():
        for name, value in model.deltas().items():
            if "lora_B" in name:
                value.normal_(std=0.05)
    checkpoint.save(model, tmp_path / "ck")
    decoder = CompactDecoder(Llama.open(base, tmp_path / "ck" / "adapter", precision="fp32"))
    slow = model.backbone.decoder()
    vectors = torch.randn(9, model.backbone.hidden)
    states = []
    for one in (decoder, slow):
        with torch.no_grad():
            state = one.start()
            both = torch.cat([one.extend(state, vectors[:5]), one.extend(state, vectors[5:])])
            shorter = one.cut(state, 7)
            again = one.extend(shorter, vectors[7:])
        assert torch.allclose(again, both[7:], atol=1e-4)
        assert one.length(state) == 9
        states.append(both)
    assert torch.allclose(*states, atol=1e-3)
    compact = CompactBackbone.open(base, tmp_path / "ck" / "adapter", Setting(dtype="float32"), None)
    assert compact.sketch() == pytest.approx(model.backbone.sketch(), abs=1e-5)
    assert compact.fingerprint == model.backbone.fingerprint
    parts = toy_parts().adding({"backbone.toy": lambda options, setting: compact})
    quick = MultimodalLM.build(toy_recipe(), parts, Setting(), lora=False)
    checkpoint.load(quick, tmp_path / "ck")
    talk = ask("what is this?", "0.png")
    said = [Speaker(m).speak(talk, files, max_tokens=12).ids for m in (model, quick)]
    assert said[0] == said[1]
