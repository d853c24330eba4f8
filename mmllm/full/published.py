"""The published NExT-GPT checkpoint (`7b_tiva_v0`, legacy layout) into our model, when the user has it.

    load_published(model, Path("7b_tiva_v0"))      # a folder with pytorch_model.pt and the tokenizer

Its file holds `llama_proj.*`, `gen_text_hidden_fcs{,_video,_audio}.0.*`, LoRA of q, k, v and o, and the whole
`embed_tokens` and `lm_head`, which the resizing of the vocabulary had made trainable. Of these two the
new rows become our signal rows; the old rows are the base model's own, and are taken over as well, as
they were trained. The new ids are read from the tokenizer beside it, never assumed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import MultimodalLM

_OUTPUT = {"gen_text_hidden_fcs": "image", "gen_text_hidden_fcs_video": "video", "gen_text_hidden_fcs_audio": "audio"}
_INNER = {"fc": "enter", "tfm": "transformer", "model": "leave"}
_LORA = re.compile(
    r"llama_model\.base_model\.model\.(model\.layers\.\d+\.self_attn\.[qkvo]_proj)\.(lora_[AB])\.(?:default\.)?weight"
)
_VOCABULARY = re.compile(r"llama_model\.base_model\.model\.(?:model\.(embed_tokens)|(lm_head))\.weight")


def tensors_of(file: Path) -> Mapping[str, Tensor]:
    """Tensors of a safetensors file, or of a torch file, which is opened without running anything in it."""
    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as e:  # torch and safetensors raise many things for a file that is none
        raise WeightsError(f"'{file}' cannot be opened: {' '.join(str(e).split())[:160]}.") from e
    if not isinstance(found, Mapping):
        raise WeightsError(f"'{file}' holds no tensors by name.")
    return found


def our_name(name: str) -> str | None:
    """The name of a published tensor in our model; None for the vocabulary, which is taken apart elsewhere."""
    if name.startswith("llama_proj."):
        return "projectors.image.map." + name.removeprefix("llama_proj.")
    if match := _LORA.fullmatch(name):
        return f"backbone.lm.{match[1]}.{match[2]}.default.weight"
    if _VOCABULARY.fullmatch(name):
        return None
    top, _, rest = name.partition(".0.")
    if top in _OUTPUT and rest:
        if rest == "query_embs":
            return f"output_projectors.{_OUTPUT[top]}.queries"
        part, _, last = rest.partition(".")
        if part in _INNER:
            return f"output_projectors.{_OUTPUT[top]}.{_INNER[part]}.{last}"
    raise WeightsError(f"'{name}' is no tensor of the published NExT-GPT checkpoint.")


def load_published(model: MultimodalLM, folder: Path) -> None:
    """Sets the deltas of a `nextgpt-7b` model. WeightsError when anything is missing, unknown or of another size."""
    import torch

    file = next((f for f in (folder / "model.safetensors", folder / "pytorch_model.pt") if f.exists()), None)
    if file is None:
        raise WeightsError(f"'{folder}' has neither pytorch_model.pt nor model.safetensors.")
    tensors = tensors_of(file)
    deltas = model.deltas()
    found: dict[str, Any] = {}
    words: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if match := _VOCABULARY.fullmatch(name):
            words[match[1] or match[2]] = value
        elif (mine := our_name(name)) is not None:
            found[mine] = value
    wanted = {n for n in deltas if not n.startswith("rows.")}
    if odd := sorted(wanted ^ set(found)):
        word = "lacks" if odd[0] in wanted else "has the unknown"
        raise WeightsError(f"The checkpoint '{folder}' does not fit: it {word} '{odd[0]}' ({len(odd)} in all).")
    for name, value in found.items():
        if value.shape != deltas[name].shape:
            raise WeightsError(f"The checkpoint '{folder}' does not fit: '{name}' is {tuple(value.shape)}.")
    if set(words) != {"embed_tokens", "lm_head"}:
        raise WeightsError(f"The checkpoint '{folder}' lacks embed_tokens or lm_head, and with it its signal tokens.")
    ids = _ids(folder, model)
    with torch.no_grad():
        for name, value in found.items():
            deltas[name].copy_(value)
        model.rows.rows.copy_(words["embed_tokens"][ids])
        model.rows.written.copy_(words["lm_head"][ids])
        for ours, theirs in zip(model.backbone.rows, (words["embed_tokens"], words["lm_head"]), strict=True):
            ours.copy_(theirs[: len(ours)])


def _ids(folder: Path, model: MultimodalLM) -> list[int]:
    """Where the new tokens are in the published vocabulary, in our order."""
    known: dict[str, int] = {}
    if (file := folder / "added_tokens.json").exists():
        known = json.loads(file.read_text())
    elif (file := folder / "tokenizer.json").exists():
        known = {t["content"]: t["id"] for t in json.loads(file.read_text()).get("added_tokens", [])}
    if missing := [n for n in model.signals.names if n not in known]:
        raise WeightsError(f"The tokenizer in '{folder}' has no '{missing[0]}'; it belongs to another model.")
    return [known[n] for n in model.signals.names]
