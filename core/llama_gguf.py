"""Turns a Llama GGUF into the folder that transformers and `llama.py` read, once.

    convert(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), folder)

Writes config.json, model.safetensors (bfloat16), tokenizer.json, tokenizer_config.json and
chat_template.jinja. transformers can read a GGUF itself, but takes some 20 s for it each time and
does not save what it read. Only Llama with a byte-level BPE tokenizer; imported lazily.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

RECIPE = "llama-bf16-1"  # part of the name of the converted folder: change it when the output changes
CONTROL = 3  # the GGUF token type of control tokens
DIGITS_APART = {"smollm"}  # GGUF names of pre-tokenizers that split digits first
TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
IN_BLOCK = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def convert(source: Path, folder: Path) -> None:
    """Writes the model's files into `folder`, which exists. WeightsError when the file is no such GGUF."""
    from gguf import GGUFReader
    from safetensors.torch import save_file

    try:
        reader = GGUFReader(source)
    except (OSError, ValueError) as e:
        raise WeightsError(f"{source} is no readable GGUF file: {e}.") from e
    facts = _facts(reader)
    if facts.get("general.architecture") != "llama" or facts.get("tokenizer.ggml.model") != "gpt2":
        raise WeightsError(f"{source} holds no Llama with a byte-level tokenizer; only those can be converted.")
    config = _config(facts)
    weights = dict(_weights(reader, config))
    config["tie_word_embeddings"] = "lm_head.weight" not in weights
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    _write_json(folder / "config.json", config)
    _tokenizer(facts).save(str(folder / "tokenizer.json"))
    tokens = facts["tokenizer.ggml.tokens"]
    named = {k: tokens[config[f"{k}_id"]] for k in ("bos_token", "eos_token", "pad_token")}
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **named})
    if "tokenizer.chat_template" in facts:
        (folder / "chat_template.jinja").write_text(facts["tokenizer.chat_template"])


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n")


def _facts(reader: Any) -> dict[str, Any]:
    """All metadata; the long string lists straight from their bytes, which is twenty times quicker."""
    from gguf import GGUFValueType

    facts = {}
    for name, field in reader.fields.items():
        if field.types == [GGUFValueType.ARRAY, GGUFValueType.STRING]:
            facts[name] = [field.parts[i].tobytes().decode() for i in field.data]
        else:
            facts[name] = field.contents()
    return facts


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    """transformers' LlamaConfig."""
    width, heads = facts["llama.embedding_length"], facts["llama.attention.head_count"]
    ids = {k: facts.get(f"tokenizer.ggml.{v}_token_id", facts["tokenizer.ggml.eos_token_id"])
           for k, v in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}  # fmt: skip
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": facts.get("llama.attention.head_count_kv", heads),
        "head_dim": facts.get("llama.attention.key_length", width // heads),
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": facts["llama.attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": facts.get("llama.rope.freq_base", 10000.0)},
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        **{f"{k}_token_id": v for k, v in ids.items()},
        "dtype": "bfloat16",
    }


def _weights(reader: Any, config: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each weight, under transformers' names."""
    import torch
    from gguf.quants import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk" and parts[2] in IN_BLOCK:
            kind, name = parts[2], f"model.layers.{parts[1]}.{IN_BLOCK[parts[2]]}.weight"
        elif parts[0] in TOP:
            kind, name = parts[0], f"{TOP[parts[0]]}.weight"
        elif tensor.name == "rope_freqs.weight":
            continue
        else:
            raise WeightsError(f"The GGUF holds a weight '{tensor.name}' that a plain Llama has not.")
        value = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if kind in heads:  # GGUF turns neighbouring pairs by position, transformers the two halves
            value = value.unflatten(0, (heads[kind], -1, 2)).transpose(1, 2).flatten(0, 2)
        yield name, value.to(torch.bfloat16).contiguous()


def _tokenizer(facts: dict[str, Any]) -> Any:
    """A byte-level BPE tokenizer of the `tokenizers` library."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({t: n for n, t in enumerate(tokens)}, merges))
    bytewise: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if facts.get("tokenizer.ggml.pre") in DIGITS_APART:
        bytewise = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytewise])
    tokenizer.pre_tokenizer = bytewise
    tokenizer.decoder = decoders.ByteLevel()
    kinds = facts["tokenizer.ggml.token_type"]
    control = [t for t, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in control])
    return tokenizer
