"""Trains pocket-image: the latent UNet, over a finished autoencoder and a finished reader.

    anyloom train image --data DATA --out RUNS --minutes 50 [--resume]

Scenes are written with their conditions once, and drawn from at random; what is not a remembered picture as
it is, is painted and encoded as training goes. A tenth of the conditions is dropped (for guidance). When a
style is asked for by name, the thing's own picture in that style is kept from the drafts half of the time,
so that the model learns to redraw a thing in a style it is not remembered in.

Drafts and checks are of the training split; the memory that is kept in the end holds all pictures, since a memory
can hold what the denoiser was never trained on.

Writes RUNS/image: checkpoint.pt, log.jsonl, checks.jsonl, sheet-STEP.png every few minutes, and pipeline/
in diffusers' layout, with the averaged weights and the memory.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ...pocket.generators.autoencoder import Autoencoder
from ...pocket.generators.flow import draw_times, flow_loss, noised
from ...pocket.generators.image import GUIDANCE, STEPS, PocketImage
from ...pocket.generators.layout import load_part, save_part, write_index
from ...pocket.generators.layouts import LAYOUTS
from ...pocket.generators.memory import Memory
from ...pocket.generators.text import Features, Reader
from ...pocket.generators.unet import UNet, UNetConfig, parameters
from .data import HELDOUT_STYLE, TRAIN, Manifest
from .image_paint import Painter
from .image_scenes import WHITE, Mixture, Scene, SceneWriter, Sprite, packed
from .image_sheet import PROMPTS, sheet
from .loop import Budget, Loop, Pace
from .reader import FAR, features_of

MIXTURE = Mixture(plain=0.40, coloured=0.22, pair=0.14, number=0.05, background=0.09, placed=0.10, style_named=0.4)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the data. `scenes` are written once; `kept_back`: see the top."""

    scenes: int = 40_000
    batch: int = 64
    pace: Pace = field(default_factory=lambda: Pace(rate=1e-3, warmup=200, decay=0.6, average=0.999))
    drop: float = 0.1
    kept_back: float = 0.5
    seed: int = 0


