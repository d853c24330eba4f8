"""Tensors in files: read whole, or from int8 with a scale a row, which is how the larger weights ship.

    save_file(packed(network.state_dict()), file, head)
    tensors, head = read_tensors(file)                  # float32 again where they were packed

A row of a matrix (an output's kernel) is divided by its largest value over 127; the error is under half a percent of
that value. Vectors and small matrices stay float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import WeightsError

SMALL = 8192  # values below which a matrix is not packed
SCALE = ".scale"


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """int8 and `NAME.scale` (rows,) in float16 of the large matrices, float16 of the rest, on the CPU."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().float().cpu().contiguous()
        if value.ndim < 2 or value.numel() < SMALL or not tensor.is_floating_point():
            found[name] = value.half() if tensor.is_floating_point() else tensor.detach().cpu().contiguous()
            continue
        scale = (value.flatten(1).abs().amax(1).clamp(min=1e-6) / 127).half()
        wide = scale.float().view(-1, *[1] * (value.ndim - 1))
        found[name] = (value / wide).round().clamp(-127, 127).to(torch.int8)
        found[name + SCALE] = scale
    return found


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` was given: float32 where it was packed, the others as they are."""
    found = {k: v for k, v in tensors.items() if not (k.endswith(SCALE) and k.removesuffix(SCALE) in tensors)}
    for name, value in found.items():
        scale = tensors.get(name + SCALE)
        if scale is not None and value.dtype == torch.int8:
            found[name] = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
    return found


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a safetensors file. WeightsError when it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            found = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
            return unpacked(found), opened.metadata() or {}
    except (OSError, SafetensorError) as e:
        raise WeightsError(f"'{file}' cannot be opened as weights ({e}); fetch or train them anew.") from e
