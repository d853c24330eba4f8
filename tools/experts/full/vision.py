"""What is in a picture: things and their boxes, the one class, regions, depth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError
from ...contracts import Expert, Output, Run
from ...full_tools import full_tool
from ..classic import open_picture
from .encode import png
from .hub import HubExpert, build, card
from .loading import model_of, on


class Seer(HubExpert):
    """A model with an image processor and no words."""

    needs = ("transformers",)
    kind: ClassVar[str]

    def open(self, folders: list[Path]) -> None:
        """The model and its image processor."""
        self.model, self.processor = model_of(folders[0], self.kind, self.device, "AutoImageProcessor")

    def seen(self, args: Mapping[str, Any], run: Run) -> tuple[Any, Any]:
        """The picture as RGB, and the model's output for it."""
        picture = open_picture(Path(args["image"])).convert("RGB")
        run.progress(0, 1, "picture")
        seen = self.model(**on(self.processor(images=picture, return_tensors="pt"), self.model))
        run.check()
        run.progress(1, 1, "picture")
        return picture, seen


class Detector(Seer):
    """Finds things: a line a thing, with its confidence and its box in pixels (left, top, right, bottom)."""

    kind = "AutoModelForObjectDetection"
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "least": 0.5}

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The things above the confidence `least`, the surest first."""
        picture, seen = self.seen(args, run)
        least = float(self.option("least"))
        found = self.processor.post_process_object_detection(seen, least, [(picture.height, picture.width)])[0]
        things = sorted(
            (
                {
                    "label": self.model.config.id2label[int(n)],
                    "score": round(float(s), 3),
                    "box": [round(float(v)) for v in b],
                }
                for n, s, b in zip(found["labels"], found["scores"], found["boxes"], strict=True)
            ),
            key=lambda t: -t["score"],
        )
        lines = [f"{t['label']} ({t['score']:.2f}) at {', '.join(map(str, t['box']))}" for t in things]
        words = "\n".join(lines) or f"Nothing was found with a confidence of {least:g} or more."
        return [Output.text(words, "things", things=things, count=len(things))]


class Classifier(Seer):
    """Names what a picture shows: the five likeliest of the classes it knows."""

    kind = "AutoModelForImageClassification"

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A line a class, the likeliest first."""
        _, seen = self.seen(args, run)
        return [likeliest(seen.logits[0].float().softmax(-1), self.model.config.id2label)]


class Segmenter(Seer):
    """Colours regions by what they are; which colour is what goes with the picture as facts."""

    kind = "AutoModelForUniversalSegmentation"
    post: ClassVar[str] = "panoptic"
    defaults: ClassVar[Mapping[str, Any]] = {"revision": "", "least": 0.5}

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A PNG of the picture's size, each region in one colour."""
        picture, seen = self.seen(args, run)
        size = [(picture.height, picture.width)]
        labels = self.model.config.id2label
        if self.post == "panoptic":
            found = self.processor.post_process_panoptic_segmentation(
                seen, threshold=float(self.option("least")), target_sizes=size
            )[0]
            regions = {s["id"]: labels[s["label_id"]] for s in found["segments_info"]}
            marks = found["segmentation"]
        else:
            marks = self.processor.post_process_semantic_segmentation(seen, target_sizes=size)[0]
            regions = {int(n): labels[int(n)] for n in marks.unique()}
        if not regions:
            raise ExpertError(f"'{self.name}' found no region in this picture that it knows.")
        return [painted(marks.cpu().numpy(), regions)]


class Depth(Seer):
    """Draws depth: near is bright, far is dark."""

    kind = "AutoModelForDepthEstimation"

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A gray PNG of the picture's size."""
        picture, seen = self.seen(args, run)
        return [Output(png(gray(depth_of(seen, picture.size))), "image/png", "depth", {})]


