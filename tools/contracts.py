"""The contracts a plugin meets: Tool (what can be planned) and Expert (a model that performs it).

A whole plugin, entry point `anyloom.experts: shout = my_plugin:Shout`:

    class Shout(Expert):
        name = "shout"
        tool = Tool("shout-text", "Writes a text in capital letters.", (Param("text", "text"),), "text")

        def run(self, args, run):
            return [Output.text(args["text"].upper())]

What `run` receives: a text argument as `str`, every other modality as a `Path` to a readable file.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ..core.artifacts import EXTENSIONS, MODALITIES, Modality
from ..core.errors import Cancelled, PluginError

Speed = Literal["instant", "fast", "medium", "slow"]
SPEEDS: tuple[Speed, ...] = ("instant", "fast", "medium", "slow")


@dataclass(frozen=True)
class Param:
    """One argument of a tool. `modality` is what it accepts; `required=False` may be left out."""

    name: str
    modality: str
    description: str = ""
    required: bool = True


@dataclass(frozen=True)
class Tool:
    """Something the controller may plan. `name` is the hub's task tag where there is one.

    `params` are in the order in which people would say them; `output` is one modality. Types other
    than anyloom's four modalities are allowed in tool lists that are only planned over (TaskBench's `url`).
    `reads` and `holds` name what a file must hold to be of use, and what the output holds: "writing", "speech".
    """

    name: str
    description: str
    params: tuple[Param, ...]
    output: str
    reads: str = ""
    holds: str = ""

    def param(self, name: str) -> Param | None:
        """The parameter of that name, or None."""
        return next((p for p in self.params if p.name == name), None)

    def signature(self) -> str:
        """`image, text -> text`, for people and for the controller."""
        return f"{', '.join(p.modality for p in self.params)} -> {self.output}"


@dataclass(frozen=True)
class Card:
    """What is known of an expert before it is loaded. Sizes in bytes.

    `weights` are URIs (`core/weights.py`); `memory` what it holds once loaded; `devices` where it
    can run; `quality` 0 to 1 among the experts of one tool, for the policy `best`.
    """

    weights: tuple[str, ...] = ()
    licence: str = "Apache-2.0"
    size: int = 0
    memory: int = 50_000_000
    devices: tuple[str, ...] = ("cpu",)
    speed: Speed = "fast"
    quality: float = 0.5
    profiles: tuple[str, ...] = ("pocket", "full")
    source: str = ""
    gated: bool = False


@dataclass(frozen=True)
class Output:
    """One thing an expert made: bytes with a media type, and a file stem for people."""

    data: bytes
    media_type: str
    stem: str = "result"
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def text(cls, text: str, stem: str = "text", **facts: Any) -> Output:
        """A text result."""
        return cls(text.encode(), "text/plain", stem, facts)

    @property
    def modality(self) -> Modality:
        """text, image, audio or video."""
        top = self.media_type.split("/")[0]
        top = "text" if top == "application" else top
        if top not in MODALITIES:
            raise PluginError(f"'{self.media_type}' is no media type of text, image, audio or video.")
        return top  # type: ignore[return-value]  # checked on the line above

    @property
    def file_name(self) -> str:
        """The stem with the extension of its media type."""
        return self.stem + EXTENSIONS.get(self.media_type, ".bin")


@dataclass
class Run:
    """One call of an expert: its seed, its device, and the ways to report progress and to be stopped."""

    seed: int = 0
    device: str = "cpu"
    progress: Callable[[float, float, str], None] = lambda done, total, note: None
    stop: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises Cancelled once the user stopped the run; call it between steps."""
        if self.stop.is_set():
            raise Cancelled("Stopped.")

    @classmethod
    def of_all(cls, runs: Sequence[Run]) -> Run:
        """One run for a batch: its progress is told to all of them, and it is stopped once all of them are."""

        def progress(done: float, total: float, note: str) -> None:
            for run in runs:
                run.progress(done, total, note)

        return cls(runs[0].seed, runs[0].device, progress, _AllStopped(runs))


class _AllStopped(threading.Event):
    """Set when the stops of all runs are; a look, not a thing to wait on."""

    def __init__(self, runs: Sequence[Run]):
        super().__init__()
        self._runs = runs

    def is_set(self) -> bool:
        return all(run.stop.is_set() for run in self._runs)


class ResolvesWeights(Protocol):
    """The part of `core.weights.Weights` that is needed here."""

    def resolve(self, uri: str) -> Path:
        """The file or folder on this disk."""


class Expert(ABC):
    """A model that performs a tool. Subclass, set `name` and `tool`, write `run`.

    `load` and `unload` are called around many `run`s, one at a time per expert. Heavy imports belong
    inside `load`, so that listing the experts costs nothing. With `batch` above 1, calls that wait for it
    are given to `run_batch` together, at most so many.
    """

    name: ClassVar[str]
    tool: ClassVar[Tool]
    card: ClassVar[Card] = Card()
    family: ClassVar[str] = ""  # a name that experts share, so that one settings table reaches them all
    defaults: ClassVar[Mapping[str, Any]] = {}  # what `[experts.NAME]` may set, and its value when it does not
    options: ClassVar[Mapping[str, Any]] = {}  # what was set (`tools/options.py`)
    batch: ClassVar[int] = 1  # how many calls `run_batch` may be given at once

    @classmethod
    def option(cls, name: str) -> Any:
        """The value that was set for this option, or its default."""
        return cls.options.get(name, cls.defaults[name])

    @classmethod
    def configured(cls, options: Mapping[str, Any]) -> type[Expert]:
        """This expert with options set. Override where an option changes the card."""
        return type(cls.__name__, (cls,), {"options": {**cls.options, **options}, "__doc__": cls.__doc__})

    @classmethod
    def fetch(cls, weights: ResolvesWeights) -> Mapping[str, Path]:
        """The card's weights on this disk, by URI. Override where finding the files is not enough."""
        return {uri: weights.resolve(uri) for uri in cls.card.weights}

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Makes the model ready. `weights` maps each URI of the card to a file or folder on this disk."""

    @abstractmethod
    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Performs the tool. Raises ExpertError (retryable or not), or InputError for a bad argument."""

    def run_batch(self, calls: Sequence[tuple[Mapping[str, Any], Run]]) -> Sequence[list[Output] | Exception]:
        """Performs several calls in one go: for each, in order, what `run` would return, or the error it would raise.

        Write it where the model costs less so, and set `batch`. `Run.of_all` is one run for all. When it raises
        (Cancelled apart), the calls are run one by one.
        """
        raise NotImplementedError  # not abstract: an expert with `batch` 1, as most are, is never given several

    def unload(self) -> None:
        """Lets go of the memory that `load` took."""

    def move(self, device: str) -> bool:
        """Takes what is loaded to another device. False where it cannot; then it is unloaded, and loaded there.

        One that leaves a GPU by itself in `run`, for want of memory, sets `self.device` to "cpu".
        """
        return False

    @classmethod
    def available(cls) -> str | None:
        """None when it can run here, else one sentence: what is missing and how to get it."""
        return None
