"""Experts on other machines: Hugging Face Inference, and any server that speaks OpenAI's protocol.

They are off until the settings hold a key (or, for a server of one's own, its address), for what is sent
leaves this machine:

    [experts.hugging-face]              [experts.openai]
    token = "hf_..."                    key = "sk-..."
    provider = "hf-inference"           url = "http://localhost:8000/v1"    # vLLM, LocalAI, ...

Models can be changed for each expert: `[experts.openai-image] model = "..."`. Keys are used and never shown.
"""

from __future__ import annotations

import base64
import io
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import AnyloomError, Cancelled, ExpertError, InputError
from ...builtin import tool
from ...contracts import Card, Expert, Output, Run, Tool
from ...full_tools import full_tool
from ..classic import open_picture
from .encode import png
from .hub import build, missing

AGAIN = (408, 409, 425, 429)  # answers after which the same call may succeed


class Remote(Expert):
    """A model behind HTTP. Subclasses write `ask` with a client of their kind."""

    secret: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {"model": "", "url": "", "timeout": 120.0}

    @classmethod
    def available(cls) -> str | None:
        """None when there is a key or an address."""
        if not cls.option(cls.secret) and not cls.option("url"):
            return f"runs on another machine; set {cls.secret} (or url) in [experts.{cls.family}] of the settings"
        return missing(cls.needs, "pip install 'anyloom[openai]'")

    @abstractmethod
    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One call; whatever the client raises is translated by `run`."""

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The answer of the server. ExpertError says what it said; retryable where another try may help."""
        run.check()
        empty = [n for n, v in args.items() if isinstance(v, str) and not v.strip() and n == "text"]
        if empty:
            raise InputError(f"'{self.tool.name}' needs a text, and it is empty.")
        run.progress(0, 1, f"waiting for {self.option('model')}")
        try:
            made = self.ask(args, run)
        except AnyloomError:
            raise
        except Exception as e:  # the client's own errors, of many kinds: told apart by their status
            if run.stop.is_set():
                raise Cancelled("Stopped.") from e
            raise self._failed(e) from None  # the client's error may hold the request with its key
        run.check()
        run.progress(1, 1, "answered")
        return made

    def _failed(self, error: Exception) -> ExpertError:
        status = getattr(error, "status_code", None) or getattr(getattr(error, "response", None), "status_code", None)
        where = self.option("url") or self.family
        if status in (401, 403):
            return ExpertError(f"{where} refused the {self.secret} (HTTP {status}); check [experts.{self.family}].")
        if status == 404:
            return ExpertError(f"{where} has no model '{self.option('model')}' (HTTP 404); set another one.")
        reason = " ".join(str(error).split())[:160].rstrip(".") or type(error).__name__
        for key in (self.option(self.secret),):
            reason = reason.replace(key, "***") if key else reason
        again = status is None or status in AGAIN or status >= 500
        code = f"HTTP {status}: " if status else f"{type(error).__name__}: "
        return ExpertError(f"{where} did not answer as it should ({code}{reason}).", retryable=again)


class HuggingFace(Remote):
    """Hugging Face Inference: the hub's own models, run there. `url` is for an endpoint of one's own."""

    family = "hugging-face"
    secret = "token"
    method: ClassVar[str]
    defaults: ClassVar[Mapping[str, Any]] = {**Remote.defaults, "token": "", "provider": "auto"}

    def client(self) -> tuple[Any, str]:
        """A client and the model it is asked for: its name, or its address on one's own server."""
        from huggingface_hub import InferenceClient

        url, model = str(self.option("url")).rstrip("/"), str(self.option("model"))
        options: dict[str, Any] = {"token": self.option("token") or None, "timeout": float(self.option("timeout"))}
        if url:
            return InferenceClient(provider="hf-inference", **options), f"{url}/models/{model}"
        provider: Any = str(self.option("provider"))
        return InferenceClient(provider=provider, **options), model

    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Calls the task's own method; its result in words or as a picture."""
        client, model = self.client()
        call = getattr(client, self.method)
        given: dict[str, Any] = {}
        if self.method == "text_to_image":
            return [_picture(call(args["text"], model=model, seed=run.seed))]
        if self.method == "image_to_image":
            return [_picture(call(Path(args["image"]).read_bytes(), prompt=args["text"], model=model))]
        if self.method == "text_to_video":
            return [Output(call(args["text"], model=model, seed=run.seed), "video/mp4", "video")]
        if self.method == "question_answering":
            given = {"question": args["text"], "context": args["context"]}
        elif self.method == "visual_question_answering":
            given = {"image": Path(args["image"]).read_bytes(), "question": args["text"]}
        else:
            first = next(p for p in self.tool.params)
            value = args[first.name]
            given = {first.name: value if first.modality == "text" else Path(value).read_bytes()}
        return [Output.text(words(call(**given, model=model)), "answer")]


