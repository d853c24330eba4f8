"""pocket-video: two seconds of a thing that moves, from a description: pocket-image draws it, a path moves it.

    model = PocketVideo.open(folder, image)         # path/ beside an open PocketImage
    condition = model.text_condition(["a rocket moving up"])[0]
    media = model.generate(condition, seed=1, progress=…, check=…, options={})     # MP4, 16 frames, 8 a second

The condition is the picture's: one reader serves both. `options["format"]` may be "gif".
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.errors import InputError
from .. import media
from ..contracts import Check, Media, Progress
from .flow import noised, sample
from .image import GUIDANCE, SIDE, STEPS, PocketImage
from .layout import fingerprint, load_part
from .paths import CHANNELS, FRAMES, PathFlow, moved, numbers, places, tracked

RATE = 8
PATH_STEPS, PATH_GUIDANCE = 8, 1.5


class PocketVideo:
    """See `contracts.Generator`."""

    modality = "video"

    def __init__(self, image: PocketImage, path: PathFlow, fingerprint: str):
        self.image, self.path, self.fingerprint = image, path.requires_grad_(False).eval(), fingerprint
        self.tokens, self.width = image.tokens, image.width

    @classmethod
    def open(cls, folder: Path, image: PocketImage) -> PocketVideo:
        """From a folder with `path/`, on the image's device. WeightsError when it is missing or does not fit."""
        made = load_part(PathFlow, Path(folder) / "path").to(image.device)
        return cls(image, made, f"pocket-video-{fingerprint(Path(folder))}-{image.fingerprint}")

    def named_parameters(self) -> list[tuple[str, Any]]:
        """Of the networks: all frozen, which every stage of training asserts."""
        return [*self.image.named_parameters(), *((f"path.{n}", p) for n, p in self.path.named_parameters())]

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """See the contract."""
        return self.image.text_condition(captions)

    def prepare(self, file: Path) -> Tensor:
        """See the contract: (16, 3, 64, 64) in -1…1."""
        return media.frames(file, FRAMES, self.image.vae.config.side) * 2 - 1

    def latents(self, items: Tensor) -> Tensor:
        """See the contract: the measured path (n, 16, 6)."""
        return torch.stack([numbers(tracked(clip)) for clip in items.cpu()]).to(self.image.device)

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """See the contract: of the path's place, size and opacity; its turns cannot be measured."""
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        times = torch.sigmoid(1.2 * torch.randn(len(latents), generator=random)).to(latents)
        made = self.path(noised(latents, noise, times), 1000 * times, condition.float())
        seen = [0, 1, 2, 5]
        return F.mse_loss(made[..., seen], (noise - latents)[..., seen])

    def way(self, condition: Tensor, seed: int) -> Tensor:
        """The path (16, 5) of one condition (6, 256)."""
        noise = torch.randn(1, FRAMES, CHANNELS, generator=torch.Generator().manual_seed(seed)).to(condition)
        both = torch.stack([torch.zeros_like(condition), condition])

        def velocity(z: Tensor, times: Tensor) -> Tensor:
            free, told = self.path(torch.cat([z, z]), torch.cat([times, times]), both).chunk(2)
            return free + PATH_GUIDANCE * (told - free)

        with torch.no_grad():
            return places(sample(velocity, noise, PATH_STEPS)[0])

    def film(self, condition: Tensor, seed: int, steps: int = STEPS, guidance: float = GUIDANCE, side: int = 64,
             progress: Progress = lambda done, total, note: None, check: Check = lambda: None) -> Tensor:  # fmt: skip
        """Frames (16, 3, side, side) in -1…1 of one condition."""
        wanted = [replace(w, layout="whole", other="") for w in self.image.wanted(condition[None])]
        picture = self.image.draw(wanted, condition[None], [seed], steps, guidance, progress, check)[0]
        large = F.interpolate(picture[None], size=(side, side), mode="bicubic", align_corners=False)[0].clamp(-1, 1)
        check()
        return moved(large, self.way(condition.float(), seed))

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """See the contract; options steps (6), guidance (2), size (256) and format (mp4, gif)."""
        steps, guidance, side = (
            options.get(k, d) for k, d in (("steps", STEPS), ("guidance", GUIDANCE), ("size", SIDE))
        )
        if not 1 <= int(steps) <= 200:
            raise InputError(f"'steps' is {steps}; it has to be between 1 and 200.")
        if not 32 <= int(side) <= 1024:
            raise InputError(f"'size' is {side}; it has to be between 32 and 1024 pixels.")
        kind = str(options.get("format", "mp4"))
        if kind not in ("mp4", "gif"):
            raise InputError(f"'format' is '{kind}'; pocket-video writes mp4 and gif.")
        condition = condition.to(self.image.device).float()
        frames = self.film(condition, seed, int(steps), float(guidance), 2 * (int(side) // 2), progress, check).cpu()
        check()
        if kind == "gif":
            return Media("video", gif(frames), "image/gif")
        return Media("video", media.mp4((frames + 1) / 2, RATE), "video/mp4")


def gif(frames: Tensor) -> bytes:
    """(n, 3, h, w) in -1…1 as a GIF that repeats."""
    from PIL import Image

    pixels = ((frames + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    images = [Image.fromarray(p) for p in pixels]
    out = io.BytesIO()
    images[0].save(out, "GIF", save_all=True, append_images=images[1:], duration=1000 // RATE, loop=0)
    return out.getvalue()
