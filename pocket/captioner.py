"""Words for what an encoder has seen or heard: captions, and answers to questions about pictures.

    captioner = Captioner.open(file)                       # captioner.safetensors
    texts = captioner.write("image", features)             # ["a red apple"]
    texts = captioner.write("image", features, ["what colour is it"])

A small decoder of its own over a closed list of words, shared by the three senses, and not the language
model with a projector (which the end-to-end mode is): it answers in some ten small steps, needs no
135M model in memory, and cannot name a thing that was never in its data in a made-up way. It reads

    <image> what colour is it <answer> red <end>

and looks at the encoder's tokens at every word. Words that it does not know are read as <other>.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import InputError, WeightsError
from .contracts import SENSES
from .tensors import packed, read_tensors

PAD, OTHER, ANSWER, END = 0, 1, 2, 3
_MARKS = ("<pad>", "<other>", "<answer>", "<end>", *(f"<{s}>" for s in SENSES))
LONGEST = 28


class Words:
    """The closed list: marks first, then words in the order given."""

    def __init__(self, words: Sequence[str]):
        self.words = (*_MARKS, *words)
        self._number = {w: n for n, w in enumerate(self.words)}

    @classmethod
    def of(cls, texts: Iterable[str]) -> Words:
        """Every word of these texts, sorted."""
        return cls(sorted({w for t in texts for w in split(t)}))

    def __len__(self) -> int:
        return len(self.words)

    def read(self, text: str) -> list[int]:
        """Numbers of a text's words."""
        return [self._number.get(w, OTHER) for w in split(text)]

    def asked(self, sense: str, question: str = "") -> list[int]:
        """What a decoder begins with."""
        return [self._number[f"<{sense}>"], *self.read(question), ANSWER]

    def text(self, numbers: Iterable[int]) -> str:
        """Words back as a text: no space before a comma or a hyphenated half."""
        said = " ".join(self.words[n] for n in numbers if n >= len(_MARKS))
        return re.sub(r" ([,.:!?])", r"\1", said).replace(" - ", "-")


@lru_cache(maxsize=100_000)  # training says the same captions again and again
def split(text: str) -> tuple[str, ...]:
    """Words and marks of a text, in lower case."""
    return tuple(re.findall(r"[^\W_]+(?:['’][^\W_]+)?|[^\w\s]", text.lower()))


@dataclass(frozen=True)
class CaptionerSizes:
    """How large the decoder is; `sees` is the width of the encoders' tokens."""

    words: int
    width: int = 256
    layers: int = 2
    heads: int = 4
    sees: int = 256


