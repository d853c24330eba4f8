"""The pocket recipe's training: files out of the pocket data, content that spells, runs remembered, figures."""

import json
import tomllib
import wave
from dataclasses import replace
from importlib import resources

import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from mmllm_rig import toy_items, toy_model
from pocket_rig import toy_data, toy_sounds

from anyloom.core.errors import InputError
from anyloom.mmllm.backbones.quick import quicken
from anyloom.mmllm.contracts import SENSES
from anyloom.mmllm.dialogue import Made, Seen
from anyloom.mmllm.inference import Reply, Speaker
from anyloom.mmllm.model import decision_loss, spelling_loss
from anyloom.mmllm.recipe import Recipe
from anyloom.mmllm.registry import Parts
from anyloom.pocket import media as files
from anyloom.training.mmllm import check as checking
from anyloom.training.mmllm.batches import MediaBank, content_batch, make_batch
from anyloom.training.mmllm.check import Extent, check, names, requests, runs_whole
from anyloom.training.mmllm.drawn import with_drawn
from anyloom.training.mmllm.fresh import Fresh
from anyloom.training.mmllm.instructions import Bank, build, phrases, voices
from anyloom.training.mmllm.items import read_manifest
from anyloom.training.mmllm.media import Counts, export
from anyloom.training.mmllm.replay import Replay
from anyloom.training.mmllm.stages import STAGES, set_trainable
from anyloom.training.mmllm.train import Data, Options, Training, _adapted, _sorted, run
from anyloom.training.pocket.audio_voices import VOICES
from anyloom.training.pocket.encoders_data import Batch

COUNTS = Counts(scenes=6, clips=3, sounds=4, tests=4, asked_images=8, asked_clips=5)


def quiet(text):
    pass


