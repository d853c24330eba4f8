"""Checkpoints: the deltas alone, as safetensors with a manifest; refused when anything does not fit.

    save(model, folder, stages=["1", "2"])
    load(model, folder)                        # WeightsError says what does not fit
    model = open_trained(folder, Parts.installed(), setting, cache_dir)     # for inference

A folder holds `manifest.json`, `projectors.safetensors`, `rows.safetensors`, `output-image.safetensors` and
so on, and `adapter/` with LoRA as peft lays it out. The manifest names the recipe, the ids of the
new tokens, the base model (its shape and a sketch of its values), the encoders and generators by
fingerprint, and every tensor with its shape, and every file with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import WeightsError
from .contracts import Setting
from .recipe import Recipe
from .registry import Parts

if TYPE_CHECKING:
    from torch import Tensor

    from .contracts import Generator
    from .model import MultimodalLM

FORMAT = 1
COMPACT = ("smollm2-135m",)  # backbones that are decoded by core/llama.py at inference
ADAPTER = "adapter/adapter_model.safetensors"


def save(model: MultimodalLM, folder: Path, stages: Sequence[str] = (), half: bool = False) -> Path:
    """Writes the deltas and the manifest, the manifest last.

    `half` keeps them as they ship: large matrices in int8 with a scale a row (`pocket/tensors.py`), but LoRA's, and all
    that is small, in float16.
    """
    import torch
    from safetensors.torch import save_file

    from ..pocket.tensors import packed

    folder = Path(folder)
    (folder / "adapter").mkdir(parents=True, exist_ok=True)
    by_file: dict[str, dict[str, Tensor]] = {}
    for name, value in model.deltas().items():
        kept = value.detach().to("cpu", torch.float16 if half else torch.float32).contiguous()
        file, stored = _place(name)
        by_file.setdefault(file, {})[stored] = kept
    files = {}
    for file, tensors in by_file.items():
        part = folder / f"{file}.part"
        save_file(packed(tensors) if half and file != ADAPTER else tensors, part)
        part.replace(folder / file)
        files[file] = {"sha256": _sha256(folder / file), "tensors": {n: list(t.shape) for n, t in tensors.items()}}
    if ADAPTER in files:
        _write(folder / "adapter" / "adapter_config.json", _peft_config(model))
    _write(folder / "manifest.json", {"format": FORMAT, **_identity(model), "stages": list(stages), "files": files})
    return folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; WeightsError when there is none, or one of another format."""
    file = Path(folder) / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise WeightsError(f"'{folder}' holds no readable manifest.json, so it is no checkpoint of a model.") from e
    if manifest.get("format") != FORMAT:
        raise WeightsError(f"The checkpoint '{folder}' has format {manifest.get('format')}, and this reads {FORMAT}.")
    return manifest


def load(model: MultimodalLM, folder: Path) -> list[str]:
    """Sets the deltas of `model`; returns the stages they went through. Changes nothing when it refuses."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ..pocket.tensors import unpacked

    folder = Path(folder)
    manifest = read_manifest(folder)
    _same_identity(folder, manifest, _identity(model))
    wanted = {name: _place(name) for name in model.deltas()}
    skipped = {ADAPTER} if getattr(model.backbone, "merged", False) else set()
    expected = {place for place in wanted.values()}
    listed = {(f, n) for f, entry in manifest["files"].items() for n in entry["tensors"] if f not in skipped}
    _none(folder, "lacks", sorted(expected - listed))
    _none(folder, "has the unknown", sorted(listed - expected))
    found: dict[str, dict[str, Any]] = {}
    for file in {f for f, _ in expected}:
        try:
            if _sha256(folder / file) != manifest["files"][file]["sha256"]:
                raise WeightsError(f"'{folder / file}' is not what its manifest says; fetch or train it again.")
            found[file] = unpacked(load_file(folder / file))
        except (OSError, SafetensorError) as e:
            raise WeightsError(f"'{folder / file}' cannot be opened: {e}.") from e
    deltas = model.deltas()
    for name, (file, stored) in wanted.items():
        if stored not in found[file]:
            raise WeightsError(f"The checkpoint '{folder}' does not fit: it lacks '{stored}'.")
        has, wants = tuple(found[file][stored].shape), tuple(deltas[name].shape)
        if has != wants:
            raise WeightsError(f"The checkpoint '{folder}' does not fit: '{stored}' is {has}, and {wants} is wanted.")
    with torch.no_grad():
        for name, (file, stored) in wanted.items():
            deltas[name].copy_(found[file][stored].to(deltas[name].dtype))
    return [str(s) for s in manifest["stages"]]


def open_trained(folder: Path, parts: Parts, setting: Setting, cache_dir: Path | None = None) -> MultimodalLM:
    """A trained model ready to speak. SmolLM2 runs on the compact decoder, with LoRA merged into its weights."""
    from .model import MultimodalLM

    recipe = recipe_of(read_manifest(folder))
    compact = recipe.backbone.kind in COMPACT
    if compact:
        parts = parts.adding({f"backbone.{recipe.backbone.kind}": _compact(Path(folder), cache_dir)})
    model = MultimodalLM.build(recipe, parts, setting, lora=not compact)
    load(model, folder)
    return model


def recipe_of(manifest: Mapping[str, Any]) -> Recipe:
    """The recipe that a manifest holds."""
    plain = manifest["recipe"]

    def part(p: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": p["kind"], **p["options"]}

    return Recipe.parse({
        "name": plain["name"], "template": plain["template"], "lora": plain["lora"],
        "backbone": part(plain["backbone"]),
        "input": {m: {"encoder": part(i["encoder"]), "projector": part(i["projector"]), "tokens": i["tokens"]}
                  for m, i in plain["inputs"].items()},
        "output": {m: {"generator": part(o["generator"]), "projector": part(o["projector"]), "signals": o["signals"]}
                   for m, o in plain["outputs"].items()},
    }, "manifest")  # fmt: skip


def _compact(folder: Path, cache_dir: Path | None) -> Any:
    """A factory of the compact backbone, with the checkpoint's adapter merged."""

    def factory(options: Mapping[str, Any], setting: Setting) -> Any:
        from .backbones.decoder import CompactBackbone

        if "folder" in options:
            base = Path(options["folder"])
        else:
            from ..core.smollm import smollm_folder

            base = smollm_folder(setting.weights)
        adapter = folder / "adapter"
        here = Setting(setting.weights, setting.device, "int8" if setting.device == "cpu" else "bfloat16")
        return CompactBackbone.open(base, adapter if (folder / ADAPTER).exists() else None, here, cache_dir)

    return factory


