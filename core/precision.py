"""Where half precision is faster: bfloat16 on GPUs, and on CPUs that multiply it themselves.

    with autocast("cpu"):
        loss = model(x)

A CPU without instructions for it emulates them: the same products take several times as long as in float32.
"""

from __future__ import annotations

import platform

import torch


def fast_bfloat16(device: str | torch.device, *, tiles: bool = False) -> bool:
    """Whether products in bfloat16 are faster than in float32; with `tiles`, whether they are much faster."""
    if torch.device(device).type != "cpu":
        return True
    if torch.cpu._is_amx_tile_supported():
        return True
    if platform.machine() in ("x86_64", "AMD64"):  # oneDNN also says yes where it emulates, with AVX-512 alone
        return not tiles and bool(torch.cpu._is_avx512_bf16_supported())
    return not tiles and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def autocast(device: str | torch.device) -> torch.autocast:
    """torch.autocast to bfloat16 where that is faster, and nothing elsewhere."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast_bfloat16(device))
