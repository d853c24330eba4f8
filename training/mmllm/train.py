"""Runs the stages of the end-to-end model's training, each resumable, every loss logged apart.

    anyloom train mmllm --recipe pocket --stage all --dialogues DIR --out OUT [--resume]
    torchrun --nproc-per-node 2 -m anyloom.agent train mmllm …  # several GPUs, or accelerate launch

`OUT/STAGE/` holds `log.jsonl`, `trainable.txt` (the exact list), `state.pt` (to go on after a kill) and
`model/`, the checkpoint that the next stage begins from; `OUT/model` is the newest one as it ships.
Dialogues are a function of seed, step and process, so that a resumed run sees the same sequence.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ...mmllm import checkpoint
from ...mmllm.model import MultimodalLM
from .batches import MediaBank, make_batch
from .instructions import Talk
from .items import Item
from .preference import Pair, dpo
from .stages import ORDER, STAGES, Stage, part_of, set_trainable, stage

Say = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """What is trained on."""

    items: Sequence[Item]
    talks: Sequence[Talk]
    pairs: Sequence[Pair] = ()


@dataclass(frozen=True)
class Options:
    """How a run goes. None leaves a stage's own number."""

    steps: int | None = None
    batch: int | None = None
    rate: float = 1.0  # times a stage's own learning rates
    seed: int = 0
    resume: bool = False
    save_every: int = 200
    log_every: int = 10
    bf16: bool = False


