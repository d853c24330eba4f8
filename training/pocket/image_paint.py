"""Paints scenes: many pictures at once, in torch, on the device where training runs.

    painter = Painter(manifest, device)
    pictures = painter.paint(sprites)               # (n, 3, 64, 64) in -1…1

Things are cut out of the packed set, painted over in another colour where asked, scaled, turned, moved,
and laid over one another. Colours are weighed by opacity throughout; what becomes half as large or
smaller is taken from a copy that was averaged down first, so that thin lines stay.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Manifest
from .image_colours import COLOURS, NEAR, Palette
from .image_scenes import Sprites


class Painter:
    """Holds the set and what is known of its colours on one device."""

    def __init__(self, manifest: Manifest, device: str | torch.device, palette: Palette | None = None):
        self.device = torch.device(device)
        palette = palette or Palette.of(manifest)
        self.pictures = torch.from_numpy(manifest.array("image").copy()).to(self.device)
        self.can = torch.from_numpy(palette.can.astype("int64")).to(self.device)
        self.hue = torch.from_numpy(palette.hue).to(self.device)
        self.colours = torch.tensor(list(COLOURS.values()), device=self.device)

    def paint(self, sprites: Sprites) -> Tensor:
        """(n, 3, 64, 64) in -1…1, float32."""
        rows, colours, places = (
            torch.from_numpy(a).to(self.device, non_blocking=True)
            for a in (sprites.rows, sprites.colours, sprites.places)
        )
        ground = torch.from_numpy(sprites.backgrounds).to(self.device) / 255
        canvas = ground[:, :, None, None].expand(-1, 3, *self.pictures.shape[1:3]).clone()
        counts = (sprites.rows >= 0).sum(1)
        for k in range(int(counts.max(initial=0))):
            which = torch.from_numpy((counts > k).nonzero()[0]).to(self.device)
            laid = self.cut(rows[which, k], colours[which, k], places[which, k])
            canvas[which] = laid[:, :3] + canvas[which] * (1 - laid[:, 3:])
        return canvas * 2 - 1

    def cut(self, rows: Tensor, colours: Tensor, places: Tensor) -> Tensor:
        """Things in their places: (n, 4, 64, 64) in 0…1, colours weighed by opacity."""
        found = self.pictures[rows].permute(0, 3, 1, 2).float() / 255
        found = self.coloured(found, rows, colours)
        found = torch.cat([found[:, :3] * found[:, 3:], found[:, 3:]], 1)
        return placed(found, places)

    def coloured(self, found: Tensor, rows: Tensor, colours: Tensor) -> Tensor:
        """Paints those over whose colour is not -1: the main hue, or all that is grey, takes the new colour."""
        which = (colours >= 0).nonzero()[:, 0]
        if not len(which):
            return found
        hue, saturation, value = hsv(found[which, :3])
        wanted = self.colours[colours[which]][:, :, None, None]
        main = self.hue[rows[which]][:, None, None]
        away = (hue - main + 180) % 360 - 180
        grey = (self.can[rows[which]] == 2)[:, None, None]
        near = torch.where(grey, value > 0.2, (away.abs() < NEAR) & (saturation > 0.14) & (value > 0.14))
        target, more_s, least_s, more_v, least_v = wanted.unbind(1)
        new_hue = torch.where(grey | (target < 0), target, target + 0.35 * away) % 360
        depth = torch.where(grey, saturation.new_tensor(0.7), saturation) * more_s
        deep = torch.where(target < 0, saturation * more_s, torch.maximum(depth, least_s))
        light = value * more_v + torch.where(target < 0, least_v, least_v * (1 - value).clamp(min=0))
        over = rgb(new_hue, deep.clamp(0, 1), light.clamp(0, 1))
        changed = torch.where(near[:, None], over, found[which, :3])
        found = found.clone()
        found[which, :3] = changed
        return found


def placed(found: Tensor, places: Tensor) -> Tensor:
    """(n, 4, s, s), (n, 5: x, y, size, turn, opacity) -> the same things in those places."""
    x, y, size, turn, opacity = places.float().unbind(1)
    plain = bool(((x == 0) & (y == 0) & (size == 1) & (turn == 0)).all())
    if not plain:
        cos, sin = turn.cos() / size, turn.sin() / size
        matrix = torch.stack(
            [torch.stack([cos, sin, -(cos * x + sin * y)], 1), torch.stack([-sin, cos, -(cos * y - sin * x)], 1)], 1
        )
        grid = F.affine_grid(matrix, list(found.shape), align_corners=False)
        full = F.grid_sample(found, grid, align_corners=False)
        small = (size < 0.72).nonzero()[:, 0]
        if len(small):
            half = F.avg_pool2d(found[small], 2)
            full[small] = F.grid_sample(half, grid[small], align_corners=False)
        found = full
    return found * opacity[:, None, None, None]


def hsv(colour: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 3, h, w) in 0…1 -> hue in degrees, saturation, value, (n, h, w) each."""
    most, at = colour.max(1)
    spread = most - colour.min(1).values
    r, g, b = colour.unbind(1)
    safe = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
    sectors = torch.stack([(g - b) / safe % 6, (b - r) / safe + 2, (r - g) / safe + 4], 1)
    hue = sectors.gather(1, at[:, None])[:, 0] * 60
    hue = torch.where(spread > 1e-6, hue, torch.zeros_like(hue))
    return hue, spread / most.clamp(min=1e-6), most


def rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """The way back: (n, 3, h, w)."""
    steps = torch.tensor([5.0, 3.0, 1.0], device=hue.device)[:, None, None]
    k = (steps + (hue / 60)[:, None]) % 6
    return value[:, None] * (1 - saturation[:, None] * torch.minimum(k, 4 - k).clamp(0, 1))
