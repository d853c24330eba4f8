"""What encoders, captioner and judge are trained on: pools that give batches on the device.

    pool = SoundPool(SoundData.read(folder), device="cuda", count=20_000, workers=16)
    batch = pool.batch(128, rng)           # Batch: items (n, frames, channels, h, w), captions, labels
    for batch in pool.tests(): …           # held out, unchanged

A pool's `texts()` are all the words it may ever say, for the captioner's list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...pocket.encoders.mel import SAMPLES, log_mel
from .audio_data import Clips, SoundData
from .audio_scenes import captions, scenes
from .audio_voices import VOICES


@dataclass(frozen=True)
class Batch:
    """Items and what is true of them. `captions` in any phrasing, `told` the one phrasing a captioner learns.

    `same`: equal numbers mean that one item's caption is as true of the other. `labels`: -1 where a thing has none.
    `asked`: for some items a question and its answer.
    """

    items: Tensor
    captions: list[str]
    told: list[str]
    names: list[str]
    same: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)


class Pool(Protocol):
    """Where batches of one sense come from."""

    sense: str
    classes: dict[str, list[str]]  # of each kind of label, the names in order

    def batch(self, n: int, rng: torch.Generator) -> Batch:
        """`n` items drawn and changed at random, by `rng` alone."""

    def tests(self) -> Iterator[Batch]:
        """Held-out items, unchanged."""

    def texts(self) -> Iterator[str]:
        """Every text that may come up."""


def draws(n: int, high: int, rng: torch.Generator) -> Tensor:
    """`n` whole numbers below `high`."""
    return torch.randint(0, high, (n,), generator=rng, device=rng.device)


def chooser(rng: torch.Generator) -> np.random.Generator:
    """Choices that are made on the processor, decided by the generator's state. A GPU is not waited for."""
    if rng.device.type == "cpu":
        return np.random.default_rng(int(draws(1, 1 << 30, rng)))
    state = rng.get_state().numpy().view(np.uint64).tolist()  # seed and place, both known here
    draws(1, 2, rng)  # the next choice is another one
    return np.random.default_rng(state)


def between(n: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    """`n` numbers in a range."""
    return low + (high - low) * torch.rand(n, generator=rng, device=rng.device)


class SoundPool:
    """Clips played from the bank once, kept on the device, changed at random each time.

    `other`: the judge's kind of changes (speed, tone) instead of the encoders' (noise, shift, masks).
    """

    sense = "audio"

    def __init__(self, data: SoundData, device: str, count: int, workers: int = 1, seed: int = 0, other: bool = False):
        self.data, self.device, self.other = data, device, other
        self.clips = data.train_clips(count, seed, workers)
        self.waves = torch.from_numpy(self.clips.waves).to(device)
        self.classes = {"concept": list(VOICES)}
        self._names = self.classes["concept"]
        self._labels = torch.from_numpy(self.clips.labels(self._names)).to(device)
        self._ids = {s: n for n, s in enumerate(scenes())}

    def batch(self, n: int, rng: torch.Generator) -> Batch:
        """See Pool."""
        choose = chooser(rng)
        rows = choose.integers(len(self.waves), size=n).tolist()
        which = torch.tensor(rows, device=self.device)
        waves = self.waves[which].float() / 32768
        waves = changed_otherwise(waves, rng) if self.other else changed(waves, rng)
        mels = log_mel(waves)
        if not self.other:
            mels = masked(mels, rng)
        picks = choose.integers(1 << 30, size=n).tolist()
        said = [captions(self.clips.scenes[r]) for r in rows]
        return self._made(
            mels,
            [self.clips.scenes[r] for r in rows],
            [s[p % len(s)] for s, p in zip(said, picks, strict=True)],
            self._labels[which],
        )

    def tests(self) -> Iterator[Batch]:
        """See Pool."""
        clips: Clips = self.data.test_clips()
        labels = torch.from_numpy(clips.labels(self._names)).to(self.device)
        for at in range(0, len(clips.scenes), 64):
            part = slice(at, at + 64)
            waves = torch.from_numpy(clips.waves[part]).to(self.device).float() / 32768
            some = list(clips.scenes[part])
            yield self._made(log_mel(level(waves)), some, [captions(s)[0] for s in some], labels[part])

    def texts(self) -> Iterator[str]:
        """See Pool."""
        for scene in scenes():
            yield from captions(scene)

    def _made(self, mels: Tensor, some: list, said: list[str], labels: Tensor) -> Batch:
        same = torch.tensor([self._ids[s] for s in some], device=self.device)
        told = [captions(s)[0] for s in some]
        asked = [("what is it", s.voice) for s in some]
        return Batch(mels[:, None, None], said, told, [s.voice for s in some], same, {"concept": labels}, asked)


def level(waves: Tensor) -> Tensor:
    """Loudest sample 0.7, as the encoder's `prepare` has it."""
    return waves * (0.7 / waves.abs().amax(1, keepdim=True).clamp(min=1e-3))


def changed(waves: Tensor, rng: torch.Generator) -> Tensor:
    """Moved in time, with a little noise, at another loudness."""
    n, device = len(waves), waves.device
    shift = draws(n, SAMPLES // 6, rng) - SAMPLES // 12
    place = torch.arange(SAMPLES, device=device)[None] - shift[:, None]
    waves = waves.gather(1, place.clamp(0, SAMPLES - 1)) * ((place >= 0) & (place < SAMPLES))
    noise = torch.randn(waves.shape, generator=rng, device=device)
    loud = 10 ** between(n, -4.5, -2.0, rng)[:, None]
    return level(waves) * between(n, 0.5, 1.3, rng)[:, None] + loud * noise


def changed_otherwise(waves: Tensor, rng: torch.Generator) -> Tensor:
    """Played up to 3% faster or slower, brighter or duller; for the judge, so that it errs in other ways."""
    n, device = len(waves), waves.device
    speed = between(n, 0.97, 1.03, rng)[:, None]
    place = torch.linspace(-1, 1, SAMPLES, device=device)[None] * speed
    grid = torch.stack([place, torch.zeros_like(place)], -1)[:, None]
    waves = F.grid_sample(waves[:, None, None], grid, align_corners=True)[:, 0, 0]
    tilt = between(n, -0.5, 0.5, rng)[:, None]
    before = F.pad(waves, (1, 0))[:, :-1]
    return level(waves - tilt * before) * between(n, 0.4, 1.4, rng)[:, None]


def masked(mels: Tensor, rng: torch.Generator) -> Tensor:
    """A band and a stretch of time silenced, in half of the items."""
    n, bands, frames = mels.shape
    for size, most, axis in ((bands, 8, 1), (frames, 24, 2)):
        wide = draws(n, most, rng) * (between(n, 0, 1, rng) < 0.5)
        start = (between(n, 0, 1, rng) * (size - wide)).long()
        place = torch.arange(size, device=mels.device)[None]
        hidden = (place >= start[:, None]) & (place < (start + wide)[:, None])
        hidden = hidden[:, :, None] if axis == 1 else hidden[:, None]
        mels = torch.where(hidden, torch.full((), -1.08, device=mels.device), mels)
    return mels


def overlap(said: str, true: str) -> float:
    """The share of words in common (F1 over sets), small words left out."""
    small = {"a", "an", "the", "of", "on", "with", "and", "in"}
    a, b = set(said.split()) - small, set(true.split()) - small
    return 2 * len(a & b) / max(1, len(a) + len(b))


def shares(values: list[float]) -> float:
    """Their mean; 0 of none."""
    return float(np.mean(values)) if values else 0.0