class HuggingFaceChat(HuggingFace):
    """Chat models behind Hugging Face Inference."""

    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One turn."""
        client, model = self.client()
        turns = [{"role": "user", "content": args["text"]}]
        said = client.chat_completion(turns, model=model, seed=run.seed % 2**31).choices[0].message.content
        return [Output.text(_something(said, self.name), "reply")]


class OpenAI(Remote):
    """OpenAI's protocol."""

    family = "openai"
    secret = "key"
    needs = ("openai",)
    defaults: ClassVar[Mapping[str, Any]] = {**Remote.defaults, "key": ""}

    def client(self) -> Any:
        """A client that tries once: trying again is the dispatcher's business."""
        import openai

        url = str(self.option("url")) or None
        return openai.OpenAI(
            api_key=self.option("key") or "none", base_url=url, timeout=float(self.option("timeout")), max_retries=0
        )


class OpenAIImage(OpenAI):
    """Draws a picture."""

    defaults: ClassVar[Mapping[str, Any]] = {**OpenAI.defaults, "model": "gpt-image-1", "width": 1024, "height": 1024}

    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One PNG."""
        size = f"{self.option('width')}x{self.option('height')}"
        made = self.client().images.generate(model=self.option("model"), prompt=args["text"], size=size)
        if not made.data or not made.data[0].b64_json:
            raise ExpertError(f"'{self.name}' sent no picture; its server must answer with b64_json.")
        return [_picture_of(base64.b64decode(made.data[0].b64_json))]


class OpenAISpeech(OpenAI):
    """Speaks a text."""

    defaults: ClassVar[Mapping[str, Any]] = {**OpenAI.defaults, "model": "gpt-4o-mini-tts", "voice": "alloy"}

    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A WAV."""
        made = self.client().audio.speech.create(
            model=self.option("model"), voice=self.option("voice"), input=args["text"], response_format="wav"
        )
        return [Output(made.content, "audio/wav", "speech")]


class OpenAITranscription(OpenAI):
    """Writes down speech."""

    defaults: ClassVar[Mapping[str, Any]] = {**OpenAI.defaults, "model": "whisper-1"}

    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The words."""
        audio = Path(args["audio"])
        heard = self.client().audio.transcriptions.create(
            model=self.option("model"), file=(audio.name, audio.read_bytes())
        )
        return [Output.text(_something(heard.text, self.name), "transcript")]


class OpenAIChat(OpenAI):
    """Writes, replies, and looks at pictures."""

    defaults: ClassVar[Mapping[str, Any]] = {**OpenAI.defaults, "model": "gpt-4o-mini"}
    prompt: ClassVar[str] = "{text}"

    def ask(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One turn, with the picture where the tool has one."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self.prompt.format(text=args.get("text", ""))}]
        if "image" in args:
            data = base64.b64encode(png(open_picture(Path(args["image"])).convert("RGB"))).decode()
            content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}})
        turns: Any = [{"role": "user", "content": content if "image" in args else content[0]["text"]}]
        made = self.client().chat.completions.create(model=self.option("model"), messages=turns)
        return [Output.text(_something(made.choices[0].message.content, self.name), "reply")]


def words(found: Any) -> str:
    """What a task's method returned, as people would write it: texts as they are, lists a line each."""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return "\n".join(words(one) for one in found) or "Nothing was found."
    for name in ("summary_text", "translation_text", "generated_text", "answer", "text"):
        if text := getattr(found, name, None):
            return str(text)
    label = getattr(found, "label", None) or getattr(found, "entity_group", None) or getattr(found, "word", None) or "?"
    score = getattr(found, "score", None)
    word = getattr(found, "word", None)
    name = f"{word} ({label})" if word and word != label else str(label)
    box = getattr(found, "box", None)
    place = f" at {box.xmin}, {box.ymin}, {box.xmax}, {box.ymax}" if box is not None else ""
    return f"{name} ({score:.2f}){place}" if score is not None else f"{name}{place}"


