"""Batches by number for the picture and video models, written by worker processes where a GPU waits for them.

    for written in stream(Batches(writer, size=512, tokens=features.ids), start=0, workers=12): ...

A batch is a function of the writer's seed and the batch's number, so that a resumed run goes on with
what it would have seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

Tokens = Callable[[Sequence[str]], tuple[Tensor, Tensor]]


class Writes(Protocol):
    """`SceneWriter` and `MotionWriter`."""

    def batch(self, numbers: range) -> Any:
        """Scenes as arrays, with `captions`."""
        ...


@dataclass(frozen=True)
class Written:
    """A batch of scenes with the token ids of their captions."""

    scenes: Any
    ids: Tensor
    there: Tensor


class Batches(Dataset[Written]):
    """Batch n holds scenes n * size … (n + 1) * size - 1."""

    def __init__(self, writer: Writes, size: int, tokens: Tokens):
        self.writer, self.size, self.tokens = writer, size, tokens

    def __getitem__(self, number: int) -> Written:
        scenes = self.writer.batch(range(number * self.size, (number + 1) * self.size))
        return Written(scenes, *self.tokens(scenes.captions))


class _From(Sampler[int]):
    def __init__(self, start: int):
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


def _as_it_is(batch: Written) -> Written:
    return batch


def stream(batches: Batches, start: int = 0, workers: int = 0) -> Iterator[Written]:
    """Batches start, start + 1, … without end."""
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=_From(start),
        num_workers=workers,
        collate_fn=_as_it_is,  # type: ignore[arg-type]
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)
