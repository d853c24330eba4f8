"""Tokens per second of the local model: our decoder, transformers on the same weights, llama.cpp on the same GGUF.

    python benchmarks/decode.py [--tokens 60] [--prompt 500] [--rounds 3] [--json FILE]

The limit is the machine's: decoding a token reads every weight once, so no decoder passes (bytes
read per second) / (bytes of weights). Every figure is the best of the rounds, for the machine may
be doing other things too. llama.cpp is measured where it is installed: pip install xllamacpp
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from anyloom.core.llama import Llama
from anyloom.core.settings import load_settings
from anyloom.core.smollm import SMOLLM2, smollm_folder
from anyloom.core.weights import Weights

TEXT = "The quick brown fox jumps over the lazy dog, and then it reads a very long book about the sea. "


def seconds(work: Callable[[], object], rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def bandwidth() -> float:
    """Bytes read per second: the sum of a buffer far larger than any cache, with one thread or all."""
    buffer = torch.ones(96 << 20)
    best = 0.0
    for threads in {1, torch.get_num_threads()}:
        torch.set_num_threads(threads)
        best = max(best, buffer.nbytes / seconds(buffer.sum, 6))
    return best


def ours(folder: Path, precision: str, prompt: list[int], tokens: int, rounds: int) -> dict[str, float]:
    net = Llama.open(folder, precision=precision)
    with torch.inference_mode():
        net.forward(prompt, net.kv(0))  # makes the dense weights
        reading = seconds(lambda: net.forward(prompt, net.kv(len(prompt))), rounds)

        def decode() -> None:
            kv.length = len(prompt)
            logits = last
            for _ in range(tokens):
                logits = net.forward([int(logits.argmax())], kv)

        kv = net.kv(len(prompt) + tokens)
        last = net.forward(prompt, kv)
        writing = seconds(decode, rounds)
    return {"prefill": len(prompt) / reading, "decode": tokens / writing, "bytes": net.bytes_per_token()}


def theirs(folder: Path, dtype: torch.dtype, prompt: list[int], tokens: int, rounds: int) -> dict[str, float]:
    """transformers' `generate`; its time to the first token is taken off the time of the rest."""
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}

    def run(count: int) -> None:
        model.generate(ids, min_new_tokens=count, max_new_tokens=count, **options)

    with torch.inference_mode():
        reading = seconds(lambda: run(1), rounds)
        writing = seconds(lambda: run(tokens + 1), rounds) - reading
    size = sum(p.nbytes for p in model.parameters())
    return {"prefill": len(prompt) / reading, "decode": tokens / max(writing, 1e-9), "bytes": size}


def llama_cpp(gguf: Path, prompt: list[int], tokens: int, rounds: int, threads: int) -> dict[str, float]:
    """llama.cpp's own timings of the two phases, through its server class in this process."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.n_ctx = len(prompt) + tokens + 64
    params.n_parallel = 1
    params.warmup, params.verbosity = False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    asked = {
        "prompt": prompt, "n_predict": tokens, "ignore_eos": True, "temperature": 0.0, "cache_prompt": False,
    }  # fmt: skip
    found = [server.handle_completions(asked)["timings"] for _ in range(rounds + 1)][1:]  # the first one warms up
    return {
        "prefill": max(t["prompt_per_second"] for t in found),
        "decode": max(t["predicted_per_second"] for t in found),
        "bytes": gguf.stat().st_size,
    }


def measure(folder: Path, gguf: Path, length: int, tokens: int, rounds: int) -> dict[str, dict[str, float] | str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt = (tokenizer.encode(TEXT).ids * (length // 10))[:length]
    threads = torch.get_num_threads()
    found: dict[str, dict[str, float] | str] = {}
    for precision in ("int8", "bf16", "fp32"):
        found[f"anyloom {precision}"] = ours(folder, precision, prompt, tokens, rounds)
    torch.set_num_threads(threads)
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            found[f"transformers {name}, {count} threads"] = theirs(folder, dtype, prompt, tokens, rounds)
    for count in sorted({1, threads}):
        try:
            found[f"llama.cpp Q4_1, {count} threads"] = llama_cpp(gguf, prompt, tokens, rounds, count)
        except ImportError:
            found["llama.cpp Q4_1"] = "not installed: pip install xllamacpp"
    return found


def show(rows: dict[str, dict[str, float] | str], rate: float) -> None:
    print(f"read bandwidth {rate / 1e9:.1f} GB/s; tokens per second, best of all rounds\n")
    print(f"{'':34}{'prefill':>9}{'decode':>9}{'limit':>9}{'MB read':>9}")
    for name, row in rows.items():
        if isinstance(row, str):
            print(f"{name:34}{row}")
            continue
        limit = rate / row["bytes"]
        print(f"{name:34}{row['prefill']:9.0f}{row['decode']:9.1f}{limit:9.0f}{row['bytes'] / 1e6:9.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=60, help="tokens to decode")
    parser.add_argument("--prompt", type=int, default=500, help="tokens to read first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    args = parser.parse_args()
    weights = Weights(load_settings({}).cache_dir)
    folder, gguf = smollm_folder(weights), weights.resolve(SMOLLM2)
    rate = bandwidth()
    rows = measure(folder, gguf, args.prompt, args.tokens, args.rounds)
    show(rows, rate)
    if args.json:
        args.json.write_text(json.dumps({"bandwidth": rate, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
