"""Trains the reader: captions of pictures and clips to the condition that both pocket generators share.

    anyloom train reader --data DATA --out RUNS --minutes 7

Text alone is needed, so it takes minutes where a denoiser takes an hour, and the denoiser then starts from
a condition that says what is wanted. Every head is a classification: which thing, which second thing, their
colours, the ground, the style, the layout, the motion. Writes RUNS/reader: log.jsonl, text_encoder/ and
words.json (what every head can say).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pocket.generators.layout import save_part
from ...pocket.generators.layouts import LAYOUTS
from ...pocket.generators.text import Features, Reader, ReaderConfig
from .data import Manifest
from .image_colours import BACKGROUNDS
from .image_scenes import COLOUR_NAMES, Mixture, Scene, SceneWriter
from .loop import Budget, Loop, Pace
from .video_scenes import PATHS, MotionScene, MotionWriter

ROWS = {"thing": 0, "other": 1, "colour": 2, "colour_other": 3, "ground": 3, "style": 4, "layout": 4, "motion": 5}
MIXTURE = Mixture(plain=0.42, coloured=0.12, pair=0.30, number=0.05, background=0.05, placed=0.06, style_named=0.3)
FAR = 10**8  # scenes from this number on are for measuring


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the data.

    `films`: share of the captions that are of clips; `tests` are measured on.
    """

    captions: int = 80_000
    films: float = 0.25
    tests: int = 2_000
    batch: int = 256
    pace: Pace = field(default_factory=lambda: Pace(rate=1.5e-3, warmup=100, decay=0.7, average=0.998))
    seed: int = 0


def answers(manifest: Manifest) -> dict[str, list[str]]:
    """What every head can say; "" is nothing in particular."""
    concepts = sorted({i.concept for i in manifest.items if i.modality == "image"})
    styles = sorted({i.style for i in manifest.items if i.modality == "image"})
    colours, grounds = [*COLOUR_NAMES, ""], [*BACKGROUNDS, ""]
    return {
        "thing": concepts, "other": [*concepts, ""], "colour": colours, "colour_other": colours, "ground": grounds,
        "style": [*styles, ""], "layout": list(LAYOUTS), "motion": [*PATHS, "animated", ""],
    }  # fmt: skip


def said_of(scene: Scene | MotionScene) -> dict[str, str]:
    """What a scene's caption says, by head."""
    if isinstance(scene, MotionScene):
        colour, ground = scene.facts.get("colour", ""), scene.facts.get("background", "")
        style = scene.style if scene.style_said else ""
        return {
            "thing": scene.concept,
            "other": "",
            "colour": colour,
            "colour_other": "",
            "ground": ground,
            "style": style,
            "layout": "inset" if ground else "whole",
            "motion": scene.motion,
        }
    things, colours = (*scene.concepts, ""), (*scene.colours, "")
    return {
        "thing": things[0],
        "other": things[1],
        "colour": colours[0],
        "colour_other": colours[1],
        "ground": scene.ground,
        "style": scene.style if scene.style_said else "",
        "layout": scene.layout,
        "motion": "",
    }


class Captions:
    """Many captions with their features and labels, made once."""

    def __init__(self, scenes: Sequence[Scene | MotionScene], text: Features, known: Mapping[str, Sequence[str]]):
        self.texts = [s.caption for s in scenes]
        number = {what: {a: n for n, a in enumerate(own)} for what, own in known.items()}
        rows = [[number[what][a] for what, a in said_of(s).items()] for s in scenes]
        self.labels = torch.tensor(rows)
        self.features, self.lengths = features_of(text, self.texts)


