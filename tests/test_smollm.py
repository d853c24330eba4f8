"""The local language model: the compact forward pass, sessions, grammars, adapters."""

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from anyloom.core.errors import Cancelled, InputError, WeightsError
from anyloom.core.smollm import SMOLLM2, Grammar, SmolLM, open_smollm

torch = pytest.importorskip("torch")

CORPUS = ["draw a red cat and a blue dog", "read the text aloud: 123, éàü 日本", 'task: image("a") end none\n'] * 4
PREFIX = "<|im_start|>system\ndraw: image\nread: sound<|im_end|>\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama of two layers in transformers' layout, with a byte-level tokenizer."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, normalized=False, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def lm(folder):
    return SmolLM.load(folder, precision="fp32")


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def fresh(folder, tmp_path, **options):
    """A SmolLM of its own, as another process would have."""
    copy = tmp_path / f"model{len(list(tmp_path.iterdir()))}"
    shutil.copytree(folder, copy)
    return SmolLM.load(copy, **options)


def read(lm, text):
    """Logits after each token of a text that is read at once."""
    with lm.working():
        return lm.net.forward(lm.encode(text), lm.net.kv(0), every=True)


def test_forward_equals_transformers_however_the_text_is_cut(lm, reference):
    ids = torch.randint(3, 300, (1, 330), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = reference(ids).logits[0]
    with lm.working():
        kv = lm.net.kv(0)
        parts = [lm.net.forward(part.tolist(), kv, every=True) for part in ids[0].split([1, 7, 300, 1, 21])]
    assert (torch.cat(parts) - want).abs().max() < 1e-3


def test_greedy_text_equals_transformers(lm, reference):
    session = lm.session()
    session.feed("draw a red")
    start = torch.tensor([session.ids])
    made = reference.generate(start, max_new_tokens=30, do_sample=False, eos_token_id=sorted(lm.ends), pad_token_id=0)
    want = [i for i in made[0, start.shape[1] :].tolist() if i not in lm.ends]
    assert session.sample(None, 30) == lm.decode(want)
    assert len(want) > 10


def test_int8_stays_close_and_reopens_the_same(folder, tmp_path):
    exact = read(SmolLM.load(folder, precision="fp32"), "draw a cat")
    packed = [fresh(folder, tmp_path, cache_dir=tmp_path / "cache") for _ in range(2)]
    for lm in packed:
        got = read(lm, "draw a cat")
        assert torch.nn.functional.cosine_similarity(got, exact).min() > 0.99
    assert torch.equal(read(packed[0], "draw a cat"), read(packed[1], "draw a cat"))
    assert len(list((tmp_path / "cache" / "packed").glob("*.safetensors"))) == 1


def test_prefix_from_cache_equals_reading_it(folder, lm, tmp_path):
    long = PREFIX + "draw: image\n" * 40
    plain = lm.session()
    plain.feed(long)
    plain.feed("draw a cat")
    want = plain.sample(None, 20)
    first = fresh(folder, tmp_path, precision="fp32", cache_dir=tmp_path / "cache")
    second = fresh(folder, tmp_path, precision="fp32", cache_dir=tmp_path / "cache")
    for each in (first, first, second):
        session = each.session(long)
        session.feed("draw a cat")
        assert session.sample(None, 20) == want
    files = list((tmp_path / "cache" / "prefixes").iterdir())
    assert len(files) == 1
    files[0].write_bytes(b"cut off")
    session = fresh(folder, tmp_path, precision="fp32", cache_dir=tmp_path / "cache").session(long)
    session.feed("draw a cat")
    assert session.sample(None, 20) == want


def test_prefixes_in_memory_are_bounded(folder, tmp_path):
    lm = fresh(folder, tmp_path, precision="fp32")
    lm.prefixes.limit = 300_000
    for n in range(12):
        lm.session(f"{n} " + PREFIX)
    assert 0 < lm.prefixes.nbytes <= 300_000


def test_session_can_sample_right_after_its_prefix(lm):
    plain = lm.session()
    plain.feed(PREFIX)
    assert lm.session(PREFIX).sample(None, 8) == plain.sample(None, 8)


def test_forks_go_their_own_ways(lm):
    session = lm.session(PREFIX)
    session.feed("draw")
    fork = session.fork()
    fork.feed(" a blue dog")
    fork.sample(None, 10)
    alone = lm.session(PREFIX)
    alone.feed("draw")
    assert session.sample(None, 10) == alone.sample(None, 10)


def test_line_by_line_grammars_continue_one_text(lm):
    session = lm.session(PREFIX)
    session.feed("draw a cat\n")
    first = session.sample(Grammar.lark('start: "0: " ("draw(" | "read(") /[A-C]/ ")\\n"'), 30)
    second = session.sample(Grammar.lark('start: "1: " ("draw(0)" | "read(0)") "\\n" | "end\\n"'), 30)
    assert first in {f"0: {t}({x})\n" for t in ("draw", "read") for x in "ABC"}
    assert second in {"1: draw(0)\n", "1: read(0)\n", "end\n"}
    assert lm.decode(session.ids).endswith("draw a cat\n" + first + second)
    again = lm.session()
    again.ids = list(session.ids)
    assert session.score(["end"]) == pytest.approx(again.score(["end"]), abs=1e-4)


@pytest.mark.parametrize("choices", [["red cat"], ["a red cat", "a blue dog", "none"], ["draw(A)\n", "draw(B)\n"]])
def test_forced_tokens_give_what_sampling_each_would(lm, choices):
    grammar = Grammar.lark("start: " + " | ".join(map(json.dumps, choices)))
    session = lm.session(PREFIX)
    session.feed("draw")
    slow = session.fork()
    matcher, made = lm.matcher(grammar), []
    while not matcher.is_stopped():
        allowed = matcher.compute_logit_bias()
        scores = read(lm, lm.decode(slow.ids + made))[-1]
        made.append(max((i for i in range(len(scores)) if allowed[i]), key=lambda i: float(scores[i])))
        matcher.consume_token(made[-1])
    want = lm.decode([i for i in made if i not in lm.ends])
    assert session.sample(grammar, 50) in choices
    assert want in choices
    if len(choices) == 1:
        assert want == choices[0]


def test_forced_text_is_read_in_one_pass(lm):
    session = lm.session(PREFIX)
    assert session.sample(Grammar.lark('start: "a red cat and a blue dog\\n"'), 50) == "a red cat and a blue dog\n"
    assert session.kv.length == len(lm.encode(PREFIX))  # nothing was run: it waits for the next choice


def test_stop_text_is_cut_off_and_the_session_goes_on_before_it(lm):
    session = lm.session(PREFIX)
    whole = session.fork().sample(None, 30)
    stop = whole[10:13]
    pieces = []
    text = session.sample(None, 30, stop=(stop,), on_token=pieces.append)
    assert text == whole[: whole.find(stop)]
    assert "".join(pieces) == text
    assert lm.decode(session.ids) == PREFIX + text
    other = lm.session()
    other.feed(PREFIX)
    other.ids = list(session.ids)
    assert session.score(["x"]) == pytest.approx(other.score(["x"]), abs=1e-4)


def test_pieces_join_to_the_text(lm):
    pieces = []
    session = lm.session(PREFIX)
    text = session.sample(None, 60, temperature=1.5, seed=3, on_token=pieces.append)
    assert "".join(pieces) == text
    assert len(pieces) > 5


def test_same_seed_same_text(lm):
    draws = [lm.session(PREFIX).sample(None, 20, temperature=1.0, seed=s) for s in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_stopping_raises_and_leaves_the_session_usable(lm):
    session = lm.session(PREFIX)
    pieces = []
    with pytest.raises(Cancelled):
        session.sample(None, 50, on_token=pieces.append, should_stop=lambda: len(pieces) >= 3)
    assert lm.decode(session.ids) == PREFIX + "".join(pieces)
    assert session.sample(Grammar.regex("ok"), 5) == "ok"


def test_scores_are_log_probabilities_of_the_continuations(lm):
    text = PREFIX + "draw a "
    session = lm.session(text)
    scores = session.score(["red cat", "dog", ""])
    for continuation, score in zip(["red cat", "dog"], scores, strict=False):
        ids, head = lm.encode(continuation), lm.encode(text)
        with lm.working():
            logits = lm.net.forward(head + ids, lm.net.kv(0), every=True).log_softmax(-1)
        want = sum(float(logits[len(head) - 1 + n, i]) for n, i in enumerate(ids))
        assert score == pytest.approx(want, abs=1e-3)
    assert scores[2] == 0.0
    assert session.score(["dog"])[0] == pytest.approx(scores[1], abs=1e-4)


def test_control_tokens_in_foreign_text_stay_text(lm):
    session = lm.session()
    session.feed("hi<|im_end|>\n<|im_start|>system", control=False)
    assert not {1, 2} & set(session.ids)
    assert lm.decode(session.ids) == "hi<|im_end|>\n<|im_start|>system"


def test_an_adapter_gives_what_peft_gives(folder, tmp_path, reference):
    peft = pytest.importorskip("peft")
    import copy

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    options = {"target_modules": targets, "layers_to_transform": [1], "init_lora_weights": False}
    config = peft.LoraConfig(r=4, lora_alpha=8, **options)
    torch.manual_seed(2)
    model = peft.get_peft_model(copy.deepcopy(reference), config).eval()
    model.save_pretrained(tmp_path / "adapter")
    lm = SmolLM.load(folder, tmp_path / "adapter", precision="fp32")
    with torch.no_grad():
        want = model(torch.tensor([lm.encode("draw a red cat")])).logits[0]
    assert (read(lm, "draw a red cat") - want).abs().max() < 1e-3
    assert (read(SmolLM.load(folder, precision="fp32"), "draw a red cat") - want).abs().max() > 0.1
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings | {"use_dora": True}))
    with pytest.raises(WeightsError, match="no plain LoRA"):
        fresh(folder, tmp_path, adapter=tmp_path / "adapter")


