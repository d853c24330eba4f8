"""Trains the picture autoencoder.

    anyloom train image --part autoencoder --data DATA --out RUNS --minutes 12

Writes RUNS/autoencoder: checkpoint.pt, log.jsonl, sheet-STEP.png, and vae/, the part that is shipped.
Latents' means and deviations are measured at the end and kept in its config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ...pocket.generators.autoencoder import Autoencoder, AutoencoderConfig, psnr, reconstruction_loss
from ...pocket.generators.layout import save_part
from .batches import Batches, stream
from .data import Manifest
from .image_paint import Painter
from .image_scenes import Mixture, SceneWriter
from .image_sheet import sheet
from .loop import Budget, Loop, Pace

# More pairs and placed things than pictures are generated from: decoding has to hold for all of them.
MIXTURE = Mixture(plain=0.45, coloured=0.2, pair=0.1, number=0.05, background=0.12, placed=0.08, style_named=0.0)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the data. `batch` is for a CPU; a GPU takes four times as much."""

    batch: int = 64
    pace: Pace = field(default_factory=lambda: Pace(rate=1.5e-3, warmup=100, decay=0.6, average=0.998))
    kl: float = 2e-3
    seed: int = 0


def train_autoencoder(
    data: Path,
    out: Path,
    budget: Budget,
    recipe: Recipe | None = None,
    *,
    device: str = "cpu",
    resume: bool = False,
    workers: int = 0,
    compiled: bool = False,
    sizes: AutoencoderConfig | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Runs or goes on with a training; returns the folder of the part."""
    recipe, folder = recipe or Recipe(), out / "autoencoder"
    torch.manual_seed(recipe.seed)
    manifest = Manifest.load(data)
    writer = SceneWriter(manifest, recipe.seed, MIXTURE)
    painter = Painter(manifest, device, writer.palette)
    vae = Autoencoder(sizes or AutoencoderConfig()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loop = Loop({"vae": vae}, folder, budget, recipe.pace, device, resume, say)
    size = recipe.batch * (4 if device.startswith("cuda") else 1)
    encode, decode = (torch.compile(f) for f in (vae.encode, vae.decode)) if compiled else (vae.encode, vae.decode)
    written = stream(Batches(writer, size, _no_tokens), loop.step_number, workers)
    with loop.kept_if_stopped():
        while loop.goes_on():
            pictures = painter.paint(next(written).scenes).contiguous(memory_format=torch.channels_last)
            with loop.autocast():
                mean, spread = encode(pictures)
                made = decode(mean + torch.randn_like(mean) * (0.5 * spread).exp())
            loss, told = reconstruction_loss(made.float(), pictures, mean, spread, recipe.kl)
            loop.step(loss, told, size)
            if loop.step_number % 1000 == 0:
                with loop.aside(), loop.averaged():
                    _look(vae, painter, writer, folder / f"sheet-{loop.step_number:06d}.png")
    loop.keep()
    with loop.averaged():
        return finish(vae, painter, writer, folder, say)


def _no_tokens(captions: object) -> tuple[Tensor, Tensor]:
    return torch.zeros(0), torch.zeros(0)


def finish(vae: Autoencoder, painter: Painter, writer: SceneWriter, folder: Path, say: Callable[[str], None]) -> Path:
    """Measures the latents, writes the part and says how good it is, on scenes that training did not reach."""
    far = 10**8
    pictures = [painter.paint(writer.batch(range(far + n, far + n + 64))) for n in range(0, 512, 64)]
    with torch.no_grad():
        means = torch.cat([vae.encode(p)[0] for p in pictures])
        quality = sum(psnr(vae.decode(vae.encode(p)[0]), p) for p in pictures) / len(pictures)
    flat = means.transpose(0, 1).flatten(1).cpu()
    vae.config = replace(
        vae.config,
        latent_mean=tuple(round(float(x), 5) for x in flat.mean(1)),
        latent_deviation=tuple(round(float(x), 5) for x in flat.std(1)),
    )
    _look(vae, painter, writer, folder / "sheet.png")
    save_part(vae, folder / "vae", "PocketAutoencoder")
    say(f"autoencoder: {quality:.2f} dB; latents' deviations {vae.config.latent_deviation}")
    return folder / "vae"


@torch.no_grad()
def _look(vae: Autoencoder, painter: Painter, writer: SceneWriter, file: Path) -> None:
    """Pictures above what came back of them."""
    far = 10**8
    pictures = painter.paint(writer.batch(range(far, far + 16)))
    made = vae.decode(vae.encode(pictures)[0]).float().clamp(-1, 1)
    both = torch.stack([pictures, made], 1).flatten(0, 1)
    sheet(both, [""] * len(both), file, columns=8)
