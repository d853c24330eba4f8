"""Speech and sounds by transformers: speaking (SpeechT5, MMS, Bark), another voice, hearing words, naming sounds.

The sizes of openai-whisper are in `whisper.py`, XTTS-v2 in `coqui.py`, cleaning and separation in
`separation.py`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError, InputError, WeightsError
from ...builtin import tool
from ...contracts import Expert, Output, Run
from ...full_tools import full_tool
from .. import sentences
from . import separation
from .encode import samples_of, wav
from .hub import HubExpert, address, build, card, moved
from .loading import model_of, on
from .vision import likeliest

RATE = 16_000
XVECTORS = address("Matthijs/cmu-arctic-xvectors", "spkrec-xvect.zip", "datasets/")
VOCODER = address("microsoft/speecht5_hifigan")
PAUSE = 0.25  # seconds between sentences
SOUNDS = (
    "speech, music, singing, a dog, a cat, birds, rain, wind, a car, a train, an alarm, footsteps, laughter, silence"
)


class SpeechT5(HubExpert):
    """Speaks English with one of the voices of CMU ARCTIC."""

    needs = ("transformers", "sentencepiece")
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "voice": "slt"}

    def open(self, folders: list[Path]) -> None:
        """Model, vocoder, and the vector that stands for the voice."""
        self.model, self.processor = model_of(folders[0], "SpeechT5ForTextToSpeech", self.device, "SpeechT5Processor")
        self.vocoder = vocoder(folders[1], self.model)
        self.speaker = speaker(folders[2], str(self.option("voice")))

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text spoken, sentence by sentence, as WAV of 16 kHz."""
        voice = self.speaker.to(self.device, self.model.dtype)

        def say(sentence: str) -> Any:
            asked = self.processor(text=sentence, return_tensors="pt").to(self.device)
            return self.model.generate_speech(asked["input_ids"], voice, vocoder=self.vocoder)

        return [spoken(args["text"], say, RATE, run)]

    def move(self, device: str) -> bool:
        """The vocoder goes along."""
        super().move(device)
        moved(self.vocoder, device)
        return True


class OtherVoice(SpeechT5):
    """Says what is said in a recording with another voice."""

    def open(self, folders: list[Path]) -> None:
        """Model, vocoder, and the vector that stands for the voice."""
        kind = "SpeechT5ForSpeechToSpeech"
        self.model, self.processor = model_of(folders[0], kind, self.device, "SpeechT5Processor")
        self.vocoder = vocoder(folders[1], self.model)
        self.speaker = speaker(folders[2], str(self.option("voice")))

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """WAV of 16 kHz; long recordings in pieces of ten seconds."""
        import numpy as np

        samples = samples_of(Path(args["audio"]), RATE)
        pieces = [samples[n : n + 10 * RATE] for n in range(0, len(samples), 10 * RATE)]
        voice, made = self.speaker.to(self.device, self.model.dtype), []
        for n, piece in enumerate(pieces):
            run.check()
            run.progress(n, len(pieces), "pieces of the recording")
            asked = on(self.processor(audio=piece, sampling_rate=RATE, return_tensors="pt"), self.model)
            sound = self.model.generate_speech(asked["input_values"], voice, vocoder=self.vocoder)
            made.append(sound.float().cpu().numpy())
        run.progress(len(pieces), len(pieces), "pieces of the recording")
        sound = np.concatenate(made)
        return [Output(wav(sound, RATE), "audio/wav", "voice", {"rate": RATE, "seconds": round(len(sound) / RATE, 2)})]


class Vits(HubExpert):
    """Speaks one language, by VITS as trained by MMS."""

    needs = ("transformers",)

    def open(self, folders: list[Path]) -> None:
        """The model and its tokenizer."""
        self.model, self.tokenizer = model_of(folders[0], "VitsModel", self.device, "AutoTokenizer")

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text spoken, sentence by sentence."""

        def say(sentence: str) -> Any:
            return self.model(**self.tokenizer(sentence, return_tensors="pt").to(self.device)).waveform[0]

        return [spoken(args["text"], say, int(self.model.config.sampling_rate), run)]


class Bark(HubExpert):
    """Speaks some thirteen languages with a voice made up for each seed; laughs and sighs where the text says so."""

    needs = ("transformers",)

    def open(self, folders: list[Path]) -> None:
        """The model and its processor."""
        self.model, self.processor = model_of(folders[0], "BarkModel", self.device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The text spoken, sentence by sentence, as WAV of 24 kHz."""
        import torch

        def say(sentence: str) -> Any:
            torch.manual_seed(run.seed)  # one voice for all sentences
            return self.model.generate(**self.processor(sentence).to(self.device), do_sample=True)[0]

        return [spoken(args["text"], say, int(self.model.generation_config.sample_rate), run)]


