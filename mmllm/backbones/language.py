"""LanguageBackbone: a causal language model of transformers, read and written in vectors.

    backbone = LanguageBackbone(lm, tokenizer, ends)
    backbone.add_lora(Lora(rank=32))                 # peft; frozen until stage 3
    states = backbone.read(vectors, mask)            # (b, n, hidden), after the final norm

Factories: `smollm2` (the pocket base), `folder` (any model saved by transformers), `vicuna` (7B; on
the meta device where there are no weights). Their weights never train; LoRA's do.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import WeightsError
from ..contracts import Setting
from ..recipe import Lora

VICUNA_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
}  # fmt: skip
SKETCHED = 16  # values by which a base is told from another


class LanguageBackbone(nn.Module):
    """See the file. `lm` is a transformers model with an inner `model` and a head."""

    def __init__(self, lm: Any, tokenizer: Any, ends: frozenset[int], folder: Path | None = None):
        super().__init__()
        self.lm = lm.requires_grad_(False)
        self.tokenizer = tokenizer
        self.ends = ends
        self.folder = folder
        self.hidden = int(lm.config.hidden_size)
        self.vocabulary = int(lm.config.vocab_size)
        self.tied = bool(lm.config.tie_word_embeddings)

    @property
    def fingerprint(self) -> str:
        """The shape of the base; `sketch` tells its weights."""
        return shape_print(self.lm.config.to_dict())

    def sketch(self) -> list[float]:
        """A few of the base's values: the same to about a hundredth in float32, bfloat16 or float16."""
        weight = self.lm.get_input_embeddings().weight
        if weight.is_meta:
            return []
        return [round(float(weight[r, c]), 6) for r, c in sketched(*weight.shape)]

    def add_lora(self, lora: Lora) -> None:
        """Puts adapters beside the named layers. They change nothing while B is zero; they do not train yet."""
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets)
        )
        self.lm = inject_adapter_in_model(config, self.lm)
        self.lm.requires_grad_(False)
        for name, parameter in self.lm.named_parameters():
            if "lora_" in name and not parameter.is_meta:
                parameter.data = parameter.data.float()  # small updates are rounded away in bfloat16

    def embed(self, ids: Tensor) -> Tensor:
        """(…) ids -> (…, hidden)."""
        return self.lm.get_input_embeddings()(ids)

    def read(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, n, hidden) -> (b, n, hidden)."""
        out = self.lm.model(inputs_embeds=vectors, attention_mask=mask, use_cache=False)
        return out.last_hidden_state

    def extend(self, vectors: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Goes on after `cache`: (n, hidden) -> states (n, hidden) and the longer cache."""
        word = _cache_word()
        out = self.lm.model(inputs_embeds=vectors[None], use_cache=True, **{word: cache})
        return out.last_hidden_state[0], getattr(out, word)

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) -> (…, vocabulary)."""
        head = self.lm.get_output_embeddings()
        return head(states.to(head.weight.dtype))

    def decoder(self) -> Any:
        """What inference decodes with."""
        from .decoder import TransformersDecoder

        return TransformersDecoder(self)

    @property
    def rows(self) -> tuple[Tensor, Tensor]:
        """The vocabulary's rows at the input and at the output."""
        return self.lm.get_input_embeddings().weight, self.lm.get_output_embeddings().weight


def sketched(rows: int, width: int) -> list[tuple[int, int]]:
    """Where in the embedding the values of a sketch are taken."""
    return [(rows * n // SKETCHED, (width * n // SKETCHED + n) % width) for n in range(SKETCHED)]


def shape_print(config: Mapping[str, Any]) -> str:
    """A name for the shape that a config.json describes."""
    keys = ("model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    return hashlib.sha256(json.dumps([str(config.get(k, "")) for k in keys]).encode()).hexdigest()[:16]


def smollm2(options: Mapping[str, Any], setting: Setting) -> LanguageBackbone:
    """SmolLM2-135M-Instruct; `folder` names a converted copy in place of the one that is fetched."""
    if "folder" in options:
        return folder(options, setting)
    if setting.weights is None:
        raise WeightsError("SmolLM2 cannot be built without weights; use a toy backbone for tests.")
    from ...core.smollm import smollm_folder

    return folder({"folder": str(smollm_folder(setting.weights))}, setting)


def folder(options: Mapping[str, Any], setting: Setting) -> LanguageBackbone:
    """Any causal language model in a folder as transformers saves it: `{ kind = "folder", folder = "…" }`."""
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    where = Path(options["folder"])
    try:
        tokenizer = Tokenizer.from_file(str(where / "tokenizer.json"))
        lm: Any = AutoModelForCausalLM.from_pretrained(where, dtype=getattr(torch, setting.dtype))
    except Exception as e:  # the libraries raise anything here
        raise WeightsError(f"No language model can be opened in '{where}': {' '.join(str(e).split())[:200]}.") from e
    return LanguageBackbone(lm.to(setting.device), tokenizer, ends_of(lm.config, tokenizer), where)


def vicuna(options: Mapping[str, Any], setting: Setting) -> LanguageBackbone:
    """Vicuna-7B v0: from `folder`, or its architecture alone with random (or meta) weights; sizes may be changed."""
    if "folder" in options:
        return folder(options, setting)
    from transformers import LlamaConfig, LlamaForCausalLM

    from ..fakes import byte_tokenizer

    sizes = {**VICUNA_7B, **options}
    config = LlamaConfig(**sizes, tie_word_embeddings=False)
    lm: Any = LlamaForCausalLM(config).to(getattr(torch, setting.dtype))
    if not next(lm.parameters()).is_meta:
        lm = lm.to(setting.device)
    return LanguageBackbone(lm, byte_tokenizer(), frozenset({2}))


def ends_of(config: Any, tokenizer: Any) -> frozenset[int]:
    """The ids that end an answer."""
    eos = config.eos_token_id
    named = [tokenizer.token_to_id(t) for t in ("<|im_end|>", "</s>", "<|endoftext|>")]
    return frozenset(e for e in (*(eos if isinstance(eos, list) else [eos]), *named) if e is not None)


@functools.cache
def _cache_word() -> str:
    """What transformers calls the keys and values of what was read: `past_key_values` before 5.24, then `cache`."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    return "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
