"""Intervals and paired tests. A value here is an item's mean over its seeds: items are what is drawn again, not rows.

    mean(values)                       # Interval(mean, low, high, n): 95%, by bootstrap over items
    paired(first, second)              # Paired(difference, low, high, p, test, n) over items that both have
    holm([0.01, 0.04])                 # p-values corrected for how many there are

The random generator is seeded, so that the same rows give the same intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

DRAWS = 2000
LEVEL = 0.95
LEAST = 5  # items that a test needs


@dataclass(frozen=True)
class Interval:
    """A mean over `n` items with its 95% interval; both ends are the mean where there is one item."""

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Paired:
    """First less second, over `n` items. `p` is None where there are too few items for a test."""

    difference: float
    low: float
    high: float
    n: int
    p: float | None
    test: str
    corrected: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


def mean(values: Sequence[float]) -> Interval | None:
    """None of no values."""
    import numpy as np

    if not values:
        return None
    x = np.asarray(values, float)
    low, high = _drawn(x)
    return Interval(float(x.mean()), low, high, len(x))


def paired(first: Mapping[str, float], second: Mapping[str, float]) -> Paired | None:
    """By item id. McNemar's exact test where all values are 0 or 1, else Wilcoxon's signed ranks."""
    import numpy as np

    both = sorted(set(first) & set(second))
    if not both:
        return None
    a, b = (np.asarray([side[i] for i in both], float) for side in (first, second))
    apart = a - b
    low, high = _drawn(apart)
    p, test = _test(apart, bool(np.isin(np.concatenate([a, b]), (0, 1)).all()))
    return Paired(float(apart.mean()), low, high, len(both), p, test)


def _test(apart: Any, binary: bool) -> tuple[float | None, str]:
    from scipy import stats

    if len(apart) < LEAST:
        return None, f"fewer than {LEAST} items"
    if not apart.any():
        return 1.0, "no item differs"
    if binary:
        better, worse = int((apart > 0).sum()), int((apart < 0).sum())
        return float(stats.binomtest(better, better + worse, 0.5).pvalue), "McNemar, exact"
    return float(stats.wilcoxon(apart).pvalue), "Wilcoxon signed ranks"


def _drawn(x: Any) -> tuple[float, float]:
    """The middle 95% of the means of DRAWS samples with replacement."""
    import numpy as np

    rng = np.random.default_rng(len(x))
    means = x[rng.integers(0, len(x), (DRAWS, len(x)))].mean(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def holm(found: Sequence[Paired]) -> list[Paired]:
    """The same with `corrected` p-values (Holm 1979)."""
    order = sorted((n for n, f in enumerate(found) if f.p is not None), key=lambda n: found[n].p or 0.0)
    out, worst = list(found), 0.0
    for rank, n in enumerate(order):
        worst = max(worst, min(1.0, (found[n].p or 0.0) * (len(order) - rank)))
        out[n] = replace(found[n], corrected=worst)
    return out
