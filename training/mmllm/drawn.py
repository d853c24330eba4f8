"""Dialogues over pictures, clips and sounds that are drawn for them, in place of the files of a manifest.

    data = with_drawn(data, bank, 50_000, seed=0)

Of files there are some thousands, and each comes back hundreds of times in a long run: what they look like is learnt
by heart. Drawn ones are as many as memory holds, each with the captions that are true of it, and nothing of them is
written: their features go straight into the bank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .batches import MediaBank
from .fresh import Fresh, sentence
from .instructions import build, phrases
from .items import Item
from .preference import build_pairs

if TYPE_CHECKING:
    from .train import Data

TRAIN = "train"
AT_ONCE = 256
SHARES = {"image": 1.0, "video": 0.35, "audio": 0.35}
TALKS = 4  # dialogues to a picture


def with_drawn(data: Data, bank: MediaBank, count: int, seed: int) -> Data:
    """Data whose dialogues show `count` drawn pictures (and some clips and sounds), and ask for all captions."""
    assert data.fresh is not None  # the command has seen to it
    shown = [i for m in data.fresh.pools for i in draw(data.fresh, bank, m, round(SHARES[m] * count), seed)]
    asked = [replace(i, file=None) for i in data.items if i.split == TRAIN]
    chat = answers_of(data)
    talks = build([*asked, *shown], TRAIN, TALKS * count, seed, chat)
    pairs = build_pairs([*asked, *shown], TRAIN, len(data.pairs), seed, chat) if data.pairs else []
    return replace(data, talks=talks, pairs=pairs)


def draw(fresh: Fresh, bank: MediaBank, modality: str, count: int, seed: int) -> list[Item]:
    """`count` items of a modality; their features are in the bank, and nowhere is there a file of them."""
    rng = torch.Generator(fresh.device).manual_seed(seed + 77)
    items: list[Item] = []
    while len(items) < count:
        drawn = fresh.pools[modality].batch(min(AT_ONCE, count - len(items)), rng)
        said = [sentence(modality, told, name) for told, name in zip(drawn.told, drawn.names, strict=True)]
        some = [
            Item(f"drawn-{modality}-{len(items) + n}", name, "", caption, modality, Path(), TRAIN)
            for n, (caption, name) in enumerate(zip(said, drawn.names, strict=True))
        ]
        with torch.no_grad():
            bank.put(some, bank.model.encoders[modality].encode(drawn.items))
        items += some
    return items


def answers_of(data: Data) -> Callable[[str], str] | None:
    """The base model's answers to plain questions, out of dialogues that have them; None where some are missing."""
    found = {str(t.turns[0].pieces[0]): _words(t.turns[1].pieces) for t in data.talks if t.kind == "plain"}
    return found.__getitem__ if found.keys() >= set(phrases()["plain"]["questions"]) else None


def _words(pieces: Sequence[object]) -> str:
    return "".join(p for p in pieces if isinstance(p, str))