def _picture(image: Any) -> Output:
    return Output(png(image.convert("RGB")), "image/png", "picture", {"width": image.width, "height": image.height})


def _picture_of(data: bytes) -> Output:
    """Bytes from a server as PNG, whatever format they came in."""
    from PIL import Image, UnidentifiedImageError

    try:
        return _picture(Image.open(io.BytesIO(data)))
    except (UnidentifiedImageError, OSError) as e:
        raise ExpertError("The server sent something that is no picture.") from e


def _something(text: str | None, name: str) -> str:
    if not (text or "").strip():
        raise ExpertError(f"'{name}' sent an empty answer.")
    return str(text).strip()


def _card(model: str, quality: float) -> Card:
    """A remote model takes no memory here."""
    return Card(
        licence="the provider's terms",
        memory=50_000_000,
        speed="medium",
        quality=quality,
        profiles=("full",),
        devices=("cpu", "cuda"),
        source=f"https://huggingface.co/{model}" if model else "https://platform.openai.com/docs/api-reference",
    )


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    hub: list[tuple[str, Tool, str, str]] = [
        ("image", tool("text-to-image"), "text_to_image", "black-forest-labs/FLUX.1-schnell"),
        ("edit", tool("image-to-image"), "image_to_image", "black-forest-labs/FLUX.1-Kontext-dev"),
        ("video", tool("text-to-video"), "text_to_video", "Wan-AI/Wan2.1-T2V-14B"),
        (
            "speech-recognition",
            tool("automatic-speech-recognition"),
            "automatic_speech_recognition",
            "openai/whisper-large-v3",
        ),
        ("summary", tool("summarization"), "summarization", "facebook/bart-large-cnn"),
        ("answer", tool("question-answering"), "question_answering", "deepset/roberta-base-squad2"),
        ("names", full_tool("token-classification"), "token_classification", "dslim/bert-base-NER"),
        ("objects", full_tool("object-detection"), "object_detection", "facebook/detr-resnet-50"),
        ("classes", full_tool("image-classification"), "image_classification", "google/vit-base-patch16-224"),
    ]
    made: list[type[Expert]] = [
        build(
            HuggingFace,
            f"hugging-face-{use}",
            t,
            _card(model, 0.5),
            f"{model} on Hugging Face Inference",
            method=method,
            defaults={"model": model},
        )
        for use, t, method, model in hub
    ]
    chat = "meta-llama/Llama-3.1-8B-Instruct"
    for use, t in (("write", tool("text-generation")), ("chat", full_tool("conversational"))):
        words_ = f"{chat} on Hugging Face Inference"
        made.append(
            build(HuggingFaceChat, f"hugging-face-{use}", t, _card(chat, 0.5), words_, defaults={"model": chat})
        )
    seen = "Describe what this picture shows in one sentence."
    made += [
        build(
            OpenAIImage,
            "openai-image",
            tool("text-to-image"),
            _card("", 0.5),
            "Pictures by an OpenAI-compatible server",
        ),
        build(
            OpenAISpeech,
            "openai-speech",
            tool("text-to-speech"),
            _card("", 0.5),
            "Speech by an OpenAI-compatible server",
        ),
        build(
            OpenAITranscription,
            "openai-transcription",
            tool("automatic-speech-recognition"),
            _card("", 0.5),
            "Speech recognition by an OpenAI-compatible server",
        ),
        build(
            OpenAIChat, "openai-write", tool("text-generation"), _card("", 0.5), "Texts by an OpenAI-compatible server"
        ),
        build(
            OpenAIChat,
            "openai-chat",
            full_tool("conversational"),
            _card("", 0.5),
            "Replies by an OpenAI-compatible server",
        ),
        build(
            OpenAIChat,
            "openai-caption",
            tool("image-to-text"),
            _card("", 0.5),
            "Captions by an OpenAI-compatible server",
            prompt=seen,
        ),
        build(
            OpenAIChat,
            "openai-vqa",
            tool("visual-question-answering"),
            _card("", 0.5),
            "Questions about a picture, by an OpenAI-compatible server",
        ),
    ]
    return made
