"""The loop that trains sound, encoders, captions and the judge: budget, schedule, EMA, checkpoints that survive a kill.

    budget = Budget(steps=2000, minutes=5, device="cuda", batch=128, rate=1e-3)
    fit(module, loss, budget, out, say, evaluate)      # module then holds the averaged weights

`loss(rng, spent)` gives named losses, of which `total` is followed down; `rng` is a generator on the device
that depends on seed and step alone, so that a run that was killed goes on as it would have; `spent` is the
share of the budget that is used up. What a run
leaves in `out`: log.jsonl, checkpoint.safetensors (weights, averages, moments), and nothing half written.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.artifacts import write_atomic
from ...core.errors import InputError, SettingsError
from ...core.precision import autocast

Say = Callable[[str], None]
Loss = Callable[[torch.Generator, float], dict[str, Tensor]]
Evaluate = Callable[[], dict[str, float]]
KEPT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Budget:
    """How long and how: it ends with `steps` or `minutes`, whichever comes first (`minutes` of this run and of those
    it resumes; of a core's own time on a CPU, so that a busy machine learns as much as a quiet one). `rate` is the
    highest learning rate."""

    steps: int = 2000
    minutes: float | None = None
    device: str = "cpu"
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0
    resume: bool = False
    average: float = 0.999
    decay: float = 0.02  # of matrices and kernels
    check_every: int = 0  # steps between evaluations; 0: at the end alone
    keep_every: float = 60.0  # seconds between checkpoints

    def spent(self, step: int, seconds: float) -> float:
        """The share of the budget that is used up, 0 to 1."""
        return min(1.0, max(step / self.steps, seconds / (60 * self.minutes) if self.minutes else 0.0))

    def rate_at(self, step: int, spent: float) -> float:
        """Up over 100 steps, level, and down along a cosine from 40% on."""
        down = 1.0 if spent < 0.4 else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (spent - 0.4) / 0.6))
        return self.rate * min(1.0, (step + 1) / min(100, max(1, self.steps // 10))) * down


def clock(device: str) -> float:
    """Seconds: of the clock on a GPU, of one core's own time on a CPU."""
    on_cpu = torch.device(device).type == "cpu"
    return time.process_time() / torch.get_num_threads() if on_cpu else time.monotonic()


def device_of(name: str) -> str:
    """`auto` is the GPU where there is one. SettingsError when a GPU is asked for and there is none."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError("--device cuda: there is no GPU that torch can see; use --device cpu.")
    return name


class Average:
    """Weights averaged over steps (EMA), which are what is kept in the end."""

    def __init__(self, module: nn.Module, rate: float):
        self.rate = rate
        self.names = [n for n, p in module.named_parameters() if p.requires_grad]
        own = dict(module.named_parameters())
        self.of = [own[n] for n in self.names]
        self.kept = [p.detach().clone() for p in self.of]

    def follow(self, step: int) -> None:
        """Moves towards the weights as they are."""
        rate = min(self.rate, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.of], 1 - rate)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The module holds the averages inside."""
        now = [p.detach().clone() for p in self.of]
        self._put(self.kept)
        try:
            yield
        finally:
            self._put(now)

    def settle(self) -> None:
        """The module holds the averages from here on."""
        self._put(self.kept)

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for p, v in zip(self.of, values, strict=True):
                p.copy_(v)


def optimizer(
    module: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.98), decay: float = 0.02
) -> torch.optim.AdamW:
    """AdamW; matrices and kernels decay, the rest does not."""
    own = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in own if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, betas=betas)


