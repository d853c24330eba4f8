"""The stages: what each trains, on which dialogues, with which weights of the losses.

| stage      | trains                                         | dialogues             | losses               |
|------------|------------------------------------------------|-----------------------|----------------------|
| 1          | input projectors                               | one file, its caption | text                 |
| 2          | output projectors, signal rows                 | a request, one file   | text, align, denoise |
| 3          | LoRA, signal rows, input and output projectors | all of them           | text, align, denoise |
| repeat     | output projectors                              | all that make files   | align, denoise       |
| preference | LoRA                                           | pairs                 | DPO, text, align     |

(text and alignment of the preference stage: those of the better answer.)

The repeat leaves the signal rows alone: LoRA moved the hidden states that the output projectors
read, and only these have to follow; rows trained on requests for media alone would answer everything with media.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ...core.errors import UnknownName, nearest
from ...mmllm.model import MultimodalLM

PARTS = ("projectors", "rows", "lora", "output_projectors")
RATES = {"projectors": 1e-3, "rows": 1e-3, "lora": 3e-4, "output_projectors": 4e-4}


@dataclass(frozen=True)
class Stage:
    """One stage. `kinds` are kinds of dialogues (None: all); `weights` of the losses by their first word."""

    name: str
    trains: tuple[str, ...]
    kinds: tuple[str, ...] | None
    weights: Mapping[str, float]
    steps: int = 1000
    batch: int = 16
    rates: Mapping[str, float] = field(default_factory=lambda: dict(RATES))
    warmup: float = 0.05
    clip: float = 1.0
    decay: float = 0.001
    beta: float = 0.1

    def scaled(self, rate: float) -> Stage:
        """With other learning rates."""
        return replace(self, rates={k: v * rate for k, v in self.rates.items()})


_ALL = {"text": 1.0, "align": 1.0, "denoise": 0.2}
STAGES = {
    s.name: s
    for s in (
        Stage("1", ("projectors",), ("tell",), {"text": 1.0}, steps=1500, batch=32),
        Stage("2", ("rows", "output_projectors"), ("make",), _ALL, steps=3000, batch=32),
        Stage("3", PARTS, None, _ALL, steps=4000, batch=24),
        Stage("repeat", ("output_projectors",), ("make", "turn", "two", "talk"),
              {"align": 1.0, "denoise": 0.2}, steps=1000, batch=32).scaled(0.5),
        Stage("preference", ("lora",), None, {"dpo": 1.0, "text": 0.5, "align": 0.5}, steps=400, batch=8).scaled(0.1),
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
