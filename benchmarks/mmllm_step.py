"""Seconds of processor time of a training step through the pocket backbone, as it comes and quickened.

    OMP_NUM_THREADS=1 python benchmarks/mmllm_step.py [--sequences 24] [--tokens 40] [--rounds 3] [--rank 16]

A step is what stage 3 does with the language model: forward and backward with adapters, in bfloat16 where the CPU
multiplies it quickly, without the head. Processor time, the best of the rounds, divided by the threads: a busy machine
changes it little.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from anyloom.core.precision import fast_bfloat16
from anyloom.core.settings import load_settings
from anyloom.core.smollm import smollm_folder
from anyloom.core.weights import Weights
from anyloom.mmllm.backbones.language import folder
from anyloom.mmllm.backbones.quick import quicken
from anyloom.mmllm.contracts import Setting
from anyloom.mmllm.recipe import Lora


def step(backbone: Any, sequences: int, tokens: int, fast: bool) -> tuple[float, float]:
    vectors = (0.1 * torch.randn(sequences, tokens, backbone.hidden)).requires_grad_(True)
    mask = torch.ones(sequences, tokens, dtype=torch.long)
    mask[::2, -tokens // 8 :] = 0
    started = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        states = backbone.read(vectors.to(backbone.rows[0].dtype), mask)
    between = time.process_time()
    states.float().square().mean().backward()
    threads = torch.get_num_threads()
    return (between - started) / threads, (time.process_time() - between) / threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sequences", 24), ("tokens", 40), ("rounds", 3), ("rank", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    settings = load_settings()
    fast = fast_bfloat16("cpu", tiles=True)
    base = str(smollm_folder(Weights(settings.cache_dir, offline=settings.offline)))
    backbone = folder({"folder": base}, Setting(dtype="bfloat16" if fast else "float32"))
    backbone.add_lora(Lora(rank=asked.rank))
    for name, parameter in backbone.lm.named_parameters():
        parameter.requires_grad_("lora_" in name)
    for module in backbone.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = not fast
    print(f"{'':<12}{'forward':>9}{'backward':>10}{'tokens a second':>17}")
    for name in ("as it comes", "quickened"):
        if name == "quickened":
            quicken(backbone.lm)
        times = [step(backbone, asked.sequences, asked.tokens, fast) for _ in range(asked.rounds)]
        forward, backward = min(times, key=sum)
        speed = asked.sequences * asked.tokens / (forward + backward)
        print(f"{name:<12}{forward:>8.2f}s{backward:>9.2f}s{speed:>17.0f}")


if __name__ == "__main__":
    main()
