"""Keeps the parts of a pipeline in folders of diffusers' layout, without needing diffusers.

    save_part(unet, folder / "unet", "PocketUNet")
    unet = load_part(UNet, folder / "unet")

A part is config.json beside float16 safetensors; what is larger than LARGEST is cut into shards with an
index, so that no file of a repository becomes large. `model_index.json` names the parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...core.errors import WeightsError
from .text import read_config

LARGEST = 15 << 20  # bytes of a file
WEIGHTS = "diffusion_pytorch_model"
Part = TypeVar("Part", bound=nn.Module)


def save_part(module: nn.Module, folder: Path, class_name: str, dtype: torch.dtype = torch.float16) -> None:
    """Writes config.json and the weights, in shards where they are large."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: t.detach().to("cpu", dtype if t.is_floating_point() else t.dtype).contiguous()
               for n, t in module.state_dict().items()}  # fmt: skip
    for old in folder.glob(f"{WEIGHTS}*"):
        old.unlink()
    shards = _shards(tensors)
    names = [f"{WEIGHTS}.safetensors"] if len(shards) == 1 else [
        f"{WEIGHTS}-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))
    ]  # fmt: skip
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / name, {"format": "pt"})
    if len(shards) > 1:
        where = {t: name for name, shard in zip(names, shards, strict=True) for t in shard}
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": where}
        (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    config = {"_class_name": class_name, **asdict(module.config)}  # type: ignore[call-overload]
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def _shards(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if size and size + tensor.nbytes > LARGEST:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def load_part(kind: type[Part], folder: Path, dtype: torch.dtype = torch.float32, strict: bool = True) -> Part:
    """The module with its weights, in float32, frozen. WeightsError when it is not there or does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    module = kind(read_config(folder, kind.config_class))  # type: ignore[attr-defined]
    files = sorted(folder.glob(f"{WEIGHTS}*.safetensors"))
    if not files:
        raise WeightsError(f"There are no weights in {folder}; train them first (`anyloom train`).")
    found: dict[str, Tensor] = {}
    try:
        for file in files:
            found |= load_file(file)
        module.load_state_dict(
            {n: t.to(dtype) if t.is_floating_point() else t for n, t in found.items()}, strict=strict
        )
    except (OSError, SafetensorError, RuntimeError) as e:
        raise WeightsError(f"The weights in {folder} do not fit: {str(e).splitlines()[0]}.") from e
    return module.to(memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload]


def write_index(folder: Path, pipeline: str, parts: Mapping[str, tuple[str, str]], **more: Any) -> None:
    """model_index.json: the pipeline's class, and for each part the module and class that opens it."""
    told = {"_class_name": pipeline, **{k: list(v) for k, v in parts.items()}, **more}
    (folder / "model_index.json").write_text(json.dumps(told, indent=1) + "\n")


def fingerprint(folder: Path) -> str:
    """A short name of all weights in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
