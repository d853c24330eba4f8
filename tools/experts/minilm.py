"""Sentence embeddings by all-MiniLM-L6-v2, and what is made with them: likeness of texts, extractive summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.packaged import MINILM
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run
from . import sentences

BATCH = 32
MOST = 6  # sentences of a summary
SAME, FIRST, LEANING = 0.4, 0.15, 0.25  # weights of `central`
LIKENESS = ((0.9, "the same in other words"), (0.7, "very alike"), (0.5, "alike"), (0.3, "somewhat alike"))


class MiniLM:
    """The sentence encoder: unit vectors of width 384, from at most 256 tokens a text."""

    def __init__(self, folder: Path, device: str):
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # only the front door prints
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(device).eval()

    def encode(self, texts: Sequence[str], run: Run) -> Any:
        """Embeddings, a float tensor of (texts, 384): mean over the tokens of each text, scaled to length 1."""
        import torch

        parts = []
        for start in range(0, len(texts), BATCH):
            run.check()
            run.progress(start, len(texts), "texts read")
            batch = self.tokenizer(
                list(texts[start : start + BATCH]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(self.device)
            with torch.inference_mode():
                hidden = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=-1).cpu())
        return torch.cat(parts)


class MiniLMSimilarity(Expert):
    """Says how alike two English texts are in meaning, from 0 to 1; reads the first 200 words or so of each."""

    name = "minilm-similarity"
    tool = tool("sentence-similarity")
    batch = 16
    card = Card(
        weights=(MINILM,),
        licence="Apache-2.0",
        size=83_506_384,
        memory=400_000_000,
        devices=("cpu", "cuda"),
        speed="instant",
        quality=0.6,
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the encoder."""
        self.encoder = MiniLM(weights[MINILM], device)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Such as "0.83 (very alike)"."""
        (made,) = self.run_batch([(args, run)])
        if isinstance(made, Exception):
            raise made
        return made

    def run_batch(self, calls: Sequence[tuple[Mapping[str, Any], Run]]) -> Sequence[list[Output] | Exception]:
        """All texts of all calls through the encoder at once."""
        pairs = [(args["text"], args["other"]) for args, _ in calls]
        whole = [pair for pair in pairs if all(text.strip() for text in pair)]
        texts = [text for pair in whole for text in pair]
        read = iter(self.encoder.encode(texts, Run.of_all([run for _, run in calls])) if texts else ())
        return [
            _likeness(next(read), next(read))
            if pair in whole
            else InputError("One of the two texts is empty; give two texts to compare.")
            for pair in pairs
        ]

    def unload(self) -> None:
        """Drops the encoder."""
        del self.encoder


def _likeness(one: Any, two: Any) -> list[Output]:
    score = min(1.0, max(0.0, float(one @ two)))
    words = next((w for least, w in LIKENESS if score >= least), "different")
    return [Output.text(f"{score:.2f} ({words})", "similarity", score=round(score, 4))]


class MiniLMCentroid(Expert):
    """Shortens a text by keeping its most central sentences word for word; invents nothing."""

    name = "minilm-centroid"
    tool = tool("summarization")
    card = Card(
        weights=(MINILM,),
        licence="Apache-2.0",
        size=83_506_384,
        memory=400_000_000,
        devices=("cpu", "cuda"),
        speed="instant",
        quality=0.5,
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the encoder."""
        self.encoder = MiniLM(weights[MINILM], device)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """About a third of a short text's sentences, at most MOST of a long one's, in their order."""
        text = args["text"].strip()
        if not text:
            raise InputError("There is nothing to shorten: the text is empty.")
        found = sentences.split(text)
        if sentences.short(text) or len(found) == 1:
            return [Output.text(text, "summary", sentences=len(found), of=len(found))]
        chosen = central(self.encoder.encode(found, run), found, max(1, min(MOST, round(len(found) / 3))))
        return [Output.text(" ".join(found[n] for n in chosen), "summary", sentences=len(chosen), of=len(found))]

    def unload(self) -> None:
        """Drops the encoder."""
        del self.encoder


def central(vectors: Any, texts: Sequence[str], count: int) -> list[int]:
    """Places of the `count` sentences nearest to the text's mean and least like one another, in order.

    Maximal marginal relevance (Carbonell and Goldstein 1998). The first sentence, which often says what
    a text is about, is favoured; a sentence that points back ("It ...") is not, unless what it leans on is in.
    """
    likeness = vectors @ vectors.mean(0)
    likeness = likeness / likeness.max().clamp(min=1e-6)
    chosen: list[int] = []

    def worth(n: int) -> float:
        same = max((float(vectors[n] @ vectors[c]) for c in chosen), default=0.0)
        leaning = LEANING if sentences.leans(texts[n]) and n - 1 not in chosen else 0.0
        return float(likeness[n]) - SAME * same + (FIRST if n == 0 else 0.0) - leaning

    while len(chosen) < count:
        chosen.append(max((n for n in range(len(texts)) if n not in chosen), key=worth))
    return sorted(chosen)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    return [MiniLMSimilarity, MiniLMCentroid]
