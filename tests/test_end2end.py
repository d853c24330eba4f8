"""The end-to-end mode as a user meets it: the same requests, answers, events, files and conversations as the cascade.

The model is a toy whose wishes are set by the test; everything around it is real.
"""

import asyncio
import subprocess
import sys

import pytest
import rig
import torch
from mmllm_rig import toy_model

from anyloom.controller.fakes import ScriptedController
from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import InputError, WeightsError
from anyloom.core.events import AnswerDone, AnswerText, RunStarted, TaskDone, TaskFailed, TaskProgress, TaskStarted
from anyloom.core.provenance import extract
from anyloom.graphs.end2end import SHIPPED, Source, dialogue
from anyloom.graphs.engine import Engine
from anyloom.graphs.state import Request
from anyloom.mmllm.dialogue import Made, Seen
from anyloom.mmllm.inference import Reply, Speaker, Wanted
from anyloom.tools.fakes import Fakes


class Wishing(Speaker):
    """A Speaker that says and wants what the test says; conditions and generation are the model's own."""

    def __init__(self, model, answers):
        super().__init__(model)
        self.answers = list(answers)
        self.heard = []
        self.generated = []

    def speak(self, talk, files, *, on_text, on_media, check, max_tokens, seed, temperature=0.0):
        """Words first, then each wish."""
        super().speak(talk, files, check=check, max_tokens=1)  # what is attached is really read
        self.heard.append(talk)
        text, *wishes = self.answers[min(len(self.heard), len(self.answers)) - 1]
        reply = Reply(prompt_tokens=5)
        for word in text.split(" "):
            check()
            on_text(word + " ")
            reply.text += word + " "
        for n, modality in enumerate(wishes):
            generator = self.model.generators[modality]
            reply.media.append(Wanted(n, modality, generator.text_condition([f"{text}{n}"])[0]))
            on_media(reply.media[-1])
        return reply

    def generate(self, modality, condition, **options):
        """The model's own, counted."""
        self.generated.append(modality)
        return super().generate(modality, condition, **options)


def wishing(folder, *answers, **options):
    speaker = Wishing(toy_model(), answers)
    source = Source("mmllm-toy", ("sha256:toy",), lambda device: speaker, memory=1000)
    parts = rig.parts(Fakes(), ScriptedController())
    return Engine(rig.settings(folder, **options), **parts, end2end=source), speaker


def test_the_model_is_opened_once_for_all_event_loops(tmp_path):
    """`Agent.ask` runs a loop of its own each time."""
    speaker, opened = Wishing(toy_model(), [("Hello.",)]), []
    source = Source("mmllm-toy", ("sha256:toy",), lambda device: opened.append(device) or speaker, memory=1000)
    engine = Engine(rig.settings(tmp_path), **rig.parts(Fakes(), ScriptedController()), end2end=source)
    for _ in range(3):
        assert asyncio.run(engine.ask(Request("hello", mode="end2end"))).text == "Hello."
    assert len(opened) == 1
    asyncio.run(engine.aclose())


async def test_words_and_files_come_as_in_the_cascade(tmp_path):
    engine, _ = wishing(tmp_path, ("Here is a cat.", "image", "audio"))
    seen = []
    answer = await engine.ask(Request("draw a cat and play it", mode="end2end", seed=3), emit=seen.append)
    assert answer.text == "Here is a cat."
    assert [a.modality for a in answer.artifacts] == ["image", "audio"]
    assert answer.ok
    kinds = [type(e) for e in seen]
    assert kinds[0] is RunStarted
    assert kinds[-1] is AnswerDone
    assert {AnswerText, TaskStarted, TaskProgress, TaskDone} <= set(kinds)
    assert "".join(e.text for e in seen if isinstance(e, AnswerText)).strip() == answer.text
    made = extract(engine.store.path(answer.artifacts[0]))
    assert (made["expert"], made["params"]["text"]) == ("mmllm-toy", "draw a cat and play it")
    bundle = engine.runs.get(answer.run)
    assert bundle["state"] == "done"
    assert [t["task"] for t in bundle["plan"]] == ["make-image", "make-audio"]
    await engine.aclose()


async def test_seeds_decide_and_the_cache_remembers(tmp_path):
    engine, speaker = wishing(tmp_path, ("A cat.", "image"))
    ask = [await engine.ask(Request("draw", mode="end2end", seed=s)) for s in (1, 1, 2)]
    hashes = [a.artifacts[0].sha256 for a in ask]
    assert hashes[0] == hashes[1] != hashes[2]
    assert [a.results[0].cached for a in ask] == [False, True, False]
    assert len(speaker.generated) == 2
    fresh = await engine.ask(Request("draw", mode="end2end", seed=1, fresh=True))
    assert fresh.artifacts[0].sha256 == hashes[0]
    assert len(speaker.generated) == 3
    await engine.aclose()


async def test_a_conversation_goes_on_with_its_media_in_both_modes(tmp_path):
    engine, speaker = wishing(tmp_path, ("A cat.", "image"), ("It is red.",))
    cat = rig.picture(tmp_path)
    first = await engine.ask(Request("like this", (cat,), mode="end2end"), thread="t")
    await engine.ask(Request("what colour is it?", mode="end2end"), thread="t")
    talk = speaker.heard[1]
    assert [t.who for t in talk] == ["user", "assistant", "user"]
    assert talk[0].pieces[0] == Seen("image", cat.sha256)
    assert talk[1].pieces[-1] == Made("image", "", first.artifacts[0].sha256)
    plan = [rig.task("image-to-text", 0, image=first.artifacts[0].name)]
    engine.runtime.controller.plans = [plan]
    cascade = await engine.ask(Request("describe it"), thread="t")
    assert cascade.thread == "t"
    assert len(await engine.history("t")) == 3
    await engine.ask(Request("and now?", mode="end2end"), thread="t")
    assert len(speaker.heard[2]) == 7
    await engine.aclose()


