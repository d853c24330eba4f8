"""The guides that ControlNets draw along, from a picture: edges, lines, normals, poses.

Hard edges and straight lines are OpenCV's (Canny 1986; LSD, von Gioi 2010), which need no weights; soft
edges are HED's (Xie and Tu 2015) with the weights that the ControlNets were trained on; normals are the
slopes of an estimated depth, as for the first ControlNets; poses are ViTPose's, drawn as OpenPose draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError
from ...contracts import Card, Expert, Output, Run
from ...full_tools import full_tool
from ..classic import open_picture
from .encode import png
from .hub import HubExpert, address, build, card, moved
from .loading import model_of, on
from .vision import Seer, depth_of

# Joints as COCO counts them, the neck added as the middle of the shoulders; limbs as OpenPose draws them.
NECK = 17
LIMBS = (
    (NECK, 6),
    (NECK, 5),
    (6, 8),
    (8, 10),
    (5, 7),
    (7, 9),
    (NECK, 12),
    (12, 14),
    (14, 16),
    (NECK, 11),
    (11, 13),
    (13, 15),
    (NECK, 0),
    (0, 2),
    (2, 4),
    (0, 1),
    (1, 3),
)


class Canny(HubExpert):
    """Hard edges, white on black; `low` and `high` are the thresholds."""

    defaults: ClassVar[Mapping[str, Any]] = {"low": 100, "high": 200}

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A PNG of the picture's size."""
        import cv2

        return [drawn(cv2.Canny(gray_of(args["image"]), int(self.option("low")), int(self.option("high"))), "edges")]


class Lines(HubExpert):
    """Straight lines, white on black; those shorter than `least` of the longer side are left out."""

    defaults: ClassVar[Mapping[str, Any]] = {"least": 0.03}

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A PNG of the picture's size."""
        import cv2
        import numpy as np

        gray = gray_of(args["image"])
        found = cv2.createLineSegmentDetector().detect(gray)[0]
        canvas = np.zeros_like(gray)
        least = float(self.option("least")) * max(gray.shape)
        for x1, y1, x2, y2 in [] if found is None else found.reshape(-1, 4).tolist():
            if np.hypot(x2 - x1, y2 - y1) >= least:
                cv2.line(canvas, (round(x1), round(y1)), (round(x2), round(y2)), 255, 1)
        return [drawn(canvas, "lines")]


class SoftEdges(HubExpert):
    """Soft edges, white on black, by HED, whose large numbers are not for half precision."""

    needs = ("transformers",)
    half = False

    def open(self, folders: list[Path]) -> None:
        """The net of `hed()` with the weights of the file."""
        from safetensors.torch import load_file

        self.model = hed()
        self.model.load_state_dict(load_file(folders[0]))
        self.model.to(self.device).eval()

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A PNG of the picture's size."""
        import numpy as np
        import torch

        pixels = np.asarray(open_picture(Path(args["image"])).convert("RGB"), np.float32)
        run.progress(0, 1, "picture")
        seen = torch.tensor(pixels).permute(2, 0, 1)[None].to(self.device)
        edges = torch.sigmoid(self.model(seen))[0, 0].cpu().numpy()
        run.progress(1, 1, "picture")
        return [drawn((edges * 255).clip(0, 255).astype(np.uint8), "edges")]


class Normals(Seer):
    """Surface normals as colours (right, up, towards the viewer), from estimated depth."""

    kind = "AutoModelForDepthEstimation"
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "background": 0.4}

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A PNG of the picture's size; what is farther than `background` looks straight at the viewer."""
        import cv2
        import numpy as np

        picture, seen = self.seen(args, run)
        depth = depth_of(seen, picture.size)
        across, down = (cv2.Sobel(depth, cv2.CV_32F, *d, ksize=3) for d in ((1, 0), (0, 1)))
        far = depth < float(self.option("background"))
        across[far] = down[far] = 0
        normals = np.stack([across, down, np.full_like(depth, 6.2832 / 40)], -1)
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        return [drawn((normals * 127.5 + 127.5).clip(0, 255).astype(np.uint8), "normals")]


class Poses(HubExpert):
    """People as coloured stick figures: RT-DETR finds them, ViTPose their joints."""

    needs = ("transformers", "scipy")
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "least": 0.3}

    def open(self, folders: list[Path]) -> None:
        """Both models and their processors."""
        kind = "VitPoseForPoseEstimation"
        self.model, self.processor = model_of(folders[0], kind, self.device, "AutoImageProcessor")
        kind = "AutoModelForObjectDetection"
        self.finder, self.looker = model_of(folders[1], kind, self.device, "AutoImageProcessor")

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A PNG of the picture's size, black where nobody is. ExpertError when nobody is seen at all."""
        picture = open_picture(Path(args["image"])).convert("RGB")
        least = float(self.option("least"))
        run.progress(0, 2, "people")
        boxes = self._people(picture, least)
        if not boxes:
            raise ExpertError("Nobody was found in the picture, so there is no pose to draw.")
        run.check()
        run.progress(1, 2, "people")
        asked = on(self.processor(picture, boxes=[boxes], return_tensors="pt"), self.model)
        more = {"dataset_index": asked["pixel_values"].new_zeros(len(boxes)).long()} if self._experts() else {}
        seen = self.model(**asked, **more)
        seen.heatmaps = seen.heatmaps.float()  # what finds their peaks knows no half precision
        found = self.processor.post_process_pose_estimation(seen, boxes=[boxes])[0]
        run.progress(2, 2, "people")
        return [drawn(figures(found, picture.size, least), "poses", people=len(boxes))]

    def _experts(self) -> bool:
        """Whether ViTPose is of the kind with several heads (ViTPose++)."""
        return int(getattr(self.model.config.backbone_config, "num_experts", 1)) > 1

    def _people(self, picture: Any, least: float) -> list[list[float]]:
        """Boxes as COCO has them: left, top, width, height."""
        seen = self.finder(**on(self.looker(images=picture, return_tensors="pt"), self.finder))
        found = self.looker.post_process_object_detection(seen, least, [(picture.height, picture.width)])[0]
        labels = self.finder.config.id2label
        people = [
            b.tolist() for n, b in zip(found["labels"], found["boxes"], strict=True) if labels[int(n)] == "person"
        ]
        return [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in people]

    def move(self, device: str) -> bool:
        """Both models go."""
        moved(self.finder, device)
        return super().move(device)


