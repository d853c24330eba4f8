"""What the tests of evaluation/ share: a fake judge and encoder, a small suite, and benches over fakes and toys."""

import json
from pathlib import Path

import rig

from anyloom.controller.fakes import ScriptedController
from anyloom.evaluation.bench import Bench
from anyloom.evaluation.items import read_suite
from anyloom.graphs.end2end import Source
from anyloom.mmllm.inference import Reply, Speaker
from anyloom.tools.fakes import Fakes

PLANS = {
    "draw a blue heart": [rig.task("text-to-image", 0, text="a blue heart")],
    "draw a red star": [rig.task("text-to-image", 0, text="a red star")],
    "describe": [rig.task("image-to-text", 0, image="red-heart.png")],
    "say": [rig.task("text-to-speech", 0, text="two apples")],
}
SUITE = """
[[item]]
id = "heart"
conversion = "text-to-image"
request = "draw a blue heart"
expect = {concept = "heart", colour = "blue"}
meaning = "a blue heart"

[[item]]
id = "star"
conversion = "text-to-image"
request = "draw a red star"
expect = {concept = "star", colour = "red"}
meaning = "a red star"

[[item]]
id = "seen"
conversion = "image-to-text"
request = "describe this picture"
attach = [{make = "picture", shape = "heart", colour = "red"}]
expect = {concept = ["heart"], colour = "red"}
meaning = "a red heart"
references = ["a red heart"]

[[item]]
id = "spoken"
conversion = "text-to-speech"
request = "say: two apples"
words = "two apples"
meaning = "two apples"
"""


class FakeJudge:
    """Says what it is told, whatever the file."""

    fingerprint = "fake"

    def __init__(self, **said):
        self.said = said or {"concept": "red heart", "colour": "blue"}
        self.classes = {k: [v] for k, v in self.said.items()}
        self.asked = []

    def says(self, file):
        self.asked.append(Path(file))
        return {k: (v, 0.9) for k, v in self.said.items()}

    def features(self, file):
        return [float(b) for b in Path(file).read_bytes()[-8:]]


class FakeEncoder:
    """Letters counted: the same words in another order are the same."""

    def encode(self, texts):
        found = []
        for text in texts:
            counts = [text.lower().count(chr(97 + n)) + 1e-6 for n in range(26)]
            length = sum(c * c for c in counts) ** 0.5
            found.append([c / length for c in counts])
        return found


class Toy(Speaker):
    """An end-to-end model that says and wants what `answers` has for a word of the request."""

    def __init__(self, model, answers):
        super().__init__(model)
        self.answers, self.heard, self.talks = answers, [], []

    def speak(self, talk, files, *, on_text, on_media, check, max_tokens, seed, temperature=0.0):
        from anyloom.mmllm.inference import Wanted

        asked = " ".join(p for p in talk[-1].pieces if isinstance(p, str))
        self.heard.append(asked)
        self.talks.append(talk)
        text, *wishes = next((v for k, v in self.answers.items() if k in asked), ("I cannot.",))
        on_text(text)
        reply = Reply(text=text, prompt_tokens=5, ids=[1, 2, 3])
        for n, modality in enumerate(wishes):
            condition = self.model.generators[modality].text_condition([text])[0]
            reply.media.append(Wanted(n, modality, condition))
            on_media(reply.media[-1])
        return reply


def toy_source(answers):
    from mmllm_rig import toy_model

    speaker = Toy(toy_model(), answers)
    return Source("mmllm-toy", ("sha256:toy",), lambda device: speaker, memory=1000), speaker


def bench(folder, answers=None, plans=PLANS, judge=True, fakes=None, cannot=None, **options):
    """A bench whose cascade is scripted and whose end-to-end mode is a toy (or has no weights)."""
    fakes = fakes or Fakes(answers={"image-to-text": "a red heart", "automatic-speech-recognition": "two apples"})
    parts = rig.parts(fakes, ScriptedController(plans=plans))
    speaker = None
    if answers is not None:
        parts["end2end"], speaker = toy_source(answers)
    from anyloom.graphs.engine import Engine

    engine = Engine(rig.settings(folder, **{"result_cache": False, **options}), **parts)
    judges = {"image": FakeJudge()} if judge is True else judge or {}
    without = {} if answers is not None else {"end2end": "The end-to-end mode has no trained weights here."}
    made = Bench(engine, judges, FakeEncoder, cannot if cannot is not None else without)
    made.fakes, made.speaker = fakes, speaker
    return made


def suite(folder, text=SUITE, name="mine.toml"):
    (folder / name).write_text(text)
    return read_suite(str(folder / name))


def without_costs(rows):
    return [json.loads(json.dumps({k: v for k, v in r.items() if k != "costs"})) for r in rows]