class _Layer(nn.Module):
    """Looks back at the words, across at the encoder's tokens, and thinks; norms first."""

    def __init__(self, sizes: CaptionerSizes):
        super().__init__()
        d = sizes.width
        self.heads = sizes.heads
        self.norms = nn.ModuleList([nn.LayerNorm(d) for _ in range(3)])
        self.qkv, self.back = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.q, self.kv, self.across = nn.Linear(d, d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 3 * d), nn.Linear(3 * d, d)

    def forward(self, x: Tensor, seen: Tensor, drop: float) -> Tensor:
        """x (n, words, width), seen (n, tokens, width)."""
        n, words, d = x.shape
        h = self.heads
        q, k, v = self.qkv(self.norms[0](x)).view(n, words, 3, h, d // h).permute(2, 0, 3, 1, 4)
        said = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(n, words, d)
        x = x + F.dropout(self.back(said), drop, self.training)
        q = self.q(self.norms[1](x)).view(n, words, h, d // h).transpose(1, 2)
        k, v = self.kv(seen).view(n, seen.shape[1], 2, h, d // h).permute(2, 0, 3, 1, 4)
        looked = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, words, d)
        x = x + F.dropout(self.across(looked), drop, self.training)
        return x + F.dropout(self.down(F.gelu(self.up(self.norms[2](x)))), drop, self.training)


class Captioner(nn.Module):
    """The decoder with its words."""

    def __init__(self, sizes: CaptionerSizes, words: Words):
        super().__init__()
        if sizes.words != len(words):
            raise InputError(f"The captioner was made for {sizes.words} words and got {len(words)}; use its own list.")
        self.sizes, self.words = sizes, words
        self.embed = nn.Embedding(sizes.words, sizes.width)
        nn.init.normal_(self.embed.weight, std=0.05)
        self.places = nn.Parameter(torch.randn(LONGEST, sizes.width) * 0.02)
        self.enter = nn.ModuleDict({s: nn.Linear(sizes.sees, sizes.width) for s in SENSES})
        self.layers = nn.ModuleList([_Layer(sizes) for _ in range(sizes.layers)])
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, sense: str, features: Tensor, numbers: Tensor) -> Tensor:
        """Features (n, tokens, sees) and word numbers (n, k) -> logits of the next word (n, k, words)."""
        seen = self.enter[sense](features)
        x = self.embed(numbers) + self.places[: numbers.shape[1]]
        for layer in self.layers:
            x = layer(x, seen, 0.1)
        return F.linear(self.norm(x), self.embed.weight)

    def loss(self, sense: str, features: Tensor, asked: Sequence[str], told: Sequence[str]) -> Tensor:
        """Cross-entropy of the answers, the questions being given."""
        rows, wanted = [], []
        for question, answer in zip(asked, told, strict=True):
            start, end = self.words.asked(sense, question), [*self.words.read(answer), END]
            rows.append((start + end)[:LONGEST])
            wanted.append(([-1] * len(start) + end)[:LONGEST])
        longest = max(map(len, rows))
        numbers = torch.tensor([r + [PAD] * (longest - len(r)) for r in rows], device=features.device)
        learnt = torch.tensor([w + [-1] * (longest - len(w)) for w in wanted], device=features.device)[:, 1:]
        logits = self(sense, features, numbers[:, :-1]).float()
        return F.cross_entropy(logits.flatten(0, 1), learnt.flatten(), ignore_index=-1, label_smoothing=0.03)

    @torch.no_grad()
    def write(self, sense: str, features: Tensor, asked: Sequence[str] | None = None) -> list[str]:
        """The likeliest words, one after another, for each item."""
        asked = asked or [""] * len(features)
        found: list[str] = [""] * len(features)
        starts = [self.words.asked(sense, q)[-(LONGEST - 8) :] for q in asked]
        for length in sorted({len(s) for s in starts}):  # equal lengths go together, without padding
            which = [n for n, s in enumerate(starts) if len(s) == length]
            numbers = torch.tensor([starts[n] for n in which], device=features.device)
            numbers = self._go_on(sense, features[which], numbers)
            for n, row in zip(which, numbers.tolist(), strict=True):
                said = row[length:]
                found[n] = self.words.text(said[: said.index(END)] if END in said else said)
        return found

    def _go_on(self, sense: str, features: Tensor, numbers: Tensor) -> Tensor:
        ended = torch.zeros(len(numbers), dtype=torch.bool, device=numbers.device)
        while numbers.shape[1] < LONGEST and not bool(ended.all()):
            logits = self(sense, features, numbers)[:, -1].float()
            logits[:, [PAD, OTHER, ANSWER]] = -torch.inf
            following = torch.where(ended, PAD, logits.argmax(-1))
            ended |= following == END
            numbers = torch.cat([numbers, following[:, None]], 1)
        return numbers

    def save(self, file: Path) -> None:
        """int8 safetensors (`tensors.py`) with sizes and words in the header."""
        from safetensors.torch import save_file

        head = {"sizes": json.dumps(asdict(self.sizes)), "words": json.dumps(self.words.words[len(_MARKS) :])}
        save_file(packed(self.state_dict()), file, head)

    @classmethod
    def open(cls, file: Path, device: str = "cpu") -> Captioner:
        """What `save` wrote, for use. WeightsError when the file is none."""
        tensors, head = read_tensors(file)
        try:
            made = cls(CaptionerSizes(**json.loads(head["sizes"])), Words(json.loads(head["words"])))
            made.load_state_dict({k: v.float() for k, v in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError, InputError) as e:
            raise WeightsError(
                f"'{file}' is no captioner ({str(e).splitlines()[0][:120]}); fetch or train it anew."
            ) from e
        return made.requires_grad_(False).eval().to(device)
