"""Training of the captioner: one small decoder over the frozen encoders of three senses, captions and questions.

    train_captioner(pools, encoders, budget, out, say)         # out/captioner.safetensors

Each step is of one sense. Of pictures and clips half the items are captioned and half are asked about; sounds
are captioned. The encoders do not change, because the end-to-end model has the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...pocket.captioner import Captioner, CaptionerSizes, Words
from ...pocket.encoders.pocket import PocketEncoder
from ...pocket.tensors import read_tensors
from .audio_loop import Budget, Say, fit
from .encoders_data import Batch, Pool, chooser, overlap, shares

SHARES = {"image": 6, "video": 3, "audio": 2}
ASKED = {"image": 0.5, "video": 0.25, "audio": 0.0}


def train_captioner(
    pools: Sequence[Pool], encoders: Mapping[str, PocketEncoder], budget: Budget, out: Path, say: Say,
    start: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Trains the decoder on the pools' senses and writes it.

    `start`: the checkpoint of the picture encoder's run, whose passing captioner it begins with.
    """
    torch.manual_seed(budget.seed)
    words = Words.of(t for pool in pools for t in pool.texts())
    width = next(iter(encoders.values())).width
    captioner = Captioner(CaptionerSizes(len(words), sees=width), words).to(budget.device)
    if start is not None and start.exists():
        begin_with(captioner, start, Words.of(next(p for p in pools if p.sense == "image").texts()))
    count = sum(p.numel() for p in captioner.parameters())
    say(f"captioner: {count / 1e6:.2f} million parameters, {len(words)} words, {', '.join(p.sense for p in pools)}")
    turns = [pool for pool in pools for _ in range(SHARES[pool.sense])]

    def loss(rng: torch.Generator, spent: float) -> dict[str, Tensor]:
        choose = chooser(rng)
        pool = turns[int(choose.integers(len(turns)))]
        batch = pool.batch(budget.batch, rng)
        features = seen(encoders[pool.sense], batch.items)
        ask = choose.random(len(features)) < ASKED[pool.sense]
        pairs = [q if a else ("", t) for q, t, a in zip(batch.asked, batch.told, ask.tolist(), strict=True)]
        told = captioner.loss(pool.sense, features, [q for q, _ in pairs], [a for _, a in pairs])
        return {"total": told}

    found = fit(captioner, loss, budget, out / "run-captioner", say, lambda: measure(captioner, pools, encoders))
    captioner.save(out / "captioner.safetensors")
    say(f"the captioner is in {out / 'captioner.safetensors'}")
    return found


def begin_with(captioner: Captioner, checkpoint: Path, words: Words) -> None:
    """The captioner of an encoder's run, which knows fewer words: rows of the embedding go by word."""
    prefix = "average.captioner."
    tensors = read_tensors(checkpoint)[0]
    found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    own = captioner.state_dict()
    table = found.pop("embed.weight", None)
    own |= {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    if table is not None and len(table) == len(words):
        place = {w: n for n, w in enumerate(captioner.words.words)}
        known = [(n, place[w]) for n, w in enumerate(words.words) if w in place]
        own["embed.weight"][[there for _, there in known]] = table[[n for n, _ in known]].to(own["embed.weight"])
    captioner.load_state_dict(own)


def seen(encoder: PocketEncoder, items: Tensor) -> Tensor:
    """The frozen encoder's tokens."""
    with torch.no_grad():
        return encoder.network(items).float()


def measure(captioner: Captioner, pools: Sequence[Pool], encoders: Mapping[str, PocketEncoder]) -> dict[str, float]:
    """Held-out, by sense: the exact caption, the thing named, words in common, questions answered."""
    found: dict[str, float] = {}
    for pool in pools:
        found |= _of(captioner, encoders[pool.sense], pool.sense, pool.tests, pool.sense)
        painted: Callable[[], Iterator[Batch]] | None = getattr(pool, "tests_painted", None)
        if pool.sense == "image" and painted is not None:
            found |= _of(captioner, encoders["image"], "image", painted, "painted")
    return found


def _of(
    captioner: Captioner, encoder: PocketEncoder, sense: str, tests: Callable[[], Iterator[Batch]], name: str
) -> dict[str, float]:
    exact, named, common, answered = [], [], [], []
    for batch in tests():
        features = seen(encoder, batch.items)
        for text, true, thing in zip(captioner.write(sense, features), batch.told, batch.names, strict=True):
            exact.append(float(text == true))
            named.append(float(f" {thing} " in f" {text} "))
            common.append(overlap(text, true))
        if ASKED[sense]:
            said = captioner.write(sense, features, [q for q, _ in batch.asked])
            answered += [float(s == a) for s, (_, a) in zip(said, batch.asked, strict=True)]
    scores = {"exact": exact, "named": named, "overlap": common, "answered": answered}
    return {f"{name}_{k}": shares(v) for k, v in scores.items() if v}
