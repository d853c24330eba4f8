"""Trains the planner: LoRA on SmolLM2-135M over synthetic tool lists and requests.

    anyloom train planner --out RUN_FOLDER [--steps 700] [--minutes 5] [--start ADAPTER] [--resume]

Each step is a few trees (`tree.py`): fresh tool lists with some two dozen requests each. Loss on the
plans only. It ends with its steps or its minutes, whichever comes first; learning rate: warm-up,
constant, linear decay over the last 60% of that. Checkpoints hold adapters, optimiser and how far it
came; data are a function of seed and number, so a resumed run continues the same sequence. The folder
`adapter` in RUN_FOLDER is what ships in weights/planner.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ...core.errors import WeightsError
from ..pocket.audio_loop import clock
from .ahead import episodes
from .batch import Batch
from .data import Episode
from .tree import layout, positions, register, tree_mask

LOG_EVERY = 10  # steps
KEEP_EVERY = 60.0  # seconds between checkpoints
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run besides the data files."""

    steps: int = 700
    minutes: float | None = None  # of this run and of those it resumes; on a CPU, of a core's own time
    trees: int = 1  # in a step
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 1e-3
    warmup: int = 30
    decay_fraction: float = 0.6
    up_factor: float = 3.0  # learning rate of the B matrices over that of the A matrices (LoRA+, arXiv 2402.12354)
    first_layer: int = 4
    clip: float = 1.0
    seed: int = 0

    def spent(self, step: int, seconds: float) -> float:
        """The share of the budget that is used up, 0 to 1."""
        return min(1.0, max(step / self.steps, seconds / (60 * self.minutes) if self.minutes else 0.0))

    def rate(self, step: int, spent: float) -> float:
        """Learning rate at a step (0-based), with that share of the budget used up."""
        down = min(1.0, (1 - spent) / self.decay_fraction)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * max(0.02, down)


class Masters:
    """AdamW on float32 copies of bfloat16 parameters: small updates are not rounded away."""

    def __init__(self, named: list[tuple[str, torch.nn.Parameter]], recipe: Recipe):
        self.live: list[torch.Tensor] = [p for _, p in named]
        self.masters = [p.detach().float().clone() for p in self.live]
        groups = [
            {"params": [m], "scale": recipe.up_factor if "lora_B" in n else 1.0}
            for (n, _), m in zip(named, self.masters, strict=True)
        ]
        fused = self.live[0].is_cuda
        self.optimiser = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=fused
        )
        self.clip = recipe.clip

    def step(self, rate: float) -> torch.Tensor:
        """One update; returns the gradient norm, which is not waited for."""
        for master, live in zip(self.masters, self.live, strict=True):
            master.grad = torch.zeros_like(master) if live.grad is None else live.grad.float()
            live.grad = None
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_copy_(self.live, self.masters)
        return norm


def build(base: Path, recipe: Recipe, device: str) -> Any:
    """The base model in bfloat16 with fresh adapters, nothing else trainable."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer
    from transformers import AutoModelForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    register()
    torch.manual_seed(recipe.seed)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="tree")
    layers = list(range(recipe.first_layer, model.config.num_hidden_layers))
    config = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, target_modules=list(TARGETS), layers_to_transform=layers
    )
    model = get_peft_model(model, config, autocast_adapter_dtype=False).to(device)
    for (
        parameter
    ) in model.parameters():  # not the buffers: rounded frequencies would be other positions than decoding's
        parameter.data = parameter.data.to(torch.bfloat16)
    adapted: list[Any] = [m for m in model.modules() if isinstance(m, LoraLayer)]
    for layer in adapted:
        layer.forward = _straight(layer)
    norms: list[Any] = [m for m in model.modules() if isinstance(m, LlamaRMSNorm)]
    for norm in norms:
        norm.forward = _fused(norm)
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    if not trainable or not all("lora_" in n for n in trainable):
        raise RuntimeError(f"Other parameters than the adapters are trainable: {sorted(trainable)[:3]}")
    return model


def begin_with(model: Any, adapter: Path) -> None:
    """Puts an exported adapter's values in place of the fresh ones. WeightsError when they do not fit."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    file = adapter / "adapter_model.safetensors"
    if not file.exists():
        raise WeightsError(f"There is no {file.name} in {adapter}; name the folder of an adapter.")
    values = load_file(file)
    fitted: Any = set_peft_model_state_dict(model, values, low_cpu_mem_usage=False)
    lacking = [k for k in fitted.missing_keys if "lora_" in k]
    if lacking or fitted.unexpected_keys:
        raise WeightsError(f"{adapter} is of another recipe: {(lacking + fitted.unexpected_keys)[0]} does not fit.")


def _straight(layer: Any) -> Any:
    """What peft's layer computes, in three products: the sum is part of the last one, and nothing is asked before."""
    weight, scale = layer.base_layer.weight, layer.scaling["default"]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight

    def forward(x: torch.Tensor) -> torch.Tensor:
        plain = torch.nn.functional.linear(x, weight)
        low = torch.nn.functional.linear(x, down).flatten(0, -2)
        return torch.addmm(plain.flatten(0, -2), low, up.t(), alpha=scale).view_as(plain)

    return forward


def _fused(norm: Any) -> Any:
    """What transformers' norm computes, in one pass over memory where there is a kernel for it."""
    weight, epsilon = norm.weight, norm.variance_epsilon
    return lambda x: torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)


