"""Episodes made ahead of the training by worker processes, in order.

    with episodes(base, seed, start=1200, workers=4) as ahead:
        episode = next(ahead)                  # number 1200, then 1201, ...

An episode is a function of seed and number, so what comes out is the same with any number of workers.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .data import Episode, EpisodeSource

AHEAD = 16  # episodes that wait per worker

_source: EpisodeSource | None = None  # of a worker process


@contextmanager
def episodes(base: Path, seed: int, start: int = 0, workers: int = 0) -> Iterator[Iterator[Episode]]:
    """Endless episodes from number `start` on; made here when `workers` is 0."""
    if workers == 0:
        yield map(EpisodeSource.from_base(base, seed).episode, itertools.count(start))
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the parent's GPU and threads
    pool = ProcessPoolExecutor(workers, context, _begin, (base, seed))
    try:
        yield _in_order(pool, start, workers * AHEAD)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, start: int, waiting: int) -> Iterator[Episode]:
    numbers = itertools.count(start)
    asked: deque[Future[Episode]] = deque(pool.submit(_make, next(numbers)) for _ in range(waiting))
    while True:
        made = asked.popleft().result()
        asked.append(pool.submit(_make, next(numbers)))
        yield made


def _begin(base: Path, seed: int) -> None:
    global _source
    _source = EpisodeSource.from_base(base, seed)


def _make(number: int) -> Episode:
    if _source is None:
        raise RuntimeError("A worker was asked for an episode before it began.")
    return _source.episode(number)
