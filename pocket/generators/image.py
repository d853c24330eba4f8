"""pocket-image: a picture from a description, as a modality generator and for the cascade.

    model = PocketImage.open(folder, features)      # vae/, text_encoder/, unet/, memory.safetensors, words.json
    condition = model.text_condition(["a blue banana"])[0]
    media = model.generate(condition, seed=1, progress=…, check=…, options={})     # PNG, 256x256

`features` is the frozen text encoder (`text.Features`). What is wanted is read off the condition's rows
(memory.py), drafts are laid out, and the denoiser goes from noise to the picture beside them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ..contracts import Check, Media, Progress
from .autoencoder import Autoencoder
from .flow import flow_loss, noised, sample
from .layout import fingerprint, load_part
from .memory import Memory, Wanted
from .text import Features, Reader
from .unet import UNet

STEPS, GUIDANCE, SIDE = 6, 2.0, 256
STYLE_ROW = 4  # of a condition: style and layout
# For each layout a description that names no style.
PLAIN = {
    "whole": "a cat", "inset": "a cat on a blue background", "beside": "a cat and a pizza",
    "above": "a cat above a pizza", "two": "two cats", "three": "three cats", "four": "four cats",
    "small": "a small cat", "left": "a cat on the left", "right": "a cat on the right", "top": "a cat at the top",
    "bottom": "a cat at the bottom",
}  # fmt: skip


class PocketImage:
    """See `contracts.Generator`."""

    modality = "image"

    def __init__(
        self, vae: Autoencoder, reader: Reader, unet: UNet, memory: Memory, features: Features, fingerprint: str
    ):
        self.vae, self.reader, self.unet, self.memory, self.features = vae, reader, unet, memory, features
        self.fingerprint = fingerprint
        self.tokens, self.width = reader.config.rows, reader.config.width
        for part in (vae, reader, unet):
            part.requires_grad_(False).eval()

    @classmethod
    def open(cls, folder: Path, features: Features, device: str = "cpu") -> PocketImage:
        """From a folder with the parts; `features` are on that device too. WeightsError when one does not fit."""
        folder = Path(folder)
        parts = (
            load_part(Autoencoder, folder / "vae").to(device),
            load_part(Reader, folder / "text_encoder").to(device),
            load_part(UNet, folder / "unet").to(device),
        )
        return cls(*parts, Memory.open(folder, device), features, f"pocket-image-{fingerprint(folder)}")

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.memory.latents.device

    def named_parameters(self) -> list[tuple[str, Any]]:
        """Of the networks: all frozen, which every stage of training asserts."""
        parts = (("vae", self.vae), ("reader", self.reader), ("unet", self.unet))
        return [(f"{name}.{n}", p) for name, part in parts for n, p in part.named_parameters()]

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """See the contract; a longer text is cut at its 19th token."""
        with torch.no_grad():
            return self.reader(self.features(captions))

    def prepare(self, file: Path) -> Tensor:
        """See the contract: (3, 64, 64) in -1…1."""
        from ..encoders.pocket import picture

        return picture(file, self.vae.config.side) * 2 - 1

    def latents(self, items: Tensor) -> Tensor:
        """See the contract."""
        with torch.no_grad():
            return self.vae.latents(items.to(self.device))

    def wanted(self, condition: Tensor) -> list[Wanted]:
        """What conditions (n, 6, 256) ask for."""
        with torch.no_grad():
            return self.memory.wanted(self.reader.says(condition))

    @cached_property
    def plain_rows(self) -> dict[str, Tensor]:
        """For each layout the condition's row when no style is named."""
        rows = self.text_condition(list(PLAIN.values()))[:, STYLE_ROW]
        return dict(zip(PLAIN, rows, strict=True))

    def settled(self, wanted: Sequence[Wanted], condition: Tensor) -> Tensor:
        """The conditions without the styles they name: a style decides which draft comes first, and no more.

        Half of the styles named in training were kept from the drafts; what the denoiser learnt of redrawing a thing
        in a style is patchy, and what it does with a draft in that style when none is named is not.
        """
        condition = condition.clone()
        for n, want in enumerate(wanted):
            if want.style:
                condition[n, STYLE_ROW] = self.plain_rows[want.layout].to(condition)
        return condition

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """See the contract: the loss of flow matching, beside the drafts that the condition asks for."""
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        times = torch.sigmoid(1.2 * torch.randn(len(latents), generator=random)).to(latents)
        with torch.no_grad():
            draft = self.memory.draft(self.wanted(condition), self.vae, range(seed, seed + len(latents)))
        return flow_loss(self.unet(noised(latents, noise, times), 1000 * times, condition, draft), latents, noise)

    def draw(
        self,
        wanted: Sequence[Wanted],
        condition: Tensor,
        seeds: Sequence[int],
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        progress: Progress = lambda done, total, note: None,
        check: Check = lambda: None,
    ) -> Tensor:
        """Pictures (n, 3, 64, 64) in -1…1 from conditions (n, 6, 256)."""
        noise = torch.stack([torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds])
        noise, condition = noise.to(self.device), self.settled(wanted, condition)
        with torch.no_grad():
            draft = self.memory.draft(wanted, self.vae, seeds)
            both, drafts = torch.cat([torch.zeros_like(condition), condition]), torch.cat([draft, draft])

            def velocity(z: Tensor, times: Tensor) -> Tensor:
                check()
                free, told = self.unet(torch.cat([z, z]), torch.cat([times, times]), both, drafts).float().chunk(2)
                return free + guidance * (told - free)

            z = sample(velocity, noise, steps, each=lambda n: progress(n, steps, "denoising"))
            return self.vae.pictures(z)

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """See the contract; options steps (6), guidance (2) and size (256, of a side in pixels)."""
        steps, guidance, side = (
            options.get(k, d) for k, d in (("steps", STEPS), ("guidance", GUIDANCE), ("size", SIDE))
        )
        if not 1 <= int(steps) <= 200:
            raise InputError(f"'steps' is {steps}; it has to be between 1 and 200.")
        if not 16 <= int(side) <= 2048:
            raise InputError(f"'size' is {side}; it has to be between 16 and 2048 pixels.")
        conditions = condition[None].to(self.device).float()
        made = self.draw(self.wanted(conditions), conditions, [seed], int(steps), float(guidance), progress, check)
        return Media("image", png(made[0], int(side)), "image/png")


def png(picture: Tensor, side: int) -> bytes:
    """(3, h, w) in -1…1 as a PNG of the given side; edges are drawn a little sharper where it grows."""
    from PIL import Image, ImageFilter

    pixels = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    if side > pixels.shape[0]:
        image = image.filter(ImageFilter.UnsharpMask(radius=side / 90, percent=120, threshold=2))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
