"""The training of the end-to-end model, at toy size: what trains, what is learnt, and what a kill costs."""

import dataclasses
import json

import pytest
import torch
from accelerate import Accelerator
from mmllm_rig import toy_items, toy_model, toy_recipe

from anyloom.core.errors import AnyloomError, InputError
from anyloom.mmllm.dialogue import Made, Seen
from anyloom.training.mmllm import train as training
from anyloom.training.mmllm.batches import MediaBank, make_batch
from anyloom.training.mmllm.instructions import SHARES, build
from anyloom.training.mmllm.preference import build_pairs, dpo
from anyloom.training.mmllm.stages import ORDER, set_trainable
from anyloom.training.mmllm.stages import stage as stage_of
from anyloom.training.mmllm.train import Data, Options, run


@pytest.fixture
def items(tmp_path):
    return toy_items(tmp_path)


@pytest.fixture
def data(items):
    talks = build(items, "train", 60, chat=lambda question: "Fine.")
    return Data(items, talks, build_pairs(items, "train", 24))


def quiet(text):
    pass


def logged(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_dialogues_hold_media_on_both_sides(items):
    talks = build(items, "train", 400, chat=lambda question: "Fine.")
    assert {t.kind for t in talks} == set(SHARES)
    asked = {p.modality for t in talks for turn in t.turns if turn.who == "user" for p in turn.pieces
             if isinstance(p, Seen)}  # fmt: skip
    given = {p.modality for t in talks for turn in t.turns for p in turn.pieces if isinstance(p, Made)}
    assert asked == given == {"image", "video", "audio"}
    crossing = {(t.turns[0].pieces, t.turns[1].pieces[-1].modality) for t in talks if t.kind == "turn"}
    assert len(crossing) > 5, "media in, media out"
    assert all("held-out" not in getattr(p, "key", "") for t in talks for turn in t.turns for p in turn.pieces)
    assert any(len(t.turns) == 4 for t in talks), "several turns"
    assert build(items, "train", 50, seed=3) == build(items, "train", 50, seed=3)


def test_worse_answers_are_worse_in_one_known_way(items):
    pairs = build_pairs(items, "train", 300, chat=lambda question: "Fine.")
    for pair in pairs:
        made, other = ([p for p in t.pieces if isinstance(p, Made)] for t in (pair.chosen, pair.rejected))
        if pair.fault == "wrong modality":
            assert made[0].modality != other[0].modality
        elif pair.fault == "invented media":
            assert not made
            assert other
        elif pair.fault == "no media":
            assert made
            assert not other
    assert {p.fault for p in pairs} == {"wrong modality", "invented media", "no media", "another concept"}


@pytest.mark.parametrize(
    ("trains", "some", "none"),
    [
        (("projectors",), ["projectors.image"], ["rows", "lora", "output_projectors"]),
        (("rows", "output_projectors"), ["rows.rows", "output_projectors.audio"], ["lora", "projectors.image.enter"]),
        (("lora",), ["lora_A", "lora_B"], ["rows.", "projectors."]),
    ],
)
def test_each_stage_trains_exactly_its_parts(trains, some, none):
    model = toy_model()
    names = set_trainable(model, trains)
    assert all(any(s in n for n in names) for s in some)
    assert not any(n.startswith(x) or (x == "lora" and "lora_" in n) for n in names for x in none)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(names)


def test_adapters_that_are_missing_somewhere_are_found():
    model = toy_model(toy_recipe(lora={"rank": 4, "alpha": 8, "targets": ["q_proj"]}))
    lora = dataclasses.replace(model.recipe.lora, targets=("q_proj", "v_proj"))
    model.recipe = dataclasses.replace(model.recipe, lora=lora)
    with pytest.raises(RuntimeError, match="LoRA trains 4 matrices where 8"):
        set_trainable(model, ("lora",))


def test_all_stages_learn_and_log_each_loss_apart(data, tmp_path):
    model = toy_model()
    frozen = {n: p.clone() for n, p in model.named_parameters() if n not in model.deltas()}
    out = tmp_path / "out"
    folder = run(model, data, out, ORDER, Options(steps=25, batch=8, rate=10), say=quiet)
    assert (folder / "manifest.json").exists()
    assert json.loads((folder / "manifest.json").read_text())["stages"] == list(ORDER)
    for stage in ("1", "2", "3"):
        what = "spell_image" if stage == "1" else "total"
        lines = [x[what] for x in logged(out / stage) if what in x]
        assert sum(lines[-5:]) < 0.95 * sum(lines[:5]), stage
    first = logged(out / "1")
    assert "text" not in first[0], "content learns to spell before the backbone reads it"
    assert "text" in first[-1]
    second = logged(out / "2")[-1]
    modalities = ("image", "video", "audio")
    assert {f"{kind}_{m}" for kind in ("align", "denoise", "cosine") for m in modalities} <= set(second)
    assert {"dpo", "won", "text"} <= set(logged(out / "preference")[-1])
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert "projectors.image.enter.weight" in (out / "1" / "trainable.txt").read_text().split()


def test_alignment_comes_near_the_text_condition(items):
    talks = build(items, "train", 40, kinds=["make"])
    model = toy_model()
    set_trainable(model, ("rows", "output_projectors"))
    bank = MediaBank(model, items, "cpu")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    batch = make_batch(model, bank, [t.turns for t in talks])
    for _ in range(60):
        losses = model(batch)
        (sum(v for n, v in losses.items() if n.startswith("align"))).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert min(float(losses[f"cosine_{m}"]) for m in ("image", "video", "audio")) > 0.8


def test_a_killed_stage_goes_on_as_if_nothing_had_happened(data, tmp_path):
    options = Options(steps=12, batch=4, save_every=4, replays=0)  # what is remembered is no part of the state
    run(toy_model(), data, tmp_path / "whole", ["2"], options, say=quiet)

    class Killed(training.Training):
        def update(self):
            if self.step == 9:
                raise KeyboardInterrupt
            return super().update()

    how = dataclasses.replace(stage_of("2"), steps=12, batch=4, replays=0)
    with pytest.raises(KeyboardInterrupt):
        Killed(toy_model(), data, tmp_path / "cut" / "2", how, options, Accelerator(cpu=True), quiet).run()
    run(toy_model(seed=5), data, tmp_path / "cut", ["2"], dataclasses.replace(options, resume=True), say=quiet)
    whole, cut = logged(tmp_path / "whole" / "2"), logged(tmp_path / "cut" / "2")
    assert [x["step"] for x in cut] == list(range(1, 13))
    assert [x["total"] for x in cut] == pytest.approx([x["total"] for x in whole], rel=1e-3)


def test_a_stage_needs_the_one_before(data, tmp_path):
    with pytest.raises(InputError, match="stage 3"):
        run(toy_model(), data, tmp_path / "out", ["preference"], Options(steps=1), say=quiet)


def test_normalised_alignment_counts_no_modality_more():
    """Targets thirty times as large give the same loss for the same relative distance."""
    from anyloom.mmllm.model import alignment_loss

    target = torch.randn(2, 5, 8)
    off = torch.randn(2, 5, 8)
    assert float(alignment_loss(target + off, target)) == pytest.approx(
        float(alignment_loss(33 * (target + off), 33 * target)), rel=1e-4
    )


def test_preference_prefers():
    zero = torch.zeros(2)
    even, _ = dpo(zero, zero, zero, zero)
    better, won = dpo(zero + 3, zero - 3, zero, zero)
    assert float(better) < float(even)
    assert float(won) == 1.0


@pytest.mark.parametrize("projector", ["linear", "mlp", "qformer", "resampler"])
def test_projectors_are_swapped_by_the_recipe(projector, data, tmp_path):
    model = toy_model(toy_recipe(image={"projector": projector}))
    run(model, data, tmp_path / "out", ["1"], Options(steps=20, batch=8, rate=10), say=quiet)
    lines = [x["spell_image"] for x in logged(tmp_path / "out" / "1") if "spell_image" in x]
    assert sum(lines[-4:]) < 0.9 * sum(lines[:4])


def test_encoder_and_backbone_are_swapped_by_the_recipe(data, tmp_path):
    recipe = toy_recipe(
        image={"encoder": {"kind": "toy", "modality": "image", "tokens": 3, "width": 24}},
        backbone={"kind": "toy", "hidden_size": 48, "num_hidden_layers": 3, "tie_word_embeddings": False},
    )
    model = toy_model(recipe)
    assert model.rows.out_rows is not None, "an untied backbone has rows at both ends"
    run(model, data, tmp_path / "out", ["1", "2"], Options(steps=6, batch=8), say=quiet)
    assert logged(tmp_path / "out" / "2")[-1]["total"] < logged(tmp_path / "out" / "2")[0]["total"]


def test_wrong_recipes_are_one_sentence(tmp_path):
    from anyloom.mmllm.recipe import Recipe

    text = 'name = "x"\nbackbone = "toy"\n[input]\nimage = { encoder = "toy", tokens = 0 }\n'
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=r"input.image.tokens = 0"):
        Recipe.read(tmp_path / "bad.toml")
    with pytest.raises(AnyloomError, match="did you mean 'pocket'"):
        Recipe.read("poket")
    with pytest.raises(AnyloomError, match="no projector 'mpl', did you mean 'mlp'"):
        toy_model(toy_recipe(image={"projector": "mpl"}))
