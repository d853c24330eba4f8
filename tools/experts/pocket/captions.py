"""What is to be seen and heard, in words: captions of pictures, clips and sounds, and answers about pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....core.errors import AnyloomError
from ...builtin import tool
from ...contracts import Card, Expert, Output, Run
from .shared import CARD, WEIGHTS, held

ENCODERS, CAPTIONER = WEIGHTS.format("encoders"), WEIGHTS.format("captioner")


class _Looker(Expert):
    """One file in, words out."""

    sense = "image"
    batch = 16
    card = Card(
        weights=(ENCODERS, CAPTIONER),
        size=22_000_000,
        memory=80_000_000,
        speed="instant",
        quality=0.3,
        source=CARD.format("captioner"),
    )

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the encoder of this sense and the captioner."""
        from ....pocket.captioner import Captioner
        from ....pocket.encoders.pocket import PocketEncoder

        file = weights[ENCODERS] / f"{self.sense}.safetensors"
        self.encoder = held(f"encoder-{self.sense}", lambda: PocketEncoder.open(file))
        self.captioner = held("captioner", lambda: Captioner.open(weights[CAPTIONER] / "captioner.safetensors"))

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The caption, or the answer where something is asked."""
        (made,) = self.run_batch([(args, run)])
        if isinstance(made, Exception):
            raise made
        return made

    def run_batch(self, calls: Sequence[tuple[Mapping[str, Any], Run]]) -> Sequence[list[Output] | Exception]:
        """Each file is opened by itself; the networks see and say all of them at once."""
        import torch

        made: dict[int, list[Output] | Exception] = {}
        items, asked = {}, []
        for n, (args, run) in enumerate(calls):
            try:
                run.check()
                items[n] = self.encoder.prepare(Path(args[self.sense]))
                asked.append(self.asked(args))
            except AnyloomError as e:
                made[n] = e
        if items:
            Run.of_all([calls[n][1] for n in items]).check()
            features = self.encoder.encode(torch.stack(list(items.values())))
            for n, said in zip(items, self.captioner.write(self.sense, features, asked), strict=True):
                made[n] = [Output.text(self.phrased(said), "caption")]
        return [made[n] for n in range(len(calls))]

    def asked(self, args: Mapping[str, Any]) -> str:
        """The question; none for a caption."""
        return ""

    def phrased(self, said: str) -> str:
        """What the captioner said, for people."""
        return said or "nothing that it knows"

    def unload(self) -> None:
        """Lets go of the networks."""
        del self.encoder, self.captioner


class PocketImageToText(_Looker):
    """Names what a simple drawn picture shows, with colour and number; knows some 1,350 things."""

    name = "pocket-image-caption"
    tool = tool("image-to-text")


class PocketVideoToText(_Looker):
    """Names the thing in a simple clip and how it moves."""

    name = "pocket-video-caption"
    tool = tool("video-to-text")
    sense = "video"


class PocketAudioToText(_Looker):
    """Names what plays or sounds in a short recording, and how."""

    name = "pocket-audio-caption"
    tool = tool("audio-to-text")
    sense = "audio"


class PocketVQA(_Looker):
    """Answers what it is, what colour, how many and in which style, for simple pictures."""

    name = "pocket-vqa"
    tool = tool("visual-question-answering")

    def asked(self, args: Mapping[str, Any]) -> str:
        """The question."""
        return str(args["text"])


def experts() -> list[type[Expert]]:
    """For the entry point."""
    return [PocketImageToText, PocketVideoToText, PocketAudioToText, PocketVQA]