async def test_a_failed_output_leaves_the_words(tmp_path):
    engine, speaker = wishing(tmp_path, ("Here.", "image", "audio"))

    def broken(condition, **options):
        raise RuntimeError("no more colours")

    speaker.model.generators["image"].generate = broken
    seen = []
    answer = await engine.ask(Request("draw", mode="end2end"), emit=seen.append)
    assert not answer.ok
    assert answer.text == "Here."
    assert [r.status for r in answer.results] == ["failed", "ok"]
    assert "no more colours" in next(e.error for e in seen if isinstance(e, TaskFailed))
    await engine.aclose()


async def test_cancelling_stops_and_resuming_finds_what_was_made(tmp_path):
    engine, speaker = wishing(tmp_path, ("Two.", "image", "audio"))
    second = speaker.model.generators["audio"]
    real = second.generate
    reached = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(condition, *, check, **options):
        loop.call_soon_threadsafe(reached.set)
        for _ in range(1000):
            check()
            torch.zeros(1).add_(1)
            import time

            time.sleep(0.01)
        raise AssertionError("was not stopped")

    second.generate = slow
    work = asyncio.create_task(engine.ask(Request("both", mode="end2end"), thread="t"))
    await asyncio.wait_for(reached.wait(), 20)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert engine.runs.last("t")["state"] == "stopped"
    second.generate = real
    answer = await engine.resume("t")
    assert [r.cached for r in answer.results] == [True, False]
    assert speaker.generated == ["image", "audio", "audio"]
    await engine.aclose()


async def test_a_run_is_replayed_to_the_same_bytes(tmp_path):
    engine, _ = wishing(tmp_path, ("A cat.", "image"))
    answer = await engine.ask(Request("draw", mode="end2end", seed=5))
    again = await engine.replay(answer.run)
    assert again.same == (0,)
    await engine.aclose()


async def test_only_words_are_an_answer_and_silence_is_said(tmp_path):
    engine, _ = wishing(tmp_path, ("Hello to you.",), ("",))
    answer = await engine.ask(Request("hello", mode="end2end"))
    assert (answer.text, answer.artifacts, answer.plan) == ("Hello to you.", (), ())
    assert (await engine.ask(Request("hm", mode="end2end"))).text == "I have no answer to this."
    await engine.aclose()


def test_files_stand_where_the_request_names_them(tmp_path):
    store = ArtifactStore(tmp_path)
    from anyloom.mmllm.fakes import tiny_png

    a, b = (store.add_bytes(tiny_png(c), "image/png", n) for c, n in ((b"aaa", "a.png"), (b"bbb", "b.png")))
    note = store.add_text("some words", "note.txt")
    request = Request("compare b.png with a.png", (a, b, note))
    talk, shown = dialogue(request, [], {}, store.text)
    assert talk[0].pieces == (
        "some words\n", "compare ", Seen("image", b.sha256), " with ", Seen("image", a.sha256),
    )  # fmt: skip
    assert {x.sha256 for x in shown} == {a.sha256, b.sha256}


async def test_without_trained_weights_it_is_one_sentence(tmp_path):
    from anyloom.core.weights import Weights

    try:
        Weights(tmp_path).resolve(SHIPPED)
        pytest.skip("trained weights ship with this version")
    except WeightsError:
        pass
    engine = rig.engine(tmp_path)
    with pytest.raises(WeightsError, match=r"no trained weights here; train them with `anyloom train mmllm`"):
        await engine.ask(Request("draw a cat", mode="end2end"))
    assert not engine.runs.list(), "nothing was begun"
    with pytest.raises(InputError, match="makes no plan"):
        await engine.plan_only(Request("draw a cat", mode="end2end"))
    with pytest.raises(InputError, match="could be approved"):
        await engine.ask(Request("draw a cat", mode="end2end", approve=True))
    await engine.aclose()


async def test_a_trained_model_in_the_data_folder_is_used(tmp_path):
    """A checkpoint that `anyloom train mmllm` left in DATA/mmllm answers; here with a toy base in a folder."""
    from anyloom.mmllm import checkpoint
    from anyloom.mmllm.contracts import Setting
    from anyloom.mmllm.fakes import toy_parts
    from anyloom.mmllm.model import MultimodalLM
    from anyloom.mmllm.recipe import Recipe

    base = toy_parts().make("backbone", "toy", {}, Setting())
    base.lm.save_pretrained(tmp_path / "base")
    base.tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    recipe = Recipe.parse({
        "name": "words", "backbone": {"kind": "folder", "folder": str(tmp_path / "base")},
        "lora": {"rank": 2, "alpha": 4},
    })  # fmt: skip
    checkpoint.save(MultimodalLM.build(recipe, toy_parts(), Setting()), tmp_path / "data" / "mmllm", ["3"])
    engine = rig.engine(tmp_path)
    answer = await engine.ask(Request("hello", mode="end2end"))
    assert answer.text
    assert answer.costs["completion_tokens"] >= 0
    await engine.aclose()


def test_the_graphs_import_no_torch():
    code = "import sys, anyloom.graphs.end2end, anyloom.mmllm.recipe; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert out.stdout.strip() == "False"
