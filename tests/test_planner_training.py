"""The planner's training data and its tree attention."""

import json
import random
import re
from pathlib import Path

import pytest

from anyloom.controller import language
from anyloom.controller.plan import check
from anyloom.core.errors import PlanError, WeightsError
from anyloom.tools.builtin import TOOLS
from anyloom.training.planner.idioms import fitting, load
from anyloom.training.planner.phrases import NEEDED, OPTIONAL, SLOT, Phrases
from anyloom.training.planner.requests import RequestWriter, Toolbox
from anyloom.training.planner.toolboxes import HELD_OUT, POCKET, ToolboxSampler, _key


@pytest.fixture(scope="module")
def phrases():
    return Phrases.load()


def test_every_sampled_request_has_a_plan_that_checks_and_that_the_grammar_allows(phrases):
    rng = random.Random(5)
    sampler = ToolboxSampler(phrases, rng)
    seen = 0
    for _ in range(60):
        box = sampler.sample()
        tools = {t.name: t for t in box.tools}
        writer = RequestWriter(phrases, rng)
        for item in [writer.sample(box) for _ in range(4)]:
            if item.unable:
                continue
            text = language.write(item.plan, tools, item.files)
            assert len(language.read(text, tools, item.files).tasks) == len(item.plan.tasks)
            missing = any("?" in t.args.values() for t in item.plan.tasks)
            try:
                assert not check(item.plan, box.tools, item.files).bridges
            except PlanError:
                assert missing
            said = language.speakable(item.request).replace('"', "'")
            for task in item.plan.tasks:
                for param in tools[task.task].params:
                    value = task.args[param.name]
                    known = value in item.files or value == "?" or value.startswith("<resource>-")
                    assert known or language.speakable(value).replace('"', "'") in said
            seen += 1
    assert seen > 200


def test_tool_lists_change_and_hold_out_the_test_lists(phrases):
    sampler = ToolboxSampler(phrases, random.Random(1))
    boxes = [sampler.sample() for _ in range(120)]
    names = {t.name for b in boxes for t in b.tools}
    assert len(names) > 300
    assert not {n for n in names if _key(n) in HELD_OUT}
    assert {len(b.tools) for b in boxes} >= {3, 16}
    assert set(POCKET) <= names


def test_same_seed_same_data(phrases):
    def draw():
        rng = random.Random(9)
        box = ToolboxSampler(phrases, rng).sample()
        return [RequestWriter(phrases, rng).sample(box) for _ in range(5)]

    assert draw() == draw()


def _same(text):
    """A request as it is compared: no case, no punctuation."""
    return " ".join(re.findall(r"\w+", text.lower().replace("'", "")))


@pytest.fixture(scope="module")
def asked():
    """Requests of the test sets, and what they hold word for word (four words and more)."""
    requests, contents = {}, {}
    for file in sorted((Path(__file__).parent / "data" / "planner").glob("*.jsonl")):
        for item in map(json.loads, file.read_text().splitlines()):
            files = item.get("attach", ())
            requests[_same(item["request"])] = item["id"]
            said = [v for t in item.get("plan", ()) for v in t["args"].values() if v not in files]
            contents |= {_same(v): item["id"] for v in said if len(v.split()) > 3}
    assert len(requests) > 250
    return requests, contents


def test_no_phrase_of_the_training_is_a_test_request(phrases, asked):
    requests, contents = asked
    found = [(bank, e) for bank, entries in phrases.banks.items() for e in entries]
    for key, c in phrases.capabilities.items():
        found += [(key, p) for field in (*NEEDED, *OPTIONAL) if field != "descriptions" for p in getattr(c, field)]
    same = [(where, text) for where, text in found if _same(SLOT.sub("", text)) in requests | contents]
    assert not same


def test_no_sampled_request_is_a_test_request(phrases, asked):
    requests, _ = asked
    rng = random.Random(77)
    sampler = ToolboxSampler(phrases, rng)
    for _ in range(250):
        box = sampler.sample()
        writer = RequestWriter(phrases, rng)
        for item in (writer.sample(box) for _ in range(12)):
            assert _same(item.request) not in requests, item.request


def test_every_wording_of_an_idiom_has_its_plan_over_the_pocket_tools(phrases):
    rng = random.Random(2)
    pairs = {name: (phrases.capabilities[key],) for name, key in POCKET.items()}
    pairs["text-to-audio"] += (phrases.capabilities["compose_music"],)
    box = Toolbox(TOOLS, pairs)
    able = fitting(load(), pairs)
    assert len(able) > 60
    writer = RequestWriter(phrases, rng)
    seen = set()
    for _ in range(600):
        item = writer.idiom(box)
        assert item is not None
        assert not set("{[<|") & set(item.request)
        check(item.plan, TOOLS, item.files)
        seen.add(tuple(t.task for t in item.plan.tasks))
    for plan in (("image-to-text", "text-to-speech"), ("image-to-text", "text-to-image")):
        assert plan in seen


