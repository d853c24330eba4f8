"""Rectified flow: what is trained and how it is sampled, the same for pictures and clips.

    loss = flow_loss(denoise, clean, times, noise)
    z = sample(denoise, noise, steps=12, guidance=4.0, ...)

On the way from clean latents (t = 0) to noise (t = 1) in a straight line, the network foretells the
direction, noise - clean (arXiv 2209.03003). Times are logit-normal (arXiv 2403.03206), a little wider and
later than there. Sampling is by midpoint steps, two calls each, with classifier-free guidance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]  # (z, times in 0…1000) -> velocity
WIDE, LATER = 1.2, 0.2


def draw_times(count: int, device: torch.device | str, generator: torch.Generator | None = None) -> Tensor:
    """Times in 0…1 as training sees them."""
    return torch.sigmoid(torch.randn(count, device=device, generator=generator) * WIDE + LATER)


def noised(clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """The point at each time on the line."""
    t = times.reshape(-1, *[1] * (clean.ndim - 1)).to(clean)
    return (1 - t) * clean + t * noise


def flow_loss(velocity: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the direction."""
    return (velocity.float() - (noise - clean).float()).pow(2).mean()


def guided(denoise: Denoise, scale: float) -> Denoise:
    """`denoise` gets every z twice, first without and then with the text; away from the first."""

    def one(z: Tensor, times: Tensor) -> Tensor:
        free, told = denoise(torch.cat([z, z]), torch.cat([times, times])).float().chunk(2)
        return free + scale * (told - free)

    return one


def sample(
    velocity: Denoise, z: Tensor, steps: int, shift: float = 1.0, each: Callable[[int], None] = lambda n: None
) -> Tensor:
    """From noise to clean latents in so many midpoint steps; `shift` above 1 spends more of them near the noise."""
    line = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    line = shift * line / (1 + (shift - 1) * line)
    for n in range(steps):
        each(n)
        here, there = float(line[n]), float(line[n + 1])
        half = (here + there) / 2
        first = velocity(z, torch.full((len(z),), 1000 * here, device=z.device))
        between = z + (half - here) * first
        second = velocity(between, torch.full((len(z),), 1000 * half, device=z.device))
        z = z + (there - here) * second
    each(steps)
    return z
