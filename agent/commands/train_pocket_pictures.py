"""`anyloom train data|reader|image|video`: pictures and clips of the pocket profile, from the packages to the weights.

anyloom train data   --out DATA
anyloom train image  --part autoencoder --data DATA --out RUNS --minutes 14
anyloom train reader --data DATA --out RUNS --minutes 7
anyloom train image  --data DATA --out RUNS --minutes 45
anyloom train video  --data DATA --out RUNS --minutes 4
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .train_pocket_audio import text_encoder_folder


@click.command("data")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The folder for pictures, clips and manifests."
)
def data(out: Path) -> None:
    """Fetch the emoji packages and pack their pictures and animations, with sources and licences."""
    from ...training.pocket.prepare import prepare

    prepare(out, say=click.echo)


def trained(minutes: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a training command, with its own budget."""
    options = (
        click.option(
            "--data", type=click.Path(path_type=Path, exists=True), required=True, help="The folder of `train data`."
        ),
        click.option(
            "--out", type=click.Path(path_type=Path), required=True, help="Where weights, logs and checkpoints go."
        ),
        click.option("--minutes", type=click.FloatRange(0.01), default=minutes, show_default=True, help="Of training."),
        click.option("--steps", type=click.IntRange(1), help="End sooner, after so many steps."),
        click.option("--device", default="cpu", show_default=True, help="cpu or cuda."),
        click.option("--resume", is_flag=True, help="Go on from what --out holds."),
        click.option(
            "--text",
            type=click.Path(path_type=Path, exists=True),
            help="A folder with the text encoder; the pocket profile's otherwise.",
        ),
    )

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _budget(flags: dict[str, Any]) -> Any:
    from ...training.pocket.loop import Budget

    return Budget(steps=flags.pop("steps"), minutes=flags.pop("minutes"))


@click.command("reader")
@trained(7)
def reader(data: Path, out: Path, text: Path | None, **flags: Any) -> None:
    """Train the reader: captions to the condition that both generators share."""
    from ...training.pocket.reader import train_reader

    folder = train_reader(data, text_encoder_folder(text), out, _budget(flags), say=click.echo, **flags)
    click.echo(f"The reader is in {folder}.")


@click.command("image")
@click.option("--part", type=click.Choice(["autoencoder", "unet"]), default="unet", show_default=True)
@trained(45)
def image(part: str, data: Path, out: Path, text: Path | None, **flags: Any) -> None:
    """Train pocket-image: first the autoencoder, then (after the reader) the denoiser."""
    if part == "autoencoder":
        from ...training.pocket.image_ae import train_autoencoder

        click.echo(f"The autoencoder is in {train_autoencoder(data, out, _budget(flags), say=click.echo, **flags)}.")
        return
    from ...training.pocket.image import train_image

    folder = train_image(data, text_encoder_folder(text), out, _budget(flags), say=click.echo, **flags)
    click.echo(f"The pipeline is in {folder}.")


@click.command("video")
@trained(4)
def video(data: Path, out: Path, text: Path | None, **flags: Any) -> None:
    """Train pocket-video's part, the flow of paths (after the reader)."""
    from ...training.pocket.video import train_video

    folder = train_video(data, text_encoder_folder(text), out, _budget(flags), say=click.echo, **flags)
    click.echo(f"The path's weights are in {folder}.")


COMMANDS: tuple[click.Command, ...] = (data, reader, image, video)