def test_an_idiom_leaves_a_list_alone_that_has_a_straighter_way(phrases):
    def fits(*keys):
        plans = fitting(load(), {k: (phrases.capabilities[k],) for k in keys})
        return ("caption_image", "make_video") in [tuple(s.capability for s in i.steps) for i in plans]

    assert fits("caption_image", "make_video")
    assert not fits("caption_image", "make_video", "animate_image")
    assert not fits("caption_image")


TREES = ((40, [200, 150, 30, 7]), (75, [20, 60, 310]))


@pytest.fixture(scope="module")
def twins():
    """The same tiny model with plain attention and with the trees' attention."""
    pytest.importorskip("torch")
    return _tiny("eager"), _tiny("tree")


def _tiny(attention):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from anyloom.training.planner.tree import register

    register()
    torch.manual_seed(0)
    shape = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 100}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, **heads, attn_implementation=attention)).eval()


def _episodes():
    import torch

    from anyloom.training.planner.data import Episode

    made = []
    for prefix, branches in TREES:
        ids = torch.randint(0, 100, (prefix + sum(branches),)).tolist()
        made.append(Episode(ids, prefix, branches, list(range(prefix + 3, len(ids), 5))))
    return made


def _alone(plain, episode):
    """Hidden states of each branch, read behind the prefix as a sequence of its own."""
    import torch

    start = episode.prefix
    for length in episode.branches:
        alone = torch.tensor([episode.ids[: episode.prefix] + episode.ids[start : start + length]])
        with torch.no_grad():
            yield slice(start, start + length), plain.model(alone).last_hidden_state[0, episode.prefix :]
        start += length


def test_tree_attention_equals_separate_sequences(twins):
    import torch

    from anyloom.training.planner.tree import layout, positions

    plain, tree = twins
    for e in _episodes():
        with torch.no_grad(), layout(e.prefix, e.branches, torch.float32):
            place = positions(e.prefix, e.branches)
            packed = tree.model(torch.tensor([e.ids]), position_ids=place, use_cache=False).last_hidden_state[0]
        for where, want in _alone(plain, e):
            assert torch.allclose(want, packed[where], atol=1e-4)


def test_a_batch_of_trees_under_one_mask_equals_separate_sequences(twins):
    import torch

    from anyloom.training.planner.batch import MULTIPLE, Batch
    from anyloom.training.planner.tree import tree_mask

    plain, tree = twins
    made = _episodes()
    batch = Batch.of(made).to("cpu")
    assert batch.ids.shape[1] % MULTIPLE == 0
    with torch.no_grad():
        mask = tree_mask(batch.parts, torch.float32)
        packed = tree.model(batch.ids, attention_mask=mask, position_ids=batch.places, use_cache=False)
    assert packed.last_hidden_state.isfinite().all()
    for n, e in enumerate(made):
        for where, want in _alone(plain, e):
            assert torch.allclose(want, packed.last_hidden_state[n, where], atol=1e-4)


def test_both_ways_give_the_same_loss_and_gradients(twins):
    import torch

    from anyloom.training.planner.batch import Batch
    from anyloom.training.planner.train import batch_loss, tree_loss

    tree = twins[1]
    made = _episodes()
    found = []
    for loss in (tree_loss(tree, made), batch_loss(tree, Batch.of(made))):
        tree.zero_grad()
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in tree.parameters()]))
    (one, grads), (other, others) = found
    assert torch.allclose(one, other, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, others, strict=True))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder like the converted base model's, tiny."""
    pytest.importorskip("torch")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("base")
    _tiny("eager").save_pretrained(folder)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{n}": n for n in range(100)}, unk_token="w0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "removed")
    words.save(str(folder / "tokenizer.json"))
    return folder


