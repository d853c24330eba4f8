"""Trains the planner: LoRA on SmolLM2-135M over synthetic tool lists and requests.

    anyloom train planner --out RUN_FOLDER [--steps 700] [--resume]

Each step is one tree (`tree.py`): a fresh tool list with some two dozen requests. Loss on the
plans only. Learning rate: warm-up, constant, linear decay over the last quarter. Checkpoints hold
adapters, optimiser and step; data are a function of seed and step, so a resumed run continues the
same sequence. `--export` writes the peft folder that ships in weights/planner.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .data import Episode, EpisodeSource
from .tree import layout, positions, register

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the data files."""

    steps: int = 700
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 1e-3
    warmup: int = 30
    decay_fraction: float = 0.35
    up_factor: float = 3.0  # learning rate of the B matrices over that of the A matrices (LoRA+, arXiv 2402.12354)
    first_layer: int = 4
    clip: float = 1.0
    seed: int = 0

    def rate(self, step: int) -> float:
        """Learning rate at a step (0-based)."""
        decay_from = int(self.steps * (1 - self.decay_fraction))
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if step < decay_from:
            return self.learning_rate
        return self.learning_rate * max(0.02, (self.steps - step) / max(1, self.steps - decay_from))


class Masters:
    """AdamW on float32 copies of bfloat16 parameters: small updates are not rounded away."""

    def __init__(self, named: list[tuple[str, torch.nn.Parameter]], recipe: Recipe):
        self.live = [p for _, p in named]
        self.masters = [p.detach().float().clone() for p in self.live]
        groups = [
            {"params": [m], "scale": recipe.up_factor if "lora_B" in n else 1.0}
            for (n, _), m in zip(named, self.masters, strict=True)
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.clip = recipe.clip

    def step(self, rate: float) -> float:
        """One update; returns the gradient norm."""
        for master, live in zip(self.masters, self.live, strict=True):
            master.grad = live.grad.float() if live.grad is not None else torch.zeros_like(master)
            live.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimiser.step()
        with torch.no_grad():
            for master, live in zip(self.masters, self.live, strict=True):
                live.copy_(master)
        return float(norm)


def build(base: Path, recipe: Recipe, device: str) -> Any:
    """The base model in bfloat16 with fresh adapters, nothing else trainable."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    register()
    torch.manual_seed(recipe.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="tree")
    layers = list(range(recipe.first_layer, model.config.num_hidden_layers))
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(TARGETS), layers_to_transform=layers
    )
    model = get_peft_model(model, config, autocast_adapter_dtype=False).to(device, torch.bfloat16)
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    if not trainable or not all("lora_" in n for n in trainable):
        raise RuntimeError(f"Other parameters than the adapters are trainable: {sorted(trainable)[:3]}")
    return model


def loss_of(model: Any, episode: Episode, device: str) -> tuple[torch.Tensor, int]:
    """Mean cross-entropy over the plans' tokens, and how many there are."""
    ids = torch.tensor(episode.ids, device=device)[None]
    place = positions(episode.prefix, episode.branches).to(device)
    decoder = model.base_model.model
    with layout(episode.prefix, episode.branches):
        hidden = decoder.model(ids, position_ids=place, use_cache=False).last_hidden_state[0]
    at = torch.tensor(episode.targets, device=device)
    logits = decoder.lm_head(hidden[at - 1]).float()
    return torch.nn.functional.cross_entropy(logits, ids[0, at]), len(episode.targets)


def train(base: Path, out: Path, recipe: Recipe, *, resume: bool = False, device: str = "cpu", say=print) -> Path:
    """Runs or goes on with a training; returns the folder of the exported adapter."""
    out.mkdir(parents=True, exist_ok=True)
    model = build(base, recipe, device)
    model.train()
    masters = Masters([(n, p) for n, p in model.named_parameters() if p.requires_grad], recipe)
    step = _restore(out, masters) if resume else 0
    source = EpisodeSource.from_base(base, seed=recipe.seed)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    started, smooth = time.time(), math.nan
    while step < recipe.steps:
        tensor, count = loss_of(model, source.episode(step), device)
        tensor.backward()
        loss = float(tensor.detach())
        if not math.isfinite(loss):
            raise RuntimeError(f"The loss of step {step} is {loss}; lower the learning rate.")
        norm = masters.step(recipe.rate(step))
        smooth = loss if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss
        line = {
            "step": step, "loss": round(loss, 4), "smooth": round(smooth, 4), "tokens": count,
            "norm": round(norm, 3), "rate": recipe.rate(step), "seconds": round(time.time() - started, 1),
        }  # fmt: skip
        with (out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        step += 1
        if step % 10 == 0:
            say(f"step {step}/{recipe.steps}  loss {smooth:.3f}  {line['seconds']:.0f} s")
        if step % 10 == 0 or step == recipe.steps:
            _save(out, masters, step)
            export(model, out / "adapter")
    return out / "adapter"


def export(model: Any, folder: Path) -> None:
    """The adapter alone, float16, in peft's layout."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in get_peft_model_state_dict(model).items()}
    save_file(state, folder / "adapter_model.safetensors")
    config = model.peft_config["default"].to_dict()
    keep = ("r", "lora_alpha", "target_modules", "layers_to_transform", "peft_type", "task_type", "bias")
    slim = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items() if k in keep}
    slim["base_model_name_or_path"] = "SmolLM2-135M-Instruct"
    (folder / "adapter_config.json").write_text(json.dumps(slim, indent=1, default=str) + "\n")


def _save(out: Path, masters: Masters, step: int) -> None:
    part = out / "checkpoint.part"
    torch.save({"step": step, "masters": masters.masters, "optimiser": masters.optimiser.state_dict()}, part)
    part.replace(out / "checkpoint.pt")


def _restore(out: Path, masters: Masters) -> int:
    file = out / "checkpoint.pt"
    if not file.exists():
        return 0
    state = torch.load(file, weights_only=True, map_location="cpu")
    for master, live, saved in zip(masters.masters, masters.live, state["masters"], strict=True):
        master.copy_(saved)
        live.data.copy_(saved)
    if len(state["optimiser"]["param_groups"]) == len(masters.optimiser.param_groups):
        masters.optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
