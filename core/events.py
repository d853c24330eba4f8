"""Typed events: what a run says while it goes on, the same for the terminal, the page and HTTP.

An emitter is any callable that takes an Event. `to_json` gives the line that `--json` prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Base of all events; `kind` in JSON is the class name in snake_case."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, with the event's kind."""
        name = type(self).__name__
        kind = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
        return {"event": kind, **dataclasses.asdict(self)}


@dataclass(frozen=True)
class Notice(Event):
    """Something the user should know: a bridge that was inserted, a fallback, a retry."""

    text: str


@dataclass(frozen=True)
class RunStarted(Event):
    """A request was accepted. `run` is the bundle's id, `thread` the conversation's."""

    run: str
    thread: str
    mode: str


@dataclass(frozen=True)
class PlanMade(Event):
    """The plan that will be run: tasks as JSON (`task`, `id`, `dep`, `args`), bridges shown in words."""

    tasks: tuple[dict[str, Any], ...]
    bridges: tuple[str, ...]
    controller: str
    seconds: float


@dataclass(frozen=True)
class TaskStarted(Event):
    """A task's inputs are there and its expert begins."""

    id: int
    task: str
    expert: str


@dataclass(frozen=True)
class TaskProgress(Event):
    """`done` of `total` steps; `note` says which kind of step (loading weights, denoising, ...)."""

    id: int
    done: float
    total: float
    note: str


@dataclass(frozen=True)
class TaskDone(Event):
    """A task ended well. `cached`: taken from the result cache, nothing ran."""

    id: int
    task: str
    expert: str
    seconds: float
    cached: bool
    artifacts: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class TaskFailed(Event):
    """A task ended badly, or was skipped because one it needs did."""

    id: int
    task: str
    error: str
    skipped: bool


@dataclass(frozen=True)
class AnswerText(Event):
    """A piece of the answer's text, in order."""

    text: str


@dataclass(frozen=True)
class AnswerDone(Event):
    """The whole answer, as JSON."""

    answer: dict[str, Any]


@dataclass(frozen=True)
class Download(Event):
    """Weights on their way: bytes so far and in all (0 when not known)."""

    uri: str
    done: int
    total: int


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An emitter for those who do not listen."""
