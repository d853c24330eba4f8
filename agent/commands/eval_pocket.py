"""`anyloom eval pocket`: the pocket models one by one, the figures of their cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError
from .options import settings_from, shared


@click.command("pocket")
@click.option("--pictures", type=click.Path(path_type=Path, exists=True), help="The folder of `train data`.")
@click.option("--sounds", type=click.Path(path_type=Path, exists=True), help="The folder of `train sound-data`.")
@click.option("--judges", type=click.Path(path_type=Path, exists=True),
              help="The folder of `train judge`; the shipped judges otherwise.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=40, show_default=True, help="How many of each kind.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where what was made stays, for people to look at.")
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file for the figures.")
@shared
def eval_pocket(
    pictures: Path | None, sounds: Path | None, judges: Path | None, count: int, keep: Path | None, out: Path | None,
    **flags: Any,
) -> None:  # fmt: skip
    """Judge what the pocket models make, and read what they say of held-out items."""
    from ...core.weights import Weights
    from ...evaluation.judges import FILE, TrainedJudge, open_judges
    from ...evaluation.pocket_models import measure, reliable
    from ...training.pocket.audio_data import SoundData
    from ...training.pocket.data import Manifest

    if pictures is None and sounds is None:
        raise InputError("There is nothing to measure on: give --pictures, --sounds or both.")
    settings = settings_from(flags)
    manifest = Manifest.load(pictures) if pictures else None
    data = SoundData.read(sounds) if sounds else None
    found: dict[str, Any] = dict(open_judges(settings))
    if judges is not None:
        named = {s: judges / FILE.format(s) for s in ("image", "video", "audio")}
        found = {s: TrainedJudge(f) for s, f in named.items() if f.exists()}
    own = reliable(found, manifest, data)
    for sense, shares in own.items():
        click.echo(f"judge of {sense}: " + ", ".join(f"{k} {v:.1%}" for k, v in shares.items()))
    weights = Weights(settings.cache_dir, offline=settings.offline)
    rows = measure(weights, manifest, data, found, count, click.echo, keep)
    if out is not None:
        told = {"judges": own, "rows": {r.name: r.to_json() for r in rows}}
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
