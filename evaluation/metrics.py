"""Numbers for how near an answer is to what it should be. All are of single answers, but CIDEr and Fréchet of sets.

| name | what | by |
|---|---|---|
| bleu | sentence BLEU-4, 0…1 | sacrebleu (method "exp", effective order) |
| rouge_l | F1 of the longest common subsequence, 0…1 | here: Lin 2004, eq. 2–4 with beta 1, best of the references |
| cider | CIDEr-D, 0…10 | here: Vedantam 2015 with length penalty (sigma 6) and clipping, no stemming |
| wer | word error rate, 0… (1 is all wrong, more is possible) | jiwer |
| frechet | distance of two Gaussians fitted to the judge's features; not FID | here: Dowson and Landau 1982, scipy |

ROUGE and CIDEr are here because the packages for them are no longer kept up.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

LEAST = 10  # files a set needs for a Fréchet distance
N, SIGMA = 4, 6.0
NUMBERS = {
    str(n): w
    for n, w in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}


def words_of(text: str) -> list[str]:
    """Lower-case words and numbers; small numbers spelled out, as a recogniser may write either."""
    return [NUMBERS.get(w, w) for w in re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower().replace("’", "'"))]


def holds(text: str, names: Sequence[str]) -> bool:
    """Whether one of the names stands in the text as whole words; plurals count."""
    said = f" {' '.join(words_of(text))} "
    wanted = [" ".join(words_of(n)) for n in names]
    return any(f" {w}{ending} " in said for w in wanted if w for ending in ("", "s", "es"))


def bleu(said: str, references: Sequence[str]) -> float:
    """Of one sentence."""
    import sacrebleu

    score = sacrebleu.sentence_bleu(said.lower(), [r.lower() for r in references], smooth_method="exp")
    return float(score.score) / 100


def rouge_l(said: str, references: Sequence[str]) -> float:
    """Of one text against the best of its references."""
    return max((_rouge(words_of(said), words_of(r)) for r in references), default=0.0)


def _rouge(said: Sequence[str], true: Sequence[str]) -> float:
    if not said or not true:
        return 0.0
    row = [0] * (len(true) + 1)
    for word in said:
        before = 0
        for n, other in enumerate(true, 1):
            before, row[n] = row[n], before + 1 if word == other else max(row[n], row[n - 1])
    common = row[-1]
    return 2 * common / (len(said) + len(true))


def wer(said: str, true: str) -> float:
    """Word error rate after lower-casing and leaving out punctuation."""
    import jiwer

    reference = " ".join(words_of(true))
    return float(jiwer.wer(reference, " ".join(words_of(said)))) if reference else float(bool(said.strip()))


def cider(pairs: Sequence[tuple[str, Sequence[str]]]) -> list[float]:
    """CIDEr-D of each (text, references) of a set; the set's references say which n-grams are rare."""
    references = [[_grams(words_of(r)) for r in refs] for _, refs in pairs]
    seen = Counter(g for refs in references for g in {g for grams in refs for g in grams})
    total = math.log(max(2, len(pairs)))
    return [
        _cider(_grams(words_of(said)), refs, seen, total) for (said, _), refs in zip(pairs, references, strict=True)
    ]


Grams = Counter[tuple[str, ...]]


def _grams(words: Sequence[str]) -> Grams:
    return Counter(tuple(words[i : i + n]) for n in range(1, N + 1) for i in range(len(words) - n + 1))


def _cider(said: Grams, references: Sequence[Grams], seen: Mapping[tuple[str, ...], int], total: float) -> float:
    def weighed(grams: Grams, n: int) -> dict[tuple[str, ...], float]:
        return {g: c * (total - math.log(max(1, seen.get(g, 0)))) for g, c in grams.items() if len(g) == n}

    def length(grams: Grams) -> int:
        return sum(c for g, c in grams.items() if len(g) == 1)

    score = 0.0
    for other in references:
        apart = length(said) - length(other)
        for n in range(1, N + 1):
            a, b = weighed(said, n), weighed(other, n)
            norm = math.sqrt(sum(x * x for x in a.values())) * math.sqrt(sum(x * x for x in b.values()))
            dot = sum(min(x, b[g]) * b[g] for g, x in a.items() if g in b)
            score += (dot / norm if norm else 0.0) * math.exp(-(apart**2) / (2 * SIGMA**2))
    return 10 * score / N / max(1, len(references))


def frechet(one: Sequence[Sequence[float]], two: Sequence[Sequence[float]]) -> float | None:
    """Between two sets of feature vectors; None when one has fewer than LEAST."""
    import numpy as np
    from scipy import linalg

    if min(len(one), len(two)) < LEAST:
        return None
    a, b = np.asarray(one, float), np.asarray(two, float)
    apart = a.mean(0) - b.mean(0)
    spread_a, spread_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    eye = np.eye(len(spread_a)) * 1e-6  # few files leave the covariances singular
    root = np.real(linalg.sqrtm((spread_a + eye) @ (spread_b + eye)))
    return max(0.0, float(apart @ apart + np.trace(spread_a) + np.trace(spread_b) - 2 * np.trace(root)))
