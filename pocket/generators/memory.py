"""What pocket-image remembers: the latents of the pictures it was trained on, a kilobyte each, looked up by name.

    memory = Memory.open(folder)                    # memory.safetensors, words.json
    wanted = memory.wanted(reader.says(condition))  # one `Wanted` for each row of the condition
    draft = memory.draft(wanted, vae, seeds)        # (n, 8, 16, 16): two drafts for each picture

Retrieval-augmented diffusion (arXiv 2204.11824): a model small enough for a CPU cannot hold 1,367 things in
four styles in its weights, and need not. A draft is the thing as remembered, laid out as the condition
says, without its colours, its ground or a style that is not remembered: that is what the denoiser is for.
The first draft is in the wanted style where there is one, the second in another.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.errors import WeightsError
from .layouts import LAYOUTS, arranged

if TYPE_CHECKING:
    from .autoencoder import Autoencoder

REACH = 5.0  # deviations; what lies beyond is cut when latents are kept as int8


@dataclass(frozen=True)
class Wanted:
    """What a condition asks for, in the words of the reader's heads; "" is nothing in particular."""

    thing: str
    other: str = ""
    colour: str = ""
    colour_other: str = ""
    ground: str = ""
    style: str = ""
    layout: str = "whole"
    motion: str = ""


class Memory:
    """Latents by concept and style."""

    def __init__(self, latents: Tensor, concepts: Sequence[str], styles: Sequence[str], words: Mapping[str, list[str]]):
        self.latents, self.words = latents, dict(words)
        self.rows = {(c, s): n for n, (c, s) in enumerate(zip(concepts, styles, strict=True))}
        self.styles: dict[str, list[str]] = {}
        for concept, style in self.rows:
            self.styles.setdefault(concept, []).append(style)

    @classmethod
    def open(cls, folder: Path, device: str = "cpu") -> Memory:
        """WeightsError when the folder holds none."""
        from ..tensors import read_tensors

        tensors, head = read_tensors(folder / "memory.safetensors")
        try:
            words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
            latents = tensors["latents"].to(device).float() * (REACH / 127)
            return cls(latents, json.loads(head["concepts"]), json.loads(head["styles"]), words)
        except (OSError, KeyError, ValueError) as e:
            raise WeightsError(f"'{folder}' holds no usable memory of pictures ({e}); fetch the weights anew.") from e

    def save(self, folder: Path) -> None:
        """int8 latents, with concepts and styles in the header, and the words."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        kept = (self.latents.cpu() * (127 / REACH)).round().clamp(-127, 127).to(torch.int8)
        head = {"concepts": json.dumps([c for c, _ in self.rows]), "styles": json.dumps([s for _, s in self.rows])}
        save_file({"latents": kept.contiguous()}, folder / "memory.safetensors", head)
        (folder / "words.json").write_text(json.dumps(self.words, indent=0) + "\n", encoding="utf-8")

    def wanted(self, says: Mapping[str, Tensor]) -> list[Wanted]:
        """The likeliest answer of every head; a second thing and a layout for two go together."""
        best = {what: logits.argmax(1).tolist() for what, logits in says.items()}
        count = len(next(iter(best.values())))
        found = []
        for n in range(count):
            told = {what: self.words[what][own[n]] for what, own in best.items()}
            two = told["layout"] in ("beside", "above")
            if told["other"] and not two:
                told["layout"] = "beside"
            elif two and not told["other"]:
                told["layout"] = "whole"
            found.append(Wanted(**told))
        return found

    def styles_for(self, wanted: Wanted, seed: int) -> tuple[str, str]:
        """Which styles to take the two drafts from: the one that is asked for first, else any, by the seed."""
        things = [t for t in (wanted.thing, wanted.other) if t]
        there = [s for s in self.styles.get(things[0], []) if all(s in self.styles.get(t, []) for t in things)]
        there = there or self.styles.get(things[0], [])
        order = random.Random(seed).sample(sorted(there), len(there))
        order.sort(key=lambda s: s != wanted.style)
        return order[0], order[min(1, len(order) - 1)]

    def draft(self, wanted: Sequence[Wanted], vae: Autoencoder, seeds: Sequence[int]) -> Tensor:
        """(n, 8, 16, 16): for each picture both drafts, one after the other in the channels."""
        rows: list[tuple[int, int, str]] = []
        for want, seed in zip(wanted, seeds, strict=True):
            for style in self.styles_for(want, seed):
                row = self._row(want.thing, style)
                rows.append((row, self._row(want.other, style) if want.other else row, want.layout))
        made = self.latents[[row for row, _, _ in rows]].clone()
        for layout in {layout for _, _, layout in rows} - {"whole"}:
            which = [n for n, row in enumerate(rows) if row[2] == layout]
            one, other = (vae.pictures(self.latents[[rows[n][k] for n in which]]) for k in (0, 1))
            made[which] = vae.latents(arranged(one, other, layout))
        return made.reshape(len(wanted), -1, *made.shape[2:])

    def _row(self, concept: str, style: str) -> int:
        """The row of a concept in a style, or in any style it has."""
        found = self.rows.get((concept, style))
        return self.rows[concept, self.styles[concept][0]] if found is None else found


assert "whole" in LAYOUTS
