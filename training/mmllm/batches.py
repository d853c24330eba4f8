"""From dialogues to batches: layout, padding, features of what is seen, targets of what is made.

    bank = MediaBank(model, items, device)
    batch = make_batch(model, bank, talks, seed=step)

Encoders and generators are frozen, so what they make of a file or a caption is computed once and kept
(float16, in memory).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ...mmllm.dialogue import Laid, Made, Turn
from ...mmllm.model import IGNORED, Batch, MultimodalLM
from .items import Item

AT_ONCE = 64  # files or captions in one pass of a frozen part
WORKERS = 8


class MediaBank:
    """Features, latents and conditions of the training data, computed when first wanted."""

    def __init__(self, model: MultimodalLM, items: Iterable[Item], device: str | torch.device):
        self.model = model
        self.device = device
        self.files = {i.id: i.file for i in items}
        self._kept: dict[tuple[str, str], dict[str, Tensor]] = {}

    def features(self, modality: str, keys: Sequence[str]) -> Tensor:
        """(n, t, width) of files, by id."""
        encoder = self.model.encoders[modality]
        return self._all("features", modality, keys, lambda some: self._files(some, encoder.prepare, encoder.encode))

    def latents(self, modality: str, keys: Sequence[str]) -> Tensor:
        """(n, …) clean latents of files, by id."""
        generator = self.model.generators[modality]
        prepare, network = generator.prepare, generator.latents
        return self._all("latents", modality, keys, lambda some: self._files(some, prepare, network))

    def conditions(self, modality: str, captions: Sequence[str]) -> Tensor:
        """(n, tokens, width) of captions: the targets of alignment."""
        return self._all("conditions", modality, captions, self.model.generators[modality].text_condition)

    def _all(self, what: str, modality: str, keys: Sequence[str], make: Callable[[Sequence[str]], Tensor]) -> Tensor:
        kept = self._kept.setdefault((what, modality), {})
        missing = [k for k in dict.fromkeys(keys) if k not in kept]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            with torch.no_grad():
                made = make(some)
            kept.update(zip(some, made.detach().to("cpu", torch.float16), strict=True))
        return torch.stack([kept[k] for k in keys]).to(self.device, torch.float32)

    def _files(self, keys: Sequence[str], prepare: Any, network: Any) -> Tensor:
        if unknown := [k for k in keys if k not in self.files]:
            raise InputError(f"The dialogues name '{unknown[0]}', which the manifest does not have.")
        with ThreadPoolExecutor(WORKERS) as pool:
            items = list(pool.map(prepare, [self.files[k] for k in keys]))
        made: Tensor = network(torch.stack(items).to(self.device))
        return made


def make_batch(
    model: MultimodalLM, bank: MediaBank, talks: Sequence[Sequence[Turn]], *, seed: int = 0, denoise: bool = True,
    targets: bool = True, last_only: bool = False,
) -> Batch:
    """Dialogues as one padded batch. `targets` off leaves out what only alignment needs; `last_only` puts loss
    on the last turn alone (preference)."""
    layout = model.layout()
    laid = [layout.lay(turns) for turns in talks]
    if last_only:
        for one, turns in zip(laid, talks, strict=True):
            _only_last(one, len(layout.lay(turns[:-1], answer=True).ids))
    width = max(len(one.ids) for one in laid)
    ids = torch.full((len(laid), width), layout.stop)
    labels = torch.full((len(laid), width), IGNORED)
    mask = torch.zeros(len(laid), width, dtype=torch.long)
    for row, one in enumerate(laid):
        here = torch.tensor(one.ids)
        ids[row, : len(here)] = here
        mask[row, : len(here)] = 1
        labels[row, : len(here)] = torch.where(torch.tensor(one.learn), here, torch.tensor(IGNORED))
    device = bank.device
    batch = Batch(ids.to(device), labels.to(device), mask.to(device), seed=seed)
    _seen(batch, bank, laid)
    if targets:
        _made(batch, bank, laid, denoise)
    return batch


def _seen(batch: Batch, bank: MediaBank, laid: Sequence[Laid]) -> None:
    """Features of everything that is spliced in, by modality."""
    found: dict[str, list[tuple[str, list[int]]]] = {}
    for row, one in enumerate(laid):
        for place, seen in one.seen:
            found.setdefault(seen.modality, []).append((seen.key, [row, place]))
    for modality, some in found.items():
        places = torch.tensor([p for _, p in some], device=bank.device)
        batch.seen[modality] = (bank.features(modality, [k for k, _ in some]), places)


def _made(batch: Batch, bank: MediaBank, laid: Sequence[Laid], denoise: bool) -> None:
    """Targets of every signal run whose caption is known, by modality; latents where all have files."""
    found: dict[str, list[tuple[Made, list[int]]]] = {}
    for row, one in enumerate(laid):
        for place, made in one.made:
            if made.caption:
                found.setdefault(made.modality, []).append((made, [row, place]))
    for modality, some in found.items():
        batch.made[modality] = torch.tensor([p for _, p in some], device=bank.device)
        batch.conditions[modality] = bank.conditions(modality, [m.caption for m, _ in some])
        keys = [m.key for m, _ in some]
        batch.latents[modality] = bank.latents(modality, keys) if denoise and all(keys) else None


def _only_last(laid: Laid, begins: int) -> None:
    laid.learn[:begins] = [False] * begins
