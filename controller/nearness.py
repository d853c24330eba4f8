"""How near each tool of a long list is in meaning to a request, by the sentence encoder.

A planner of 135M parameters loses sight of a list of forty tools; the encoder reads each tool's
description by itself. What it finds is a leaning, added to the planner's own likelihoods.

    near = Nearness(open_encoder)
    near("Fix the mistakes in 'I has a dog'", tools)      # one number a tool, 0 for the nearest, else below
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..tools.contracts import Run, Tool

LONG = 20  # tools from which a list is long
CLAUSE = re.compile(r"[.?!;:]\s+|,\s+|\bthen\b|\band\b")


class Nearness:
    """Leanings towards tools. `open_encoder()` gives something with MiniLM's `encode(texts, run)`."""

    def __init__(self, open_encoder: Callable[[], Any]):
        self._open = open_encoder
        self._encoder: Any = None
        self._lists: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, weights: Any) -> Nearness:
        """With all-MiniLM-L6-v2, fetched and loaded when first needed."""

        def open_encoder() -> Any:
            from ..tools.experts.minilm import MINILM, MiniLM

            return MiniLM(weights.resolve(MINILM), "cpu")

        return cls(open_encoder)

    def __call__(self, text: str, tools: Sequence[Tool]) -> list[float]:
        """Cosine of each tool's description with the request's nearest clause, less the largest of them."""
        with self._lock:
            if self._encoder is None:
                self._encoder = self._open()
            described = tuple(f"{t.name.replace('-', ' ')}: {t.description}" for t in tools)
            if described not in self._lists:
                self._lists = {described: self._encoder.encode(described, Run())}
            clauses = self._encoder.encode(clauses_of(text), Run())
            best = (clauses @ self._lists[described].T).max(0).values
            return [float(x) for x in best - best.max()]


def clauses_of(text: str) -> list[str]:
    """The request and its parts, at most 12 of them."""
    parts = [p.strip() for p in CLAUSE.split(text)]
    return [text, *(p for p in parts if len(p) > 3)][:12]
