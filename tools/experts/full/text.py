"""Text to text by encoder-decoders and chat models: summaries, translation, instructions, conversation, likeness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError, InputError
from ...builtin import tool
from ...contracts import Card, Expert, Output, Run, Tool
from ...full_tools import full_tool
from ..minilm import LIKENESS, MiniLM
from .hub import HubExpert, build, card
from .language import Watch
from .loading import model_of

CODES = {
    "arabic": "ar",
    "chinese": "zh",
    "czech": "cs",
    "danish": "da",
    "dutch": "nl",
    "english": "en",
    "finnish": "fi",
    "french": "fr",
    "german": "de",
    "greek": "el",
    "hebrew": "he",
    "hindi": "hi",
    "hungarian": "hu",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "norwegian": "no",
    "polish": "pl",
    "portuguese": "pt",
    "romanian": "ro",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "turkish": "tr",
    "ukrainian": "uk",
    "vietnamese": "vi",
}


class Writer(HubExpert):
    """An encoder-decoder that turns a text into another; `prompt` is the frame that it was trained with."""

    needs = ("transformers", "sentencepiece")
    kind: ClassVar[str] = "AutoModelForSeq2SeqLM"
    prompt: ClassVar[str] = "{text}"
    stem: ClassVar[str] = "text"
    settings: ClassVar[Mapping[str, Any]] = {}  # of `generate`
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "tokens": 256}

    def open(self, folders: list[Path]) -> None:
        """The model and its tokenizer."""
        self.model, self.tokenizer = model_of(folders[0], self.kind, self.device, "AutoTokenizer")

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The new text. What is longer than the model can read is cut, and the facts say so."""
        text = args["text"].strip()
        if not text:
            raise InputError(f"'{self.tool.name}' needs a text, and it is empty.")
        prompt = self.framed(text, args)
        most = min(getattr(self.model.config, "max_position_embeddings", None) or 4096, 4096)
        asked = self.tokenizer(prompt, return_tensors="pt", truncation=True, max_length=most).to(self.device)
        asked.pop("token_type_ids", None)
        tokens = min(int(self.option("tokens")), most - 2)
        made = self.model.generate(
            **asked,
            **{"max_new_tokens": tokens, "do_sample": False, **self.settings},
            stopping_criteria=Watch.list(run, tokens),
        )
        said = self.tokenizer.decode(made[0], skip_special_tokens=True).strip()
        if not said:
            raise ExpertError(f"'{self.name}' wrote nothing; try another model with --pin.")
        cut = asked["input_ids"].shape[1] >= most
        return [Output.text(said, self.stem, **({"cut": True} if cut else {}))]

    def framed(self, text: str, args: Mapping[str, Any]) -> str:
        """The text as the model wants it."""
        return self.prompt.format(text=text)


class Translator(Writer):
    """Translates; a model for one pair of languages refuses others, so that the next expert is asked."""

    stem = "translation"
    target: ClassVar[str] = "any"
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "tokens": 512, "language": "English"}

    def framed(self, text: str, args: Mapping[str, Any]) -> str:
        """MADLAD is told the language by a token; the others know one only."""
        wanted = (args.get("language") or ("" if self.target != "any" else self.option("language"))).strip().lower()
        code = CODES.get(wanted, wanted)
        if self.target != "any":
            if code and code != self.target:
                raise ExpertError(f"'{self.name}' translates into '{self.target}' only, and '{wanted}' is wanted.")
            return text
        if code not in CODES.values():
            raise InputError(f"'{wanted}' is no language known here; use one of {', '.join(sorted(CODES))}.")
        return f"<2{code}> {text}"


class Talker(HubExpert):
    """A chat model: one message in, one reply out, sampled with the task's seed."""

    needs = ("transformers",)
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "tokens": 512, "temperature": 0.7}

    def open(self, folders: list[Path]) -> None:
        """The model and its tokenizer."""
        self.model, self.tokenizer = model_of(folders[0], "AutoModelForCausalLM", self.device, "AutoTokenizer")

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The reply."""
        text = args["text"].strip()
        if not text:
            raise InputError(f"'{self.tool.name}' needs a text, and it is empty.")
        turns = [{"role": "user", "content": text}]
        asked = self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.device)
        tokens, warmth = int(self.option("tokens")), float(self.option("temperature"))
        how: dict[str, Any] = {"do_sample": True, "temperature": warmth} if warmth > 0 else {"do_sample": False}
        made = self.model.generate(**asked, **how, max_new_tokens=tokens, stopping_criteria=Watch.list(run, tokens))
        start = asked["input_ids"].shape[1]
        said = self.tokenizer.decode(made[0, start:], skip_special_tokens=True).strip()
        if not said:
            raise ExpertError(f"'{self.name}' wrote nothing; try again with another seed.")
        return [Output.text(said, "reply", cut=made.shape[1] - start >= tokens)]


class Likeness(HubExpert):
    """Says how alike two texts are in meaning, from 0 to 1, by the cosine of their embeddings."""

    needs = ("transformers",)

    def open(self, folders: list[Path]) -> None:
        """The sentence encoder."""
        self.encoder = MiniLM(folders[0], self.device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Such as "0.83 (very alike)"."""
        pair = [args["text"], args["other"]]
        if not all(t.strip() for t in pair):
            raise InputError("One of the two texts is empty; give two texts to compare.")
        one, two = self.encoder.encode(pair, run)
        score = min(1.0, max(0.0, float(one @ two)))
        words = next((w for least, w in LIKENESS if score >= least), "different")
        return [Output.text(f"{score:.2f} ({words})", "similarity", score=round(score, 4))]

    def move(self, device: str) -> bool:
        """The encoder keeps its model in a place of its own."""
        self.encoder.model.to(device)
        self.encoder.device = self.device = device
        return True


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    return [*_writers(), *_translators(), *_talkers(), *_likeness()]


