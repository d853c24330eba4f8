"""Speech recognition by checkpoints of openai-whisper, from tiny to large."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import WeightsError
from ...builtin import tool
from ...contracts import Card, Expert, Output, Run, Speed
from ..whisper import RATE, decoded, transcript
from .hub import HubExpert, missing

WINDOW = 30  # seconds that it hears at once


class OpenAIWhisper(HubExpert):
    """A checkpoint of openai-whisper; the subclasses name the size."""

    tool = tool("automatic-speech-recognition")
    half = False  # its weights; it computes in half precision by itself
    defaults: ClassVar[Mapping[str, Any]] = {}
    checkpoint: ClassVar[str]

    @classmethod
    def available(cls) -> str | None:
        """Needs the package openai-whisper."""
        return missing(["whisper"]) and "openai-whisper is missing: pip install openai-whisper"

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

        self.device = device
        self.model = whisper.load_model(self.checkpoint, device=device, download_root=str(weights["folder"]))

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The words spoken, as one text. ExpertError when nobody speaks."""
        audio = Path(args["audio"])
        samples = decoded(audio)
        run.check()
        with self._watched(run, len(samples) / RATE):
            found = self.model.transcribe(
                samples, fp16=self.model.device.type == "cuda", condition_on_previous_text=False, verbose=None
            )
        heard = [s["text"] for s in found["segments"] if s["no_speech_prob"] < 0.6 or s["avg_logprob"] > -1.0]
        return [transcript("".join(heard), audio, len(samples) / RATE, found["language"])]

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


def whisper(checkpoint: str, megabytes: int, memory: int, speed: Speed, quality: float) -> type[Expert]:
    """The expert of a size. Memory: weights in float32 and their activations."""
    card = Card(
        licence="MIT", size=megabytes * 1_000_000, memory=memory, devices=("cpu", "cuda"), speed=speed,
        quality=quality, profiles=("full",), source="https://github.com/openai/whisper",
    )  # fmt: skip
    words = f"Whisper {checkpoint} by openai-whisper; writes down speech in about a hundred languages."
    body = {"name": f"whisper-{checkpoint}", "checkpoint": checkpoint, "card": card}
    body |= {"__doc__": words, "__module__": __name__}
    return type(f"Whisper_{checkpoint.replace('-', '_')}", (OpenAIWhisper,), body)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    return [
        whisper("tiny", 76, 500_000_000, "fast", 0.41),
        whisper("base", 145, 800_000_000, "fast", 0.5),
        whisper("small", 484, 1_800_000_000, "medium", 0.65),
        whisper("medium", 1528, 4_500_000_000, "slow", 0.75),
        whisper("turbo", 1618, 4_500_000_000, "medium", 0.85),
        whisper("large-v3", 3087, 8_500_000_000, "slow", 0.9),
    ]
