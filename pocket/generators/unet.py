"""The denoiser: a UNet over latents 16x16x4 that foretells the flow from clean latents to noise.

    velocity = unet(z, times, condition, draft)     # z = (1 - t) clean + t noise; times = 1000 t

Blocks of 96 channels at 16x16 and of 192 at 8x8, where picture and condition attend together. The time and
all rows of the condition modulate every block; drafts (memory.py) lie beside z in the channels. The
diffusers model it stands in for is UNet2DConditionModel; velocity as in rectified flow (arXiv 2209.03003).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import ChannelNorm, JointAttention, Residual, wave_features


@dataclass(frozen=True)
class UNetConfig:
    """Sizes: `channels` and `blocks` for each level, from the largest picture to the smallest."""

    latent: int = 4
    draft: int = 8
    channels: tuple[int, ...] = (96, 192)
    blocks: tuple[int, ...] = (2, 2)
    middle: int = 1
    rows: int = 6
    condition: int = 256
    modulation: int = 256
    head: int = 64
    attend_from: int = 1  # the first level that attends


class Block(nn.Module):
    """A residual block, with attention where the level has it."""

    def __init__(self, inside: int, out: int, config: UNetConfig, attend: bool):
        super().__init__()
        self.residual = Residual(inside, out, config.modulation)
        self.attention = JointAttention(out, config.condition, out // config.head) if attend else None

    def forward(self, x: Tensor, e: Tensor, context: Tensor) -> Tensor:
        """(n, inside, h, w) -> (n, out, h, w)."""
        x = self.residual(x, e)
        return x if self.attention is None else self.attention(x, context)


class UNet(nn.Module):
    """See the file's first lines."""

    config_class = UNetConfig

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        c, levels = config, range(len(config.channels))
        self.time = nn.Sequential(nn.Linear(128, c.modulation), nn.SiLU(), nn.Linear(c.modulation, c.modulation))
        self.told = nn.Linear(c.rows * c.condition, c.modulation)
        self.first = nn.Conv2d(c.latent + c.draft, c.channels[0], 3, padding=1)
        width, kept = c.channels[0], []
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for n in levels:
            for _ in range(c.blocks[n]):
                self.down.append(Block(width, c.channels[n], c, n >= c.attend_from))
                width = c.channels[n]
                kept.append(width)
            if n + 1 < len(c.channels):
                self.shrink.append(nn.Conv2d(width, c.channels[n + 1], 3, 2, 1))
                width = c.channels[n + 1]
        self.middle = nn.ModuleList(Block(width, width, c, True) for _ in range(c.middle))
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for n in reversed(levels):
            for _ in range(c.blocks[n]):
                self.up.append(Block(width + kept.pop(), c.channels[n], c, n >= c.attend_from))
                width = c.channels[n]
            if n:
                self.grow.append(nn.Conv2d(width, c.channels[n - 1], 3, padding=1))
                width = c.channels[n - 1]
        self.norm, self.last = ChannelNorm(width), nn.Conv2d(width, c.latent, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, z: Tensor, times: Tensor, condition: Tensor, draft: Tensor) -> Tensor:
        """(n, 4, 16, 16), (n,) in 0…1000, (n, 6, condition), (n, 8, 16, 16) -> velocity (n, 4, 16, 16)."""
        e = F.silu(self.time(wave_features(times).to(condition.dtype)) + self.told(condition.flatten(1)))
        h, kept, number = self.first(torch.cat([z, draft.to(z.dtype)], 1)), [], 0
        for n, count in enumerate(self.config.blocks):
            for _ in range(count):
                h = self.down[number](h, e, condition)
                number += 1
                kept.append(h)
            if n < len(self.shrink):
                h = self.shrink[n](h)
        for block in self.middle:
            h = block(h, e, condition)
        number = 0
        for step, n in enumerate(reversed(range(len(self.config.blocks)))):
            for _ in range(self.config.blocks[n]):
                h = self.up[number](torch.cat([h, kept.pop()], 1), e, condition)
                number += 1
            if step < len(self.grow):
                h = self.grow[step](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(self.norm(h))


def parameters(module: nn.Module) -> int:
    """How many numbers a module holds."""
    return sum(p.numel() for p in module.parameters())
