"""Signal runs that were read before, for more updates of the output projectors than the backbone has time for.

    memory = Replay(most=4096)
    memory.keep(batch)                                  # after a step: what the projectors read, and their targets
    losses = memory.losses(model, count=256, seed=step) # align_…, decide_… of remembered runs, by modality

A pass through the language model costs some fifty times what a pass through the projectors does. What they read
drifts slowly, so the runs of the last few hundred steps are as good as new ones to learn the generator's
condition by heart; only this, nothing upstream, learns from them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...mmllm.model import Batch, MultimodalLM


class Replay:
    """The newest runs of each modality and their targets, float16, on the model's device."""

    def __init__(self, most: int):
        self.most = most
        self.runs: dict[str, Tensor] = {}
        self.targets: dict[str, Tensor] = {}

    def keep(self, batch: Batch) -> None:
        """Remembers a batch that the model has read; the oldest give way."""
        for modality, runs in batch.runs.items():
            for kept, new in ((self.runs, runs), (self.targets, batch.conditions[modality])):
                new = new.detach().half()
                kept[modality] = torch.cat([kept[modality], new])[-self.most :] if modality in kept else new

    def losses(self, model: MultimodalLM, count: int, seed: int) -> dict[str, Tensor]:
        """Losses of `count` remembered runs of each modality."""
        found: dict[str, Tensor] = {}
        for modality, runs in self.runs.items():
            chance = torch.Generator().manual_seed(seed)
            which = torch.randint(len(runs), (min(count, 4 * len(runs)),), generator=chance).to(runs.device)
            condition = model.output_projectors[modality](runs[which].float()).float()
            found |= model.alignment(modality, condition, self.targets[modality][which].float())
        return found
