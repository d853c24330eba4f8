"""Sound effects and music from a description: AudioLDM 2 and AudioLDM (diffusers), MusicGen (transformers)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import InputError
from ....core.hub_files import variant
from ...builtin import tool
from ...contracts import Expert, Output, Run
from .diffusion import DiffusionExpert
from .encode import wav
from .hub import HubExpert, build, card, precision
from .language import Watch
from .loading import model_of

RATE = 16_000


class TextToAudio(DiffusionExpert):
    """Makes the sound that a text describes, mono at the vocoder's rate (16 kHz)."""

    pipeline = "AudioLDMPipeline"
    defaults: ClassVar[Mapping[str, Any]] = {**DiffusionExpert.defaults, "seconds": 9.0}

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One WAV of the seconds that were set."""
        seconds = float(self.option("seconds")) * scale
        made = self.generate(run, prompt=self.prompt(args), audio_length_in_s=seconds, **self.more())
        rate = int(self.model.vocoder.config.sampling_rate)
        facts = {"rate": rate, "seconds": round(made.audios.shape[-1] / rate, 2), "steps": int(self.option("steps"))}
        facts |= {"guidance": self.option("guidance"), "seed": run.seed}
        return [Output(wav(made.audios[0], rate), "audio/wav", "sound", facts)]

    def more(self) -> dict[str, Any]:
        """What this kind of pipeline is told besides."""
        return {}


class AudioLDM2(TextToAudio):
    """AudioLDM 2, whose language model writes eight vectors that the sound is made from."""

    pipeline = "AudioLDM2Pipeline"
    defaults: ClassVar[Mapping[str, Any]] = {**TextToAudio.defaults, "steps": 200, "guidance": 3.5}

    def parts(self, folders: list[Path]) -> dict[str, Any]:
        """The language model as a class that can generate: the repositories name one that no longer can."""
        from transformers import GPT2LMHeadModel

        folder = folders[0] / "language_model"
        kind = precision(self.device)
        return {
            "language_model": GPT2LMHeadModel.from_pretrained(
                folder, dtype=kind, local_files_only=True, use_safetensors=True, variant=variant(folder)
            )
        }

    def more(self) -> dict[str, Any]:
        """The number of vectors: the repositories keep it where transformers no longer looks."""
        return {"max_new_tokens": 8}


class MusicGen(HubExpert):
    """Makes music from a description of style, instruments and mood."""

    needs = ("transformers",)
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "seconds": 8.0, "guidance": 3.0}

    def open(self, folders: list[Path]) -> None:
        """The model and its text processor."""
        self.model, self.processor = model_of(folders[0], "MusicgenForConditionalGeneration", self.device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One WAV of the seconds that were set, at the codec's rate (32 kHz)."""
        if not args["text"].strip():
            raise InputError("There is no music in an empty text; describe the music.")
        codec = self.model.config.audio_encoder
        tokens = max(1, round(float(self.option("seconds")) * codec.frame_rate))
        asked = self.processor(text=[args["text"].strip()], padding=True, return_tensors="pt").to(self.device)
        made = self.model.generate(
            **asked,
            do_sample=True,
            guidance_scale=self.option("guidance"),
            max_new_tokens=tokens,
            stopping_criteria=Watch.list(run, tokens),
        )
        sound = made[0].float().cpu().numpy()
        facts = {
            "rate": codec.sampling_rate,
            "seconds": round(sound.shape[-1] / codec.sampling_rate, 2),
            "seed": run.seed,
        }
        return [Output(wav(sound, codec.sampling_rate), "audio/wav", "music", facts)]


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    sound = tool("text-to-audio")
    return [
        build(
            AudioLDM2,
            "audioldm2",
            sound,
            card("cvssp/audioldm2", licence="CC-BY-NC-SA-4.0", size=4.6e9, memory=5.4e9, speed="slow", quality=0.7),
            "AudioLDM 2; sound effects, music and murmured speech",
        ),
        build(
            AudioLDM2,
            "audioldm2-music",
            sound,
            card(
                "cvssp/audioldm2-music", licence="CC-BY-NC-SA-4.0", size=4.6e9, memory=5.4e9, speed="slow", quality=0.6
            ),
            "AudioLDM 2 trained on music; melodies and arrangements",
        ),
        build(
            TextToAudio,
            "audioldm-l",
            sound,
            card(
                "cvssp/audioldm-l-full", licence="CC-BY-NC-SA-4.0", size=4e9, memory=4.5e9, speed="slow", quality=0.55
            ),
            "AudioLDM large, the generator of NExT-GPT; sound effects",
        ),
        build(
            MusicGen,
            "musicgen-small",
            sound,
            card("facebook/musicgen-small", licence="CC-BY-NC-4.0", size=2.4e9, memory=2.5e9, quality=0.65),
            "MusicGen small; eight seconds of music from a description",
        ),
    ]
