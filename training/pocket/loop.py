"""The training loop that the pocket picture and video models share: budget, rate, averages, checkpoints, log.

    loop = Loop(modules, out, Budget(minutes=20), Pace(rate=1e-3), device="cuda", resume=True)
    while loop.goes_on():
        loss = ...
        loop.step(loss, {"loss": float(loss)}, seen=64)
    loop.finish()
    with loop.averaged(): ...                       # the averaged weights in place of the last ones

A run is bounded by steps, by minutes or by both; the learning rate follows whichever is further on. A
checkpoint holds weights, averages, optimiser, step and time spent; it is written whole or not at all,
every few minutes, and when the run is interrupted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.precision import autocast


@dataclass(frozen=True)
class Budget:
    """When a run ends: at so many steps or minutes of training, whichever comes first."""

    steps: int | None = None
    minutes: float | None = None

    def part(self, steps: int, seconds: float) -> float:
        """How far on, 0…1."""
        parts = [steps / self.steps if self.steps else 0.0, seconds / 60 / self.minutes if self.minutes else 0.0]
        return min(1.0, max(parts))


@dataclass(frozen=True)
class Pace:
    """Learning rate: warm-up in steps, constant, cosine decay over the last part; and what else steers the weights."""

    rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.5
    least: float = 0.01
    average: float = 0.9995
    decay_weights: float = 0.01
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)

    def at(self, step: int, part: float) -> float:
        """The rate at a step, `part` of the way through."""
        rate = self.rate * min(1.0, (step + 1) / self.warmup)
        if part > 1 - self.decay:
            on = (part - (1 - self.decay)) / self.decay
            rate *= self.least + (1 - self.least) * 0.5 * (1 + math.cos(math.pi * on))
        return rate


@dataclass
class Loop:
    """See the file's first lines. `modules` are trained, by name; `say` gets a line now and then."""

    modules: Mapping[str, nn.Module]
    out: Path
    budget: Budget
    pace: Pace
    device: str = "cpu"
    resume: bool = False
    say: Callable[[str], None] = print
    every: int = 50  # steps between lines of the log
    keep_minutes: float = 5.0  # between checkpoints
    step_number: int = 0
    spent: float = 0.0
    _sums: dict[str, Tensor | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        named = [
            (f"{m}.{n}", p)
            for m, module in self.modules.items()
            for n, p in module.named_parameters()
            if p.requires_grad
        ]
        if not named or not (self.budget.steps or self.budget.minutes):
            raise InputError("There is nothing to train: give --steps or --minutes, and modules with parameters.")
        self.names: list[str] = [n for n, _ in named]
        self.live: list[Tensor] = [p for _, p in named]
        matrices = [p for _, p in named if p.ndim > 1]
        others = [p for _, p in named if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.pace.decay_weights},
            {"params": others, "weight_decay": 0.0},
        ]
        fused = self.device != "mps"
        self.optimiser = torch.optim.AdamW(groups, lr=self.pace.rate, betas=self.pace.betas, fused=fused)
        self.average = [p.detach().clone() for p in self.live]
        self._count = self._seen = 0
        if self.resume and (self.out / "checkpoint.pt").exists():
            self._restore()
        self._started = self._kept = time.monotonic()
        self._line_at = self.seconds

    @property
    def seconds(self) -> float:
        """Seconds of training so far, earlier runs counted in."""
        return self.spent + time.monotonic() - self._started

    @property
    def part(self) -> float:
        """How far on, 0…1."""
        return self.budget.part(self.step_number, self.seconds)

    def goes_on(self) -> bool:
        """Whether there is budget left."""
        return self.part < 1.0

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is faster."""
        return autocast(self.device)

    def step(self, loss: Tensor, told: Mapping[str, Tensor | float], seen: int) -> None:
        """Backward, one update, averages; `told` goes to the log as means over `every` steps."""
        rate = self.pace.at(self.step_number, self.part)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.live, self.pace.clip, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step_number += 1
        keep = min(self.pace.average, (1 + self.step_number) / (10 + self.step_number))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.live], 1 - keep)
        for key, value in {**told, "norm": norm.detach()}.items():
            self._sums[key] = self._sums.get(key, 0.0) + (value.detach() if isinstance(value, Tensor) else value)
        self._count, self._seen = self._count + 1, self._seen + seen
        if self.step_number % self.every == 0:
            self._line(rate)
        if time.monotonic() - self._kept > 60 * self.keep_minutes:
            self.keep()

    def _line(self, rate: float) -> None:
        took = max(1e-6, self.seconds - self._line_at)
        means = {k: round(float(v) / self._count, 5) for k, v in self._sums.items()}
        line = {"step": self.step_number, **means, "rate": rate, "per_second": round(self._seen / took, 1),
                "seconds": round(self.seconds, 1)}  # fmt: skip
        if not math.isfinite(means.get("loss", 0.0)):
            raise InputError(f"The loss is {means['loss']} at step {self.step_number}; lower the learning rate.")
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        shown = "  ".join(f"{k} {v:.4f}" for k, v in means.items() if k != "norm")
        self.say(f"step {self.step_number}  {shown}  {line['per_second']} a second  {self.seconds:.0f} s")
        self._sums, self._count, self._seen, self._line_at = {}, 0, 0, self.seconds

    def keep(self) -> None:
        """Writes the checkpoint."""
        held = {
            "step": self.step_number, "seconds": self.seconds, "names": self.names, "average": self.average,
            "modules": {n: m.state_dict() for n, m in self.modules.items()}, "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        part = self.out / "checkpoint.part"
        torch.save(held, part)
        part.replace(self.out / "checkpoint.pt")
        self._kept = time.monotonic()

    def _restore(self) -> None:
        held: dict[str, Any] = torch.load(self.out / "checkpoint.pt", weights_only=True, map_location=self.device)
        if held["names"] != self.names:
            raise InputError(f"The checkpoint in '{self.out}' is of another model; start afresh without --resume.")
        for name, module in self.modules.items():
            module.load_state_dict(held["modules"][name])
        for kept, found in zip(self.average, held["average"], strict=True):
            kept.copy_(found)
        self.optimiser.load_state_dict(held["optimiser"])
        self.step_number, self.spent = held["step"], held["seconds"]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights are in the modules meanwhile."""
        last = [p.detach().clone() for p in self.live]
        with torch.no_grad():
            torch._foreach_copy_(self.live, self.average)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.live, last)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time spent within (sample sheets) does not count towards the budget."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - began

    @contextmanager
    def kept_if_stopped(self) -> Iterator[None]:
        """An interrupted run leaves a checkpoint."""
        try:
            yield
        except KeyboardInterrupt:
            self.keep()
            self.say(f"Stopped at step {self.step_number}; go on with --resume.")
            raise
