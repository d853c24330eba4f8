"""`anyloom train mmllm-media|mmllm-data|mmllm|mmllm-check`: the end-to-end model, from the pocket data to its figures.

anyloom train mmllm-media --pictures DATA --sounds SOUNDS --out MEDIA
anyloom train mmllm-data  --manifest MEDIA/manifest.jsonl --out DIALOGUES
anyloom train mmllm       --dialogues DIALOGUES --out OUT --minutes 45 [--resume]
anyloom train mmllm-check --manifest MEDIA/manifest.jsonl --model OUT/model
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError, SettingsError
from .options import settings_from, shared

STAGES = ("1", "2", "3", "repeat", "preference", "content", "settle", "all")

models = click.option(
    "--models", type=click.Path(path_type=Path, exists=True),
    help="A folder with pocket models not shipped yet: pocket-encoders, pocket-image, pocket-video, pocket-audio.",
)  # fmt: skip


@click.command("mmllm-media")
@click.option("--pictures", type=click.Path(path_type=Path, exists=True), help="The folder of `train data`.")
@click.option("--sounds", type=click.Path(path_type=Path, exists=True), help="The folder of `train sound-data`.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder for files and manifest.jsonl.")
@click.option("--seed", type=int, default=0, show_default=True)
def mmllm_media(pictures: Path | None, sounds: Path | None, out: Path, seed: int) -> None:
    """Make captioned pictures, clips and sounds of the pocket data, some of them held out for tests."""
    from ...training.mmllm.media import export

    out.mkdir(parents=True, exist_ok=True)
    rows = export(pictures, sounds, out, seed=seed, say=click.echo)
    files = sum(bool(r.file) for r in rows)
    click.echo(f"{files} files with captions and {len(rows) - files} captions more are in {out / 'manifest.jsonl'}.")


@click.command("mmllm-data")
@click.option("--manifest", type=click.Path(path_type=Path, exists=True), required=True,
              help="The captioned files: the manifest.jsonl of `train mmllm-media`.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder for the dialogues.")
@click.option("--count", type=click.IntRange(1), default=30_000, show_default=True)
@click.option("--pairs", type=click.IntRange(0), default=3_000, show_default=True)
@click.option("--split", default="train", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--plain/--no-plain", default=True, help="Blend in plain questions with the base model's answers.")
@shared
def mmllm_data(
    manifest: Path, out: Path, count: int, pairs: int, split: str, seed: int, plain: bool, **flags: Any
) -> None:
    """Build dialogues and pairs with media on both sides from captioned files."""
    from ...training.mmllm.instructions import build, write
    from ...training.mmllm.items import read_manifest
    from ...training.mmllm.preference import build_pairs

    chat = _chat(settings_from(flags)) if plain else None
    items = read_manifest(manifest)
    talks = build(items, split, count, seed, chat)
    write(talks, out / "dialogues.jsonl")
    made = build_pairs(items, split, pairs, seed, chat) if pairs else []
    (out / "pairs.jsonl").write_text("".join(json.dumps(p.to_json(), ensure_ascii=False) + "\n" for p in made))
    (out / "manifest.txt").write_text(f"{manifest.absolute()}\n")
    kinds = sorted({t.kind for t in talks})
    counted = ", ".join(f"{sum(t.kind == k for t in talks)} {k}" for k in kinds)
    click.echo(f"{len(talks)} dialogues ({counted}) and {len(made)} pairs are in {out}.")


@click.command("mmllm")
@click.option("--recipe", default="pocket", show_default=True, help="A recipe's name, or a TOML file.")
@click.option("--stage", "named", type=click.Choice(STAGES), multiple=True, default=("all",), show_default=True,
              help="May be repeated; stages run in their own order.")  # fmt: skip
@click.option("--dialogues", type=click.Path(path_type=Path, exists=True), required=True,
              help="The folder that `train mmllm-data` made.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where stages, logs and checkpoints go.")
@click.option("--minutes", type=click.FloatRange(0.01), help="Of all stages that are run (on a CPU: of its time).")
@click.option("--steps", type=click.IntRange(1), help="Steps of each stage; a stage's own number otherwise.")
@click.option("--batch", type=click.IntRange(1), help="Dialogues in a step.")
@click.option("--scale", type=click.FloatRange(0.01), default=1.0, show_default=True,
              help="Times every stage's own number of dialogues in a step.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(1e-6), default=1.0, help="Times every stage's own learning rates.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--base", type=click.Path(path_type=Path, exists=True), help="A folder with the backbone's weights.")
@click.option("--denoise/--no-denoise", default=True, help="The loss through the generators' denoisers.")
@click.option("--text-side", is_flag=True, help="Train with the pocket generators' text encoders alone (no denoising).")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True,
              help="auto: bfloat16 on a GPU, and on a CPU that multiplies it quickly.")  # fmt: skip
@click.option("--pictures", type=click.Path(path_type=Path, exists=True),
              help="The folder of `train data`: input projectors then see each picture drawn anew.")  # fmt: skip
@click.option("--sounds", type=click.Path(path_type=Path, exists=True), help="The same of `train sound-data`.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes that play sounds.")
@click.option("--drawn", type=click.IntRange(0), default=0, show_default=True,
              help="Show so many drawn pictures, and some clips and sounds, in place of the files.")  # fmt: skip
@click.option("--uses", type=click.IntRange(1), default=4, show_default=True,
              help="How often spelling learns from what is drawn.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on from what --out holds.")
@models
@shared
def mmllm(
    recipe: str, named: tuple[str, ...], dialogues: Path, out: Path, minutes: float | None, steps: int | None,
    batch: int | None, rate: float, seed: int, base: Path | None, denoise: bool, text_side: bool, precision: str,
    pictures: Path | None, sounds: Path | None, workers: int, drawn: int, uses: int, scale: float, resume: bool,
    models: Path | None,
    **flags: Any,
) -> None:  # fmt: skip
    """Train the end-to-end model: alignment in, alignment out, instructions with LoRA, preference."""
    _needs("accelerate", "peft")
    from ...core.precision import fast_bfloat16
    from ...mmllm.recipe import Recipe
    from ...training.mmllm.train import Options, all_stages, run

    settings = settings_from(flags)
    device = _device(settings)
    bf16 = fast_bfloat16(device, tiles=True) if precision == "auto" else precision == "bfloat16"
    model = _model(Recipe.read(recipe), settings, base, device, bf16, models, text_side, seed)
    options = Options(
        steps=steps, minutes=minutes, batch=batch, scale=scale, rate=rate, seed=seed, resume=resume, bf16=bf16,
        denoise=denoise and not text_side,
    )  # fmt: skip
    stages = [s for s in all_stages() if s in named or "all" in named]
    data = _data(dialogues)
    if pictures is not None or sounds is not None:
        from ...training.mmllm.fresh import Fresh

        kept = 16_384 if device == "cpu" else 65_536
        fresh = Fresh.open(pictures, sounds, device, workers=workers, seed=seed, uses=uses, kept=kept)
        data = replace(data, fresh=fresh, drawn=drawn)
    elif drawn:
        raise InputError("`--drawn` draws from what `--pictures` and `--sounds` name; name at least one of them.")
    folder = run(model, data, out, stages, options, say=click.echo)
    click.echo(f"The checkpoint is in {folder}; measure it with `anyloom train mmllm-check --model {folder}`.")


@click.command("mmllm-check")
@click.option("--manifest", type=click.Path(path_type=Path, exists=True), required=True,
              help="The captioned files: the manifest.jsonl of `train mmllm-media`.")  # fmt: skip
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="A checkpoint folder; else the installed.")
@click.option("--captions", type=click.IntRange(0), default=50, show_default=True, help="Held-out captions a modality.")
@click.option("--shown", type=click.IntRange(0), default=40, show_default=True, help="Held-out files a modality.")
@click.option("--split", default="test", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--text-side", is_flag=True, help="With the generators' text encoders alone; nothing is generated.")
@click.option("--out", type=click.Path(path_type=Path), help="A file for figures and cases, as JSON.")
@models
@shared
def mmllm_check(
    manifest: Path, model: Path | None, captions: int, shown: int, split: str, seed: int, text_side: bool,
    out: Path | None, models: Path | None, **flags: Any,
) -> None:  # fmt: skip
    """Measure a trained model on what it never saw: modality, signal runs, conditions, concepts, captions."""
    from ...evaluation.judges import open_judges
    from ...mmllm.checkpoint import open_trained
    from ...mmllm.contracts import Setting
    from ...mmllm.inference import Speaker
    from ...training.mmllm.check import Extent, check
    from ...training.mmllm.items import read_manifest

    settings = settings_from(flags)
    folder = model or _installed(settings)
    device = _device(settings)
    setting = Setting(_weights(settings, models), device, "float32" if device == "cpu" else "bfloat16")
    speaker = Speaker(open_trained(folder, _parts(text_side), setting, Path(settings.cache_dir)))
    judges = {} if text_side else open_judges(settings)
    tests = Extent(captions, shown, split, seed, generate=not text_side)
    figures = check(speaker, read_manifest(manifest), tests, judges, say=click.echo)
    for name, value in figures.values.items():
        click.echo(f"{name:<20}{value:>9.3f}   of {figures.counts[name]}")
    if out is not None:
        out.write_text(json.dumps(figures.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _device(settings: Any) -> str:
    """The device that is set; one GPU for each process."""
    import torch

    device: str = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        from accelerate import PartialState

        device = str(PartialState().device)
    return device


def _weights(settings: Any, models: Path | None) -> Any:
    """Where weights are found: a folder of models that are not shipped yet comes first."""
    from ...core.weights import Weights
    from ...mmllm.pocket import Beside

    found = Weights(settings.cache_dir, offline=settings.offline)
    return Beside(found, models) if models is not None else found


def _parts(text_side: bool) -> Any:
    """The installed parts; with `text_side`, text encoders in place of the pocket generators."""
    from ...mmllm.contracts import SENSES
    from ...mmllm.pocket import TextSide
    from ...mmllm.registry import Parts

    parts = Parts.installed()
    if not text_side:
        return parts
    return parts.adding({f"generator.pocket-{m}": TextSide.factory(m) for m in SENSES})


def _model(
    recipe: Any,
    settings: Any,
    base: Path | None,
    device: str,
    bf16: bool,
    models: Path | None,
    text_side: bool,
    seed: int,
) -> Any:
    """The model to train, what is new in it drawn from the seed; the backbone in bfloat16 where that is fast."""
    import torch

    from ...mmllm.contracts import Setting
    from ...mmllm.model import MultimodalLM
    from ...mmllm.recipe import Part

    built = recipe
    if base is not None:
        built = replace(recipe, backbone=Part(recipe.backbone.kind, {**recipe.backbone.options, "folder": str(base)}))
    setting = Setting(_weights(settings, models), device, "bfloat16" if bf16 else "float32")
    torch.manual_seed(seed)
    model = MultimodalLM.build(built, _parts(text_side), setting)
    model.recipe = recipe  # a checkpoint names the base, not where it lay here
    return model


def _installed(settings: Any) -> Path:
    """The checkpoint that the end-to-end mode would use."""
    from ...core.weights import Weights
    from ...graphs.end2end import SHIPPED

    own = Path(settings.data_dir) / "mmllm"
    if (own / "manifest.json").exists():
        return own
    return Weights(settings.cache_dir, offline=settings.offline).resolve(SHIPPED)


def _data(folder: Path) -> Any:
    from ...training.mmllm.instructions import read
    from ...training.mmllm.items import read_manifest
    from ...training.mmllm.preference import read_pairs
    from ...training.mmllm.train import Data

    try:
        manifest = Path((folder / "manifest.txt").read_text().strip())
    except OSError as e:
        raise InputError(f"'{folder}' was not made by `anyloom train mmllm-data` (it has no manifest.txt).") from e
    return Data(read_manifest(manifest), read(folder / "dialogues.jsonl"), read_pairs(folder / "pairs.jsonl"))


def _chat(settings: Any) -> Any:
    """The base model's own answers to plain questions, each asked once."""
    from functools import cache

    from ...core.smollm import open_smollm
    from ...core.weights import Weights

    lm = open_smollm(Weights(settings.cache_dir, offline=settings.offline), cache_dir=settings.cache_dir)

    @cache
    def answer(question: str) -> str:
        session = lm.session()
        session.feed("<|im_start|>user\n")
        session.feed(question, control=False)
        session.feed("<|im_end|>\n<|im_start|>assistant\n")
        said = session.sample(None, max_tokens=32)
        whole = said.rfind(".") + 1
        return said[:whole] if whole > 10 else said

    return answer


def _needs(*modules: str) -> None:
    import importlib.util

    if missing := [m for m in modules if importlib.util.find_spec(m) is None]:
        raise SettingsError(f"Training needs {', '.join(missing)}: pip install 'anyloom[train]'.")


COMMANDS: tuple[click.Command, ...] = (mmllm_media, mmllm_data, mmllm, mmllm_check)
