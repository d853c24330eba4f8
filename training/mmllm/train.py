"""Runs the stages of the end-to-end model's training, each resumable, every loss logged apart.

    anyloom train mmllm --recipe pocket --stage all --dialogues DIR --out OUT [--minutes 45] [--resume]
    torchrun --nproc-per-node 2 -m anyloom.agent train mmllm …  # several GPUs, or accelerate launch

`OUT/STAGE/` holds `log.jsonl`, `trainable.txt` (the exact list), `state.pt` (to go on after a kill) and
`model/`, the checkpoint that the next stage begins from; `OUT/model` is the newest one as it ships; `OUT/bank`
what frozen parts made of files and captions. Dialogues are a function of seed, step and process, so that a resumed
run sees the same sequence. Dialogues of like length go together, so that little is padded.
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
from ...mmllm.backbones.quick import quicken
from ...mmllm.model import MultimodalLM
from .batches import MediaBank, content_batch, length_of, make_batch
from .drawn import with_drawn
from .fresh import Fresh
from .instructions import Talk
from .items import Item
from .preference import Pair, dpo
from .replay import Replay
from .stages import ORDER, STAGES, Stage, part_of, set_trainable, stage

Say = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """What is trained on."""

    items: Sequence[Item]
    talks: Sequence[Talk]
    pairs: Sequence[Pair] = ()
    fresh: Fresh | None = None  # what content is spelled from; the files of the items otherwise
    drawn: int = 0  # so many pictures stand in dialogues in place of the files (`drawn.py`)


@dataclass(frozen=True)
class Options:
    """How a run goes. None leaves a stage's own number.

    `minutes`: of all stages that are run, each has its share; without `steps` these alone bound a stage; on a CPU they
    are its own time, not the clock's. `denoise` off leaves the generators' own loss out.
    """

    steps: int | None = None
    minutes: float | None = None
    denoise: bool = True
    replays: int | None = None
    batch: int | None = None
    scale: float = 1.0  # times a stage's own number of dialogues in a step
    rate: float = 1.0  # times a stage's own learning rates
    seed: int = 0
    resume: bool = False
    save_every: int = 200
    save_seconds: float = 60.0
    log_every: int = 10
    bf16: bool = False


def run(model: MultimodalLM, data: Data, out: Path, stages: Sequence[str], options: Options, say: Say = print) -> Path:
    """Runs stages in order; returns `out/model`, the newest checkpoint as it ships, in float16."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs

    device = model.rows.rows.device
    AcceleratorState._reset_state()  # one process may train twice, with another precision
    accelerator = Accelerator(
        cpu=device.type == "cpu", mixed_precision="bf16" if options.bf16 else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )  # fmt: skip
    if not accelerator.is_main_process:
        say = _silent
    texts = data.fresh.texts() if data.fresh is not None else ()
    bank = MediaBank(model, data.items, device, out / "bank", texts)
    if data.drawn:
        data = with_drawn(data, bank, data.drawn, options.seed)
        say(f"{len(data.talks)} dialogues over {data.drawn} drawn pictures, and clips and sounds")
    _quick(model, options.bf16)
    whole = sum(stage(name).share for name in stages)
    for name in stages:
        how = _adapted(replace(stage(name), share=stage(name).share / whole), options)
        _begin_from(model, out, name, say)
        done = out / name / "model"
        if options.resume and (done / "manifest.json").exists():
            checkpoint.load(model, done)
            say(f"stage {name}: done before")
            continue
        Training(model, data, out / name, how, options, accelerator, say, bank).run()
        if accelerator.is_main_process:
            before = ORDER[: ORDER.index(name)]
            checkpoint.save(model, done, [s for s in before if (out / s / "model").exists()] + [name])
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        made = [str(s) for s in checkpoint.read_manifest(out / stages[-1] / "model")["stages"]]
        checkpoint.save(model, out / "model", made, half=True)
    return out / "model"


