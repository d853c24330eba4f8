"""The planner's training data and its tree attention."""

import random

import pytest

from anyloom.controller import language
from anyloom.controller.plan import check
from anyloom.core.errors import PlanError
from anyloom.training.planner.phrases import Phrases
from anyloom.training.planner.requests import RequestWriter
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


def test_tree_attention_equals_separate_sequences():
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    from anyloom.training.planner.tree import layout, positions, register

    register()
    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        vocab_size=100,
    )
    torch.manual_seed(0)
    plain = LlamaForCausalLM(config).eval()
    tree = LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), "attn_implementation": "tree"})).eval()
    tree.load_state_dict(plain.state_dict())
    prefix, branches = 40, [200, 150, 30, 7]
    ids = torch.randint(0, 100, (1, prefix + sum(branches)))
    with torch.no_grad(), layout(prefix, branches, torch.float32):
        packed = tree.model(ids, position_ids=positions(prefix, branches), use_cache=False).last_hidden_state
    start = prefix
    for length in branches:
        alone = torch.cat([ids[:, :prefix], ids[:, start : start + length]], 1)
        with torch.no_grad():
            want = plain.model(alone).last_hidden_state[:, prefix:]
        assert torch.allclose(want, packed[:, start : start + length], atol=1e-4)
        start += length