def items_of(folder):
    """Toy items whose held-out captions nothing else has."""
    return [replace(i, caption=f"{i.caption} again") if i.split != "train" else i for i in toy_items(folder)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The toy pocket data as captioned files."""
    folder = tmp_path_factory.mktemp("pocket")
    export(toy_data(folder / "pictures"), toy_sounds(folder / "sounds"), folder / "media", COUNTS, say=quiet)
    return folder / "media"


def test_pocket_data_becomes_files_that_open_and_captions_that_are_true(exported):
    items = read_manifest(exported / "manifest.jsonl")
    shown = [i for i in items if i.file is not None]
    assert {i.modality for i in shown} == set(SENSES)
    assert {i.split for i in shown} == {"train", "test"}
    for item in shown:
        if item.modality == "image":
            assert files.picture(item.file, 64).shape == (3, 64, 64)
        elif item.modality == "video":
            assert files.frames(item.file, 16, 64).std() > 0.01, "something is to be seen"
        else:
            with wave.open(str(item.file)) as sound:
                assert (sound.getnframes(), sound.getframerate()) == (49_152, 16_000)
    plain = next(i for i in shown if i.id == "image-train-fluent-1")
    assert (plain.caption, plain.concept) == ("a red ball", "red ball")
    red = files.picture(plain.file, 64)[:, 32, 32]
    assert red[0] > 0.7, "the ball is red"
    assert max(red[1:]) < 0.3
    assert [i for i in items if i.file is None and i.modality == "image"], "captions alone"
    assert all(i.concept in VOICES for i in items if i.modality == "audio")
    held = {i.caption for i in shown if i.split == "test" and i.modality == "audio"}
    assert not held & {c for i in items if i.split == "train" and i.modality == "audio" for c in i.captions} - {
        i.caption for i in items if i.style in ("note", "hit", "steady", "beat")
    }


def test_held_out_requests_are_sixty_and_never_trained_on():
    asked = requests()
    assert len(asked) == 60
    kinds = [tuple(s.partition(":")[0] for s in r["shows"]) for r in asked]
    for shows, wants in (((), "image"), ((), "video"), ((), "audio"), (("image",), "audio"), (("audio",), "image")):
        assert any(k == shows and r["wants"] == [wants] for k, r in zip(kinds, asked, strict=True))
    assert sum(k == ("image", "image") for k in kinds) == 3
    trained = [a for kind in ("make", "tell", "turn") for own in phrases()[kind].values() for a in own["asks"]]
    trained += [*phrases()["plain"]["questions"], *phrases()["both"]["asks"]]
    plain = {t.lower().strip(".!? ") for t in trained}
    assert not [r["text"] for r in asked if r["text"].lower().strip(".!? ") in plain]
    forms = [t.replace("{caption}", "").lower().strip(".!? ") for t in trained if "{caption}" in t]
    for request in asked:
        said = request["text"].lower()
        assert not any(said.startswith(f) and len(f.split()) > 3 for f in forms), request["text"]


def test_what_can_be_seen_and_heard_is_linked_by_names_that_exist():
    assert set(voices().values()) <= set(VOICES)


def test_a_request_may_have_a_caption_alone_and_what_is_shown_has_a_file(exported):
    items = read_manifest(exported / "manifest.jsonl")
    without = {i.id for i in items if i.file is None}
    talks = build(items, "train", 300, seed=2)
    seen = [p for t in talks for turn in t.turns for p in turn.pieces if isinstance(p, Seen)]
    made = [p for t in talks for turn in t.turns for p in turn.pieces if isinstance(p, Made)]
    assert seen
    assert not {p.key for p in seen} & without
    assert [p for p in made if not p.key]
    assert not {p.key for p in made} & without


def test_each_thing_is_asked_for_as_often_however_many_items_it_has(tmp_path):
    import random

    items = toy_items(tmp_path)
    crowd = [i for i in items if i.concept == "cat" and i.modality == "audio"] * 50
    bank = Bank([*items, *crowd], random.Random(3))
    asked = [bank.asked("audio").concept for _ in range(400)]
    assert 60 < asked.count("cat") < 140


def test_content_learns_to_spell_its_caption_without_the_backbone(tmp_path, monkeypatch):
    items = [i for i in toy_items(tmp_path) if i.split == "train"]
    model = toy_model()
    monkeypatch.setattr(type(model.backbone), "read", lambda *a: pytest.fail("the backbone was run"))
    set_trainable(model, ("projectors",))
    bank = MediaBank(model, items, "cpu")
    bank.fill([(Seen(i.modality, i.id),) and build([i], "train", 1, kinds=["tell"])[0].turns for i in items], quiet)
    keys = {m: bank.keys(m) for m in SENSES}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    first = None
    for _ in range(150):
        losses = model.spelling(content_batch(bank, keys))
        first = first or {k: float(v) for k, v in losses.items()}
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert set(losses) == {f"spell_{m}" for m in SENSES}
    assert all(float(v) < 0.2 * first[k] for k, v in losses.items())
    spoken = model.project("image", bank.features("image", keys["image"]))
    mean = bank.table.mean(0)
    near = torch.cdist(torch.nn.functional.normalize(spoken - mean, dim=-1),
                       torch.nn.functional.normalize(bank.table - mean, dim=-1)).argmin(-1)  # fmt: skip
    assert (near == bank.spelled(keys["image"])).float().mean() > 0.95


def test_the_spelling_loss_is_least_for_the_words_themselves():
    table = torch.randn(9, 16, generator=torch.Generator().manual_seed(1))
    words = torch.tensor([[1, 2], [3, 3]])
    right, wrong = spelling_loss(table[words], words, table), spelling_loss(table[words + 1], words, table)
    assert float(right) < 0.2 < 1 < float(wrong)


def test_decisions_are_compared_question_by_question():
    wanted = {"thing": torch.tensor([[9.0, 0, 0]]), "colour": torch.tensor([[0.0, 9]])}
    same = decision_loss(wanted, wanted)
    other = decision_loss({**wanted, "colour": torch.tensor([[9.0, 0]])}, wanted)
    assert float(same) < 0.05 < 4 < float(other)


def test_states_of_signals_foretell_the_words_of_what_is_asked_for(tmp_path):
    items, model = toy_items(tmp_path), toy_model()
    bank = MediaBank(model, items, "cpu")
    talks = [t.turns for t in build(items, "train", 30, kinds=["make"])]
    batch = make_batch(model, bank, talks, echo=True)
    words = batch.echoed["image"]
    assert words.shape == (len(batch.made["image"]), 2), "as many as there are signals"
    ids = model.layout().words.plain(" cat")
    said = bank.echoed("image", ["a cat", "something nobody said"])
    assert torch.equal(bank.spoken[said[0]], model.backbone.rows[1][torch.tensor(ids[:2])])
    assert said[1].tolist() == [-100, -100]
    set_trainable(model, ("rows", "lora"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    before = float(model(batch)["echo_image"])
    for _ in range(25):
        model(batch)["echo_image"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(model(batch)["echo_image"]) < 0.7 * before


def test_what_a_generator_decides_is_a_loss_of_its_own(tmp_path):
    items, model = toy_items(tmp_path), toy_model()
    keys = torch.randn(7, 12, generator=torch.Generator().manual_seed(2))
    model.generators["image"].decides = lambda condition: {"thing": condition[:, 0] @ keys.T}
    talks = [t.turns for t in build(items, "train", 30, kinds=["make"])]
    losses = model(make_batch(model, MediaBank(model, items, "cpu"), talks))
    assert float(losses["decide_image"]) > 0
    assert "decide_audio" not in losses


def test_remembered_runs_are_what_the_projectors_read_and_the_oldest_give_way(tmp_path):
    items, model = toy_items(tmp_path), toy_model()
    bank, memory = MediaBank(model, items, "cpu"), Replay(10)
    talks = [t.turns for t in build(items, "train", 12, kinds=["make"])]
    batch = make_batch(model, bank, talks)
    with torch.no_grad():
        losses = model(batch)
        memory.keep(batch)
    modality = next(iter(batch.runs))
    count = len(batch.runs[modality])
    everything = {**memory.losses(model, 4 * count, 0)}
    assert abs(float(everything[f"align_{modality}"]) - float(losses[f"align_{modality}"])) < 0.3
    for _ in range(5):
        memory.keep(batch)
    assert all(len(r) <= 10 for r in memory.runs.values())
    assert torch.equal(memory.runs[modality][-count:], batch.runs[modality].half()[-10:])


def test_replays_change_output_projectors_and_nothing_else(tmp_path):
    items, model = toy_items(tmp_path), toy_model()
    talks = build(items, "train", 40, kinds=["make", "turn"])
    how = _adapted(STAGES["3"], Options(steps=5, batch=4))
    training = Training(model, Data(items, talks), tmp_path / "3", how, Options(), Accelerator(cpu=True), quiet)
    training.update()
    before = {n: p.clone() for n, p in training.deltas.items()}
    losses = training.memory.losses(model, 16, 0)
    training._learn(losses)
    changed = {n.split(".")[0] for n, p in training.deltas.items() if not torch.equal(p, before[n])}
    assert changed == {"output_projectors"}


def test_batches_hold_like_lengths_and_every_dialogue_once():
    lengths = torch.randint(5, 90, (333,), generator=torch.Generator().manual_seed(0)).tolist()
    order = _sorted(lengths, 8, seed=1)
    assert sorted(order) == list(range(333))
    assert order == _sorted(lengths, 8, seed=1) != _sorted(lengths, 8, seed=2)

    def padding(order):
        batches = [[lengths[i] for i in order[n : n + 8]] for n in range(0, len(order), 8)]
        return sum(max(b) * len(b) - sum(b) for b in batches)

    assert padding(order) < 0.4 * padding(range(333))


def test_minutes_bound_a_run_and_each_stage_has_its_share(tmp_path):
    items = toy_items(tmp_path)
    talks = build(items, "train", 200, chat=lambda question: "Fine.")
    options = Options(minutes=0.05, batch=12, denoise=False)
    run(toy_model(), Data(items, talks), tmp_path / "out", ["2", "3"], options, say=quiet)
    last = {s: [json.loads(x) for x in (tmp_path / "out" / s / "log.jsonl").read_text().splitlines()][-1]
            for s in ("2", "3")}  # fmt: skip
    whole = STAGES["2"].share + STAGES["3"].share
    for name, line in last.items():
        assert line["seconds"] == pytest.approx(3 * STAGES[name].share / whole, abs=1.5)
    assert not any(k.startswith("denoise") for k in last["3"])
    assert sum(s.share for s in STAGES.values()) == pytest.approx(1)


def test_what_frozen_parts_made_is_kept_for_the_next_run(tmp_path, monkeypatch):
    items, model = toy_items(tmp_path), toy_model()
    talks = [t.turns for t in build(items, "train", 60)]
    first = MediaBank(model, items, "cpu", tmp_path / "bank")
    first.fill(talks, quiet)
    for part in (*model.encoders.values(), *model.generators.values()):
        monkeypatch.setattr(type(part), "prepare", lambda *a: pytest.fail("read again"))
        monkeypatch.setattr(type(part), "text_condition", lambda *a: pytest.fail("read again"), raising=False)
    second = MediaBank(model, items, "cpu", tmp_path / "bank")
    second.fill(talks, quiet)
    keys = first.keys("image")
    assert keys
    assert torch.equal(first.features("image", keys), second.features("image", keys))
    model.encoders["image"].fingerprint = "another"
    with pytest.raises(pytest.fail.Exception):
        MediaBank(model, items, "cpu", tmp_path / "bank").fill(talks, quiet)


class FewPictures:
    """A pool of two things, drawn as an encoder of this many tokens and this width reads them."""

    def __init__(self, *shape):
        self.shape = shape

    def batch(self, n, rng):
        told = [("ball", "ball"), ("ball and red cup", "ball"), ("three cups", "cup")]
        told = [told[k % 3] for k in range(n)]
        items = torch.randn(n, *self.shape, generator=rng)
        return Batch(items, [t for t, _ in told], [t for t, _ in told], [c for _, c in told], torch.arange(n))

    def texts(self):
        yield "a ball and red cup three cups"


def test_dialogues_show_what_is_drawn_for_them_and_no_file(tmp_path, monkeypatch):
    items, model = toy_items(tmp_path), toy_model()
    monkeypatch.setattr(type(model.encoders["image"]), "prepare", lambda *a: pytest.fail("a file was read"))
    encoder = model.encoders["image"]
    fresh = Fresh({"image": FewPictures(encoder.tokens, encoder.width)}, "cpu")
    bank = MediaBank(model, items, "cpu", None, fresh.texts())
    files_ = build(items, "train", 2000, chat=lambda question: "Fine.", kinds=("plain",))
    data = with_drawn(Data(items, files_, [], fresh), bank, 30, seed=3)
    assert len(data.talks) == 120
    seen = {p.key for t in data.talks for u in t.turns for p in u.pieces if isinstance(p, Seen)}
    assert seen
    assert all(k.startswith("drawn-image-") for k in seen)
    said = " ".join(p for t in data.talks for u in t.turns for p in u.pieces if isinstance(p, str)).lower()
    assert [c for c in ("a ball and a red cup", "three cups", "fine.") if c not in said] == []
    assert "fine." not in str(with_drawn(Data(items, files_[:5], [], fresh), bank, 30, seed=4).talks).lower()
    made = {p.modality for t in data.talks for u in t.turns for p in u.pieces if isinstance(p, Made)}
    assert made == set(SENSES), "what is asked for are all captions"
    bank.fill([t.turns for t in data.talks], quiet)
    batch = make_batch(model, bank, [t.turns for t in data.talks[:20]], spell=True, echo=True, denoise=False)
    assert torch.isfinite(sum(v for v in model(batch).values()))
    other = MediaBank(model, items, "cpu", None, fresh.texts())
    again = with_drawn(Data(items, files_, [], fresh), other, 30, seed=3)
    assert again.talks == data.talks


def test_figures_of_a_toy_model_come_with_their_counts(tmp_path):
    items = items_of(tmp_path)
    figures = check(Speaker(toy_model()), items, Extent(captions=2, shown=2, split="held-out"), say=quiet)
    assert figures.counts["modality"] <= 60
    assert {f"cosine_{m}" for m in SENSES} | {f"caption_{m}" for m in SENSES} <= set(figures.values)
    assert figures.counts["cosine_image"] == 2
    assert all(0 <= v <= 1 for k, v in figures.values.items() if k.startswith(("modality", "caption", "runs")))
    with pytest.raises(InputError, match="split 'nowhere'"):
        check(Speaker(toy_model()), items, Extent(split="nowhere"), say=quiet)


def test_the_right_answer_counts_and_the_wrong_one_does_not(tmp_path, monkeypatch):
    """A model that always says the same words is right about the cats alone."""
    items, speaker = items_of(tmp_path), Speaker(toy_model())
    monkeypatch.setattr(speaker, "speak", lambda *a, **k: Reply(text="This is a cat."))
    figures = check(speaker, items, Extent(captions=1, shown=8, split="held-out"), say=quiet)
    assert figures.values["caption_image"] == 0.25
    assert figures.values["cosine_audio"] == 0
    words = sum(not r["wants"] for r in requests() if not any(":" in s for s in r["shows"]))
    assert figures.values["modality"] == pytest.approx(words / figures.counts["modality"], abs=0.01)


def test_names_and_runs_are_read_strictly():
    assert names("I hear an acoustic guitar.", "acoustic guitar")
    assert names("two red cars", "red car")
    assert names("It is an acoustic guitar.", "guitar"), "the guitar's sound has a name of its own"
    assert not names("a red bus", "red car")
    speaker = Speaker(toy_model())
    run_ = speaker.model.signals.run("video")
    assert runs_whole(speaker, Reply(ids=[1, *run_, 2])) == [1.0]
    assert runs_whole(speaker, Reply(ids=[1, *run_[:-1], 2]))[0] == 0.0
    assert runs_whole(speaker, Reply(ids=[run_[1]])) == [0.0]


def test_a_quickened_backbone_says_and_learns_the_same():
    model = toy_model()
    vectors = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(4)).requires_grad_(True)
    mask = torch.ones(3, 7, dtype=torch.long)
    mask[1, 5:] = 0

    def read():
        states = model.backbone.read(vectors, mask)[mask.bool()]
        return states.detach(), torch.autograd.grad(states.square().sum() + states[:, 3].sum(), vectors)[0]

    before = read()
    assert quicken(model.backbone.lm) == 5, "two layers with two norms each, and the last"
    for old, new in zip(before, read(), strict=True):
        assert torch.allclose(old, new, atol=1e-4, rtol=1e-3)


def test_the_pocket_recipe_names_parts_that_are_installed():
    recipe, parts = Recipe.read("pocket"), Parts.installed()
    for i in recipe.inputs.values():
        parts.require("encoder", i.encoder.kind)
    for o in recipe.outputs.values():
        parts.require("generator", o.generator.kind)
    assert set(recipe.inputs) == set(recipe.outputs) == set(SENSES)


def test_a_recipe_is_found_by_name_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "pocket").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Recipe.read("pocket").name == "pocket"


def test_the_commands_are_there_and_say_what_is_missing(tmp_path):
    from anyloom.agent.commands.train import train

    runner = CliRunner()
    for name in ("mmllm-media", "mmllm-data", "mmllm", "mmllm-check"):
        assert runner.invoke(train, [name, "--help"]).exit_code == 0
    done = runner.invoke(train, ["mmllm-media", "--out", str(tmp_path / "media")])
    assert done.exit_code != 0
    assert isinstance(done.exception, InputError)
    text = (resources.files(checking.__package__) / "heldout.toml").read_text(encoding="utf-8")
    assert len(tomllib.loads(text)["request"]) == 60
