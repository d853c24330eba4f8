"""The GPUs of this machine: which there are, how large, how much of each is free; and what running out looks like.

for gpu in gpus(): print(gpu.device, gpu.free)        # torch is imported only where it is installed
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """One of them. Sizes in bytes; `free` is what no program holds."""

    device: str
    total: int
    free: int


def gpus() -> tuple[Gpu, ...]:
    """All of them, as they are now."""
    if importlib.util.find_spec("torch") is None:
        return ()
    import torch

    if not torch.cuda.is_available():
        return ()
    found = []
    for n in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(n)
        found.append(Gpu(f"cuda:{n}", total, free))
    return tuple(found)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on a GPU or on this machine."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ("not enough memory" in str(error) or "allocate memory" in str(error))