def _adapted(how: Stage, options: Options) -> Stage:
    """A stage as the options want it."""
    endless = 10**9 if options.minutes is not None else how.steps
    weights = {k: v for k, v in how.weights.items() if options.denoise or k != "denoise"}
    steps = options.steps or endless
    replays = how.replays if options.replays is None else options.replays
    batch, remembers = options.batch or round(how.batch * options.scale), round(how.remembers * options.scale)
    how = replace(how, steps=steps, batch=batch, weights=weights, replays=replays, remembers=remembers)
    return how.scaled(options.rate)


def _quick(model: MultimodalLM, bf16: bool) -> None:
    """A cheaper step; and with autocast, adapters without casts of their own."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew, for seconds, whenever a batch has another length
    lm = getattr(model.backbone, "lm", None)
    if lm is not None and model.rows.rows.device.type == "cpu":
        quicken(lm)
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = not bf16  # type: ignore[assignment]  # peft's own switch


def _begin_from(model: MultimodalLM, out: Path, name: str, say: Say) -> None:
    """The checkpoint of the newest stage before this one; only the first may begin from nothing."""
    for before in reversed(ORDER[: ORDER.index(name)]):
        if (out / before / "model" / "manifest.json").exists():
            checkpoint.load(model, out / before / "model")
            say(f"stage {name}: goes on from stage {before}")
            return
    if name in ("repeat", "preference", "content", "settle"):
        raise InputError(f"Stage {name} needs what stage 3 made, and '{out}' has none; run `--stage 3` first.")


class Training:
    """One stage. `run` goes to its end; after a kill, `run` with `resume` goes on from the last state."""

    def __init__(
        self, model: MultimodalLM, data: Data, out: Path, how: Stage, options: Options, accelerator: Any, say: Say,
        bank: MediaBank | None = None,
    ):  # fmt: skip
        self.model, self.data, self.out, self.how, self.options = model, data, out, how, options
        self.accelerator, self.say = accelerator, say
        out.mkdir(parents=True, exist_ok=True)
        self.names = set_trainable(model, how.trains)
        (out / "trainable.txt").write_text("\n".join(self.names) + "\n")
        self.deltas = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self._groups(), betas=(0.9, 0.95), weight_decay=how.decay)
        self.bank = bank or MediaBank(model, data.items, accelerator.device)
        self.memory = Replay(how.remembers)
        self.touched: set[str] = set()
        self._order: tuple[int, list[int]] = (-1, [])
        self.spent = 0.0
        self.step = self._restore() if options.resume else 0
        self.net, self.optimizer = accelerator.prepare(model, self.optimizer)
        self.rows = self._rows()
        self.bank.fill(self._talks(), say)
        self._started = self._clock()
        self.before = self._reference() if how.name == "preference" else []

    def run(self) -> None:
        """All steps that are left."""
        self._started, saved = self._clock(), time.monotonic()
        if not self.options.resume:
            (self.out / "log.jsonl").unlink(missing_ok=True)
        self.net.train()
        while self.progress() < 1:
            losses = self.update()
            self.step += 1
            self._log(losses, self.seconds)
            due = self.step % self.options.save_every == 0 or time.monotonic() - saved > self.options.save_seconds
            if due and self.progress() < 1:
                self._save()
                saved = time.monotonic()
        untouched = sorted(set(self.names) - self.touched)
        if untouched and self.step >= 20:
            raise RuntimeError(f"Stage {self.how.name} never trained {len(untouched)} parameters: {untouched[:3]}.")
        (self.out / "state.pt").unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()

    @property
    def seconds(self) -> float:
        """Of this stage, earlier runs counted in."""
        return self.spent + self._clock() - self._started

    def _clock(self) -> float:
        """Seconds. On a CPU those in which it worked for this process: a machine busy with other things changes
        nothing about how much is trained in so many minutes."""
        cpu = self.accelerator.device.type == "cpu"
        return time.process_time() / torch.get_num_threads() if cpu else time.monotonic()

    def progress(self) -> float:
        """How far on, 0…1: by steps or by the stage's share of the minutes, whichever is further."""
        part = self.step / self.how.steps
        if self.options.minutes is not None:
            part = max(part, self.seconds / (60 * self.options.minutes * self.how.share))
        return min(1.0, part)

    def update(self) -> dict[str, float]:
        """One step; the losses, each on its own."""
        progress = self.progress()
        rate = self._rate(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["own_rate"] * rate
        if progress < self.how.alone:
            losses = self._content()
        else:
            losses = self._preference() if self.how.name == "preference" else self._supervised()
        total, norm = self._learn(losses)
        for n in range(self.how.replays):
            with self.accelerator.autocast():
                remembered = self.memory.losses(self.model, self._replayed, self._seed() * 64 + n)
            if remembered:  # nothing yet, where the first dialogues ask for no media
                self._learn(remembered)
        if any(self.bank.keys(m) for m in self.model.projectors):
            for n in range(self.how.contents):
                self._learn(self._content(n + 1))
        told = {"total": total, "norm": norm, **{n: v.detach() for n, v in losses.items()}}
        values = torch.stack([v.float() for v in told.values()]).tolist()  # one wait for a GPU, at the end of a step
        found = dict(zip(told, values, strict=True))
        if not math.isfinite(found["total"]):
            raise RuntimeError(f"The loss of step {self.step} of stage {self.how.name} is {found['total']}.")
        return {**found, "rate": rate}

    def _learn(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One update; the total loss and the gradient's norm."""
        total = self._total(losses)
        self.accelerator.backward(total)
        self.touched |= {n for n, p in self.deltas.items() if p.grad is not None}
        norm = self.accelerator.clip_grad_norm_(list(self.deltas.values()), self.how.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return total.detach(), torch.as_tensor(norm, device=total.device)

    @property
    def _replayed(self) -> int:
        return 8 * self.how.batch

    def _content(self, turn: int = 0) -> dict[str, Tensor]:
        """Input projectors against the words of captions; the backbone rests. `turn`: of several in one step."""
        wide = self.how.batch * self.how.wider
        seed = self._seed() * 64 + turn if turn else self._seed()
        if self.data.fresh is not None:
            batch = self.data.fresh.batch(self.bank, wide, seed)
            with self.accelerator.autocast():
                return self.model.spelling(batch)
        chance = torch.Generator().manual_seed(seed)
        keys: dict[str, Sequence[str]] = {}
        for modality in self.model.projectors:
            known = self.bank.keys(modality)
            if known:
                keys[modality] = [known[i] for i in torch.randint(len(known), (wide,), generator=chance).tolist()]
        batch = content_batch(self.bank, keys)  # outside: half precision, as it is kept, is none of autocast's
        with self.accelerator.autocast():
            return self.model.spelling(batch)

    def _supervised(self) -> dict[str, Tensor]:
        talks = [self.rows[i].turns for i in self._picks(len(self.rows))]
        weights = self.how.weights
        batch = make_batch(
            self.model, self.bank, talks, seed=self._seed(), denoise=bool(weights.get("denoise")),
            text=bool(weights.get("text")), spell=bool(weights.get("spell")),
            echo=bool(weights.get("echo")),
        )  # fmt: skip
        losses: dict[str, Tensor] = self.net(batch)
        if self.how.replays:
            self.memory.keep(batch)
        return losses

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
        parts = []
        for kind, weight in self.how.weights.items():
            some = [v for n, v in losses.items() if n.partition("_")[0] == kind]
            if some and weight:
                parts.append(weight * torch.stack(some).mean())
        return torch.stack(parts).sum()

    def _rows(self) -> Sequence[Any]:
        """What this stage's dialogues are."""
        if self.how.name == "preference":
            rows: Sequence[Any] = self.data.pairs
        else:
            rows = [t for t in self.data.talks if self.how.kinds is None or t.kind in self.how.kinds]
        if not rows:
            wanted = "pairs" if self.how.name == "preference" else f"dialogues of the kinds {self.how.kinds}"
            raise InputError(f"Stage {self.how.name} has no {wanted}; make them with `anyloom train mmllm-data`.")
        return rows[: self.how.most]

    def _talks(self) -> list[tuple[Any, ...]]:
        """Everything that will be read."""
        if self.how.name == "preference":
            return [(*p.turns, answer) for p in self.rows for answer in (p.chosen, p.rejected)]
        return [t.turns for t in self.rows]

    def _picks(self, count: int) -> Iterator[int]:
        """Which dialogues this process takes at this step: every epoch in an order of its own."""
        size, world, rank = self.how.batch, self.accelerator.num_processes, self.accelerator.process_index
        for n in range(size):
            at = (self.step * world + rank) * size + n
            yield self._epoch(1000 * self.options.seed + at // count)[at % count]

    def _epoch(self, seed: int) -> list[int]:
        """An order of all dialogues, kept until the next one: batches of like length, the batches mixed."""
        if self._order[0] != seed:
            self._order = (seed, _sorted(self._lengths(), self.how.batch, seed))
        return self._order[1]

    def _lengths(self) -> list[int]:
        if self.how.name == "preference":
            return [length_of((*p.turns, p.chosen)) for p in self.rows]
        return [length_of(t.turns) for t in self.rows]

    def _seed(self) -> int:
        return (self.options.seed << 20) + self.step * self.accelerator.num_processes + self.accelerator.process_index

    def _rate(self, progress: float) -> float:
        """Warm-up, then half a cosine to a twentieth."""
        warm = self.how.warmup
        if progress < warm:
            return max(progress / warm, 1 / (1 + warm * min(self.how.steps, 1000)))
        along = (progress - warm) / (1 - warm)
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
        if self.step % self.options.log_every == 0 or self.progress() >= 1:
            shown = "  ".join(f"{n} {v:.3f}" for n, v in losses.items() if n not in ("norm", "rate"))
            self.say(f"stage {self.how.name}  {self.step}  {self.progress():.0%}  {shown}  {seconds:.0f} s")

    def _save(self) -> None:
        """Everything that a resumed run needs, written aside and renamed."""
        if not self.accelerator.is_main_process:
            return
        part = self.out / "state.part"
        deltas = {n: p.detach().cpu() for n, p in self.deltas.items()}
        state = {"step": self.step, "seconds": self.seconds, "deltas": deltas, "touched": sorted(self.touched)}
        torch.save({**state, "optimizer": self.optimizer.state_dict()}, part)
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
        self.spent = float(state["seconds"])
        self._cut_log(int(state["step"]))
        self.say(f"stage {self.how.name}: goes on from step {state['step']}")
        return int(state["step"])

    def _cut_log(self, step: int) -> None:
        """Drops the lines of steps that are done again."""
        file = self.out / "log.jsonl"
        if file.exists():
            lines = [line for line in file.read_text().splitlines() if json.loads(line)["step"] <= step]
            file.write_text("".join(line + "\n" for line in lines))


def _sorted(lengths: Sequence[int], size: int, seed: int) -> list[int]:
    """A permutation in which batches of `size` have items of like length: sorted within stretches of 16 batches."""
    chance = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=chance).tolist()
    batches = []
    for at in range(0, len(order), 16 * size):
        some = sorted(order[at : at + 16 * size], key=lambda i: lengths[i])
        batches += [some[n : n + size] for n in range(0, len(some), size)]
    mixed = torch.randperm(len(batches), generator=chance).tolist()
    return [i for n in mixed for i in batches[n]]


def _silent(text: str) -> None:
    """What the other processes say."""


def all_stages() -> tuple[str, ...]:
    """1, 2, 3, the repeat of 2, preference, content, settle."""
    return tuple(STAGES)
