"""The five contracts of an end-to-end model. A recipe names one part of each kind; `registry.py` finds it.

    encode → project → (splice into the text) → LLM → signal tokens → project → generate

| kind             | what it is                                                   | trained           |
|------------------|--------------------------------------------------------------|-------------------|
| encoder          | a file -> features (tokens, width)                           | never here        |
| projector        | features -> vectors of the LLM's width                       | stages 1, 3       |
| backbone         | a causal language model over vectors                         | LoRA, stage 3     |
| output_projector | hidden states of a signal run -> a generator's condition     | stages 2, 3       |
| generator        | a condition (tokens, width) -> a picture, a sound or a clip  | never here        |

A part is made by a factory that an entry point names (group `anyloom.mmllm`, name `KIND.NAME`):

    def factory(options: Mapping, setting: Setting) -> part

Encoders and generators are frozen: they hold no trainable parameter when they are handed over, and
they may be any object with these attributes; they need not be torch modules. Projectors and
backbones are `torch.nn.Module`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from ..pocket.contracts import SENSES, Check, Media, Progress

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "KINDS",
    "SENSES",
    "Backbone",
    "Check",
    "Encoder",
    "Factory",
    "Generator",
    "Kind",
    "Media",
    "OutputProjector",
    "Progress",
    "Projector",
    "ResolvesWeights",
    "Setting",
]

Kind = Literal["encoder", "projector", "backbone", "output_projector", "generator"]
KINDS: tuple[Kind, ...] = ("encoder", "projector", "backbone", "output_projector", "generator")


class ResolvesWeights(Protocol):
    """The part of `core.weights.Weights` that a factory needs."""

    def resolve(self, uri: str) -> Path:
        """The file or folder on this disk."""


@dataclass(frozen=True)
class Setting:
    """What a factory is told besides its options.

    `weights` finds files; None asks for the architecture alone (random or meta weights). `device` and
    `dtype` (a torch dtype's name) are where and as what frozen parts are kept. `sizes` are what the
    parts before it fixed: a projector gets `{"features": …, "hidden": …, "tokens": …}`.
    """

    weights: ResolvesWeights | None = None
    device: str = "cpu"
    dtype: str = "float32"
    sizes: Mapping[str, int] | None = None


@runtime_checkable
class Encoder(Protocol):
    """A frozen modality encoder. `tokens` is the number of features an item has, `width` their size.

    `fingerprint` changes when the weights do; a checkpoint that was trained on others is refused.
    """

    modality: str
    tokens: int
    width: int
    fingerprint: str

    def prepare(self, file: Path) -> Tensor:
        """A file as the network takes it, on the CPU, without a batch dimension. InputError: it cannot be read."""
        ...

    def encode(self, items: Tensor) -> Tensor:
        """(n, ...) as from `prepare`, stacked -> features (n, tokens, width), without gradients."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A frozen modality generator: a latent diffusion model with its text encoder, VAE and scheduler.

    `tokens` x `width` is the shape of its condition, what its text encoder makes of a caption.

    It may have two more: `decides(condition)`, logits by question where it reads off its condition what to
    make, which training then takes into account; and `condition_print`, a mark of the text encoder alone, to
    which checkpoints are bound in place of `fingerprint`.
    """

    modality: str
    tokens: int
    width: int
    fingerprint: str

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (n, tokens, width), float32, without gradients: the target of alignment."""
        ...

    def prepare(self, file: Path) -> Tensor:
        """A file as the VAE takes it, on the CPU, without a batch dimension."""
        ...

    def latents(self, items: Tensor) -> Tensor:
        """(n, ...) as from `prepare`, stacked -> clean latents z0 (n, ...), without gradients."""
        ...

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """The mean loss of the frozen denoiser on noised `latents`; its gradient reaches `condition`.

        The target is whatever the scheduler predicts (noise, velocity, flow). Noise and times come from `seed`.
        """
        ...

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """One file from one condition (tokens, width). The same seed gives the same bytes.

        Calls `progress(done, total, note)` at each step and `check()`, which raises Cancelled.
        """
        ...


class Projector(Protocol):
    """A torch module: features (n, tokens, features) -> (n, `tokens`, hidden)."""

    tokens: int

    def __call__(self, features: Tensor) -> Tensor:
        """Vectors that the backbone reads in place of token embeddings."""
        ...


class OutputProjector(Protocol):
    """A torch module: what the LLM says at a signal run -> a generator's condition."""

    def __call__(self, states: Tensor) -> Tensor:
        """(n, signals, hidden) -> (n, tokens, width)."""
        ...


class Backbone(Protocol):
    """A torch module: a causal language model that reads vectors. See `backbones/language.py`."""

    hidden: int
    vocabulary: int
    tokenizer: Any
    ends: frozenset[int]
    fingerprint: str

    def embed(self, ids: Tensor) -> Tensor:
        """(…) token ids -> (…, hidden)."""
        ...

    def read(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """(b, n, hidden) -> last hidden states (b, n, hidden), after the final norm."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """(…, hidden) -> (…, vocabulary), before the signal rows."""
        ...


Factory = Callable[[Mapping[str, Any], Setting], Any]
