"""`anyloom train mmllm` and `anyloom train mmllm-data`: the end-to-end model's training and its dialogues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError, SettingsError
from .options import settings_from, shared

STAGES = ("1", "2", "3", "repeat", "preference", "all")


@click.command("mmllm")
@click.option("--recipe", default="pocket", show_default=True, help="A recipe's name, or a TOML file.")
@click.option("--stage", type=click.Choice(STAGES), default="all", show_default=True)
@click.option("--dialogues", type=click.Path(path_type=Path, exists=True), required=True,
              help="The folder that `train mmllm-data` made.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where stages, logs and checkpoints go.")
@click.option("--steps", type=click.IntRange(1), help="Steps of each stage; a stage's own number otherwise.")
@click.option("--batch", type=click.IntRange(1), help="Dialogues in a step.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--base", type=click.Path(path_type=Path, exists=True), help="A folder with the backbone's weights.")
@click.option("--resume", is_flag=True, help="Go on from what --out holds.")
@shared
def mmllm(
    recipe: str, stage: str, dialogues: Path, out: Path, steps: int | None, batch: int | None, seed: int,
    base: Path | None, resume: bool, **flags: Any,
) -> None:  # fmt: skip
    """Train the end-to-end model: alignment in, alignment out, instructions with LoRA, preference."""
    _needs("accelerate", "peft")
    from ...mmllm.recipe import Recipe
    from ...training.mmllm.train import Options, all_stages, run

    settings = settings_from(flags)
    model = _model(Recipe.read(recipe), settings, base)
    options = Options(steps=steps, batch=batch, seed=seed, resume=resume, bf16=model.rows.rows.device.type == "cuda")
    stages = all_stages() if stage == "all" else (stage,)
    folder = run(model, _data(dialogues), out, stages, options, say=click.echo)
    click.echo(f"The checkpoint is in {folder}.")


@click.command("mmllm-data")
@click.option("--manifest", type=click.Path(path_type=Path, exists=True), required=True,
              help="The pocket data: JSON lines with id, concept, style, caption, modality, file, split.")  # fmt: skip
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


def _model(recipe: Any, settings: Any, base: Path | None) -> Any:
    """The model to train: on the device that is set, the backbone in bfloat16 on a GPU."""
    import torch

    from ...core.weights import Weights
    from ...mmllm.contracts import Setting
    from ...mmllm.model import MultimodalLM
    from ...mmllm.recipe import Part
    from ...mmllm.registry import Parts

    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        from accelerate import PartialState

        device = str(PartialState().device)  # one GPU for each process
    if base is not None:
        from dataclasses import replace

        recipe = replace(recipe, backbone=Part(recipe.backbone.kind, {**recipe.backbone.options, "folder": str(base)}))
    weights = Weights(settings.cache_dir, offline=settings.offline)
    dtype = "float32" if device == "cpu" else "bfloat16"
    return MultimodalLM.build(recipe, Parts.installed(), Setting(weights, device, dtype))


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
    """The base model's own answers to plain questions."""
    from ...core.smollm import open_smollm
    from ...core.weights import Weights

    lm = open_smollm(Weights(settings.cache_dir, offline=settings.offline), cache_dir=settings.cache_dir)

    def answer(question: str) -> str:
        session = lm.session()
        session.feed("<|im_start|>user\n")
        session.feed(question, control=False)
        session.feed("<|im_end|>\n<|im_start|>assistant\n")
        said = session.sample(None, max_tokens=48)
        whole = said.rfind(".") + 1
        return said[:whole] if whole > 10 else said

    return answer


def _needs(*modules: str) -> None:
    import importlib.util

    if missing := [m for m in modules if importlib.util.find_spec(m) is None]:
        raise SettingsError(f"Training needs {', '.join(missing)}: pip install 'anyloom[train]'.")
