"""What all experts of the full profile share: a card for a repository of the hub, and how it is loaded and run.

    BLIP = build(Captioner, "blip-caption", tool("image-to-text"),
                 card("Salesforce/blip-image-captioning-base", licence="BSD-3-Clause", size=990e6, memory=1.5e9))

Repositories are taken at the commits of `revisions.py`; `[experts.NAME] revision = "<commit>"` sets another.
"""

from __future__ import annotations

import gc
import importlib.util
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from ....core.errors import ExpertError
from ....core.events import Notice
from ....core.memory import trim
from ...accelerators import out_of_memory
from ...contracts import Card, Expert, Output, ResolvesWeights, Run, Speed, Tool
from .revisions import revision

E = TypeVar("E", bound=Expert)
NOT_COMMERCIAL = ("-nc-", "-nc", "non-commercial", "research")
INSTALL = "pip install 'anyloom[full]'"


def card(
    repository: str,
    *more: str,
    licence: str,
    size: float,
    memory: float,
    speed: Speed = "medium",
    quality: float = 0.6,
    gated: bool = False,
    devices: tuple[str, ...] = ("cuda", "cpu"),
    path: str = "",
) -> Card:
    """The card of a hub model. `more`: URIs of other weights it needs. Sizes in bytes: on disk, and in memory."""
    return Card(
        weights=(address(repository, path), *more), licence=licence, size=int(size), memory=int(memory),
        devices=devices, speed=speed, quality=quality, profiles=("full",),
        source=f"https://huggingface.co/{repository}", gated=gated,
    )  # fmt: skip


def address(repository: str, path: str = "", kind: str = "") -> str:
    """The URI of a repository (or of a file in it) at the commit it is taken at; `kind` is `datasets/` for those."""
    return f"hf:{kind}{repository}@{revision(repository)}" + (f"/{path}" if path else "")


def commercial(licence: str) -> bool:
    """Whether a licence's name leaves commercial use open; what is not named so is not judged."""
    return not any(mark in f"{licence.lower()}" for mark in NOT_COMMERCIAL)


def build(base: type[E], name: str, tool: Tool, card: Card, words: str, **more: Any) -> type[E]:
    """An expert class of the kind `base` for one checkpoint; `words` say in a line what it is good at.

    `more` are attributes of the class; `defaults` are added to the base's.
    """
    more["defaults"] = {**base.defaults, **more.get("defaults", {})}
    body = {"name": name, "tool": tool, "card": card, "__doc__": words, "__module__": base.__module__, **more}
    return type(base.__name__, (base,), body)


def at(uri: str, commit: str) -> str:
    """The URI at another revision."""
    head, _, tail = uri.partition("@")
    path = tail.partition("/")[2]
    return f"{head}@{commit}" + (f"/{path}" if path else "")


def missing(packages: Iterable[str], install: str = INSTALL) -> str | None:
    """One sentence when a package is not installed, else None."""
    gone = [p for p in packages if importlib.util.find_spec(p) is None]
    return f"{' and '.join(gone)} {'is' if len(gone) == 1 else 'are'} missing: {install}" if gone else None


