"""XTTS-v2 through coqui-tts: speech in seventeen languages, and with the voice of a recording.

coqui-tts wants torchaudio, which breaks what diffusers imports, so it lives in an environment of its own
(`nox -s coqui` makes one and tests this file in it). Its checkpoint is a pickle that its own loader opens
with torch's restricted unpickler (`weights_only`, and the four configuration classes it allows), so that
nothing in it runs; it is fetched here and not through `core/weights.py`, which opens no pickles.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError, InputError, WeightsError
from ....core.hub_files import check_sums
from ...builtin import tool
from ...contracts import Card, Expert, Output, ResolvesWeights, Run
from ...full_tools import full_tool
from .. import sentences
from .encode import samples_of, wav
from .hub import HubExpert, missing
from .revisions import revision

RATE = 22_050  # at which the model hears voices
REPOSITORY = "coqui/XTTS-v2"
FILES = ["config.json", "vocab.json", "model.pth", "speakers_xtts.pth"]
LANGUAGES = ("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru", "nl", "cs", "ar", "zh-cn", "hu", "ko", "ja", "hi")


class Xtts(HubExpert):
    """XTTS-v2; speech in seventeen languages by one of 58 voices."""

    name = "xtts-v2"
    tool = tool("text-to-speech")
    family = "coqui"
    card = Card(
        licence="CPML (Coqui Public Model License, non-commercial)", size=1_870_000_000, memory=3_000_000_000,
        devices=("cuda", "cpu"), speed="medium", quality=0.85, profiles=("full",),
        source=f"https://huggingface.co/{REPOSITORY}",
    )  # fmt: skip
    defaults: ClassVar[Mapping[str, Any]] = {
        "revision": revision(REPOSITORY), "language": "en", "voice": "Claribel Dervla", "temperature": 0.75,
    }  # fmt: skip

    @classmethod
    def available(cls) -> str | None:
        """Needs coqui-tts, in an environment of its own."""
        return missing(
            ("TTS",), "pip install coqui-tts torchaudio, in an environment of its own (docs/full-profile.md)"
        )

    @classmethod
    def configured(cls, options: Mapping[str, Any]) -> type[Expert]:
        """The card has no URI that a revision could change."""
        return Expert.configured.__func__(cls, options)  # type: ignore[attr-defined, no-any-return]

    @classmethod
    def fetch(cls, weights: ResolvesWeights) -> dict[str, Path]:
        """The four files of the repository, by the hub's own library, with their sums checked."""
        from huggingface_hub import snapshot_download, try_to_load_from_cache
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        cache, offline = weights.hub, weights.offline  # type: ignore[attr-defined]
        where: dict[str, Any] = {"revision": str(cls.option("revision")), "cache_dir": str(cache)}
        if not all(try_to_load_from_cache(REPOSITORY, file, **where) for file in FILES):
            cls.tell_licence(weights)
        try:
            folder = Path(snapshot_download(REPOSITORY, allow_patterns=FILES, local_files_only=offline, **where))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
            reason = " ".join(str(e).split())[:160].rstrip(".")
            raise WeightsError(f"{REPOSITORY} cannot be fetched from the hub ({reason}); check the connection.") from e
        check_sums(REPOSITORY, folder)
        return {"folder": folder}

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """The model by coqui's own loader."""
        from TTS.tts.configs.xtts_config import XttsConfig
        from TTS.tts.models.xtts import Xtts as Model

        self.device, folder = device, Path(weights["folder"])
        config = XttsConfig()
        config.load_json(str(folder / "config.json"))
        self.model = Model.init_from_config(config)
        self.model.load_checkpoint(config, checkpoint_dir=str(folder), use_deepspeed=False)
        self.model.to(device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text spoken, sentence by sentence, as WAV of 24 kHz."""
        import numpy as np

        language = str(self.option("language"))
        if language not in LANGUAGES:
            raise InputError(f"XTTS-v2 does not speak '{language}'; it speaks {', '.join(LANGUAGES)}.")
        pieces = [s for s in sentences.split(args["text"]) if any(c.isalnum() for c in s)]
        if not pieces:
            raise InputError("There is nothing to say: the text has no letter and no digit.")
        voice, made = self.voice(args), []
        for n, piece in enumerate(pieces):
            run.check()
            run.progress(n, len(pieces), "sentences")
            said = self.model.inference(piece, language, *voice, temperature=float(self.option("temperature")))
            made.append(np.asarray(said["wav"], np.float32))
        run.progress(len(pieces), len(pieces), "sentences")
        rate = int(self.model.args.output_sample_rate)
        sound = np.concatenate(made)
        return [Output(wav(sound, rate), "audio/wav", "speech", {"rate": rate, "seconds": round(len(sound) / rate, 2)})]

    def voice(self, args: Mapping[str, Any]) -> tuple[Any, Any]:
        """What stands for the voice: of one of the model's speakers."""
        speakers = getattr(self.model.speaker_manager, "speakers", {})
        name = str(self.option("voice"))
        if name not in speakers:
            raise ExpertError(f"XTTS-v2 has no voice '{name}'; it has {', '.join(sorted(speakers))[:300]}.")
        one = speakers[name]
        return one["gpt_cond_latent"].to(self.device), one["speaker_embedding"].to(self.device)

    def move(self, device: str) -> bool:
        """In full precision everywhere, as the model was made."""
        self.model.to(device)
        self.device = device
        return True


class XttsClone(Xtts):
    """XTTS-v2; speaks with the voice of a recording of some six seconds."""

    name = "xtts-v2-clone"
    tool = full_tool("voice-cloning")

    def voice(self, args: Mapping[str, Any]) -> tuple[Any, Any]:
        """What stands for the voice: computed from the recording's first half minute.

        It is read as all sounds are here; coqui's own reading would want torchcodec and FFmpeg's libraries.
        """
        import torch

        audio = Path(args["audio"])
        samples = samples_of(audio, RATE)[: 30 * RATE]
        if len(samples) < RATE:
            raise InputError(f"'{audio.name}' is shorter than a second; a voice wants some six seconds.")
        sound = torch.as_tensor(samples)[None].to(self.device)
        latent = self.model.get_gpt_cond_latents(sound, RATE)
        return latent, self.model.get_speaker_embedding(sound, RATE)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    return [Xtts, XttsClone]
