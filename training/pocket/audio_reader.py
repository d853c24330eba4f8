"""Trains the reader of pocket-audio: captions of sounds to the condition that the flow follows.

    train_reader(words, budget, out, say)      # writes out/reader.safetensors
    open_reader(out, "cpu")                    # frozen

As for pictures (reader.py), every head is a classification, of what a scene is: which voice, what it does, how
high, how fast. Text alone is needed, so it takes minutes, and an end-to-end model can learn to make conditions
while the flow is still in training. Captions are trained on in the frames that requests put around them
("some piano music please"), so that the condition does not hang on one wording.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ...pocket.generators.text import Features, Reader, ReaderConfig
from ...pocket.tensors import read_tensors
from .audio_loop import Budget, Say, fit
from .audio_scenes import Scene, captions, scenes
from .encoders_data import draws

FACTS = ("voice", "pattern", "register", "tempo")  # the row of the condition that says each
FRAMES = (
    "{}", "the sound of {}", "a recording of {}", "play {}", "{} please", "some {}", "a sound of {}", "{} sound",
    "i want to hear {}", "an audio clip of {}", "{}, clearly", "compose {}", "generate {}",
)  # fmt: skip


def save_part(module: nn.Module, file: Path, **facts: Any) -> None:
    """float16 safetensors."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().half().cpu().contiguous() for k, v in module.state_dict().items()}
    save_file(tensors, file, {k: json.dumps(v) for k, v in facts.items()})


def open_reader(out: Path, device: str) -> Reader:
    """The trained reader of a run. InputError when there is none yet."""
    if not (out / "reader.safetensors").exists():
        raise InputError(f"'{out}' holds no reader.safetensors; run `anyloom train audio --part reader` first.")
    tensors, head = read_tensors(out / "reader.safetensors")
    reader = Reader(ReaderConfig(**json.loads(head["config"])))
    reader.load_state_dict({k: v.float() for k, v in tensors.items()})
    return reader.requires_grad_(False).eval().to(device)


def answers(some: Sequence[Scene]) -> dict[str, list[str]]:
    """What every head can say; "" is nothing in particular."""
    return {fact: sorted({getattr(s, fact) for s in some}) for fact in FACTS}


def framed(caption: str, frame: str) -> str:
    """The caption in a frame; "some" takes the article's place."""
    bare = caption.removeprefix("a ").removeprefix("an ") if frame.startswith("some") else caption
    return frame.format(bare)


def train_reader(
    text: Features, budget: Budget, out: Path, say: Say, some: Sequence[Scene] | None = None
) -> dict[str, float]:
    """Cross-entropy of every head; held-out scenes, by their canonical captions, are what is measured on."""
    some = scenes() if some is None else some
    known = answers(some)
    number = {fact: {a: n for n, a in enumerate(own)} for fact, own in known.items()}
    texts: dict[bool, list[str]] = {False: [], True: []}
    rows: dict[bool, list[list[int]]] = {False: [], True: []}
    rng = torch.Generator().manual_seed(budget.seed)
    for scene in some:
        said = captions(scene)[:1] if scene.held_out else captions(scene)
        for caption in said:
            frames = ["{}"] if scene.held_out else ["{}", FRAMES[int(torch.randint(len(FRAMES), (1,), generator=rng))]]
            texts[scene.held_out] += [framed(caption, f) for f in frames]
            rows[scene.held_out] += [[number[f][getattr(scene, f)] for f in FACTS]] * len(frames)
    say(f"reading {len(texts[False])} captions")
    features = {k: _features(text, v) for k, v in texts.items() if v}
    labels = {k: torch.tensor(v, device=budget.device) for k, v in rows.items() if v}
    heads = tuple((fact, n, len(own)) for n, (fact, own) in enumerate(known.items()))
    reader = Reader(ReaderConfig(heads=heads))
    reader.fit(features[False][:8192].float())
    reader.to(budget.device)

    def loss(rng: torch.Generator, spent: float) -> dict[str, Tensor]:
        which = draws(budget.batch, len(features[False]), rng)
        found = reader.says(reader(features[False][which].float()))
        own = labels[False][which]
        parts = {
            fact: F.cross_entropy(logits, own[:, n], label_smoothing=0.02)
            for n, (fact, logits) in enumerate(found.items())
        }
        return {"total": torch.stack(list(parts.values())).sum(), **parts}

    def measure() -> dict[str, float]:
        held = True in features
        found = reader.says(reader(features[held].float()))
        return {f: float((v.argmax(1) == labels[held][:, n]).float().mean()) for n, (f, v) in enumerate(found.items())}

    found = fit(reader, loss, budget, out / "run-reader", say, measure)
    save_part(reader, out / "reader.safetensors", config=asdict(reader.config), answers=known)
    return found


def _features(text: Features, texts: Sequence[str], at_once: int = 512) -> Tensor:
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    parts = [text([texts[n] for n in order[at : at + at_once]]).half() for at in range(0, len(order), at_once)]
    found = torch.cat(parts)
    return found[torch.tensor(order).argsort().to(found.device)]
