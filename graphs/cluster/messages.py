"""What crosses between the front end, its driver and the hosts: frozen, small, and the same on every machine."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from ...core import errors
from ...core.errors import AnyloomError, ExpertError, PluginError
from ...tools.contracts import Expert, Output
from ..executor import one_line

CPU_SHARE = {"instant": 0.1, "fast": 0.5, "medium": 1.0, "slow": 1.0}  # processors that an expert asks for, by speed
VRAM = "anyloom_vram_mib"  # a machine's resource: the memory of its smallest GPU, as `anyloom worker` tells it


@dataclass(frozen=True)
class ExpertRef:
    """An expert by name, so that each machine takes its own copy of the code, with the options set here."""

    name: str
    module: str
    qualname: str
    options: tuple[tuple[str, Any], ...]
    weights: tuple[str, ...]
    version: str

    @classmethod
    def of(cls, expert: type[Expert]) -> ExpertRef:
        """By module and class where it can be imported, else by its name in the registry."""
        base = next((c for c in expert.__mro__ if issubclass(c, Expert) and _importable(c)), Expert)
        named = base is not Expert and base.__dict__.get("name") == expert.name
        module, qualname = (base.__module__, base.__qualname__) if named else ("", "")
        options = tuple(sorted(expert.options.items()))
        return cls(expert.name, module, qualname, options, tuple(sorted(expert.card.weights)), version())

    def find(self) -> type[Expert]:
        """The class on this machine. PluginError: it is not here, or it is another version."""
        if self.version != version():
            raise PluginError(
                f"The worker has anyloom {version()} and the front end {self.version}; install the same on both."
            )
        expert = self._class()
        if self.options:
            expert = expert.configured(dict(self.options))
        if tuple(sorted(expert.card.weights)) != self.weights:
            raise PluginError(
                f"The expert '{self.name}' has other weights on the worker; install the same plugin there."
            )
        return expert

    def _class(self) -> type[Expert]:
        if self.module:
            try:
                return functools.reduce(getattr, self.qualname.split("."), importlib.import_module(self.module))  # type: ignore[return-value,arg-type]
            except (ImportError, AttributeError) as e:
                raise PluginError(
                    f"The worker has no expert '{self.name}' ({one_line(e)}); install its plugin there."
                ) from e
        from ...core.settings import load_settings
        from ...tools.registry import Registry

        try:
            return Registry(load_settings({"langchain": [], "mcp": {}, "experts": {}})).expert(self.name)
        except errors.UnknownName as e:
            raise PluginError(f"The worker has no expert '{self.name}'; install its plugin there.") from e


@dataclass(frozen=True)
class Needs:
    """What an expert asks of a machine: processors, GPUs (a part of one, where it shares), memory in bytes."""

    cpus: float
    gpus: float
    memory: int

    @classmethod
    def of(cls, expert: type[Expert], device: str, vram: int | None) -> Needs:
        """From the card. `vram`: bytes of the cluster's smallest GPU, 0 where not known, None where there is none."""
        card = expert.card
        if "cuda" not in card.devices or (("cpu" in card.devices) and (vram is None or device == "cpu")):
            return cls(CPU_SHARE[card.speed], 0.0, card.memory)
        part = min(1.0, round(1.15 * card.memory / vram + 0.005, 2)) if vram else 1.0
        return cls(0.1, part, min(card.memory, 2 << 30))  # a model on a GPU is read through the machine's memory


@dataclass(frozen=True)
class Work:
    """One call, for the driver. Paths among `args` are files of the front end's machine; `batch` is the expert's."""

    id: int
    key: str
    ref: ExpertRef
    needs: Needs
    args: Mapping[str, str | Path]
    seed: int
    batch: int = 1


@dataclass(frozen=True)
class Stop:
    """Nobody waits for this work any more."""

    id: int


@dataclass(frozen=True)
class Call:
    """One call, for a host. `files` name the arguments that follow it as bytes, with the suffix of their file."""

    key: str
    owner: str
    texts: Mapping[str, str]
    files: tuple[tuple[str, str], ...]
    seed: int


@dataclass(frozen=True)
class Fault:
    """An error, by its name in the tree of errors."""

    kind: str
    message: str
    retryable: bool = False

    @classmethod
    def of(cls, error: BaseException, expert: str) -> Fault:
        """What is no error of ours becomes an ExpertError in the words that a thread would find."""
        if isinstance(error, AnyloomError):
            return cls(type(error).__name__, str(error), getattr(error, "retryable", False))
        return cls("ExpertError", f"'{expert}' failed with {type(error).__name__}: {one_line(error)}")

    def error(self) -> AnyloomError:
        """The error to raise here."""
        kind = getattr(errors, self.kind, None)
        if kind is None or not issubclass(kind, AnyloomError) or kind is ExpertError:
            return ExpertError(self.message, self.retryable)
        return kind(self.message)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Reply:
    """What a host answers: outputs and seconds, or a fault. `leaving`: it takes no more work; ask another."""

    outputs: tuple[Output, ...] = ()
    seconds: float = 0.0
    fault: Fault | None = None
    leaving: bool = False


@dataclass(frozen=True)
class Look:
    """How far a call is: waiting, loading, running or gone, with the last progress."""

    state: str
    done: float = 0.0
    total: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Said:
    """From the driver: something unusual to tell the user about a work."""

    id: int
    text: str


@dataclass(frozen=True)
class Looked:
    """From the driver: how far a work is."""

    id: int
    look: Look


@dataclass(frozen=True)
class Ended:
    """From the driver: a work is over; `machine` ran it."""

    id: int
    reply: Reply
    machine: str = ""


@dataclass(frozen=True)
class Capacity:
    """From the driver: it is connected, and what the cluster has. `memory`: bytes of the largest machine."""

    machines: int = 0
    cpus: float = 0.0
    gpus: float = 0.0
    memory: int = 0
    vram: int = 0


@dataclass(frozen=True)
class Joining:
    """From the driver: the cluster is there but did not let it in; it tries again."""

    text: str


@dataclass(frozen=True)
class Refused:
    """From the driver: no cluster answers, in one sentence. `final`: asking again cannot help."""

    text: str
    final: bool = False


@dataclass
class Latest:
    """The last progress that an expert reported; written in its thread, read by whoever looks."""

    look: Look = field(default_factory=lambda: Look("waiting"))

    def __call__(self, done: float, total: float, note: str) -> None:
        """`Run.progress`."""
        self.look = Look("running", float(done), float(total), note)


@functools.cache
def version() -> str:
    """Of anyloom on this machine."""
    try:
        return metadata.version("anyloom")
    except metadata.PackageNotFoundError:
        return "0"


def _importable(cls: type) -> bool:
    import sys

    found: Any = sys.modules.get(cls.__module__)
    for part in cls.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is cls and cls.__module__ != "__main__"
