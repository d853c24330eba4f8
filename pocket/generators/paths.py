"""Motion as a path: where a thing is, how large, how turned and how solid in each of 16 frames.

    flow = PathFlow(PathConfig())
    velocity = flow(z, times, condition)            # z (n, 16, 6): the way from noise to paths, as in flow.py
    frames = moved(picture, places(z[0]))           # (3, s, s), (16, 5) -> (16, 3, s, s)

A clip is split into what is seen and how it moves (MoCoGAN, arXiv 1707.04993): pixels of 16 frames are too
much for a CPU, 96 numbers are not. Everything that moves as a whole can be said so; limbs cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import wave_features

FRAMES, CHANNELS = 16, 6  # x, y, log size, cosine and sine of the turn, opacity
MEANS = (0.0, 0.0, -0.5, 0.6, 0.0, 0.9)
DEVIATIONS = (0.35, 0.35, 0.3, 0.6, 0.5, 0.25)


@dataclass(frozen=True)
class PathConfig:
    """Sizes of the path's denoiser."""

    rows: int = 6
    condition: int = 256
    width: int = 128
    layers: int = 4
    heads: int = 4


class PathFlow(nn.Module):
    """A small transformer over the frames; time and condition are added to every frame."""

    config_class = PathConfig

    def __init__(self, config: PathConfig):
        super().__init__()
        c = self.config = config
        self.enter, self.leave = nn.Linear(CHANNELS, c.width), nn.Linear(c.width, CHANNELS)
        self.place = nn.Parameter(torch.randn(FRAMES, c.width) * 0.1)
        self.time = nn.Sequential(nn.Linear(128, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.told = nn.Sequential(nn.Linear(c.rows * c.condition, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        layer = [
            nn.TransformerEncoderLayer(c.width, c.heads, 3 * c.width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(c.layers)
        ]
        self.layers, self.norm = nn.ModuleList(layer), nn.LayerNorm(c.width)

    def forward(self, z: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """(n, 16, 6), (n,) in 0…1000, (n, 6, 256) -> velocity (n, 16, 6)."""
        e = self.time(wave_features(times).to(condition.dtype)) + self.told(condition.flatten(1))
        h = self.enter(z) + self.place + e[:, None]
        for layer in self.layers:
            h = layer(h + e[:, None])
        return self.leave(self.norm(h))


def numbers(places: Tensor) -> Tensor:
    """(…, 5: x, y, size, turn, opacity) -> (…, 6) as the flow has them."""
    x, y, size, turn, opacity = places.unbind(-1)
    raw = torch.stack([x, y, size.clamp(min=0.05).log(), turn.cos(), turn.sin(), opacity], -1)
    return (raw - raw.new_tensor(MEANS)) / raw.new_tensor(DEVIATIONS)


def places(z: Tensor) -> Tensor:
    """The way back: (…, 6) -> (…, 5)."""
    x, y, size, cos, sin, opacity = (z * z.new_tensor(DEVIATIONS) + z.new_tensor(MEANS)).unbind(-1)
    return torch.stack([x, y, size.exp().clamp(0.1, 1.3), torch.atan2(sin, cos), opacity.clamp(0, 1)], -1)


def moved(picture: Tensor, path: Tensor) -> Tensor:
    """A picture (3, s, s) in -1…1 along a path (16, 5): what differs from its ground moves, the ground stays."""
    ground = ground_of(picture)[:, None, None]
    ink = (picture - ground)[None].expand(len(path), -1, -1, -1)
    x, y, size, turn, opacity = path.to(ink).unbind(1)
    cos, sin = turn.cos() / size, turn.sin() / size
    matrix = torch.stack(
        [torch.stack([cos, sin, -(cos * x + sin * y)], 1), torch.stack([-sin, cos, -(cos * y - sin * x)], 1)], 1
    )
    grid = F.affine_grid(matrix, list(ink.shape), align_corners=False)
    whole = F.grid_sample(ink, grid, align_corners=False)
    half = F.grid_sample(F.avg_pool2d(ink, 2), grid, align_corners=False)
    whole = torch.where((size < 0.72)[:, None, None, None], half, whole)
    return (ground + whole * opacity[:, None, None, None]).clamp(-1, 1)


def ground_of(picture: Tensor) -> Tensor:
    """The colour of a picture's edge: (3, s, s) -> (3,)."""
    edge = torch.cat([picture[:, 0], picture[:, -1], picture[:, :, 0], picture[:, :, -1]], 1)
    return edge.median(1).values


def tracked(frames: Tensor) -> Tensor:
    """What can be measured of a clip (16, 3, s, s) in -1…1: the same numbers as a path; turns are taken as none."""
    ground = torch.stack([ground_of(f) for f in frames]).median(0).values[:, None, None]
    ink = (frames - ground).abs().amax(1)
    ink = torch.where(ink > 0.15, ink, torch.zeros_like(ink))
    mass = ink.sum((1, 2))
    line = torch.linspace(-1, 1, frames.shape[-1])
    safe = mass.clamp(min=1e-3)
    x, y = (ink.sum(1) @ line) / safe, (ink.sum(2) @ line) / safe
    area = (ink > 0).float().mean((1, 2))
    size = (area / 0.55).sqrt().clamp(0.1, 1.1)
    strength = mass / (ink > 0).sum((1, 2)).clamp(min=1)
    opacity = (strength / strength.max().clamp(min=1e-3)).clamp(0, 1)
    return torch.stack([x, y, size, torch.zeros_like(x), opacity], 1)