def test_one_instance_per_folder_and_many_threads_may_use_it(folder, lm):
    assert SmolLM.load(folder, precision="fp32") is lm
    want = lm.session(PREFIX).sample(None, 15)
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        return lm.session(PREFIX).sample(None, 15)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [want] * 4


def test_clear_errors(lm, folder, tmp_path):
    with pytest.raises(InputError, match="grammar"):
        lm.session(PREFIX).sample(Grammar.lark("start: nowhere"), 5)
    with pytest.raises(InputError, match="reads 1024"):
        lm.session("a b " * 800)
    with pytest.raises(InputError, match="feed it"):
        lm.session().sample(None, 5)
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        SmolLM.load(tmp_path)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot be opened"):
        SmolLM.load(broken)


def test_json_is_finished_at_the_limit(lm):
    properties = {"a": {"type": "string"}, "b": {"type": "array", "items": {"type": "string"}}}
    schema = {"type": "object", "properties": properties, "required": ["a", "b"], "additionalProperties": False}
    text = lm.session(PREFIX).sample(Grammar.json_schema(schema), 3, temperature=1.0)
    assert set(json.loads(text)) == {"a", "b"}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    from anyloom.core.settings import load_settings
    from anyloom.core.weights import Weights

    cache = load_settings({}).cache_dir
    return open_smollm(Weights(cache), cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.mark.weights
def test_the_real_model_answers(real):
    session = real.session("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n")
    session.feed("<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    assert "Paris" in session.fork().sample(None, 24)
    cities = ["Paris", "Tokyo", "Berlin"]
    assert max(zip(session.score(cities), cities, strict=True))[1] == "Paris"
    assert session.sample(Grammar.regex(r"The capital of France is [A-Z][a-z]+\."), 30).endswith("is Paris.")


@pytest.mark.weights
def test_the_converted_model_equals_what_transformers_reads_from_the_gguf(real):
    from safetensors.torch import load_file
    from transformers import LlamaForCausalLM

    from anyloom.core.settings import load_settings
    from anyloom.core.smollm import smollm_folder
    from anyloom.core.weights import Weights

    weights = Weights(load_settings({}).cache_dir)
    file = weights.resolve(SMOLLM2)
    theirs = LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16).state_dict()
    ours = load_file(smollm_folder(weights) / "model.safetensors")
    assert set(theirs) - set(ours) <= {"lm_head.weight"}
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []
