"""Opening models of transformers: the class by name, from a folder, with its processor, nothing from the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....core.errors import WeightsError
from .hub import precision


def model_of(folder: Path, kind: str, device: str, processor: str = "AutoProcessor") -> tuple[Any, Any]:
    """The model on its device, ready to answer, and its processor (tokenizer, image processor)."""
    import transformers

    try:
        model = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, dtype=precision(device), use_safetensors=True
        )
        return model.to(device).eval(), getattr(transformers, processor).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as e:
        reason = " ".join(str(e).split())[:160].rstrip(".")
        raise WeightsError(
            f"The weights below '{folder.name}' are not those of {kind} ({reason}); check the revision that is set."
        ) from e


def on(inputs: Any, model: Any) -> Any:
    """A processor's output on the model's device, its fractions in the model's precision."""
    return inputs.to(model.device, model.dtype)
