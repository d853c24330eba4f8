"""The judge: classifiers that say what a picture, clip or sound is, for measuring and for nothing else.

    judge = Judge.open(Path("judge-audio.safetensors"))
    judge.says(items)["concept"]           # [("violin", 0.93), …] for each item

It shares no weights, no architecture and no random changes with the encoders (a plain convolutional network;
`SoundPool(other=True)` and its like), and neither mode uses it, so that it errs where they do not. Of pictures it
has seen what is held out from every other model too: it is a measure, and the more it knows the better. What it says
of a picture is measured on pictures as they are, which it never sees so in training.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import WeightsError
from ...pocket.tensors import read_tensors
from .audio_loop import Budget, Say, fit
from .encoders_data import Batch, Pool

WIDTHS = (32, 64, 128, 256)


class _Stage(nn.Module):
    """A strided convolution and two more beside it."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.down = nn.Conv2d(before, after, 3, 2, 1)
        self.inner = nn.Sequential(
            nn.BatchNorm2d(after), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Half as high and wide."""
        x = self.down(x)
        return x + self.inner(x)


class Judge(nn.Module):
    """Frames through a convolutional network; their features over time; one head for each kind of label."""

    def __init__(self, sense: str, channels: int, frames: int, classes: Mapping[str, list[str]]):
        super().__init__()
        self.sense, self.channels, self.frames = sense, channels, frames
        self.classes = {k: list(v) for k, v in classes.items()}
        ends = [channels + 2, *WIDTHS]
        self.stages = nn.Sequential(*[_Stage(a, b) for a, b in itertools.pairwise(ends)])
        wide = WIDTHS[-1]
        self.time = nn.Conv1d(3 * wide, wide, 3, padding=1)
        self.heads = nn.ModuleDict(
            {k: nn.Linear(3 * wide if frames == 1 else 2 * wide, len(v)) for k, v in self.classes.items()}
        )

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        """(n, frames, channels, h, w) in -1…1 -> logits by kind of label."""
        n, frames, _, h, w = items.shape
        x = items.flatten(0, 1)
        rows = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype)[None, None, :, None].expand(len(x), 1, h, w)
        columns = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype)[None, None, None].expand(len(x), 1, h, w)
        grid = F.relu(self.stages(torch.cat([x, rows, columns], 1)))
        where = torch.linspace(-1, 1, grid.shape[3], device=x.device, dtype=grid.dtype)
        drift = (grid * where).mean((2, 3))  # how far to the right
        seen = torch.cat([grid.mean((2, 3)), grid.amax((2, 3)), drift], 1)
        if frames > 1:
            over = F.relu(self.time(seen.view(n, frames, -1).transpose(1, 2)))
            seen = torch.cat([over.mean(2), over.amax(2)], 1)
        seen = F.dropout(seen, 0.2, self.training)
        return {k: head(seen).float() for k, head in self.heads.items()}

    @torch.no_grad()
    def says(self, items: Tensor) -> list[dict[str, tuple[str, float]]]:
        """For each item the likeliest name of each kind, and its probability."""
        like = next(self.parameters())
        found = {k: v.softmax(-1).max(-1) for k, v in self(items.to(like.device, like.dtype)).items()}
        return [
            {k: (self.classes[k][int(v.indices[n])], float(v.values[n])) for k, v in found.items()}
            for n in range(len(items))
        ]

    def save(self, file: Path) -> None:
        """float16 safetensors; what it tells apart is in the header."""
        from safetensors.torch import save_file

        head = {
            "sense": self.sense,
            "channels": str(self.channels),
            "frames": str(self.frames),
            "classes": json.dumps(self.classes),
        }
        tensors = {
            k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in self.state_dict().items()
        }
        save_file(tensors, file, head)

    @classmethod
    def open(cls, file: Path, device: str = "cpu") -> Judge:
        """What `save` wrote. WeightsError when the file is none."""
        tensors, head = read_tensors(file)
        try:
            made = cls(head["sense"], int(head["channels"]), int(head["frames"]), json.loads(head["classes"]))
            made.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as e:
            raise WeightsError(f"'{file}' is no judge ({str(e).splitlines()[0][:120]}); train it anew.") from e
        return made.requires_grad_(False).eval().to(device)


def losses(judge: Judge, batch: Batch) -> dict[str, Tensor]:
    """Cross-entropy of every kind of label, over the items that have one."""
    logits = judge(batch.items)
    parts = {}
    for kind, labels in batch.labels.items():
        each = F.cross_entropy(logits[kind], labels.clamp(min=0), reduction="none", label_smoothing=0.05)
        there = (labels >= 0).float()
        parts[kind] = (each * there).sum() / there.sum().clamp(min=1)
    return {"total": torch.stack(list(parts.values())).sum(), **parts}


def measure(judge: Judge, pool: Pool) -> dict[str, float]:
    """Held-out accuracy of each kind of label."""
    right: dict[str, list[float]] = {}
    for batch in pool.tests():
        logits = judge(batch.items)
        for kind, labels in batch.labels.items():
            there = labels >= 0
            right.setdefault(kind, []).extend((logits[kind].argmax(-1) == labels)[there].float().tolist())
    return {k: sum(v) / max(1, len(v)) for k, v in right.items()}


def train_judge(pool: Pool, channels: int, frames: int, budget: Budget, out: Path, say: Say) -> dict[str, float]:
    """Trains the judge of one sense and writes out/judge-SENSE.safetensors."""
    torch.manual_seed(budget.seed)
    judge = Judge(pool.sense, channels, frames, pool.classes).to(budget.device)
    say(f"judge of {pool.sense}: {sum(p.numel() for p in judge.parameters()) / 1e6:.2f} million parameters")
    found = fit(
        judge, lambda rng, spent: losses(judge, pool.batch(budget.batch, rng)), budget, out / f"run-judge-{pool.sense}",
        say, lambda: measure(judge, pool),
    )  # fmt: skip
    judge.save(out / f"judge-{pool.sense}.safetensors")
    say(f"the judge is in {out / f'judge-{pool.sense}.safetensors'}")
    return found
