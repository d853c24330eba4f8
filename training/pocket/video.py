"""Trains pocket-video's part: the flow of paths, over a finished reader.

    anyloom train video --data DATA --out RUNS --minutes 4 [--resume]

Captions of clips with the paths that they were made from. Where a caption says no motion, or is of an
animation whose parts move, the path is one of a few gentle ones, so that a clip always moves. Writes
RUNS/video: checkpoint.pt, log.jsonl, path/ and, beside a finished pocket-image, sheet.png.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...pocket.generators.flow import draw_times, flow_loss, noised
from ...pocket.generators.image import PocketImage
from ...pocket.generators.layout import load_part, save_part
from ...pocket.generators.paths import PathConfig, PathFlow, numbers
from ...pocket.generators.text import Features, Reader
from ...pocket.generators.video import PocketVideo
from .data import Manifest
from .image import conditions_of
from .image_scenes import Scene
from .image_sheet import FILMED, sheet
from .loop import Budget, Loop, Pace
from .reader import writers
from .video_scenes import PATHS, MotionScene

GENTLE = ("bounce", "swing", "pulse")  # what moves when nothing is said


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the data. `plain`: captions of pictures, which say no motion."""

    clips: int = 24_000
    plain: int = 4_000
    again: int = 4  # paths of the same caption
    batch: int = 256
    pace: Pace = field(default_factory=lambda: Pace(rate=1e-3, warmup=200, decay=0.6, average=0.999))
    drop: float = 0.1
    seed: int = 0


def path_of(scene: Scene | MotionScene, rng: random.Random) -> list[tuple[float, float, float, float, float]]:
    """A path that the scene's caption is true of."""
    if isinstance(scene, MotionScene) and scene.motion in PATHS:
        return PATHS[scene.motion](rng)
    return PATHS[rng.choice(GENTLE)](rng)


def train_video(
    data: Path, text: Path, out: Path, budget: Budget, recipe: Recipe | None = None, *, device: str = "cpu",
    resume: bool = False, config: PathConfig | None = None, say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Runs or goes on with a training over RUNS/reader; returns the folder of the part."""
    recipe, folder = recipe or Recipe(), out / "video"
    torch.manual_seed(recipe.seed)
    manifest = Manifest.load(data)
    reader, features = load_part(Reader, out / "reader" / "text_encoder").to(device), Features.open(text).to(device)
    pictures, films = writers(manifest, recipe.seed)
    scenes: Sequence[Scene | MotionScene] = [
        *(films.scene(n) for n in range(recipe.clips)), *(pictures.scene(n) for n in range(recipe.plain)),
    ]  # fmt: skip
    say(f"reading {len(scenes)} captions")
    conditions = conditions_of(features, reader, [s.caption for s in scenes], device)
    rng = random.Random(recipe.seed)
    paths = torch.stack([numbers(torch.tensor([path_of(s, rng) for _ in range(recipe.again)])) for s in scenes])
    model = PathFlow(config or PathConfig()).to(device)
    loop = Loop({"path": model}, folder, budget, recipe.pace, device, resume, say)
    draw = torch.Generator().manual_seed(recipe.seed + loop.step_number)
    with loop.kept_if_stopped():
        while loop.goes_on():
            which = torch.randint(len(scenes), (recipe.batch,), generator=draw)
            turn = torch.randint(recipe.again, (recipe.batch,), generator=draw)
            condition = conditions[which].float() * (torch.rand(recipe.batch, 1, 1, generator=draw) >= recipe.drop)
            loss = _loss(model, paths[which, turn].to(device), condition.to(device))
            loop.step(loss, {"loss": loss}, recipe.batch)
    loop.keep()
    with loop.averaged():
        save_part(model, folder / "path", "PathFlow")
        if (out / "image" / "pipeline" / "model_index.json").exists():
            _look(PocketVideo(PocketImage.open(out / "image" / "pipeline", features), model, ""), folder / "sheet.png")
    return folder / "path"


def _look(model: PocketVideo, file: Path) -> None:
    """A row of six frames for each prompt."""
    conditions = model.text_condition(FILMED)
    films = [model.film(c, seed)[[0, 3, 6, 9, 12, 15]] for seed, c in enumerate(conditions)]
    sheet(torch.cat(films), [c for told in FILMED for c in (told, *[""] * 5)], file, columns=12)


def _loss(model: PathFlow, clean: Tensor, condition: Tensor) -> Tensor:
    times, noise = draw_times(len(clean), clean.device), torch.randn_like(clean)
    return flow_loss(model(noised(clean, noise, times), 1000 * times, condition), clean, noise)