class Stock:
    """Everything a step needs: scenes with conditions, the painter, latents of all pictures, drafts."""

    def __init__(
        self,
        manifest: Manifest,
        text: Features,
        reader: Reader,
        vae: Autoencoder,
        words: dict[str, list[str]],
        writer: SceneWriter,
        scenes: Sequence[Scene],
        device: str,
    ) -> None:
        self.vae, self.device, self.scenes = vae, device, list(scenes)
        self.painter = Painter(manifest, device, writer.palette)
        self.conditions = conditions_of(text, reader, [s.caption for s in scenes], device)
        self.items = [i for i in manifest.items if i.modality == "image"]
        self.latents = self._encoded(self.items)
        self.rows = {(i.concept, i.style): i.row for i in self.items if i.split == TRAIN}
        self.memory = remembered(self.latents, self.rows, words)

    def _encoded(self, items: Sequence[object]) -> Tensor:
        pictures = [(Sprite(n),) for n in range(len(items))]
        made = []
        for at in range(0, len(items), 128):
            some = [Scene(p, "", "", "") for p in pictures[at : at + 128]]
            with torch.no_grad():
                made.append(self.vae.latents(self.painter.paint(packed(some))))
        return torch.cat(made)

    def given(self, which: Sequence[int], kept_back: float, rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
        """Clean latents, conditions and drafts of these scenes."""
        scenes = [self.scenes[n] for n in which]
        drafts = [self._drafted(s, rng, kept_back) for s in scenes]
        clean = self._latents(scenes)
        flat = self._latents([d for pair in drafts for d in pair])
        return (
            clean,
            self.conditions[list(which)].float().to(self.device),
            flat.reshape(len(clean), -1, *flat.shape[2:]),
        )

    def _drafted(self, scene: Scene, rng: random.Random, kept_back: float) -> tuple[Scene, Scene]:
        """The two drafts of a scene as scenes of their own: things in memory's styles, uncoloured, on white."""
        there = [
            s
            for s in self.memory.styles[scene.concepts[0]]
            if all(s in self.memory.styles.get(c, []) for c in scene.concepts)
        ]
        there = there or [scene.style]
        order = rng.sample(there, len(there))
        if not (scene.style_said and rng.random() < kept_back and len(there) > 1):
            order.sort(key=lambda s: s != scene.style)
        elif scene.style in order:
            order.remove(scene.style)
        return self._in_style(scene, order[0]), self._in_style(scene, order[min(1, len(order) - 1)])

    def _in_style(self, scene: Scene, style: str) -> Scene:
        sprites = []
        for concept, places in zip(scene.concepts, LAYOUTS[scene.layout], strict=False):
            row = self.rows.get((concept, style))
            row = self.rows[concept, self.memory.styles[concept][0]] if row is None else row
            sprites += [Sprite(row, -1, x, y, size) for x, y, size in places]
        return Scene(tuple(sprites), "", style, "draft", layout=scene.layout)

    def _latents(self, scenes: Sequence[Scene]) -> Tensor:
        """Looked up where a scene is one picture as it is; painted and encoded otherwise."""
        made = torch.empty(len(scenes), *self.latents.shape[1:])
        plain = [
            n
            for n, s in enumerate(scenes)
            if len(s.sprites) == 1 and s.sprites[0] == Sprite(s.sprites[0].row) and s.background == WHITE
        ]
        made[plain] = self.latents[[scenes[n].sprites[0].row for n in plain]]
        others = sorted(set(range(len(scenes))) - set(plain))
        if others:
            pictures = self.painter.paint(packed([scenes[n] for n in others]))
            with torch.no_grad():
                made[others] = self.vae.latents(pictures).float()
        return made.to(self.device)


def remembered(latents: Tensor, rows: Mapping[tuple[str, str], int], words: dict[str, list[str]]) -> Memory:
    """A memory of the pictures whose rows are given by (concept, style)."""
    return Memory(latents[list(rows.values())], [c for c, _ in rows], [s for _, s in rows], words)


def conditions_of(text: Features, reader: Reader, captions: Sequence[str], device: str) -> Tensor:
    """float16 conditions (n, 6, 256) of captions."""
    features, _ = features_of(text, captions)
    with torch.no_grad():
        return torch.cat([reader(f.float().to(device)).half().cpu() for f in features.split(256)])


def train_image(
    data: Path,
    text: Path,
    out: Path,
    budget: Budget,
    recipe: Recipe | None = None,
    *,
    device: str = "cpu",
    resume: bool = False,
    unet: UNetConfig | None = None,
    sheet_minutes: float = 10.0,
    say: Callable[[str], None] = print,
) -> Path:
    """Runs or goes on with a training over RUNS/autoencoder and RUNS/reader. Returns the pipeline."""
    recipe, folder = recipe or Recipe(), out / "image"
    torch.manual_seed(recipe.seed)
    manifest = Manifest.load(data)
    words = json.loads((out / "reader" / "words.json").read_text(encoding="utf-8"))
    vae, reader = (
        load_part(Autoencoder, out / "autoencoder" / "vae"),
        load_part(Reader, out / "reader" / "text_encoder"),
    )
    vae, reader, features = vae.to(device), reader.to(device), Features.open(text).to(device)
    writer = SceneWriter(manifest, recipe.seed, MIXTURE)
    say(f"writing {recipe.scenes} scenes and reading their captions")
    stock = Stock(
        manifest, features, reader, vae, words, writer, [writer.scene(n) for n in range(recipe.scenes)], device
    )
    model = UNet(unet or UNetConfig()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    say(f"parameters: UNet {parameters(model)}, reader {parameters(reader)}, autoencoder {parameters(vae)}")
    loop = Loop({"unet": model}, folder, budget, recipe.pace, device, resume, say)
    whole = PocketImage(vae, reader, model, stock.memory, features, "")
    model.requires_grad_(True).train()
    checks = _checks(manifest, features, reader, vae, words, device)
    next_look = loop.seconds + 60 * sheet_minutes
    with loop.kept_if_stopped():
        while loop.goes_on():
            rng = random.Random(recipe.seed * 1_000_003 + loop.step_number)
            loop.step(loss := _loss(model, stock, recipe, loop, rng), {"loss": loss}, recipe.batch)
            if loop.seconds > next_look:
                next_look = loop.seconds + 60 * sheet_minutes
                with loop.aside(), loop.averaged():
                    _look(model, whole, checks, folder, loop, say)
    loop.keep()
    with loop.averaged():
        whole.memory = remembered(stock.latents, {(i.concept, i.style): i.row for i in stock.items}, words)
        _look(model, whole, checks, folder, loop, say)
        return save_pipeline(whole, out, folder / "pipeline")


def _loss(model: UNet, stock: Stock, recipe: Recipe, loop: Loop, rng: random.Random) -> Tensor:
    which = [rng.randrange(len(stock.scenes)) for _ in range(recipe.batch)]
    with loop.autocast():
        clean, condition, draft = stock.given(which, recipe.kept_back, rng)
        condition = condition * (torch.rand(len(condition), 1, 1, device=condition.device) >= recipe.drop)
        return _flow(model, clean, condition, draft, draw_times(len(clean), clean.device), torch.randn_like(clean))


def _flow(model: UNet, clean: Tensor, condition: Tensor, draft: Tensor, times: Tensor, noise: Tensor) -> Tensor:
    z = noised(clean, noise, times).contiguous(memory_format=torch.channels_last)
    return flow_loss(model(z, 1000 * times, condition, draft), clean, noise)


Checks = dict[str, tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]


def _checks(
    manifest: Manifest, text: Features, reader: Reader, vae: Autoencoder, words: dict[str, list[str]], device: str
) -> Checks:
    """Fixed batches to measure on: scenes like training's, and concepts in the style that is held out."""
    found: Checks = {}
    named = Mixture(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    for name, split, mixture in (("train", TRAIN, MIXTURE), ("held", HELDOUT_STYLE, named)):
        if not manifest.select("image", split):
            continue
        writer = SceneWriter(manifest, 1, mixture, split)
        scenes = [writer.scene(FAR + n) for n in range(128)]
        stock = Stock(manifest, text, reader, vae, words, writer, scenes, device)
        batch = stock.given(range(len(scenes)), 1.0, random.Random(3))
        times = torch.sigmoid(torch.linspace(-2.5, 2.5, len(scenes)))
        found[name] = (*batch, times, torch.randn(batch[0].shape, generator=torch.Generator().manual_seed(3)))
    return found


@torch.no_grad()
def _look(
    model: UNet, whole: PocketImage, checks: Checks, folder: Path, loop: Loop, say: Callable[[str], None]
) -> None:
    """Losses on the fixed batches, and a sheet of pictures."""
    with loop.autocast():
        losses = {name: float(_flow(model, *batch)) for name, batch in checks.items()}
    say("  " + ", ".join(f"{n} {v:.4f}" for n, v in losses.items()))
    with (folder / "checks.jsonl").open("a") as log:
        log.write(json.dumps({"step": loop.step_number, "seconds": round(loop.seconds), **losses}) + "\n")
    condition = whole.text_condition(PROMPTS)
    pictures = whole.draw(whole.wanted(condition), condition, range(len(PROMPTS)), STEPS, GUIDANCE)
    sheet(pictures, PROMPTS, folder / f"sheet-{loop.step_number:06d}.png")


def save_pipeline(model: PocketImage, out: Path, folder: Path) -> Path:
    """The parts in diffusers' layout, float16, and the memory."""
    save_part(model.unet, folder / "unet", "PocketUNet")
    shutil.copytree(out / "reader" / "text_encoder", folder / "text_encoder", dirs_exist_ok=True)
    shutil.copytree(out / "autoencoder" / "vae", folder / "vae", dirs_exist_ok=True)
    model.memory.save(folder)
    home = "anyloom.pocket.generators"
    parts = {
        "unet": (f"{home}.unet", "UNet"),
        "text_encoder": (f"{home}.text", "Reader"),
        "vae": (f"{home}.autoencoder", "Autoencoder"),
    }
    write_index(folder, "PocketImage", parts)
    return folder
