"""Pictures by Stable Diffusion: from a text, from a picture and a text, and changes as told (InstructPix2Pix)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError
from ...builtin import tool
from ...contracts import Expert, Output, Run
from ..classic import open_picture
from .diffusion import DiffusionExpert
from .encode import png
from .hub import build, card

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


class TextToImage(DiffusionExpert):
    """Draws a picture from a description."""

    pipeline = "StableDiffusionPipeline"
    defaults: ClassVar[Mapping[str, Any]] = {**DiffusionExpert.defaults, "width": 512, "height": 512}

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One PNG of the size that was set."""
        made = self.generate(run, prompt=self.prompt(args), **self.size(scale))
        return [picture(self, made, run)]


class ImageToImage(DiffusionExpert):
    """Draws a picture anew from a description, keeping its layout; `strength` is how much may change."""

    pipeline = "StableDiffusionImg2ImgPipeline"
    defaults: ClassVar[Mapping[str, Any]] = {**DiffusionExpert.defaults, "strength": 0.75, "width": 512, "height": 512}

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One PNG, of the picture's shape and about the area that was set."""
        made = self.generate(
            run,
            prompt=self.prompt(args),
            image=self.fitted(Path(args["image"]), scale),
            strength=self.option("strength"),
        )
        return [picture(self, made, run)]

    def fitted(self, path: Path, scale: float) -> Any:
        """The picture as RGB, scaled to the area of `width` x `height`, its sides as the model wants them."""
        source = open_picture(path).convert("RGB")
        wanted = self.size(scale)
        factor = (wanted["width"] * wanted["height"] / (source.width * source.height)) ** 0.5
        return source.resize((self.side(round(source.width * factor)), self.side(round(source.height * factor))))


class InstructPix2Pix(ImageToImage):
    """Changes a picture as it is told ("make it winter")."""

    pipeline = "StableDiffusionInstructPix2PixPipeline"
    defaults: ClassVar[Mapping[str, Any]] = {
        **DiffusionExpert.defaults,
        "image_guidance": 1.5,
        "width": 512,
        "height": 512,
    }

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One PNG, of the picture's shape and about the area that was set."""
        made = self.generate(
            run,
            prompt=self.prompt(args),
            image=self.fitted(Path(args["image"]), scale),
            image_guidance_scale=self.option("image_guidance"),
        )
        return [picture(self, made, run)]


def picture(expert: DiffusionExpert, made: Any, run: Run) -> Output:
    """The pipeline's first picture; ExpertError when its safety checker withheld it."""
    if any(getattr(made, "nsfw_content_detected", None) or []):
        raise ExpertError(f"The safety checker of '{expert.name}' withheld the picture; describe another one.")
    image = made.images[0]
    facts = {"width": image.width, "height": image.height, "steps": int(expert.option("steps"))}
    facts |= {"guidance": expert.option("guidance"), "seed": run.seed}
    return Output(png(image), "image/png", "picture", facts)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    draw, change = tool("text-to-image"), tool("image-to-image")
    large = {"width": 1024, "height": 1024}
    return [
        build(
            TextToImage,
            "stable-diffusion-1-5",
            draw,
            card(SD15, licence="CreativeML-OpenRAIL-M", size=2.8e9, memory=4e9, quality=0.6),
            "Stable Diffusion 1.5; pictures of 512 x 512, any style",
        ),
        build(
            TextToImage,
            "stable-diffusion-xl",
            draw,
            card(
                "stabilityai/stable-diffusion-xl-base-1.0",
                licence="CreativeML-OpenRAIL++-M",
                size=7.1e9,
                memory=1.2e10,
                speed="slow",
                quality=0.8,
            ),
            "Stable Diffusion XL; pictures of 1024 x 1024, finer and slower",
            pipeline="StableDiffusionXLPipeline",
            defaults=large,
        ),
        build(
            TextToImage,
            "sd-turbo",
            draw,
            card(
                "stabilityai/sd-turbo",
                licence="Stability AI non-commercial community",
                size=2.6e9,
                memory=4e9,
                speed="fast",
                quality=0.55,
            ),
            "SD-Turbo; one step instead of fifty, so a picture takes a second",
            defaults={"steps": 1, "guidance": 0.0},
        ),
        build(
            ImageToImage,
            "stable-diffusion-1-5-img2img",
            change,
            card(SD15, licence="CreativeML-OpenRAIL-M", size=2.8e9, memory=4e9, quality=0.6),
            "Stable Diffusion 1.5; draws a picture anew from a description of the result",
        ),
        build(
            InstructPix2Pix,
            "instruct-pix2pix",
            change,
            card("timbrooks/instruct-pix2pix", licence="MIT", size=2.8e9, memory=4e9, quality=0.75),
            'InstructPix2Pix; changes a picture as told, such as "make it snow"',
        ),
    ]