def depth_of(seen: Any, size: tuple[int, int]) -> Any:
    """Nearness from 0 to 1, an array of (height, width), at the picture's size."""
    import torch

    depth = seen.predicted_depth.float()
    depth = torch.nn.functional.interpolate(depth[:, None], size=size[::-1], mode="bicubic", align_corners=False)[0, 0]
    low, high = depth.min(), depth.max()
    return ((depth - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).cpu().numpy()


def gray(values: Any) -> Any:
    """An array from 0 to 1 as a gray picture."""
    from PIL import Image

    return Image.fromarray((values * 255).round().astype("uint8"))


def painted(marks: Any, regions: Mapping[int, str]) -> Output:
    """Regions as a picture; the same label has the same colour in every picture."""
    import hashlib

    import numpy as np
    from PIL import Image

    canvas = np.zeros((*marks.shape, 3), np.uint8)
    colours: dict[str, list[int]] = {}
    for number, label in regions.items():
        shade = [
            64 + b % 192 for b in hashlib.sha256(f"{label}{number if label in colours else ''}".encode()).digest()[:3]
        ]
        canvas[marks == number] = shade
        colours.setdefault(label, shade)
    facts = {"regions": len(regions), "labels": json.loads(json.dumps(colours))}
    return Output(png(Image.fromarray(canvas)), "image/png", "regions", facts)


def likeliest(chances: Any, labels: Mapping[int, str], most: int = 5) -> Output:
    """The likeliest labels, a line each."""
    top = chances.topk(min(most, len(chances)))
    found = [(labels[int(n)], float(c)) for c, n in zip(top.values, top.indices, strict=True)]
    facts = {"label": found[0][0], "score": round(found[0][1], 4)}
    return Output.text("\n".join(f"{label} ({chance:.2f})" for label, chance in found), "classes", **facts)


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    find, name = full_tool("object-detection"), full_tool("image-classification")
    regions, depth = full_tool("image-segmentation"), full_tool("depth-estimation")
    return [
        build(
            Detector,
            "detr-resnet-50",
            find,
            card(
                "facebook/detr-resnet-50",
                licence="Apache-2.0",
                size=1.7e8,
                memory=5e8,
                speed="fast",
                quality=0.6,
            ),
            "DETR with ResNet-50; the 80 everyday things of COCO",
        ),
        build(
            Detector,
            "rt-detr-r50",
            find,
            card("PekingU/rtdetr_r50vd", licence="Apache-2.0", size=1.8e8, memory=6e8, speed="fast", quality=0.75),
            "RT-DETR with ResNet-50; the 80 everyday things of COCO, faster and surer",
        ),
        build(
            Classifier,
            "vit-base",
            name,
            card(
                "google/vit-base-patch16-224",
                licence="Apache-2.0",
                size=3.5e8,
                memory=5e8,
                speed="fast",
                quality=0.7,
            ),
            "ViT base; the 1000 classes of ImageNet",
        ),
        build(
            Classifier,
            "resnet-50",
            name,
            card("microsoft/resnet-50", licence="Apache-2.0", size=1.0e8, memory=3e8, speed="instant", quality=0.5),
            "ResNet-50; the 1000 classes of ImageNet, small",
        ),
        build(
            Segmenter,
            "mask2former-coco",
            regions,
            card(
                "facebook/mask2former-swin-tiny-coco-panoptic",
                licence="CC-BY-NC-4.0",  # its code is MIT; the weights are not, says the model zoo of its authors
                size=1.9e8,
                memory=8e8,
                speed="fast",
                quality=0.75,
            ),
            "Mask2Former with Swin tiny; things and backgrounds of COCO",
        ),
        build(
            Segmenter,
            "upernet-ade",
            regions,
            card("openmmlab/upernet-convnext-small", licence="MIT", size=3.3e8, memory=9e8, speed="fast", quality=0.6),
            "UperNet with ConvNeXt; 150 kinds of regions, rooms and streets (ADE20K)",
            kind="AutoModelForSemanticSegmentation",
            post="semantic",
        ),
        build(
            Depth,
            "dpt-large",
            depth,
            card("Intel/dpt-large", licence="Apache-2.0", size=1.4e9, memory=1.8e9, quality=0.6),
            "DPT large; relative depth",
        ),
        build(
            Depth,
            "depth-anything-v2-small",
            depth,
            card(
                "depth-anything/Depth-Anything-V2-Small-hf",
                licence="Apache-2.0",
                size=1e8,
                memory=4e8,
                speed="fast",
                quality=0.75,
            ),
            "Depth Anything V2 small; relative depth, sharp edges",
        ),
    ]
