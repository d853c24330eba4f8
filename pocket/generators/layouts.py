"""Where things lie in a picture: a few layouts, each with its places, and pictures put together by them.

    draft = arranged(one, other, "beside")          # (n, 3, 64, 64) twice, in -1…1 on white -> the same shape

A place is (x, y, size): the centre in -1…1 and the size against the whole picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Place = tuple[float, float, float]
# For each layout the places of the first thing, then those of the second.
LAYOUTS: dict[str, tuple[tuple[Place, ...], tuple[Place, ...]]] = {
    "whole": (((0.0, 0.0, 1.0),), ()),
    "inset": (((0.0, 0.0, 0.82),), ()),
    "beside": (((-0.47, 0.0, 0.53),), ((0.47, 0.0, 0.53),)),
    "above": (((0.0, -0.47, 0.53),), ((0.0, 0.47, 0.53),)),
    "two": (((-0.5, 0.0, 0.47), (0.5, 0.0, 0.47)), ()),
    "three": (((0.0, -0.5, 0.47), (-0.5, 0.5, 0.47), (0.5, 0.5, 0.47)), ()),
    "four": (((-0.5, -0.5, 0.47), (0.5, -0.5, 0.47), (-0.5, 0.5, 0.47), (0.5, 0.5, 0.47)), ()),
    "small": (((0.0, 0.0, 0.45),), ()),
    "left": (((-0.45, 0.0, 0.5),), ()),
    "right": (((0.45, 0.0, 0.5),), ()),
    "top": (((0.0, -0.45, 0.5),), ()),
    "bottom": (((0.0, 0.45, 0.5),), ()),
}


def arranged(one: Tensor, other: Tensor, layout: str) -> Tensor:
    """Puts each first picture and, where the layout has two things, each second one in its places, on white."""
    first, second = LAYOUTS[layout]
    if layout == "whole":
        return one
    ink = sum((_placed(1 - one, place) for place in first), torch.zeros_like(one))
    ink = sum((_placed(1 - other, place) for place in second), ink)
    return (1 - ink).clamp(-1, 1)


def _placed(ink: Tensor, place: Place) -> Tensor:
    """What differs from white (0: white), smaller and moved."""
    x, y, size = place
    matrix = torch.tensor([[1 / size, 0, -x / size], [0, 1 / size, -y / size]], dtype=ink.dtype, device=ink.device)
    grid = F.affine_grid(matrix.expand(len(ink), 2, 3), list(ink.shape), align_corners=False)
    small = F.avg_pool2d(ink, 2) if size < 0.72 else ink
    return F.grid_sample(small, grid, align_corners=False)