class HubExpert(Expert):
    """An expert with weights on the hub. Subclasses write `open` and `work`; out of memory is handled here."""

    needs: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = INSTALL
    half: ClassVar[bool] = True  # whether it computes in half precision on a GPU
    defaults: ClassVar[Mapping[str, Any]] = {"revision": ""}
    device: str
    model: Any

    @classmethod
    def available(cls) -> str | None:
        """Needs the packages of the extra `full` that its kind is made of."""
        return missing(cls.needs, cls.install)

    @classmethod
    def configured(cls, options: Mapping[str, Any]) -> type[Expert]:
        """An option `revision` pins the repositories of the card, in its order, with blanks between."""
        made = super().configured(options)
        wanted = str(made.options.get("revision", "")).split()
        kept = cls.card.weights[len(wanted) :]
        moved = (at(uri, commit) for uri, commit in zip(cls.card.weights, wanted, strict=False))
        made.card = replace(cls.card, weights=(*moved, *kept))
        return made

    @classmethod
    def fetch(cls, weights: ResolvesWeights) -> Mapping[str, Path]:
        """The card's weights; a licence that forbids commercial use is said before they are fetched."""
        status: Any = getattr(weights, "status", None)
        if status and not all(status(uri).present for uri in cls.card.weights):
            cls.tell_licence(weights)
        return super().fetch(weights)

    @classmethod
    def tell_licence(cls, weights: ResolvesWeights) -> None:
        """A notice, where the licence forbids commercial use."""
        emit: Any = getattr(weights, "emit", None)
        if emit and not commercial(cls.card.licence):
            emit(Notice(f"'{cls.name}' is being fetched; its licence ({cls.card.licence}) forbids commercial use."))

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the checkpoint, in half precision on a GPU."""
        from transformers.utils import logging

        logging.disable_progress_bar()  # only the front door prints
        logging.set_verbosity_error()
        self.device = device
        self.open([weights[uri] for uri in self.card.weights])

    def open(self, folders: list[Path]) -> None:
        """Fills `self.model` and what belongs to it from the card's weights, in the card's order; none need none."""

    @abstractmethod
    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The tool itself, on `self.device`."""

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Performs the tool. Where the GPU's memory does not suffice it goes on the CPU, and says so."""
        try:
            return self.seeded(args, run)
        except Exception as e:
            if not out_of_memory(e):
                raise
            fault = str(e)
        if self.device != "cpu":
            run.progress(0, 0, "the GPU's memory is full: going on on the CPU")
            self.move("cpu")
            try:
                return self.seeded(args, run)
            except Exception as e:
                if not out_of_memory(e):
                    raise
        raise full(self.name, fault)

    def seeded(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """`work` with torch's own generator set, without gradients."""
        import torch

        run.check()
        torch.manual_seed(run.seed)
        with torch.inference_mode():
            return self.work(args, run)

    def move(self, device: str) -> bool:
        """Takes the model to another device, in the precision that suits it."""
        moved(self.model, device, self.half)
        self.device = device
        free()
        return True

    def unload(self) -> None:
        """Drops all that was loaded."""
        for name in [n for n in vars(self) if n != "device"]:
            delattr(self, name)
        free()


def precision(device: str) -> Any:
    """float16 on a GPU, float32 on the CPU."""
    import torch

    return torch.float16 if device.startswith("cuda") else torch.float32


_SINGLE: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()  # by model: what half precision is not for


def moved(model: Any, device: str, half: bool = True) -> None:
    """Takes a model, or a pipeline of some, to a device, in the precision that suits it there.

    Parts that were kept in single precision when the rest was opened in half (T5's feed-forward outputs, rotary
    frequencies) come back from the CPU as they were; cast down they would overflow, or lose their place.
    """
    import torch

    parts = getattr(model, "components", {"": model})
    whole = {n: p for n, p in parts.items() if isinstance(p, torch.nn.Module)}
    tensors = {f"{n}.{k}": t for n, p in whole.items() for k, t in [*p.named_parameters(), *p.named_buffers()]}
    if any(t.dtype == torch.float16 for t in tensors.values()):
        _SINGLE[model] = frozenset(k for k, t in tensors.items() if t.dtype == torch.float32)
    single = {id(tensors[k]) for k in _SINGLE.get(model, ()) if k in tensors}
    kind = precision(device) if half else torch.float32

    def take(tensor: Any) -> Any:
        keep = id(tensor) in single or not tensor.is_floating_point()
        return tensor.to(device) if keep else tensor.to(device, kind)

    for part in whole.values():
        part._apply(take)


def full(name: str, fault: str) -> ExpertError:
    """The error after every way to need less memory was tried."""
    reason = " ".join(fault.split())[:120].rstrip(".")
    cure = "close other programs, ask for something smaller, or use a smaller model with --pin"
    return ExpertError(f"The expert '{name}' ran out of memory ({reason}); {cure}.", retryable=True)


def free() -> None:
    """Gives back what nobody holds any more."""
    import torch

    gc.collect()
    trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
