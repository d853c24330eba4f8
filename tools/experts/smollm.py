"""Text by SmolLM2-135M-Instruct: writing, summaries, answers that are quoted from a text or a page.

A model of this size rambles and invents; so it is asked for little at a time, is kept to the words
of the text where it answers questions, and what it repeats is cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...core.errors import Cancelled, ExpertError, InputError
from ...core.packaged import MINILM
from ...core.smollm import SMOLLM2, Grammar, SmolLM, smollm_folder
from ...prompts import load
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run
from . import sentences
from .minilm import MiniLM
from .ocr import Reader

LONGEST_TEXT = 220  # tokens written at most
PIECE = 500  # words of a long text that are summarised at a time
NOT_FOUND = "not in the text"
LOOP = 6  # words in a row that, said twice, mean that the model goes in circles
CANDIDATES = 2  # sentences in which an answer is looked for
CLOSE = 0.7  # of the best sentence's likeness: what a further candidate must reach
BREVITY = 10  # tokens of an answer from which on more of them count against it: copying on is always likely
LEAST = -1.2  # `_Found.score` below which the text does not answer; found on 25 questions
_MEMORY = 700_000_000  # measured with its libraries in a fresh process, as for every card
_SOURCE = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"


class SmolExpert(Expert):
    """What the experts on SmolLM2 share: the model, which is one instance for all of them."""

    temperature: ClassVar[float] = 0.0

    @classmethod
    def fetch(cls, weights: Any) -> dict[str, Path]:
        """The card's weights, SmolLM2 in the form it is converted to once."""
        return {u: smollm_folder(weights, u) if u == SMOLLM2 else weights.resolve(u) for u in cls.card.weights}

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the model, unless another expert has it open."""
        self.lm = SmolLM.load(weights[SMOLLM2], device=device)

    def unload(self) -> None:
        """Lets go of the model."""
        del self.lm

    def _write(self, system: str, user: str, most: int, run: Run) -> str:
        """The model's reply, at most `most` tokens; a last sentence that was cut off is dropped."""
        session = self.lm.session(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n")
        session.feed(user, control=False)
        session.feed("<|im_end|>\n<|im_start|>assistant\n")
        pieces: list[str] = []

        def written(piece: str) -> None:
            pieces.append(piece)
            run.progress(min(len(pieces), most), most, "words written")

        def enough() -> bool:
            return run.stop.is_set() or repeats("".join(pieces)) > 0

        start = session.tokens
        try:
            text = session.sample(
                None, most, self.temperature, run.seed, stop=("<|im_end|>",), on_token=written, should_stop=enough
            )
        except Cancelled:
            run.check()
            text = "".join(pieces)
        return tidy(text, cut_off=session.tokens - start >= most)


class SmolGenerate(SmolExpert):
    """Writes short English texts; knows little, so facts in them are not to be trusted."""

    name = "smollm2-generate"
    tool = tool("text-generation")
    temperature = 0.5  # at 0 it goes in circles after a few sentences; the seed makes it repeatable
    card = Card(weights=(SMOLLM2,), size=92_871_040, memory=_MEMORY, speed="medium", quality=0.2, source=_SOURCE)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text that was asked for. The same request and seed give the same text."""
        text = self._write(load("generate").render(), _given(args["text"], "the prompt"), LONGEST_TEXT, run)
        if not text:
            raise ExpertError(f"SmolLM2 wrote nothing for '{args['text'][:60]}'; say it in other words.")
        return [Output.text(text, "text")]


class SmolSummarize(SmolExpert):
    """Rewords a text more shortly; may get details wrong, unlike minilm-centroid, which quotes."""

    name = "smollm2-summarize"
    tool = tool("summarization")
    card = Card(weights=(SMOLLM2,), size=92_871_040, memory=_MEMORY, speed="medium", quality=0.3, source=_SOURCE)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A shorter text: each piece of a long one in its turn. Never longer than what was given."""
        text = _given(args["text"], "the text")
        if sentences.short(text):
            return [Output.text(text, "summary")]
        parts = []
        for piece in pieces_of(text, PIECE):
            run.check()
            words = len(piece.split())
            part = self._write(load("summarize").render(), piece, max(40, min(LONGEST_TEXT, words // 2)), run)
            parts.append(part if 0 < len(part) < len(piece) else sentences.split(piece)[0])
        return [Output.text("\n\n".join(parts), "summary")]


class SmolAnswer(SmolExpert):
    """Answers a question with words quoted from the text; says so when the text does not tell."""

    name = "smollm2-qa"
    tool = tool("question-answering")
    card = Card(
        weights=(SMOLLM2, MINILM),
        size=176_377_424,
        memory=_MEMORY + 150_000_000,
        speed="fast",
        quality=0.3,
        source=_SOURCE,
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens SmolLM2 and the sentence encoder."""
        super().load(device, weights)
        self.encoder = MiniLM(weights[MINILM], device)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A few words of the context, or "not in the text"."""
        question, context = _given(args["text"], "the question"), _given(args["context"], "the text")
        return [answer(self.lm, self.encoder, question, sentences.split_lines(context), run)]

    def unload(self) -> None:
        """Lets go of both models."""
        super().unload()
        del self.encoder


class PageAnswer(SmolAnswer):
    """Reads a page by OCR and answers with words quoted from it."""

    name = "rapidocr-smollm"
    tool = tool("document-question-answering")
    card = Card(
        weights=(SMOLLM2, MINILM),
        size=207_000_000,
        memory=_MEMORY + 270_000_000,
        speed="fast",
        quality=0.3,
        source=_SOURCE,
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the reader as well."""
        super().load(device, weights)
        self.reader = Reader()

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A few words of the page, or "not in the text"."""
        question = _given(args["text"], "the question")
        return [answer(self.lm, self.encoder, question, self.reader.lines(Path(args["image"]), run), run)]

    def unload(self) -> None:
        """Lets go of all models."""
        super().unload()
        del self.reader


@dataclass(frozen=True)
class _Found:
    """Words of a sentence that may be the answer. `sure`: mean log-probability of their tokens; long is worse."""

    words: str
    sure: float
    likeness: float

    @property
    def score(self) -> float:
        """Both in one number; the weight was found on 25 questions over 5 texts."""
        return self.sure + 2 * self.likeness


def answer(lm: SmolLM, encoder: MiniLM, question: str, lines: Sequence[str], run: Run) -> Output:
    """The words that answer best: MiniLM finds the sentences to look in, SmolLM2 the words within."""
    wider = [f"{lines[n - 1]} {s}" if n and sentences.leans(s) else s for n, s in enumerate(lines)]
    vectors = encoder.encode([*lines, *wider, question], run)
    alike = (vectors[:-1] @ vectors[-1]).view(2, -1).amax(0).tolist()
    order = sorted(range(len(lines)), key=lambda n: -alike[n])[:CANDIDATES]
    found = []
    for n in order:
        run.check()
        if alike[n] >= CLOSE * alike[order[0]]:
            found.append(_words(lm, question, lines[n], wider[n], alike[n], run))
    best = max(found, key=lambda f: f.score)
    if not best.words or best.score < LEAST:
        return Output.text(NOT_FOUND, "answer", score=round(best.score, 2))
    return Output.text(best.words, "answer", score=round(best.score, 2))


def _words(lm: SmolLM, question: str, sentence: str, shown: str, likeness: float, run: Run) -> _Found:
    """The likeliest run of words of the sentence, given the question."""
    plain, shown = (sentence.lower(), shown.lower()) if sentence.isupper() else (sentence, shown)
    session = lm.session(load("answer-from-text").render() + "\n\n")
    session.feed(f"Text: {shown}\nQuestion: {question}\nAnswer:", control=False)
    allowed = json.dumps({"substring_words": plain})
    grammar = Grammar.lark(f'start: " " SPAN "\\n"\nSPAN: WORDS & /[^\\n ](.|\\n)*/\nWORDS: %regex {allowed}\n')
    written = session.fork().sample(grammar, max_tokens=48, should_stop=run.stop.is_set)
    total, count = session.score([written])[0], len(lm.encode(written, control=False))
    words = written.strip(" \n,;:.")
    if len(plain) == len(sentence) and (at := plain.find(words)) >= 0:
        words = sentence[at : at + len(words)]  # as it was written, capitals and all
    return _Found(words, total / max(1, min(count, BREVITY)), likeness)


def pieces_of(text: str, words: int) -> list[str]:
    """The text in pieces of about so many words, cut between sentences."""
    pieces: list[list[str]] = [[]]
    for sentence in sentences.split(text):
        if pieces[-1] and sum(len(s.split()) for s in pieces[-1]) + len(sentence.split()) > words:
            pieces.append([])
        pieces[-1].append(sentence)
    return [" ".join(p) for p in pieces if p]


def repeats(text: str) -> int:
    """Where a text begins to go in circles: the place of the second of two equal runs of LOOP words; 0 if nowhere."""
    words = list(re.finditer(r"\w+", text.lower()))
    seen: set[tuple[str, ...]] = set()
    for n in range(len(words) - LOOP + 1):
        key = tuple(w.group() for w in words[n : n + LOOP])
        if key in seen:
            return words[n].start()
        seen.add(key)
    return 0


def tidy(text: str, cut_off: bool) -> str:
    """Without what is said again, and without a last sentence that was cut off."""
    text = text.strip()
    if at := repeats(text):
        text, cut_off = text[:at].rstrip(), True
    ends = [m.end() for m in re.finditer(r"(?<!\d)[.!?][\"'”)]?(?=\s|$)|\n", text)]
    if not cut_off or (ends and ends[-1] == len(text)):
        return text
    return text[: ends[-1]].strip() if ends and ends[-1] > 20 else text.rstrip(" ,;:-") + " …"


def _given(text: str, what: str) -> str:
    if not text.strip():
        raise InputError(f"There is nothing to work on: {what} is empty.")
    return text.strip()


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    return [SmolGenerate, SmolSummarize, SmolAnswer, PageAnswer]
