"""What a controller must do, whichever model is behind it, and what it is given.

`local` is anyloom's own planner on SmolLM2 (`local.py`); everything else is a LangChain chat model
(`chat.py`). `open_controller` picks by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.artifacts import Artifact
from ..tools.contracts import Tool
from .plan import Plan


@dataclass(frozen=True)
class Turn:
    """An earlier exchange of the conversation: what was asked, answered, and made."""

    request: str
    answer: str
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True)
class PlanRequest:
    """Everything a plan is made from. `files` maps the names that may be used to their modality; `attached` are those
    of them that came with this request."""

    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Turn, ...] = ()
    attached: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What one task came to, for the wording of an answer. `text` is the content of a text result."""

    id: int
    task: str
    expert: str = ""
    artifacts: tuple[Artifact, ...] = ()
    text: str = ""
    error: str = ""


class Controller(ABC):
    """Plans, repairs, selects and answers. Methods are async; a local model works in a thread."""

    name: str

    @abstractmethod
    async def plan(self, request: PlanRequest, tools: Sequence[Tool]) -> Plan:
        """A plan over exactly these tools; empty when none is needed. PlanError when none can be made."""

    @abstractmethod
    async def repair(self, request: PlanRequest, tools: Sequence[Tool], plan: Plan, problems: Sequence[str]) -> Plan:
        """A second attempt, told what was wrong with the first or which tasks failed."""

    @abstractmethod
    async def choose(self, task: str, cards: Mapping[str, str]) -> str:
        """The name of one of the experts, given each one's card in words (policy `llm`)."""

    @abstractmethod
    def answer(self, request: PlanRequest, plan: Plan, outcomes: Sequence[Outcome]) -> AsyncIterator[str]:
        """The answer's text, in pieces. Cites artifacts only by the names in `outcomes`."""

    def usage(self) -> dict[str, Any]:
        """Model calls and tokens since the controller was made."""
        return {}