def loss_of(model: Any, made: list[Episode], device: str) -> torch.Tensor:
    """Mean cross-entropy over the tokens of all plans. A CPU reads tree by tree, a GPU all at once."""
    decoder = model.base_model.model
    if torch.device(device).type == "cpu":
        return tree_loss(decoder, made)
    return batch_loss(decoder, Batch.of(made).to(device))


def tree_loss(decoder: Any, made: list[Episode]) -> torch.Tensor:
    """Mean cross-entropy over trees that are read one by one."""
    shares = [_alone(decoder, e) * len(e.targets) for e in made]
    return torch.stack(shares).sum() / sum(len(e.targets) for e in made)


def batch_loss(decoder: Any, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over a batch of trees, by one masked attention."""
    mask = tree_mask(batch.parts, decoder.dtype)
    read = decoder.model(batch.ids, attention_mask=mask, position_ids=batch.places, use_cache=False)
    hidden = read.last_hidden_state.flatten(0, 1).index_select(0, batch.targets - 1)
    wanted = batch.ids.flatten().index_select(0, batch.targets)
    return torch.nn.functional.cross_entropy(decoder.lm_head(hidden).float(), wanted)


def _alone(decoder: Any, episode: Episode) -> torch.Tensor:
    ids = torch.tensor(episode.ids)[None]
    with layout(episode.prefix, episode.branches, decoder.dtype):
        place = positions(episode.prefix, episode.branches)
        hidden = decoder.model(ids, position_ids=place, use_cache=False).last_hidden_state[0]
    at = torch.tensor(episode.targets)
    return torch.nn.functional.cross_entropy(decoder.lm_head(hidden[at - 1]).float(), ids[0, at])


@dataclass
class Progress:
    """How far a run has come: steps, episodes read, seconds of the budget's clock."""

    step: int = 0
    episode: int = 0
    seconds: float = 0.0


def train(
    base: Path,
    out: Path,
    recipe: Recipe,
    *,
    start: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 0,
    say=print,
) -> Path:
    """Runs or goes on with a training, from fresh adapters or those of `start`; returns the exported adapter."""
    started = clock(device)
    out.mkdir(parents=True, exist_ok=True)
    model = build(base, recipe, device)
    if start:
        begin_with(model, start)
    model.train()
    masters = Masters([(n, p) for n, p in model.named_parameters() if p.requires_grad], recipe)
    done = _restore(out, masters) if resume else Progress()
    started -= done.seconds
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    saved, journal = clock(device), Journal(out, recipe, say)
    with episodes(base, recipe.seed, done.episode, workers) as ahead:
        while (spent := recipe.spent(done.step, clock(device) - started)) < 1:
            loss = loss_of(model, [next(ahead) for _ in range(recipe.trees)], device)
            loss.backward()
            rate = recipe.rate(done.step, spent)
            norm = masters.step(rate)
            done = Progress(done.step + 1, done.episode + recipe.trees, clock(device) - started)
            journal.note(done, loss.detach(), norm, rate)
            if clock(device) - saved > KEEP_EVERY:
                _save(out, masters, done)
                saved = clock(device)
    journal.write(done)
    _save(out, masters, done)
    export(model, out / "adapter")
    return out / "adapter"


class Journal:
    """log.jsonl and what is said: every LOG_EVERY steps, since to read a loss is to wait for the GPU."""

    def __init__(self, out: Path, recipe: Recipe, say: Any):
        self.file = out / "log.jsonl"
        self.recipe = recipe
        self.say = say
        self.losses: list[torch.Tensor] = []
        self.latest: tuple[torch.Tensor, float] = (torch.zeros(()), 0.0)

    def note(self, done: Progress, loss: torch.Tensor, norm: torch.Tensor, rate: float) -> None:
        """A step that is done. RuntimeError once the loss is no number."""
        self.losses.append(loss)
        self.latest = norm, rate
        if done.step % LOG_EVERY == 0:
            self.write(done)

    def write(self, done: Progress) -> None:
        """What was noted since the last time, as one line."""
        if not self.losses:
            return
        loss, (norm, rate) = float(torch.stack(self.losses).mean()), self.latest
        self.losses.clear()
        if not math.isfinite(loss):
            raise RuntimeError(f"The loss before step {done.step} is {loss}; lower the learning rate.")
        line = {
            "step": done.step, "episodes": done.episode, "loss": round(loss, 4), "norm": round(float(norm), 3),
            "rate": rate, "seconds": round(done.seconds, 1),
        }  # fmt: skip
        with self.file.open("a") as log:
            log.write(json.dumps(line) + "\n")
        spent = self.recipe.spent(done.step, done.seconds)
        self.say(f"step {done.step}  {spent:.0%}  loss {loss:.3f}  {done.seconds:.0f} s")


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


def _save(out: Path, masters: Masters, done: Progress) -> None:
    part = out / "checkpoint.part"
    state = {**asdict(done), "masters": masters.masters, "optimiser": masters.optimiser.state_dict()}
    torch.save(state, part)
    part.replace(out / "checkpoint.pt")


def _restore(out: Path, masters: Masters) -> Progress:
    file = out / "checkpoint.pt"
    if not file.exists():
        return Progress()
    state = torch.load(file, weights_only=True, map_location="cpu")
    with torch.no_grad():
        for master, live, saved in zip(masters.masters, masters.live, state["masters"], strict=True):
            master.copy_(saved)
            live.copy_(saved)
    masters.optimiser.load_state_dict(state["optimiser"])
    return Progress(state["step"], state["episode"], state["seconds"])