def hed() -> Any:
    """HED's net: five stages of VGG-16, each with a map of its own; out comes their mean at full size."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Stage(nn.Module):
        def __init__(self, inside: int, width: int, depth: int):
            super().__init__()
            self.convs = nn.Sequential(
                *(nn.Conv2d(inside if n == 0 else width, width, 3, padding=1) for n in range(depth))
            )
            self.projection = nn.Conv2d(width, 1, 1)

    class Hed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.Parameter(torch.zeros(1, 3, 1, 1))
            inside = 3
            for n, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
                self.add_module(f"block{n}", Stage(inside, width, depth))
                inside = width

        def forward(self, x: Any) -> Any:
            size, h, maps = x.shape[-2:], x - self.norm, []
            for n in range(1, 6):
                stage = getattr(self, f"block{n}")
                h = functional.max_pool2d(h, 2) if n > 1 else h
                for conv in stage.convs:
                    h = functional.relu(conv(h))
                maps.append(functional.interpolate(stage.projection(h), size, mode="bilinear", align_corners=False))
            return torch.stack(maps).mean(0)

    return Hed()


def figures(people: Any, size: tuple[int, int], least: float) -> Any:
    """Stick figures on black, an array (height, width, 3)."""
    import colorsys

    import cv2
    import numpy as np

    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    thick = max(1, max(size) // 128)
    shades = [tuple(round(255 * v) for v in colorsys.hsv_to_rgb(n / len(LIMBS), 1, 1)) for n in range(len(LIMBS))]
    for person in people:
        place = {
            int(n): tuple(map(float, p))
            for n, p, s in zip(person["labels"], person["keypoints"], person["scores"], strict=True)
            if float(s) >= least
        }
        if 5 in place and 6 in place:
            place[NECK] = ((place[5][0] + place[6][0]) / 2, (place[5][1] + place[6][1]) / 2)
        at = {n: (round(x), round(y)) for n, (x, y) in place.items()}
        for shade, (a, b) in zip(shades, LIMBS, strict=True):
            if a in at and b in at:
                cv2.line(canvas, at[a], at[b], shade, 2 * thick)
        for point in at.values():
            cv2.circle(canvas, point, 2 * thick, (255, 255, 255), -1)
    return canvas


def gray_of(path: Any) -> Any:
    """A picture in shades of gray, an array of bytes."""
    import numpy as np

    return np.asarray(open_picture(Path(path)).convert("RGB").convert("L"))


def drawn(pixels: Any, stem: str, **facts: Any) -> Output:
    """An array as PNG."""
    from PIL import Image

    return Output(png(Image.fromarray(pixels).convert("RGB")), "image/png", stem, facts)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    normal = full_tool("normal-control")
    plain = Card(
        licence="Apache-2.0", memory=60_000_000, speed="instant", profiles=("full",), source="https://opencv.org"
    )
    hed_file = card(
        "lllyasviel/Annotators",
        licence="Apache-2.0",
        path="ControlNetHED.pth.safetensors",
        size=2.9e7 * 2,
        memory=4e8,
        speed="fast",
        quality=0.7,
    )
    return [
        build(Canny, "canny", full_tool("canny-control"), plain, "Canny of OpenCV; hard edges"),
        build(Lines, "line-segments", full_tool("mlsd-control"), plain, "LSD of OpenCV; straight lines"),
        build(SoftEdges, "hed", full_tool("hed-control"), hed_file, "HED; soft edges"),
        build(
            Normals,
            "dpt-normals",
            normal,
            card("Intel/dpt-large", licence="Apache-2.0", size=1.4e9, memory=1.8e9, quality=0.5),
            "Normals from the depth of DPT large",
        ),
        build(
            Normals,
            "depth-anything-normals",
            normal,
            card(
                "depth-anything/Depth-Anything-V2-Small-hf",
                licence="Apache-2.0",
                size=1e8,
                memory=4e8,
                speed="fast",
                quality=0.65,
            ),
            "Normals from the depth of Depth Anything V2 small",
        ),
        *(
            build(
                Poses,
                f"vitpose-{size}",
                full_tool("openpose-control"),
                card(
                    f"usyd-community/vitpose-{size}-simple",
                    address("PekingU/rtdetr_r50vd"),
                    licence="Apache-2.0",
                    size=bytes_ + 1.8e8,
                    memory=bytes_ + 1e9,
                    speed="fast",
                    quality=quality,
                ),
                f"ViTPose {size}; people as stick figures",
            )
            for size, bytes_, quality in (("base", 3.5e8, 0.65),)
        ),
    ]
