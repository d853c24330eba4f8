"""Video: Zeroscope, ModelScope and Wan from a text; I2VGen-XL and Stable Video Diffusion from a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import InputError
from ...builtin import tool
from ...contracts import Expert, Output, Run
from ...full_tools import full_tool
from ..classic import open_picture
from .diffusion import DiffusionExpert
from .encode import mp4
from .hub import build, card


class TextToVideo(DiffusionExpert):
    """Makes a short video from a description. Size and length are NExT-GPT's unless the model is made for others."""

    pipeline = "TextToVideoSDPipeline"
    defaults: ClassVar[Mapping[str, Any]] = {
        **DiffusionExpert.defaults,
        "width": 576,
        "height": 320,
        "frames": 24,
        "fps": 8,
    }

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One silent MP4."""
        frames = int(self.option("frames"))
        made = self.generate(run, prompt=self.prompt(args), num_frames=frames, **self.size(scale))
        return [film(self, made, run)]


class ImageToVideo(TextToVideo):
    """Sets a picture in motion; a text may say how."""

    pipeline = "I2VGenXLPipeline"
    wants_text: ClassVar[bool] = True

    def open(self, folders: list[Path]) -> None:
        """The pipeline; I2VGen-XL looks for its text encoder's last layer where transformers no longer has it."""
        super().open(folders)
        encoder = getattr(self.model, "text_encoder", None)
        if encoder is not None and not hasattr(encoder, "text_model"):
            object.__setattr__(encoder, "text_model", encoder)  # no submodule: it would hold itself

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One silent MP4 that begins with the picture, cropped to the shape that the model makes."""
        from PIL import ImageOps

        size = self.size(scale)
        start = ImageOps.fit(open_picture(Path(args["image"])).convert("RGB"), (size["width"], size["height"]))
        text = {"prompt": (args.get("text") or "").strip()} if self.wants_text else {}
        if text and not text["prompt"]:
            raise InputError(f"'{self.name}' needs a text that says what happens in the picture.")
        made = self.generate(
            run,
            image=start,
            num_frames=int(self.option("frames")),
            target_fps=int(self.option("fps")),
            fps=int(self.option("fps")),
            decode_chunk_size=4,
            max_guidance_scale=self.option("guidance"),
            **text,
            **size,
        )
        return [film(self, made, run)]


def film(expert: DiffusionExpert, made: Any, run: Run) -> Output:
    """The frames as MP4."""
    frames = pictures(made.frames[0])
    fps = int(expert.option("fps"))
    height, width = frames[0].shape[:2]
    facts = {
        "width": width,
        "height": height,
        "frames": len(frames),
        "fps": fps,
        "seconds": round(len(frames) / fps, 2),
    }
    facts |= {"steps": int(expert.option("steps")), "guidance": expert.option("guidance"), "seed": run.seed}
    return Output(mp4(frames, fps), "video/mp4", "video", facts)


def pictures(frames: Any) -> list[Any]:
    """Whatever a pipeline calls frames, as arrays of bytes (height, width, 3)."""
    import numpy as np

    found = [np.asarray(f) for f in frames]
    return [(f.clip(0, 1) * 255).round().astype(np.uint8) if f.dtype.kind == "f" else f for f in found]


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    film_it, move_it = tool("text-to-video"), full_tool("image-to-video")
    return [
        build(
            TextToVideo,
            "zeroscope-v2-576w",
            film_it,
            card(
                "cerspense/zeroscope_v2_576w",
                licence="CC-BY-NC-4.0",
                size=6.9e9,
                memory=1.3e10,
                speed="slow",
                quality=0.6,
            ),
            "Zeroscope v2 576w; three seconds of 576 x 320",
        ),
        build(
            TextToVideo,
            "modelscope-text-to-video",
            film_it,
            card(
                "ali-vilab/text-to-video-ms-1.7b",
                licence="CC-BY-NC-4.0",
                size=3.7e9,
                memory=6.5e9,
                speed="slow",
                quality=0.5,
            ),
            "ModelScope text-to-video 1.7B; two seconds of 256 x 256",
            defaults={"width": 256, "height": 256, "frames": 16},
        ),
        build(
            TextToVideo,
            "wan-2-1-t2v",
            film_it,
            card(
                "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
                licence="Apache-2.0",
                size=2.9e10,
                memory=2.2e10,
                speed="slow",
                quality=0.85,
            ),
            "Wan 2.1 1.3B; five seconds of 832 x 480, the best and slowest",
            pipeline="WanPipeline",
            sides=16,
            defaults={"width": 832, "height": 480, "frames": 81, "fps": 16, "guidance": 5.0},
        ),
        build(
            ImageToVideo,
            "i2vgen-xl",
            move_it,
            card("ali-vilab/i2vgen-xl", licence="MIT", size=7.1e9, memory=1.7e10, speed="slow", quality=0.6),
            "I2VGen-XL; sets a picture in motion as a text says",
            defaults={"width": 1280, "height": 704, "frames": 16, "fps": 16, "guidance": 9.0},
        ),
        build(
            ImageToVideo,
            "stable-video-diffusion",
            move_it,
            card(
                "stabilityai/stable-video-diffusion-img2vid-xt",
                licence="Stability AI non-commercial community",
                size=4.6e9,
                memory=1.5e10,
                speed="slow",
                quality=0.8,
                gated=True,
            ),
            "Stable Video Diffusion XT; sets a picture in motion of itself, three to four seconds",
            pipeline="StableVideoDiffusionPipeline",
            wants_text=False,
            defaults={"width": 1024, "height": 576, "frames": 25, "fps": 7, "steps": 25, "guidance": 3.0},
        ),
    ]
