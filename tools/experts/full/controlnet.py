"""ControlNet: a picture drawn along edges, lines, depth, normals, poses or regions. One table, two generations.

What draws such guides from a picture is in `control_pictures.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...contracts import Expert, Output, Run
from ...full_tools import full_tool
from .diffusion import DiffusionExpert
from .hub import address, build, card, precision
from .stable_diffusion import SD15, ImageToImage, picture

# The repositories of both generations, by the kind of guide.
FIRST = {k: f"lllyasviel/sd-controlnet-{k}" for k in ("canny", "depth", "hed", "mlsd", "normal", "openpose", "seg")}
SECOND = {
    "canny": "lllyasviel/control_v11p_sd15_canny",
    "depth": "lllyasviel/control_v11f1p_sd15_depth",
    "hed": "lllyasviel/control_v11p_sd15_softedge",
    "mlsd": "lllyasviel/control_v11p_sd15_mlsd",
    "normal": "lllyasviel/control_v11p_sd15_normalbae",
    "openpose": "lllyasviel/control_v11p_sd15_openpose",
    "seg": "lllyasviel/control_v11p_sd15_seg",
}


class Controlled(ImageToImage):
    """Draws a picture from a description along a guide; `control` is how strictly."""

    pipeline = "StableDiffusionControlNetPipeline"
    defaults: ClassVar[Mapping[str, Any]] = {**DiffusionExpert.defaults, "control": 1.0, "width": 512, "height": 512}

    def parts(self, folders: list[Path]) -> dict[str, Any]:
        """The ControlNet, from its own repository."""
        from diffusers import ControlNetModel

        kind = precision(self.device)
        net = ControlNetModel.from_pretrained(folders[1], dtype=kind, local_files_only=True, use_safetensors=True)
        return {"controlnet": net}

    def make(self, args: Mapping[str, Any], run: Run, scale: float) -> list[Output]:
        """One PNG, of the guide's shape and about the area that was set."""
        guide = self.fitted(Path(args["image"]), scale)
        made = self.generate(
            run, prompt=self.prompt(args), image=guide, controlnet_conditioning_scale=self.option("control"),
            width=guide.width, height=guide.height,
        )  # fmt: skip
        return [picture(self, made, run)]


def experts() -> list[type[Expert]]:
    """Both generations of each kind, for the entry point."""
    made: list[type[Expert]] = []
    for version, table, quality in (("1-0", FIRST, 0.6), ("1-1", SECOND, 0.7)):
        for kind, repository in table.items():
            net = address(repository)
            about = card(SD15, net, licence="CreativeML-OpenRAIL-M", size=4.2e9, memory=5e9, quality=quality)
            words = f"Stable Diffusion 1.5 with ControlNet {version.replace('-', '.')} for {kind}"
            name = f"controlnet-{kind}-{version}"
            made.append(build(Controlled, name, full_tool(f"{kind}-text-to-image"), about, words))
    return made
