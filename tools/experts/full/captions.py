"""Pictures put into words: captions, questions about a picture, questions about a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError, InputError
from ...builtin import tool
from ...contracts import Expert, Output, Run
from ..classic import open_picture
from .hub import HubExpert, build, card
from .language import Watch
from .loading import model_of, on


class Reader(HubExpert):
    """A model that looks at a picture and writes; subclasses say how a question is put to it."""

    needs = ("transformers",)
    kind: ClassVar[str] = "BlipForConditionalGeneration"
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "tokens": 60}

    def open(self, folders: list[Path]) -> None:
        """The model and its processor."""
        self.model, self.processor = model_of(folders[0], self.kind, self.device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """What the model says to the picture, and to the question where there is one."""
        question = args.get("text")
        if question is not None and not question.strip():
            raise InputError("There is no question; ask something about the picture.")
        asked = self.asked(open_picture(Path(args["image"])).convert("RGB"), question.strip() if question else None)
        said = self.written(asked, run)
        if not said:
            raise ExpertError(f"'{self.name}' had nothing to say to this picture.")
        return [Output.text(said, "answer" if question else "caption")]

    def asked(self, picture: Any, question: str | None) -> dict[str, Any]:
        """The model's inputs."""
        return dict(on(self.processor(images=picture, text=question, return_tensors="pt"), self.model))

    def written(self, asked: Mapping[str, Any], run: Run) -> str:
        """The words that the model adds to its inputs."""
        tokens = int(self.option("tokens"))
        watch = Watch.list(run, tokens)
        made = self.model.generate(**asked, max_new_tokens=tokens, do_sample=False, stopping_criteria=watch)
        return str(self.processor.batch_decode(made, skip_special_tokens=True)[0]).strip()


class Blip2(Reader):
    """BLIP-2 wants its question in a frame of words, and repeats its prompt where it is no encoder-decoder."""

    kind = "Blip2ForConditionalGeneration"

    def asked(self, picture: Any, question: str | None) -> dict[str, Any]:
        """The question as it was trained, or an empty beginning for a caption."""
        return super().asked(picture, f"Question: {question} Answer:" if question else "")

    def written(self, asked: Mapping[str, Any], run: Run) -> str:
        """What follows the prompt."""
        said = super().written(asked, run)
        return said.rpartition("Answer:")[2].strip()


class ChatReader(Reader):
    """A small vision-language model that is talked to in turns (SmolVLM, Qwen-VL and their like)."""

    kind = "AutoModelForImageTextToText"
    caption: ClassVar[str] = "Describe what this picture shows in one sentence."
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "tokens": 200}

    def asked(self, picture: Any, question: str | None) -> dict[str, Any]:
        """One turn with the picture and the question, in the model's own template."""
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question or self.caption}]}
        prompt = self.processor.apply_chat_template([turn], add_generation_prompt=True)
        return dict(on(self.processor(text=[prompt], images=[[picture]], return_tensors="pt"), self.model))

    def written(self, asked: Mapping[str, Any], run: Run) -> str:
        """The model's turn alone."""
        tokens, start = int(self.option("tokens")), asked["input_ids"].shape[1]
        watch = Watch.list(run, tokens)
        made = self.model.generate(**asked, max_new_tokens=tokens, do_sample=False, stopping_criteria=watch)
        return str(self.processor.batch_decode(made[:, start:], skip_special_tokens=True)[0]).strip()


class Donut(Reader):
    """Reads pages without OCR; the question is part of its task prompt."""

    kind = "VisionEncoderDecoderModel"
    prompt: ClassVar[str] = "<s_docvqa><s_question>{question}</s_question><s_answer>"

    def asked(self, picture: Any, question: str | None) -> dict[str, Any]:
        """The page for the encoder and the prompt for the decoder."""
        pixels = on(self.processor(images=picture, return_tensors="pt"), self.model)["pixel_values"]
        prompt = self.prompt.format(question=question)
        words = self.processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        return {"pixel_values": pixels, "decoder_input_ids": words.to(self.device)}

    def written(self, asked: Mapping[str, Any], run: Run) -> str:
        """What follows the prompt, without the marks of Donut's language."""
        import re

        tokens, start = int(self.option("tokens")), asked["decoder_input_ids"].shape[1]
        watch = Watch.list(run, tokens)
        made = self.model.generate(**asked, max_new_tokens=tokens, do_sample=False, stopping_criteria=watch)
        said = self.processor.tokenizer.decode(made[0, start:], skip_special_tokens=True)
        return re.sub(r"<[^>]*>", " ", said).strip()


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    caption, ask, page = tool("image-to-text"), tool("visual-question-answering"), tool("document-question-answering")
    blip, vqa = "Salesforce/blip-image-captioning", "BlipForQuestionAnswering"
    blip2 = card("Salesforce/blip2-opt-2.7b", licence="MIT", size=1.55e10, memory=8e9, quality=0.75)
    smol = card("HuggingFaceTB/SmolVLM-500M-Instruct", licence="Apache-2.0", size=2.1e9, memory=2.5e9, quality=0.8)
    more: dict[str, Any] = {"needs": ("transformers", "torchvision")}  # its processor reads videos too
    more["install"] = "pip install torchvision, of the version that belongs to your torch"
    qwen = card("Qwen/Qwen2.5-VL-3B-Instruct", licence="Qwen-Research", size=7.6e9, memory=9e9, quality=0.9)
    return [
        build(
            Reader,
            "blip-caption-base",
            caption,
            card(f"{blip}-base", licence="BSD-3-Clause", size=9.9e8, memory=1.2e9, speed="fast", quality=0.6),
            "BLIP base; one short sentence about a picture",
        ),
        build(
            Reader,
            "blip-caption-large",
            caption,
            card(f"{blip}-large", licence="BSD-3-Clause", size=1.9e9, memory=2.2e9, speed="fast", quality=0.7),
            "BLIP large; one sentence about a picture",
        ),
        build(Blip2, "blip2-caption", caption, blip2, "BLIP-2 with OPT 2.7B; one sentence about a picture"),
        build(ChatReader, "smolvlm-caption", caption, smol, "SmolVLM 500M; a full description of a picture"),
        build(
            Reader,
            "blip-vqa",
            ask,
            card(
                "Salesforce/blip-vqa-base", licence="BSD-3-Clause", size=1.5e9, memory=1.8e9, speed="fast", quality=0.6
            ),
            "BLIP VQA; answers in a word or two",
            kind=vqa,
        ),
        build(Blip2, "blip2-vqa", ask, blip2, "BLIP-2 with OPT 2.7B; answers in a few words"),
        build(ChatReader, "smolvlm-vqa", ask, smol, "SmolVLM 500M; answers in sentences"),
        build(
            ChatReader,
            "qwen2-5-vl-vqa",
            ask,
            qwen,
            "Qwen2.5-VL 3B; answers in sentences, reads small print",
            **more,
        ),
        build(
            Donut,
            "donut-docvqa",
            page,
            card("naver-clova-ix/donut-base-finetuned-docvqa", licence="MIT", size=8.1e8, memory=1.2e9, quality=0.6),
            "Donut; answers from a page without OCR",
        ),
        build(
            ChatReader,
            "qwen2-5-vl-page",
            page,
            qwen,
            "Qwen2.5-VL 3B; answers from a page, also its layout",
            **more,
        ),
    ]