def fit(
    module: nn.Module, loss: Loss, budget: Budget, out: Path, say: Say, evaluate: Evaluate | None = None
) -> dict[str, float]:
    """Trains `module` in place and returns what `evaluate` says in the end."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(budget.seed)
    average, moving = Average(module, budget.average), optimizer(module, budget.rate, decay=budget.decay)
    step, before = _resumed(out, module, average, moving) if budget.resume else (0, 0.0)
    log = (out / "log.jsonl").open("a" if step else "w", encoding="utf-8")
    started, kept = clock(budget.device), time.monotonic()
    told = kept
    sums: dict[str, float] = {}
    since = 0
    module.train()
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    while (spent := budget.spent(step, before + clock(budget.device) - started)) < 1:
        for group in moving.param_groups:
            group["lr"] = budget.rate_at(step, spent)
        rng = torch.Generator(budget.device).manual_seed(budget.seed * 1_000_003 + step)
        with autocast(budget.device):
            parts = loss(rng, spent)
        moving.zero_grad(set_to_none=True)
        parts["total"].backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        moving.step()
        step += 1
        average.follow(step)
        since += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value.detach()  # type: ignore[assignment]  # no wait for the GPU
        now = time.monotonic()
        if now - told > 10 or step == 1:
            _tell(log, say, step, before + clock(budget.device) - started, sums, since, budget)
            sums, since, told = {}, 0, now
        if now - kept > budget.keep_every:
            _keep(out, module, average, moving, step, before + clock(budget.device) - started)
            kept = now
        if evaluate and budget.check_every and step % budget.check_every == 0:
            with average.swapped():
                _measured(log, say, step, module, evaluate)
    seconds = before + clock(budget.device) - started
    if since:
        _tell(log, say, step, seconds, sums, since, budget)
    _keep(out, module, average, moving, step, seconds)
    average.settle()
    found = _measured(log, say, step, module, evaluate) if evaluate else {}
    log.close()
    module.eval()
    return found


def _measured(log: Any, say: Say, step: int, module: nn.Module, evaluate: Evaluate) -> dict[str, float]:
    module.eval()
    with torch.no_grad():
        found = evaluate()
    module.train()
    log.write(json.dumps({"step": step, "held_out": {k: round(v, 5) for k, v in found.items()}}) + "\n")
    log.flush()
    say(f"step {step}: held out " + ", ".join(f"{k} {v:.3f}" for k, v in found.items()))
    return found


def _tell(log: Any, say: Say, step: int, seconds: float, sums: Mapping[str, Any], since: int, budget: Budget) -> None:
    means = {k: round(float(v) / since, 5) for k, v in sums.items()}
    log.write(json.dumps({"step": step, "seconds": round(seconds, 1), **means}) + "\n")
    log.flush()
    if not math.isfinite(means["total"]):
        raise InputError(f"The loss is no number at step {step}; start again with a lower --rate than {budget.rate:g}.")
    say(f"step {step}, {seconds:.0f} s: " + ", ".join(f"{k} {v:.4f}" for k, v in means.items()))


# -- checkpoints -----------------------------------------------------------------------------------


def _keep(
    out: Path, module: nn.Module, average: Average, moving: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    from safetensors.torch import save

    tensors = {f"model.{n}": p.detach() for n, p in module.state_dict().items()}
    tensors |= {f"average.{n}": v for n, v in zip(average.names, average.kept, strict=True)}
    for n, state in moving.state_dict()["state"].items():
        tensors |= {f"moment.{n}.{k}": torch.as_tensor(v) for k, v in state.items()}
    whole = {n: t.cpu().contiguous().clone() for n, t in tensors.items()}
    write_atomic(out / KEPT, save(whole, {"step": str(step), "seconds": str(seconds)}), sync=False)


def _resumed(out: Path, module: nn.Module, average: Average, moving: torch.optim.Optimizer) -> tuple[int, float]:
    """Loads the checkpoint of `out`; (0, 0.0) when there is none yet."""
    from safetensors import SafetensorError, safe_open

    file = out / KEPT
    if not file.exists():
        return 0, 0.0
    try:
        with safe_open(file, "pt") as opened:
            tensors, head = {k: opened.get_tensor(k) for k in opened.keys()}, opened.metadata()  # noqa: SIM118
        module.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        for name, kept in zip(average.names, average.kept, strict=True):
            kept.copy_(tensors[f"average.{name}"])
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("moment."):
                _, n, what = key.split(".")
                states.setdefault(int(n), {})[what] = value
        moving.load_state_dict({"state": states, "param_groups": moving.state_dict()["param_groups"]})
    except (SafetensorError, RuntimeError, KeyError, ValueError) as e:
        raise InputError(
            f"'{file}' belongs to another model ({str(e).splitlines()[0][:120]}); use another --out."
        ) from e
    return int(head["step"]), float(head["seconds"])
