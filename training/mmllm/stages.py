"""The stages: what each trains, on which dialogues, with which weights of the losses.

| stage      | trains                                     | dialogues             | losses                             |
|------------|--------------------------------------------|-----------------------|------------------------------------|
| 1          | input projectors                           | one file, its caption | text, spell                        |
| 2          | output projectors, signal rows             | a request, one file   | text, echo, align, decide, denoise |
| 3          | LoRA, rows, input and output projectors    | all of them           | all of these                       |
| repeat     | output projectors                          | all that make files   | align, decide, denoise             |
| preference | LoRA                                       | pairs                 | DPO, text, align, decide           |
| content    | input projectors                           | no dialogues          | spell                              |
| settle     | LoRA, rows, output projectors              | all of them           | text, echo, align, decide, denoise |

(text, align and decide of the preference stage: those of the better answer.)

`spell`: projected content lies near the vectors of its caption's words. The backbone is not run for it, so that
stage 1 begins with a time of it alone (`alone`), and the text loss finishes what can then be read already.
`echo`: the states of signals foretell the caption's words, as the backbone would: it knows how to copy, and the
output projectors learn soonest from states that say apart what was said. It is a help, no channel: six states
hold no more than six words, and alignment goes on through all of them.
`decide`: what the generator reads off its condition (which thing, which colour) is what it reads off the text's.
`replays`: after each step the output projectors learn so many times more from runs remembered (`replay.py`).
`contents`: and the input projectors from so many batches of `spell` alone: without them stage 3 undid what stage 1
had learnt, as a dialogue holds a file or two and its text loss pulls at them (2026-11-26 in docs/log.md).

The stage `content` goes on with spelling once the rest has learnt what it can: what it spells, the language model
reads already. After it the input projectors rest, and `settle` lets the language model learn to read what they have
come to say, with its errors.

The repeat leaves the signal rows alone: LoRA moved the hidden states that the output projectors
read, and only these have to follow; rows trained on requests for media alone would answer everything with media.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...core.errors import UnknownName, nearest
from ...mmllm.model import MultimodalLM

PARTS = ("projectors", "rows", "lora", "output_projectors")
RATES = {"projectors": 1e-3, "rows": 1e-3, "lora": 5e-4, "output_projectors": 4e-4}


@dataclass(frozen=True)
class Stage:
    """One stage. `kinds` are kinds of dialogues (None: all); `weights` of the losses by their first word.

    `share`: of a run's minutes, where these are what bounds it. `alone`: the first part of the stage, 0…1, in
    which input projectors train on `spell` alone, with batches `wider` times as large. `most`: of the dialogues.
    """

    name: str
    trains: tuple[str, ...]
    kinds: tuple[str, ...] | None
    weights: Mapping[str, float]
    steps: int = 1000
    batch: int = 16
    share: float = 0.2
    alone: float = 0.0
    wider: int = 4
    replays: int = 0
    contents: int = 0
    remembers: int = 4096
    most: int | None = None
    rates: Mapping[str, float] = field(default_factory=lambda: dict(RATES))
    warmup: float = 0.05
    clip: float = 1.0
    decay: float = 0.001
    beta: float = 0.1

    def scaled(self, rate: float) -> Stage:
        """With other learning rates."""
        return replace(self, rates={k: v * rate for k, v in self.rates.items()})


_MAKING = {"align": 1.0, "decide": 0.5, "denoise": 0.2}
_ALL = {"text": 1.0, "spell": 0.1, "echo": 0.2, **_MAKING}
STAGES = {
    s.name: s
    for s in (
        Stage("1", ("projectors",), ("tell", "both"), {"text": 1.0, "spell": 0.3}, steps=3000, batch=32, share=0.26,
              alone=0.8),
        Stage("2", ("rows", "output_projectors"), ("make",), {"text": 1.0, "echo": 0.2, **_MAKING}, steps=3000,
              batch=32, share=0.06, replays=2),
        Stage("3", PARTS, None, _ALL, steps=4000, batch=24, share=0.28, replays=2, contents=1),
        Stage("repeat", ("output_projectors",), ("make", "turn", "two", "talk"), _MAKING, steps=1000, batch=48,
              share=0.1, replays=6, remembers=16_384).scaled(0.7),
        Stage("preference", ("lora",), None, {"dpo": 1.0, "text": 0.5, "align": 0.5, "decide": 0.2}, steps=400,
              batch=8, share=0.03, most=400).scaled(0.1),
        Stage("content", ("projectors",), ("tell", "both"), {"spell": 1.0}, batch=32, share=0.12, alone=1.0),
        Stage("settle", ("lora", "rows", "output_projectors"), None, {k: w for k, w in _ALL.items() if k != "spell"},
              batch=24, share=0.15).scaled(0.5),
    )
}  # fmt: skip
ORDER = tuple(STAGES)


def stage(name: str) -> Stage:
    """The stage of that name; UnknownName when there is none."""
    if name not in STAGES:
        raise UnknownName(f"There is no stage '{name}'{nearest(name, ORDER)}; there is {', '.join(ORDER)} and all.")
    return STAGES[name]


def part_of(name: str) -> str:
    """Which part a delta belongs to."""
    return "lora" if ".lora_" in name else name.partition(".")[0]


def set_trainable(model: MultimodalLM, trains: tuple[str, ...]) -> list[str]:
    """Makes exactly these parts trainable and asserts the exact list; RuntimeError when it is another."""
    wanted = {n for n in model.deltas() if part_of(n) in trains}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)
    found = {n for n, p in model.named_parameters() if p.requires_grad}
    if found != wanted or {part_of(n) for n in found} != set(trains):
        odd = sorted(found ^ wanted) or sorted(set(trains) - {part_of(n) for n in found})
        raise RuntimeError(f"The trainable parameters are not those of {trains}: {odd[:3]}.")
    if "lora" in trains:
        _every_adapter(model, found)
    for kind, part in (*model.encoders.items(), *model.generators.items()):
        for name, parameter in getattr(part, "named_parameters", lambda: ())():
            if parameter.requires_grad:
                raise RuntimeError(f"The frozen part for {kind} has a trainable parameter '{name}'.")
    return sorted(found)


def _every_adapter(model: MultimodalLM, found: set[str]) -> None:
    """Two matrices for each target of each layer: adapters that were silently left out or frozen are found here."""
    layers = model.backbone.lm.config.num_hidden_layers
    wanted = 2 * layers * len(model.recipe.lora.targets)
    have = sum(".lora_" in n for n in found)
    if have != wanted:
        raise RuntimeError(f"LoRA trains {have} matrices where {wanted} are wanted; check the recipe's targets.")
