"""The text features of sounds' captions: computed once by the frozen text encoder, kept on the device.

    words = SceneWords(Features.open(folder).to("cuda"), "cuda")
    features = words.of(rows)                    # (n, 20, 384)
    words.rows_of[scene]                         # the rows of a scene's captions, the canonical one first
    pack_text(Features.open(folder), out)        # the text encoder in 12 MB, for a machine that has nothing

Held-out scenes have their canonical caption alone, for measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...pocket.generators.text import Features
from .audio_scenes import Scene, captions, scenes


def every_caption() -> list[str]:
    """All captions that sounds have, once each."""
    return list(dict.fromkeys(c for s in scenes() for c in captions(s)))


def pack_text(features: Features, out: Path) -> int:
    """A small copy of the text encoder that knows the words of sounds' captions; returns its size in bytes."""
    features.save_small(out, every_caption())
    return sum(f.stat().st_size for f in out.iterdir())


class SceneWords:
    """Features of every caption of some scenes."""

    def __init__(self, features: Features, device: str, some: Sequence[Scene] | None = None, batch: int = 512):
        self.captions: list[str] = []
        self.rows_of: dict[Scene, list[int]] = {}
        for scene in some if some is not None else scenes():
            said = captions(scene)
            said = said[:1] if scene.held_out else said
            self.rows_of[scene] = list(range(len(self.captions), len(self.captions) + len(said)))
            self.captions += said
        parts = [
            features(self.captions[at : at + batch]).half().to(device) for at in range(0, len(self.captions), batch)
        ]
        self.features = torch.cat(parts)

    def of(self, rows: Tensor) -> Tensor:
        """(n, 20, 384), float32."""
        return self.features[rows].float()