def test_episodes_are_the_same_with_any_number_of_workers(base):
    from anyloom.training.planner.ahead import episodes

    drawn = []
    for workers in (0, 2):
        with episodes(base, seed=4, start=3, workers=workers) as ahead:
            drawn.append([next(ahead) for _ in range(5)])
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_a_resumed_run_goes_on_as_it_would_have(base, tmp_path):
    pytest.importorskip("peft")
    from anyloom.training.planner.train import Recipe, train

    def losses(out):
        return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()][-1]

    def run(out, steps, **more):
        recipe = Recipe(steps=steps, trees=2, warmup=1, first_layer=0, rank=2, decay_fraction=1e-9)
        return train(base, tmp_path / out, recipe, say=lambda line: None, **more)

    run("whole", 3)
    run("parts", 2)
    adapter = run("parts", 3, resume=True)
    whole, parts = (losses(tmp_path / out) for out in ("whole", "parts"))
    assert (parts["step"], parts["episodes"]) == (3, 6)
    first_two = json.loads((tmp_path / "parts" / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert whole["loss"] == pytest.approx((2 * first_two + parts["loss"]) / 3, abs=2e-3)
    assert (adapter / "adapter_model.safetensors").exists()


def test_a_run_that_starts_from_an_adapter_begins_with_its_values(base, tmp_path):
    pytest.importorskip("peft")
    from safetensors.torch import load_file, save_file

    from anyloom.training.planner.train import Recipe, train

    def run(out, **more):
        recipe = Recipe(steps=1, trees=1, warmup=1, first_layer=0, rank=2, learning_rate=1e-12)
        return train(base, tmp_path / out, recipe, say=lambda line: None, **more) / "adapter_model.safetensors"

    fresh = load_file(run("fresh"))
    given = {k: v + 0.5 for k, v in fresh.items()}
    save_file(given, tmp_path / "fresh" / "adapter" / "adapter_model.safetensors")
    made = load_file(run("next", start=tmp_path / "fresh" / "adapter"))
    assert given.keys() == made.keys()
    assert all((made[k] - given[k]).abs().max() < 0.01 for k in given)

    given.popitem()
    save_file(given, tmp_path / "fresh" / "adapter" / "adapter_model.safetensors")
    with pytest.raises(WeightsError, match="of another recipe"):
        run("other", start=tmp_path / "fresh" / "adapter")
    with pytest.raises(WeightsError, match=r"no adapter_model\.safetensors in"):
        run("other", start=tmp_path)


def test_a_base_folder_without_a_model_is_one_sentence(tmp_path):
    pytest.importorskip("peft")
    from click.testing import CliRunner

    from anyloom.agent.commands.train import planner
    from anyloom.core.errors import SettingsError

    args = ["--out", str(tmp_path / "out"), "--base", str(tmp_path)]
    failed = CliRunner().invoke(planner, args).exception
    assert isinstance(failed, SettingsError)
    assert "no config.json, no model.safetensors, no tokenizer.json" in str(failed)
    assert not (tmp_path / "out").exists()


def test_an_adapter_computes_what_it_will_compute_when_it_is_loaded(base):
    pytest.importorskip("peft")
    import torch
    from peft.tuners.lora import LoraLayer

    from anyloom.training.planner.train import Recipe, build

    model = build(base, Recipe(first_layer=0, rank=2), "cpu").float()
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    assert len(layers) == 14
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight)
        x = torch.randn(2, 3, layer.in_features)
        ways = []
        for forward in (layer.forward, type(layer).forward.__get__(layer)):
            y = forward(x)
            grads = torch.autograd.grad(
                y.square().sum(), [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
            )
            ways.append((y, *grads))
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*ways, strict=True))


def test_norms_are_those_of_the_base_model(base):
    pytest.importorskip("peft")
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from anyloom.training.planner.train import Recipe, build

    model = build(base, Recipe(first_layer=0, rank=2), "cpu")
    norms = [m for m in model.modules() if isinstance(m, LlamaRMSNorm)]
    assert len(norms) == 5
    for norm in norms:
        x = 30 * torch.randn(2, 7, 48, dtype=torch.bfloat16)
        assert torch.allclose(norm(x), LlamaRMSNorm.forward(norm, x), rtol=2e-2, atol=1e-2)


def test_positions_are_trained_as_exactly_as_they_are_decoded(base):
    pytest.importorskip("peft")
    import torch

    from anyloom.training.planner.train import Recipe, build

    model = build(base, Recipe(first_layer=0, rank=2), "cpu")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    frequencies = model.base_model.model.model.rotary_emb.inv_freq
    assert torch.equal(frequencies, _tiny("eager").model.rotary_emb.inv_freq)
    assert frequencies.dtype == torch.float32


def test_the_rate_follows_whichever_of_steps_and_minutes_is_further():
    pytest.importorskip("torch")
    from anyloom.training.planner.train import Recipe

    recipe = Recipe(steps=1000, minutes=1, warmup=10, learning_rate=1.0, decay_fraction=0.5)
    assert recipe.spent(100, 30) == 0.5
    assert recipe.spent(600, 30) == 0.6
    assert recipe.spent(2000, 0) == 1
    assert recipe.rate(0, 0) == pytest.approx(0.1)
    assert recipe.rate(400, 0.5) == 1
    assert recipe.rate(400, 0.75) == pytest.approx(0.5)
    assert recipe.rate(999, 1) == pytest.approx(0.02)
