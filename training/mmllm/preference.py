"""Preference pairs and their loss: answers of which one is better, and DPO (Rafailov et al. 2023, eq. 7).

    pairs = build_pairs(items, split="train", count=2000)
    loss, won = dpo(chosen, rejected, chosen_before, rejected_before, beta=0.1)

The better answer is the one of the data; the worse one has the wrong modality, another concept, media
that nobody asked for, or words where media were wanted. The log-probabilities "before" are those of
the model as the stage began, computed once. A small loss of our own: trl's trainers take token ids,
and our prompts hold vectors.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import InputError
from ...mmllm.dialogue import Made, Turn
from .instructions import PAIR_KINDS, SHARES, Bank, phrases
from .items import Item

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """A conversation up to the answer, the better answer and the worse one; `fault` says what is wrong with it."""

    kind: str
    fault: str
    turns: tuple[Turn, ...]
    chosen: Turn
    rejected: Turn

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "kind": self.kind, "fault": self.fault, "turns": [t.to_json() for t in self.turns],
            "chosen": self.chosen.to_json(), "rejected": self.rejected.to_json(),
        }  # fmt: skip


def build_pairs(
    items: Sequence[Item], split: str, count: int, seed: int = 0, chat: Callable[[str], str] | None = None
) -> list[Pair]:
    """`count` pairs over the items of a split."""
    bank = Bank([i for i in items if i.split == split], random.Random(seed + 1), chat)
    kinds = [k for k in PAIR_KINDS if bank.can(k)]
    if not bank.items:
        raise InputError(f"No pair can be built: there are no items of the split '{split}'.")
    pairs = []
    for kind in bank.random.choices(kinds, [SHARES[k] for k in kinds], k=count):
        *turns, chosen = getattr(bank, kind)()
        fault, rejected = _worse(bank, chosen)
        pairs.append(Pair(kind, fault, tuple(turns), chosen, rejected))
    return pairs


def _worse(bank: Bank, chosen: Turn) -> tuple[str, Turn]:
    """What is wrong, and the worse answer."""
    other = bank.asked()
    made = [p for p in chosen.pieces if isinstance(p, Made)]
    if not made:
        if bank.random.random() < 0.5:
            return "invented media", Turn("assistant", (*chosen.pieces, " ", Made(other.modality, other.caption)))
        words = bank.say(phrases()["tell"][other.modality]["answers"], other)
        return "another concept", Turn("assistant", (words[:1].upper() + words[1:],))
    fault = bank.random.choice(["wrong modality", "another concept", "no media"])
    modalities = sorted({i.modality for i in bank.items} - {made[0].modality})
    if fault == "wrong modality" and modalities:
        modality = bank.random.choice(modalities)
        words = bank.random.choice(phrases()["make"][modality]["answers"]).format(caption=made[0].caption)
        return fault, Turn("assistant", (words, Made(modality, made[0].caption)))
    if fault == "no media":
        return fault, Turn("assistant", tuple(p for p in chosen.pieces if isinstance(p, str)))
    words = bank.say(phrases()["make"][made[0].modality]["answers"], other)
    return "another concept", Turn("assistant", (words, Made(made[0].modality, other.caption)))


def dpo(
    chosen: Tensor, rejected: Tensor, chosen_before: Tensor, rejected_before: Tensor, beta: float = 0.1
) -> tuple[Tensor, Tensor]:
    """The loss, and the share of pairs in which the better answer gained on the worse one. All (n,)."""
    import torch.nn.functional as F

    margin = (chosen - chosen_before) - (rejected - rejected_before)
    return -F.logsigmoid(beta * margin).mean(), (margin > 0).float().mean()


def read_pairs(file: Path) -> list[Pair]:
    """Pairs out of a file of JSON lines."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [
            Pair(r["kind"], r["fault"], tuple(map(Turn.from_json, r["turns"])), Turn.from_json(r["chosen"]),
                 Turn.from_json(r["rejected"]))
            for r in rows
        ]  # fmt: skip
    except (OSError, ValueError, KeyError) as e:
        raise InputError(f"'{file}' holds no pairs ({e}); make it with `anyloom train mmllm-data`.") from e
