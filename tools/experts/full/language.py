"""Generating text with transformers: watched, so that progress is reported per token and a stop ends it."""

from __future__ import annotations

from typing import Any

from ...contracts import Run


class Watch:
    """A stopping criterion that never stops by itself: it reports each token, and raises when the run was stopped."""

    def __init__(self, run: Run, most: int):
        self.run, self.most, self.made = run, most, 0

    def __call__(self, ids: Any, scores: Any, **more: Any) -> Any:
        """Called after each token of the batch; nobody is done on its account."""
        import torch

        self.run.check()
        self.made += 1
        self.run.progress(min(self.made, self.most), self.most, "tokens")
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    @classmethod
    def list(cls, run: Run, most: int) -> Any:
        """As `generate(stopping_criteria=...)` wants it."""
        from transformers import StoppingCriteriaList

        return StoppingCriteriaList([cls(run, most)])