def _writers() -> list[type[Expert]]:
    short, told = tool("summarization"), full_tool("text2text-generation")
    beams = {"num_beams": 4, "no_repeat_ngram_size": 3}
    return [
        build(
            Writer,
            "bart-large-cnn",
            short,
            card("facebook/bart-large-cnn", licence="MIT", size=1.6e9, memory=2e9, quality=0.75),
            "BART large; news-like summaries in its own words",
            stem="summary",
            settings=beams,
        ),
        build(
            Writer,
            "distilbart-cnn",
            short,
            card(
                "sshleifer/distilbart-cnn-12-6",
                licence="Apache-2.0",
                size=1.2e9,
                memory=1.6e9,
                speed="fast",
                quality=0.65,
            ),
            "DistilBART; news-like summaries, faster",
            stem="summary",
            settings=beams,
        ),
        build(
            Writer,
            "flan-t5-base",
            told,
            card("google/flan-t5-base", licence="Apache-2.0", size=9.9e8, memory=1.3e9, speed="fast", quality=0.5),
            "FLAN-T5 base; follows an instruction about a text",
        ),
        build(
            Writer,
            "flan-t5-large",
            told,
            card("google/flan-t5-large", licence="Apache-2.0", size=3.1e9, memory=3.6e9, quality=0.65),
            "FLAN-T5 large; follows an instruction about a text",
        ),
    ]


def _translators() -> list[type[Expert]]:
    translate = full_tool("translation")
    pairs = {"en-de": "de", "en-fr": "fr", "en-es": "es", "mul-en": "en"}
    madlad = card("google/madlad400-3b-mt", licence="Apache-2.0", size=1.18e10, memory=1.3e10, quality=0.85)
    return [
        build(Translator, "madlad400-3b", translate, madlad, "MADLAD-400 3B; from and into some 400 languages"),
        *(
            build(
                Translator,
                f"opus-mt-{pair}",
                translate,
                card(
                    f"Helsinki-NLP/opus-mt-{pair}",
                    licence="Apache-2.0" if "mul" in pair else "CC-BY-4.0",
                    size=3.1e8,
                    memory=5e8,
                    speed="fast",
                    quality=0.6,
                ),
                f"OPUS-MT; translates {'many languages' if 'mul' in pair else 'English'} into '{target}' only",
                target=target,
            )
            for pair, target in pairs.items()
        ),
    ]


def _talkers() -> list[type[Expert]]:
    models: list[tuple[str, str, Card]] = [
        (
            "qwen2-5-1-5b",
            "Qwen2.5 1.5B Instruct",
            card("Qwen/Qwen2.5-1.5B-Instruct", licence="Apache-2.0", size=3.1e9, memory=3.7e9, quality=0.75),
        ),
        (
            "smollm2-1-7b",
            "SmolLM2 1.7B Instruct",
            card("HuggingFaceTB/SmolLM2-1.7B-Instruct", licence="Apache-2.0", size=3.4e9, memory=4e9, quality=0.7),
        ),
    ]
    uses: list[tuple[Tool, str, str]] = [
        (tool("text-generation"), "write", "writes from a prompt"),
        (full_tool("conversational"), "chat", "replies to a message"),
    ]
    return [build(Talker, f"{name}-{use}", t, c, f"{who}; {does}") for name, who, c in models for t, use, does in uses]


def _likeness() -> list[type[Expert]]:
    alike = tool("sentence-similarity")
    return [
        build(
            Likeness,
            "mpnet-similarity",
            alike,
            card(
                "sentence-transformers/all-mpnet-base-v2",
                licence="Apache-2.0",
                size=4.4e8,
                memory=6e8,
                speed="fast",
                quality=0.8,
            ),
            "all-mpnet-base-v2; likeness of two English texts",
        ),
        build(
            Likeness,
            "multilingual-minilm-similarity",
            alike,
            card(
                "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
                licence="Apache-2.0",
                size=4.7e8,
                memory=6e8,
                speed="fast",
                quality=0.7,
            ),
            "Multilingual MiniLM; likeness of two texts, also across languages",
        ),
    ]
