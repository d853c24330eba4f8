"""Training of the encoders: contrasted with captions, and made to hold what a captioner needs.

    train_encoder(pool, POCKET["audio"], budget, out, say)     # out/audio.safetensors

The loss is CLIP's (each item finds its own caption among those of the batch, and the other way round), plus
a captioning loss through a small decoder (as in CoCa), plus plain classification of whatever the data labels
(thing, colour, style, number): contrast alone teaches what tells items of a batch apart, a captioner needs
more than that, and with the few batches that a CPU manages the labels are what teaches names soonest. The
text tower is a small one of its own over the closed list of words; tower, decoder and heads are thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ...pocket.captioner import LONGEST, PAD, Captioner, CaptionerSizes, Words
from ...pocket.encoders.network import Block, SenseEncoder, Sizes
from ...pocket.encoders.pocket import save
from .audio_loop import KEPT, Budget, Say, fit
from .encoders_data import Batch, Pool, overlap, shares

DECAY = 0.1  # five times the others': it sees each thing hundreds of times
TAUGHT, NAMED, SHARP = 1.0, 1.0, 20.0  # weights of captioning and labels beside the contrast; the heads' scale


class TextTower(nn.Module):
    """Captions to points of the shared space."""

    def __init__(self, words: Words, shared: int, width: int = 256):
        super().__init__()
        self.words = words
        self.embed = nn.Embedding(len(words), width, padding_idx=PAD)
        nn.init.normal_(self.embed.weight, std=0.05)
        self.places = nn.Parameter(torch.randn(LONGEST, width) * 0.02)
        self.blocks = nn.ModuleList([Block(width, 4) for _ in range(2)])
        self.norm, self.share = nn.LayerNorm(width), nn.Linear(width, shared, bias=False)

    def forward(self, captions: list[str]) -> Tensor:
        """(n, shared), of length one."""
        rows = [self.words.read(c)[:LONGEST] or [1] for c in captions]
        longest = max(map(len, rows))
        numbers = torch.tensor([r + [PAD] * (longest - len(r)) for r in rows], device=self.places.device)
        there = (numbers != PAD)[..., None]
        x = (self.embed(numbers) + self.places[:longest]) * there
        for block in self.blocks:
            x = block(x) * there
        mean = (self.norm(x) * there).sum(1) / there.sum(1)
        return F.normalize(self.share(mean).float(), dim=-1)


class Contrast(nn.Module):
    """Encoder, text tower, the passing captioner and heads, and the temperature."""

    def __init__(self, sizes: Sizes, words: Words, classes: Mapping[str, Sequence[str]]):
        super().__init__()
        self.encoder = SenseEncoder(sizes)
        self.tower = TextTower(words, sizes.shared)
        self.captioner = Captioner(CaptionerSizes(len(words), sees=sizes.width, layers=2), words)
        self.sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.heads = nn.ParameterDict(
            {k: nn.Parameter(0.1 * torch.randn(len(v), sizes.width)) for k, v in classes.items()}
        )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named losses of a batch."""
        features = self.encoder(batch.items)
        seen, said = self.encoder.pooled(features), self.tower(batch.captions)
        alike = seen @ said.T * self.sharpness.clamp(max=4.6).exp()
        twins = (batch.same[:, None] == batch.same[None]) & ~torch.eye(
            len(alike), dtype=torch.bool, device=alike.device
        )
        alike = alike.masked_fill(twins, -1e4)
        own = torch.arange(len(alike), device=alike.device)
        contrast = (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2
        caption = self.captioner.loss(self.encoder.sizes.modality, features, [""] * len(own), batch.told)
        named = self._named(features, batch)
        total = contrast + TAUGHT * caption + NAMED * sum(named.values(), torch.zeros(()))
        return {"total": total, "contrast": contrast, "caption": caption, **named}

    def _named(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of every kind of label, over the items that have one."""
        seen = F.normalize(features.mean(1).float(), dim=-1)
        found = {}
        smooth = 0.1 if self.training else 0.0
        for kind, labels in batch.labels.items():
            logits = SHARP * seen @ F.normalize(self.heads[kind].float(), dim=-1).T
            each = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum", label_smoothing=smooth)
            found[kind] = each / (labels >= 0).sum().clamp(min=1)
        return found


def measure(model: Contrast, pool: Pool) -> dict[str, float]:
    """Held-out: whether the caption names the thing, is exact, shares words; and finding the caption among all."""
    names, exact, common, seen, told = [], [], [], [], []
    for batch in pool.tests():
        features = model.encoder(batch.items)
        written = model.captioner.write(pool.sense, features)
        for text, true, name in zip(written, batch.told, batch.names, strict=True):
            names.append(float(f" {name} " in f" {text.replace(',', '')} "))
            exact.append(float(text == true))
            common.append(overlap(text, true))
        seen.append(model.encoder.pooled(features))
        told += batch.told
    unique = sorted(set(told))
    best = (torch.cat(seen) @ model.tower(unique).T).topk(min(5, len(unique)), 1).indices.tolist()
    found = [[unique[n] for n in row] for row in best]
    return {
        "name": shares(names), "exact": shares(exact), "overlap": shares(common),
        "found_first": shares([float(t == f[0]) for t, f in zip(told, found, strict=True)]),
        "found_in_5": shares([float(t in f) for t, f in zip(told, found, strict=True)]),
    }  # fmt: skip


def train_encoder(
    pool: Pool, sizes: Sizes, budget: Budget, out: Path, say: Say, start: Path | None = None
) -> dict[str, float]:
    """Trains one encoder and writes it.

    `start`: an encoder that it begins with, and with text tower, decoder and heads of its run, where the checkpoint is
    still there. One of another sense, in the same folder, gives its trunk, which stays as it is: that costs a clip of
    eight frames no backward pass through them. The rest begins with its weights where shapes agree.
    """
    torch.manual_seed(budget.seed)
    model = Contrast(sizes, Words.of(pool.texts()), pool.classes).to(budget.device)
    model.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    lent = start is not None and start.stem != sizes.modality
    if start is not None:
        _begin_like(model, start.parent / f"run-{start.stem}" / KEPT)
        _begin_with(model.encoder, start)
        model.encoder.trunk.requires_grad_(not lent)
    count = sum(p.numel() for p in model.encoder.parameters())
    say(f"{sizes.modality} encoder: {count / 1e6:.2f} million parameters, on {budget.device}")
    run = out / f"run-{sizes.modality}"
    found = fit(
        model,
        lambda rng, spent: model.losses(pool.batch(budget.batch, rng)),
        replace(budget, decay=DECAY),
        run,
        say,
        lambda: measure(model, pool),
    )
    save(model.encoder, out / f"{sizes.modality}.safetensors", start.name if start and lent else "")
    say(f"the encoder is in {out / f'{sizes.modality}.safetensors'}")
    return found


def _begin_like(model: Contrast, checkpoint: Path) -> None:
    """What surrounds the encoder, where another run has it with the same names, shapes and words."""
    from ...pocket.tensors import read_tensors

    if not checkpoint.exists():
        return
    own = model.state_dict()
    found = {k.removeprefix("average."): v for k, v in read_tensors(checkpoint)[0].items() if k.startswith("average.")}
    table = "captioner.embed.weight"
    worded = table in found and own[table].shape == found[table].shape
    fitting = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape and not k.startswith("encoder.")}
    fitting = {k: v for k, v in fitting.items() if worded or k.startswith("heads.")}
    model.load_state_dict({**own, **fitting})


def _begin_with(encoder: SenseEncoder, file: Path) -> None:
    """Takes over the trunk, and whatever else has the same name and shape. InputError when the trunk does not fit."""
    from ...pocket.tensors import read_tensors

    own = encoder.state_dict()
    found, _ = read_tensors(file)
    fitting = {k: v.float() for k, v in found.items() if k in own and own[k].shape == v.shape}
    if lacking := [k for k in own if k.startswith("trunk.") and k not in fitting]:
        raise InputError(f"'{file}' has another trunk ({lacking[0]} does not fit); begin without --start.")
    encoder.load_state_dict({**own, **fitting})


def slim(sizes: Sizes) -> Sizes:
    """A tenth of the size, for tests."""
    return replace(sizes, trunk=(8, 16, 24, 32), width=32, layers=1, heads=2, tokens=4, shared=32)
