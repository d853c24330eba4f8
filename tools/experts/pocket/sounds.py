"""Sound effects and short tunes from descriptions, by pocket-audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import InputError
from ....core.packaged import MINILM
from ...builtin import tool
from ...contracts import Card, Expert, Output, Run
from .shared import CARD, WEIGHTS, held, missing

AUDIO = WEIGHTS.format("audio")


class PocketTextToAudio(Expert):
    """Plays three seconds of an instrument, a drum, a noise or an effect of some 100, as a note, a tune or a rhythm."""

    name = "pocket-audio"
    family = "pocket-sounds"
    tool = tool("text-to-audio")
    card = Card(
        weights=(AUDIO, MINILM),
        size=105_000_000,
        memory=200_000_000,
        speed="fast",
        quality=0.3,
        source=CARD.format("audio"),
    )
    defaults: ClassVar[Mapping[str, Any]] = {"steps": 16, "guidance": 3.0}
    model: Any

    @classmethod
    def available(cls) -> str | None:
        """Whether its weights ship."""
        return missing("audio", "flow.safetensors")

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the networks."""
        from ....pocket.generators.audio import PocketAudio
        from ....pocket.generators.text import Features

        features = held("text", lambda: Features.open(weights[MINILM]))
        self.model = PocketAudio.open(weights[AUDIO], features)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """One WAV. InputError when the description is empty."""
        text = str(args["text"]).strip()
        if not any(c.isalnum() for c in text):
            raise InputError("There is nothing to play: the description has no word in it.")
        condition = self.model.text_condition([text])[0]
        options = {name: self.option(name) for name in self.defaults}
        made = self.model.generate(condition, seed=run.seed, progress=run.progress, check=run.check, options=options)
        return [Output(made.data, made.media_type, "sound", {"prompt": text, "seed": run.seed})]

    def unload(self) -> None:
        """Lets go of the networks."""
        del self.model


def experts() -> list[type[Expert]]:
    """For the entry point."""
    return [PocketTextToAudio]