class Hearer(HubExpert):
    """Writes down English speech, by CTC."""

    needs = ("transformers",)

    def open(self, folders: list[Path]) -> None:
        """The model and its processor."""
        self.model, self.processor = model_of(folders[0], "AutoModelForCTC", self.device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The words, in pieces of half a minute. ExpertError when there are none."""
        audio = Path(args["audio"])
        samples = samples_of(audio, RATE)
        pieces = [samples[n : n + 30 * RATE] for n in range(0, len(samples), 30 * RATE)]
        words = []
        for n, piece in enumerate(pieces):
            run.check()
            run.progress(n, len(pieces), "pieces of the recording")
            asked = on(self.processor(piece, sampling_rate=RATE, return_tensors="pt"), self.model)
            heard = self.model(**asked).logits.argmax(-1)
            words.append(self.processor.batch_decode(heard)[0].strip().lower())
        run.progress(len(pieces), len(pieces), "pieces of the recording")
        if not "".join(words):
            raise ExpertError(f"No speech was found in '{audio.name}'; check that somebody speaks in it.")
        return [Output.text(" ".join(w for w in words if w), "transcript", language="en")]


class Namer(HubExpert):
    """Names the sounds in a recording: the five likeliest of the classes it knows."""

    needs = ("transformers",)

    def open(self, folders: list[Path]) -> None:
        """The model and its feature extractor."""
        kind = "AutoModelForAudioClassification"
        self.model, self.extractor = model_of(folders[0], kind, self.device, "AutoFeatureExtractor")

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A line a class, the likeliest first."""
        return [likeliest(self.chances(args, run), self.model.config.id2label)]

    def chances(self, args: Mapping[str, Any], run: Run) -> Any:
        """One chance a class, over the whole recording."""
        samples = samples_of(Path(args["audio"]), RATE)
        run.progress(0, 1, "recording")
        heard = self.model(**on(self.extractor(samples, sampling_rate=RATE, return_tensors="pt"), self.model))
        run.check()
        run.progress(1, 1, "recording")
        return heard.logits[0].float().softmax(-1)


class Describer(Namer):
    """Says in a sentence what can be heard."""

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The likeliest class, and others that come near it."""
        chances = self.chances(args, run)
        top = chances.topk(min(3, len(chances)))
        near = [
            self.model.config.id2label[int(n)]
            for n, c in zip(top.indices, top.values, strict=True)
            if c >= top.values[0] / 4
        ]
        return [Output.text(f"What can be heard: {', '.join(near).lower()}.", "heard")]


class Clap(HubExpert):
    """Names a sound among any labels; `[experts.NAME] labels` sets them."""

    needs = ("transformers",)
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "labels": SOUNDS}

    def open(self, folders: list[Path]) -> None:
        """The model and its processor."""
        self.model, self.processor = model_of(folders[0], "ClapModel", self.device)

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A line a label, the likeliest first."""
        labels = [w.strip() for w in str(self.option("labels")).split(",") if w.strip()]
        rate = int(self.processor.feature_extractor.sampling_rate)
        samples = samples_of(Path(args["audio"]), rate)
        run.progress(0, 1, "recording")
        words = [f"This is a sound of {label}." for label in labels]
        asked = self.processor(text=words, audio=samples, sampling_rate=rate, padding=True, return_tensors="pt")
        chances = self.model(**on(asked, self.model)).logits_per_audio[0].float().softmax(-1)
        run.progress(1, 1, "recording")
        return [likeliest(chances, dict(enumerate(labels)))]


def spoken(text: str, say: Any, rate: int, run: Run) -> Output:
    """A text spoken sentence by sentence with a short pause between; `say` gives the samples of one."""
    import numpy as np

    pieces = [s for s in sentences.split(text) if any(c.isalnum() for c in s)]
    if not pieces:
        raise InputError("There is nothing to say: the text has no letter and no digit.")
    sound: list[Any] = []
    for n, piece in enumerate(pieces):
        run.check()
        run.progress(n, len(pieces), "sentences")
        sound += [say(piece).float().cpu().numpy().reshape(-1), np.zeros(int(PAUSE * rate), np.float32)]
    run.progress(len(pieces), len(pieces), "sentences")
    whole = np.concatenate(sound[:-1])
    return Output(wav(whole, rate), "audio/wav", "speech", {"rate": rate, "seconds": round(len(whole) / rate, 2)})


def vocoder(folder: Path, model: Any) -> Any:
    """SpeechT5's HiFi-GAN, where the model is and in its precision."""
    import transformers

    kind: Any = transformers.SpeechT5HifiGan
    return (
        kind.from_pretrained(folder, local_files_only=True, use_safetensors=True).to(model.device, model.dtype).eval()
    )


def speaker(archive: Path, voice: str) -> Any:
    """The mean of a voice's vectors in the archive of CMU ARCTIC, which is plain numbers; shape (1, 512)."""
    import numpy as np
    import torch

    with zipfile.ZipFile(archive) as file:
        names = [n for n in sorted(file.namelist()) if n.endswith(".npy")]
        mine = [n for n in names if f"_{voice}_" in n][:20]
        if not mine:
            known = sorted({n.split("_us_")[-1].split("_")[0] for n in names})
            raise WeightsError(f"There is no voice '{voice}' in '{archive.name}'; there are {', '.join(known)}.")
        vectors = [np.load(io.BytesIO(file.read(n)), allow_pickle=False) for n in mine]
    return torch.nn.functional.normalize(torch.tensor(np.mean(vectors, 0)).float().reshape(1, -1), dim=-1)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    say, hear, name = tool("text-to-speech"), tool("automatic-speech-recognition"), full_tool("audio-classification")
    change, describe = full_tool("audio-to-audio"), tool("audio-to-text")
    t5: dict[str, Any] = {"licence": "MIT", "size": 6.6e8, "memory": 9e8, "quality": 0.55}
    ast = card(
        "MIT/ast-finetuned-audioset-10-10-0.4593",
        licence="BSD-3-Clause",
        size=3.5e8,
        memory=6e8,
        speed="fast",
        quality=0.7,
    )
    languages = {"eng": "English", "deu": "German", "fra": "French", "spa": "Spanish"}
    return [
        build(
            SpeechT5,
            "speecht5",
            say,
            card("microsoft/speecht5_tts", VOCODER, XVECTORS, **t5),
            "SpeechT5; English in one of seven voices",
        ),
        *(
            build(
                Vits,
                f"mms-tts-{code}",
                say,
                card(
                    f"facebook/mms-tts-{code}",
                    licence="CC-BY-NC-4.0",
                    size=1.5e8,
                    memory=3e8,
                    speed="fast",
                    quality=0.5 if code == "eng" else 0.4,
                ),
                f"MMS VITS; speaks {language} only",
            )
            for code, language in languages.items()
        ),
        build(
            Bark,
            "bark-small",
            say,
            card("suno/bark-small", licence="MIT", size=1.7e9, memory=2.5e9, speed="slow", quality=0.6),
            "Bark small; lively speech in some thirteen languages",
        ),
        build(
            Hearer,
            "wav2vec2-base-960h",
            hear,
            card(
                "facebook/wav2vec2-base-960h",
                licence="Apache-2.0",
                size=3.8e8,
                memory=7e8,
                speed="fast",
                quality=0.45,
            ),
            "wav2vec 2.0; English speech, words only",
        ),
        build(Namer, "ast-audioset", name, ast, "AST; the 527 kinds of sound of AudioSet"),
        build(
            Clap,
            "clap-sounds",
            name,
            card(
                "laion/clap-htsat-fused",
                licence="Apache-2.0",
                size=6.2e8,
                memory=9e8,
                speed="fast",
                quality=0.6,
            ),
            "CLAP; a list of everyday sounds that can be set",
        ),
        build(
            Namer,
            "wav2vec2-keywords",
            name,
            card(
                "superb/wav2vec2-base-superb-ks",
                licence="Apache-2.0",
                size=3.8e8,
                memory=7e8,
                speed="fast",
                quality=0.3,
            ),
            "wav2vec 2.0; ten spoken commands",
        ),
        build(Describer, "ast-describe", describe, ast, "AST; says which kinds of sound can be heard"),
        build(
            OtherVoice,
            "speecht5-voice",
            change,
            card("microsoft/speecht5_vc", VOCODER, XVECTORS, **t5),
            "SpeechT5; says the same with another voice",
        ),
        *separation.experts(),
    ]