def run(model: MultimodalLM, data: Data, out: Path, stages: Sequence[str], options: Options, say: Say = print) -> Path:
    """Runs stages in order; returns `out/model`, the newest checkpoint as it ships, in float16."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    device = model.rows.rows.device
    accelerator = Accelerator(
        cpu=device.type == "cpu", mixed_precision="bf16" if options.bf16 else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )  # fmt: skip
    if not accelerator.is_main_process:
        say = _silent
    for name in stages:
        how = stage(name)
        how = replace(how, steps=options.steps or how.steps, batch=options.batch or how.batch).scaled(options.rate)
        _begin_from(model, out, name, say)
        done = out / name / "model"
        if options.resume and (done / "manifest.json").exists():
            checkpoint.load(model, done)
            say(f"stage {name}: done before")
            continue
        Training(model, data, out / name, how, options, accelerator, say).run()
        if accelerator.is_main_process:
            before = ORDER[: ORDER.index(name)]
            checkpoint.save(model, done, [s for s in before if (out / s / "model").exists()] + [name])
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        made = [str(s) for s in checkpoint.read_manifest(out / stages[-1] / "model")["stages"]]
        checkpoint.save(model, out / "model", made, half=True)
    return out / "model"


def _begin_from(model: MultimodalLM, out: Path, name: str, say: Say) -> None:
    """The checkpoint of the newest stage before this one; only the first may begin from nothing."""
    for before in reversed(ORDER[: ORDER.index(name)]):
        if (out / before / "model" / "manifest.json").exists():
            checkpoint.load(model, out / before / "model")
            say(f"stage {name}: goes on from stage {before}")
            return
    if name in ("repeat", "preference"):
        raise InputError(f"Stage {name} needs what stage 3 made, and '{out}' has none; run `--stage 3` first.")


class Training:
    """One stage. `run` goes to its end; after a kill, `run` with `resume` goes on from the last state."""

    def __init__(
        self, model: MultimodalLM, data: Data, out: Path, how: Stage, options: Options, accelerator: Any, say: Say
    ):
        self.model, self.data, self.out, self.how, self.options = model, data, out, how, options
        self.accelerator, self.say = accelerator, say
        out.mkdir(parents=True, exist_ok=True)
        self.names = set_trainable(model, how.trains)
        (out / "trainable.txt").write_text("\n".join(self.names) + "\n")
        self.deltas = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.95), weight_decay=how.decay)
        self.bank = MediaBank(model, data.items, accelerator.device)
        self.touched: set[str] = set()
        self.step = self._restore() if options.resume else 0
        self.net, self.optimizer = accelerator.prepare(model, self.optimizer)
        self.rows = self._rows()
        self.before = self._reference() if how.name == "preference" else []

    def run(self) -> None:
        """All steps that are left."""
        started = time.time()
        if not self.options.resume:
            (self.out / "log.jsonl").unlink(missing_ok=True)
        self.net.train()
        while self.step < self.how.steps:
            losses = self.update()
            self.step += 1
            self._log(losses, time.time() - started)
            if self.step % self.options.save_every == 0 and self.step < self.how.steps:
                self._save()
        untouched = sorted(set(self.names) - self.touched)
        if untouched and self.how.steps >= 20:
            raise RuntimeError(f"Stage {self.how.name} never trained {len(untouched)} parameters: {untouched[:3]}.")
        (self.out / "state.pt").unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()

    def update(self) -> dict[str, float]:
        """One step; the losses, each on its own."""
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = group["own_rate"] * rate
        losses = self._preference() if self.how.name == "preference" else self._supervised()
        total = self._total(losses)
        if not torch.isfinite(total):
            raise RuntimeError(f"The loss of step {self.step} of stage {self.how.name} is {float(total)}.")
        self.accelerator.backward(total)
        self.touched |= {n for n, p in self.deltas.items() if p.grad is not None}
        norm = self.accelerator.clip_grad_norm_(list(self.deltas.values()), self.how.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"total": float(total.detach()), "norm": float(norm), "rate": rate,
                **{n: float(v.detach()) for n, v in losses.items()}}  # fmt: skip

    def _supervised(self) -> dict[str, Tensor]:
        talks = [self.rows[i].turns for i in self._picks(len(self.rows))]
        denoise = bool(self.how.weights.get("denoise"))
        return self.net(make_batch(self.model, self.bank, talks, seed=self._seed(), denoise=denoise))

    def _preference(self) -> dict[str, Tensor]:
        picks = list(self._picks(len(self.rows)))
        pairs = [self.rows[i] for i in picks]
        both = [(*p.turns, p.chosen) for p in pairs] + [(*p.turns, p.rejected) for p in pairs]
        batch = make_batch(self.model, self.bank, both, targets=False, last_only=True)
        chosen, rejected = self.net(batch, score=True)["score"].chunk(2)
        before = torch.tensor([self.before[i] for i in picks], device=chosen.device)
        loss, won = dpo(chosen, rejected, before[:, 0], before[:, 1], self.how.beta)
        anchor = make_batch(self.model, self.bank, both[: len(pairs)], seed=self._seed(), denoise=False)
        return {"dpo": loss, "won": won, **self.net(anchor)}

    def _total(self, losses: dict[str, Tensor]) -> Tensor:
        """Weighted by kind; the modalities of a kind are averaged, so that one more of them changes no balance."""
        total = losses["text"] * 0.0
        for kind, weight in self.how.weights.items():
            some = [v for n, v in losses.items() if n.partition("_")[0] == kind]
            if some and weight:
                total = total + weight * torch.stack(some).mean()
        return total

    def _rows(self) -> Sequence[Any]:
        """What this stage's dialogues are."""
        if self.how.name == "preference":
            rows: Sequence[Any] = self.data.pairs
        else:
            rows = [t for t in self.data.talks if self.how.kinds is None or t.kind in self.how.kinds]
        if not rows:
            wanted = "pairs" if self.how.name == "preference" else f"dialogues of the kinds {self.how.kinds}"
            raise InputError(f"Stage {self.how.name} has no {wanted}; make them with `anyloom train mmllm-data`.")
        return rows

    def _picks(self, count: int) -> Iterator[int]:
        """Which dialogues this process takes at this step: every epoch in an order of its own."""
        size, world, rank = self.how.batch, self.accelerator.num_processes, self.accelerator.process_index
        for n in range(size):
            at = (self.step * world + rank) * size + n
            random = torch.Generator().manual_seed(1000 * self.options.seed + at // count)
            yield int(_order(count, int(random.initial_seed()))[at % count])

    def _seed(self) -> int:
        return (self.options.seed << 20) + self.step * self.accelerator.num_processes + self.accelerator.process_index

    def _rate(self) -> float:
        """Warm-up, then half a cosine to a twentieth."""
        warm = max(1, int(self.how.steps * self.how.warmup))
        if self.step < warm:
            return (self.step + 1) / warm
        along = (self.step - warm) / max(1, self.how.steps - warm)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * along))

    def _groups(self) -> list[dict[str, Any]]:
        return [
            {"params": [p for n, p in self.deltas.items() if part_of(n) == part],
             "lr": self.how.rates[part], "own_rate": self.how.rates[part]}
            for part in self.how.trains
        ]  # fmt: skip

    @torch.no_grad()
    def _reference(self) -> list[list[float]]:
        """Log-probabilities of both answers of every pair as the stage begins: computed once and kept."""
        file = self.out / "before.json"
        if self.options.resume and file.exists():
            return list(json.loads(file.read_text()))
        self.net.eval()
        scores: list[list[float]] = []
        for start in range(0, len(self.rows), self.how.batch):
            pairs = self.rows[start : start + self.how.batch]
            both = [(*p.turns, p.chosen) for p in pairs] + [(*p.turns, p.rejected) for p in pairs]
            batch = make_batch(self.model, self.bank, both, targets=False, last_only=True)
            chosen, rejected = self.net(batch, score=True)["score"].float().cpu().chunk(2)
            scores += [[float(a), float(b)] for a, b in zip(chosen, rejected, strict=True)]
        if self.accelerator.is_main_process:
            file.write_text(json.dumps(scores))
        return scores

    def _log(self, losses: dict[str, float], seconds: float) -> None:
        if not self.accelerator.is_main_process:
            return
        line = {"stage": self.how.name, "step": self.step, "seconds": round(seconds, 2)}
        line |= {n: round(v, 5) for n, v in losses.items()}
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        if self.step % self.options.log_every == 0 or self.step == self.how.steps:
            shown = "  ".join(f"{n} {v:.3f}" for n, v in losses.items() if n not in ("norm", "rate"))
            self.say(f"stage {self.how.name}  {self.step}/{self.how.steps}  {shown}  {seconds:.0f} s")

    def _save(self) -> None:
        """Everything that a resumed run needs, written aside and renamed."""
        if not self.accelerator.is_main_process:
            return
        part = self.out / "state.part"
        deltas = {n: p.detach().cpu() for n, p in self.deltas.items()}
        torch.save({"step": self.step, "deltas": deltas, "optimizer": self.optimizer.state_dict(),
                    "touched": sorted(self.touched)}, part)  # fmt: skip
        part.replace(self.out / "state.pt")

    def _restore(self) -> int:
        file = self.out / "state.pt"
        if not file.exists():
            return 0
        state = torch.load(file, weights_only=True, map_location="cpu")
        if set(state["deltas"]) != set(self.names):
            raise InputError(f"'{file}' belongs to another model; choose another --out.")
        with torch.no_grad():
            for name, value in state["deltas"].items():
                self.deltas[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.touched = set(state["touched"])
        self._cut_log(int(state["step"]))
        self.say(f"stage {self.how.name}: goes on from step {state['step']}")
        return int(state["step"])

    def _cut_log(self, step: int) -> None:
        """Drops the lines of steps that are done again."""
        file = self.out / "log.jsonl"
        if file.exists():
            lines = [line for line in file.read_text().splitlines() if json.loads(line)["step"] <= step]
            file.write_text("".join(line + "\n" for line in lines))


_ORDERS: dict[tuple[int, int], list[int]] = {}


def _order(count: int, seed: int) -> list[int]:
    """A permutation, kept for the epoch."""
    if (count, seed) not in _ORDERS:
        if len(_ORDERS) > 2:
            _ORDERS.clear()
        _ORDERS[count, seed] = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return _ORDERS[count, seed]


def _silent(text: str) -> None:
    """What the other processes say."""


def all_stages() -> tuple[str, ...]:
    """1, 2, 3, the repeat of 2, preference."""
    return tuple(STAGES)
