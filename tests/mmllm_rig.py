"""What the tests of the end-to-end model share: a toy model, a handful of captioned files, and their dialogues."""

import copy
import json

import torch

from anyloom.mmllm.contracts import Setting
from anyloom.mmllm.fakes import TOY, tiny_png, toy_parts
from anyloom.mmllm.model import MultimodalLM
from anyloom.mmllm.recipe import Recipe
from anyloom.training.mmllm.items import read_manifest

THINGS = ("cat", "dog", "red car", "bell")


def toy_recipe(**changes):
    """The toy recipe; `image={"projector": "linear"}` changes `[input] image`, `backbone=…` and so on the rest."""
    data = copy.deepcopy(TOY)
    for key, value in changes.items():
        if key in ("image", "video", "audio"):
            data["input"][key] |= value
        else:
            data[key] = value
    return Recipe.parse(data)


def toy_model(recipe=None, seed=0):
    """A toy model whose trainable parts begin alike in every test."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MultimodalLM.build(recipe or toy_recipe(), toy_parts(), Setting())


def toy_items(folder):
    """Three modalities of four things, as a manifest; half of another split's files besides."""
    rows = []
    (folder / "files").mkdir(parents=True, exist_ok=True)
    for modality in ("image", "video", "audio"):
        for n, thing in enumerate(THINGS):
            for split in ("train", "held-out"):
                name = f"files/{modality}-{n}-{split}.png"
                (folder / name).write_bytes(tiny_png(bytes([n, len(modality), len(split)])))
                rows.append({
                    "id": f"{modality}-{n}-{split}", "concept": thing, "style": "flat", "caption": f"a {thing}",
                    "modality": modality, "file": name, "split": split,
                })  # fmt: skip
    (folder / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return read_manifest(folder / "manifest.jsonl")
