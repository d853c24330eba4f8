"""Toy parts, so that a whole end-to-end model runs in milliseconds without weights.

    parts = toy_parts()                                   # the installed ones and these
    recipe = Recipe.parse(TOY)
    model = MultimodalLM.build(recipe, parts, Setting())

The toy encoder makes features of a file's bytes, the toy generator conditions of a caption's letters
and small whole files of a condition, the toy backbone is a random Llama of two layers over bytes.
The same input always gives the same output.
"""

from __future__ import annotations

import hashlib
import io
import struct
import wave
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contracts import Check, Media, Progress, Setting

if TYPE_CHECKING:
    from torch import Tensor

    from .registry import Parts

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TOY: dict[str, Any] = {
    "name": "toy", "template": "chatml", "backbone": "toy", "lora": {"rank": 4, "alpha": 8},
    "input": {m: {"encoder": {"kind": "toy", "modality": m}, "projector": "mlp", "tokens": 4}
              for m in ("image", "video", "audio")},
    "output": {m: {"generator": {"kind": "toy", "modality": m}, "signals": n,
                   "projector": {"kind": "transformer", "width": 32, "layers": 1, "heads": 2}}
               for m, n in (("image", 2), ("video", 3), ("audio", 2))},
}  # fmt: skip


def byte_tokenizer() -> Any:
    """A tokenizer of bytes: 256 ids and the three control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: n for n, c in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    return tokenizer


def toy_backbone(options: Mapping[str, Any], setting: Setting) -> Any:
    """A random Llama; options are LlamaConfig's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from .backbones.language import LanguageBackbone

    tokenizer = byte_tokenizer()
    sizes = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": tokenizer.get_vocab_size(), "tie_word_embeddings": True,
        "max_position_embeddings": 1024,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(11)
        lm: Any = LlamaForCausalLM(LlamaConfig(**{**sizes, **options}))
        for weight in lm.parameters():  # larger than usual: a toy has to say different things of different inputs
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.15)
    lm = lm.to(setting.device, getattr(torch, setting.dtype))
    return LanguageBackbone(lm, tokenizer, frozenset({tokenizer.token_to_id("<|im_end|>")}))


class ToyEncoder:
    """Features by the hash of a file's bytes."""

    fingerprint = "toy"

    def __init__(self, modality: str, tokens: int = 6, width: int = 16):
        self.modality, self.tokens, self.width = modality, tokens, width

    def prepare(self, file: Path) -> Tensor:
        """Random numbers that are the file's own."""
        return _numbers(Path(file).read_bytes(), self.tokens, self.width)

    def encode(self, items: Tensor) -> Tensor:
        """As they are."""
        return items.float()


class ToyGenerator:
    """Conditions by a caption's letters, a linear denoiser, small files of one colour or tone."""

    fingerprint = "toy"

    def __init__(self, modality: str, tokens: int = 5, width: int = 12, scale: float = 1.0, steps: int = 4):
        self.modality, self.tokens, self.width = modality, tokens, width
        self.scale = scale
        self.steps = steps

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """(n, tokens, width)."""
        import torch

        return self.scale * torch.stack([_numbers(c.encode(), self.tokens, self.width) for c in captions])

    def prepare(self, file: Path) -> Tensor:
        """Eight numbers that are the file's own."""
        return _numbers(Path(file).read_bytes(), 1, 8)[0]

    def latents(self, items: Tensor) -> Tensor:
        """As they are."""
        return items.float()

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """Noise is foretold from the noised latents and a fixed map of the condition."""
        import torch

        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents.device)
        weights = _numbers(b"denoiser", self.width, latents.shape[1]).to(latents.device)
        guess = 0.7 * latents + 0.7 * noise + 0.1 * condition.mean(1) @ weights
        return (guess - noise).square().mean()

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """A file of the condition's and the seed's own colour."""
        import numpy as np

        for step in range(self.steps):
            check()
            progress(step + 1, self.steps, "denoising")
        rounded = np.round(condition.detach().cpu().float().numpy(), 2).tobytes()
        mark = hashlib.sha256(rounded + str(seed).encode()).digest()
        if self.modality == "image":
            return Media("image", tiny_png(mark[:3]), "image/png")
        if self.modality == "audio":
            return Media("audio", _wav(200 + 4 * mark[0]), "audio/wav")
        return Media("video", _mp4(mark[:3]), "video/mp4")


def toy_encoder(options: Mapping[str, Any], setting: Setting) -> ToyEncoder:
    """Factory; options modality, tokens, width."""
    return ToyEncoder(**options)


def toy_generator(options: Mapping[str, Any], setting: Setting) -> ToyGenerator:
    """Factory; options modality, tokens, width, scale."""
    return ToyGenerator(**options)


def toy_parts() -> Parts:
    """The installed parts, and the toys under the name `toy`."""
    from .registry import Parts

    toys = {"encoder.toy": toy_encoder, "generator.toy": toy_generator, "backbone.toy": toy_backbone}
    return Parts.installed().adding(toys)


def tiny_png(colour: bytes, size: int = 8) -> bytes:
    """A PNG of one colour (three bytes)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + colour * size) * size
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _wav(hertz: int, seconds: float = 0.2, rate: int = 8000) -> bytes:
    import numpy as np

    tone = np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone * 20000).astype("<i2").tobytes())
    return out.getvalue()


def _mp4(colour: bytes, frames: int = 4, size: int = 16) -> bytes:
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        picture = np.broadcast_to(np.frombuffer(colour, np.uint8), (size, size, 3)).copy()
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def _numbers(content: bytes, *shape: int) -> Tensor:
    """Normal random numbers that belong to this content."""
    import torch

    seed = int.from_bytes(hashlib.sha256(content).digest()[:6], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
