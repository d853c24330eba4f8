"""Pictures and clips from descriptions, by pocket-image and pocket-video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import InputError
from ....core.packaged import MINILM
from ...builtin import tool
from ...contracts import Card, Expert, Output, Run
from .shared import CARD, WEIGHTS, held

IMAGE, VIDEO = WEIGHTS.format("image"), WEIGHTS.format("video")


def open_image(weights: Mapping[str, Path]) -> Any:
    """pocket-image with its text encoder."""
    from ....pocket.generators.image import PocketImage
    from ....pocket.generators.text import Features

    features = held("text", lambda: Features.open(weights[MINILM]))
    return held("image", lambda: PocketImage.open(weights[IMAGE], features))


class _Maker(Expert):
    """A description in, a file out; more `steps` and `guidance` are slower and follow the words more closely."""

    family = "pocket-pictures"
    defaults: ClassVar[Mapping[str, Any]] = {"steps": 6, "guidance": 2.0, "size": 256}
    stem = "picture"
    model: Any

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One file. InputError when the description is empty."""
        text = str(args["text"]).strip()
        if not any(c.isalnum() for c in text):
            raise InputError("There is nothing to draw: the description has no word in it.")
        condition = self.model.text_condition([text])[0]
        options = {name: self.option(name) for name in self.defaults}
        made = self.model.generate(condition, seed=run.seed, progress=run.progress, check=run.check, options=options)
        return [Output(made.data, made.media_type, self.stem, {"prompt": text, "seed": run.seed})]

    def unload(self) -> None:
        """Lets go of the networks."""
        del self.model


class PocketTextToImage(_Maker):
    """Draws one or two things of some 1,350 in plain styles, in a colour, on a ground: 64 pixels wide, shown at 256."""

    name = "pocket-image"
    tool = tool("text-to-image")
    card = Card(
        weights=(IMAGE, MINILM),
        size=110_000_000,
        memory=330_000_000,
        speed="fast",
        quality=0.3,
        source=CARD.format("image"),
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the networks."""
        self.model = open_image(weights)


class PocketTextToVideo(_Maker):
    """Films two seconds of such a thing: it moves, spins, grows, bounces, fades; its parts do not move."""

    name = "pocket-video"
    tool = tool("text-to-video")
    card = Card(
        weights=(VIDEO, IMAGE, MINILM),
        size=113_000_000,
        memory=340_000_000,
        speed="fast",
        quality=0.3,
        source=CARD.format("video"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {**_Maker.defaults, "format": "mp4"}
    stem = "clip"

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the networks."""
        from ....pocket.generators.video import PocketVideo

        self.model = PocketVideo.open(weights[VIDEO], open_image(weights))


def experts() -> list[type[Expert]]:
    """For the entry point."""
    return [PocketTextToImage, PocketTextToVideo]