def features_of(text: Features, captions: Sequence[str], at_once: int = 256) -> tuple[Tensor, Tensor]:
    """Captions -> float16 features (n, 20, 384) and how many rows each has; those of like length go together."""
    order = sorted(range(len(captions)), key=lambda n: len(captions[n]))
    found, lengths = (
        torch.zeros(len(captions), 20, 384, dtype=torch.float16),
        torch.zeros(len(captions), dtype=torch.long),
    )
    for at in range(0, len(order), at_once):
        which = order[at : at + at_once]
        rows = text([captions[n] for n in which])
        found[which] = rows.half().cpu()
        lengths[which] = (rows.abs().amax(-1) > 0).sum(1).cpu()
    return found, lengths


def writers(manifest: Manifest, seed: int) -> tuple[SceneWriter, MotionWriter]:
    """Who writes pictures and who writes clips."""
    scenes = SceneWriter(manifest, seed, MIXTURE)
    return scenes, MotionWriter(manifest, seed, things=scenes)


def train_reader(
    data: Path, text: Path, out: Path, budget: Budget, recipe: Recipe | None = None, *, device: str = "cpu",
    resume: bool = False, say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Runs or goes on with a training; returns the folder of the part."""
    recipe, folder = recipe or Recipe(), out / "reader"
    torch.manual_seed(recipe.seed)
    manifest = Manifest.load(data)
    known = answers(manifest)
    pictures, films = writers(manifest, recipe.seed)
    features = Features.open(text).to(device)
    say(f"reading {recipe.captions} captions")
    count = int(recipe.captions * recipe.films)
    some: list[Scene | MotionScene] = [pictures.scene(n) for n in range(recipe.captions - count)]
    captions = Captions([*some, *(films.scene(n) for n in range(count))], features, known)
    apart: list[Scene | MotionScene] = [pictures.scene(FAR + n) for n in range(recipe.tests * 3 // 4)]
    tests = Captions([*apart, *(films.scene(FAR + n) for n in range(recipe.tests // 4))], features, known)
    reader = Reader(ReaderConfig(heads=tuple((what, ROWS[what], len(own)) for what, own in known.items()))).to(device)
    reader.fit(captions.features[:6000].float().to(device))
    loop = Loop({"reader": reader}, folder, budget, recipe.pace, device, resume, say)
    rng = torch.Generator().manual_seed(recipe.seed)
    with loop.kept_if_stopped():
        while loop.goes_on():
            which = torch.randint(len(captions.texts), (recipe.batch,), generator=rng)
            loss, told = _loss(reader, captions, which, device)
            loop.step(loss, told, len(which))
    loop.keep()
    with loop.averaged():
        reader.eval()
        for name, share in measure(reader, tests, known, device).items():
            say(f"  {name} {share:.3f}")
        save_part(reader, folder / "text_encoder", "PocketReader", torch.float16)
    (folder / "words.json").write_text(json.dumps(known, indent=0) + "\n")
    return folder / "text_encoder"


def _loss(reader: Reader, captions: Captions, which: Tensor, device: str) -> tuple[Tensor, dict[str, Tensor | float]]:
    longest = int(captions.lengths[which].max())
    found = reader.says(reader(captions.features[which, :longest].float().to(device)))
    labels = captions.labels[which].to(device)
    parts = {
        what: F.cross_entropy(logits, labels[:, n], label_smoothing=0.02)
        for n, (what, logits) in enumerate(found.items())
    }
    loss = (
        parts["thing"]
        + 0.7 * parts["other"]
        + sum((v for k, v in parts.items() if k not in ("thing", "other")), 0 * parts["thing"])
    )
    return loss, {"loss": loss, "thing": parts["thing"], "other": parts["other"], "colour": parts["colour"]}


@torch.no_grad()
def measure(reader: Reader, tests: Captions, known: Mapping[str, Sequence[str]], device: str) -> dict[str, float]:
    """Share of captions of which each head says what is true."""
    found = reader.says(reader(tests.features.float().to(device)))
    return {
        what: float((logits.argmax(1).cpu() == tests.labels[:, n]).float().mean())
        for n, (what, logits) in enumerate(found.items())
    }