def _place(name: str) -> tuple[str, str]:
    """File and stored name of a parameter. LoRA's are peft's own, so that any peft can read them."""
    if ".lora_" in name:
        return ADAPTER, "base_model.model." + name.removeprefix("backbone.lm.").replace(".default.", ".")
    top, _, rest = name.partition(".")
    if top == "output_projectors":
        modality, _, stored = rest.partition(".")
        return f"output-{modality}.safetensors", stored
    return f"{top}.safetensors", rest


def _peft_config(model: MultimodalLM) -> dict[str, Any]:
    lora = model.recipe.lora
    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": lora.rank, "lora_alpha": lora.alpha, "bias": "none",
        "lora_dropout": lora.dropout, "target_modules": list(lora.targets),
        "base_model_name_or_path": model.recipe.backbone.kind,
    }  # fmt: skip


def _identity(model: MultimodalLM) -> dict[str, Any]:
    """What has to be the same for deltas to mean anything."""
    shapes = {
        "encoders": {m: [e.fingerprint, e.tokens, e.width] for m, e in model.encoders.items()},
        "generators": {m: [_mark(g), g.tokens, g.width] for m, g in model.generators.items()},
    }
    backbone = {"shape": model.backbone.fingerprint, "sketch": model.backbone.sketch()}
    return {"recipe": model.recipe.to_json(), "tokens": model.signals.ids(), "backbone": backbone, **shapes}


def _mark(generator: Generator) -> str:
    """What of a generator the deltas depend on: its text encoder, where it has a mark of its own."""
    return str(getattr(generator, "condition_print", generator.fingerprint))


def _same_identity(folder: Path, manifest: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    for key in ("tokens", "encoders", "generators"):
        if manifest[key] != json.loads(json.dumps(here[key])):
            odd = next(k for k in {**manifest[key], **here[key]} if manifest[key].get(k) != here[key].get(k))
            raise WeightsError(
                f"The checkpoint '{folder}' does not fit: it was trained with other {key} "
                f"({odd}: {manifest[key].get(odd)}, and here {here[key].get(odd)})."
            )
    there, ours = manifest["recipe"], json.loads(json.dumps(here["recipe"]))
    for key in ("inputs", "outputs", "lora", "template"):
        if there[key] != ours[key]:
            raise WeightsError(f"The checkpoint '{folder}' does not fit this recipe: '{key}' differs.")
    sketch, other = manifest["backbone"]["sketch"], here["backbone"]["sketch"]
    close = all(abs(a - b) <= 0.02 * max(map(abs, sketch)) for a, b in zip(sketch, other, strict=False))
    if manifest["backbone"]["shape"] != here["backbone"]["shape"] or not close:
        raise WeightsError(f"The checkpoint '{folder}' does not fit: it was trained on another base model.")


def _none(folder: Path, fault: str, names: Sequence[tuple[str, str]]) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise WeightsError(f"The checkpoint '{folder}' does not fit: it {fault} '{names[0][1]}' ({names[0][0]}){more}.")


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _write(file: Path, data: Mapping[str, Any]) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    part.replace(file)
