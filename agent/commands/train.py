"""`anyloom train planner` and `anyloom eval planner`: how the planner's weights were made and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...core.errors import SettingsError
from .options import settings_from, shared
from .train_mmllm import COMMANDS as END_TO_END
from .train_pocket_audio import COMMANDS as SOUND_AND_SENSES
from .train_pocket_pictures import COMMANDS as PICTURES

BASE_FILES = ("config.json", "model.safetensors", "tokenizer.json")


@click.group()
def train() -> None:
    """Train the models that ship with anyloom (needs the extra `train`)."""


@train.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where checkpoints, log and adapter go.")
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with the base model, where it cannot be fetched; SmolLM2-135M-Instruct otherwise.",
)
@click.option("--steps", type=click.IntRange(1), default=700, show_default=True)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="End after so long, if not with its steps before; on a CPU, of a core's own time.",
)
@click.option("--trees", type=click.IntRange(1), default=1, show_default=True, help="Tool lists in a step.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Learning rate.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Processes that write requests ahead of the training; 0: the training's own.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An adapter to begin with, such as weights/planner; fresh ones otherwise.",
)
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@shared
def planner(
    out: Path, base: Path | None, start: Path | None, resume: bool, workers: int, rate: float, **flags: Any
) -> None:
    """Train the local planner: LoRA on SmolLM2-135M over synthetic tool lists and requests."""
    _needs("peft", "yaml")
    from ...core.smollm import smollm_folder
    from ...core.weights import Weights
    from ...training.planner.train import Recipe, train
    from ...training.pocket.audio_loop import device_of

    recipe = Recipe(learning_rate=rate, **{k: flags.pop(k) for k in ("steps", "minutes", "trees", "seed")})
    if base and (lacking := [f for f in BASE_FILES if not (base / f).exists()]):
        raise SettingsError(f"--base {base}: there is no {', no '.join(lacking)} in it; name a folder with a model.")
    settings = settings_from(flags)
    base = base or smollm_folder(Weights(settings.cache_dir, offline=settings.offline))
    device = device_of(settings.device)
    adapter = train(base, out, recipe, start=start, resume=resume, device=device, workers=workers, say=click.echo)
    click.echo(f"The adapter is in {adapter}; measure it with `anyloom eval planner --adapter {adapter}`.")


@click.command("planner")
@click.option(
    "--adapter", type=click.Path(path_type=Path, exists=True), help="An adapter folder; the shipped one otherwise."
)
@click.option(
    "--requests",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Test sets; the repository's otherwise.",
)
@click.option("--show", is_flag=True, help="Print every request that went wrong.")
@shared
def eval_planner(adapter: Path | None, requests: tuple[Path, ...], show: bool, **flags: Any) -> None:
    """Exact plans on pocket requests, node and edge F1 on TaskBench-form requests, and seconds per plan."""
    from ...training.planner.evaluate import evaluate as measure

    measure(settings_from(flags), adapter, requests, show=show, say=click.echo)


def _needs(*modules: str) -> None:
    import importlib.util

    if missing := [m for m in modules if importlib.util.find_spec(m) is None]:
        raise SettingsError(f"Training needs {', '.join(missing)}: pip install 'anyloom[train]'.")


for _command in (*END_TO_END, *PICTURES, *SOUND_AND_SENSES):
    train.add_command(_command)

COMMANDS = (train,)
