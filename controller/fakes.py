"""A controller for tests and demonstrations: it returns the plans it was given, and words plainly.

    controller = ScriptedController([{"task": "text-to-speech", "id": 0, "args": {"text": "hello"}}])
    controller = ScriptedController(plans={"speak": [...], "draw": [...]})     # by a word of the request
    controller.asked        # the requests it got; `.told` the problems; `.outcomes` what it answered from
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from ..core.errors import PlanError
from ..tools.contracts import Tool
from .base import Controller, Outcome, PlanRequest
from .plan import Plan

Tasks = Sequence[Mapping[str, Any]]
Words = str | Callable[[Plan, Sequence[Outcome]], str]


class ScriptedController(Controller):
    """Plays back plans, repairs, a choice and an answer. Without an answer it names what was made."""

    name = "scripted"

    def __init__(
        self,
        plan: Tasks = (),
        *,
        plans: Mapping[str, Tasks] | None = None,
        repairs: Sequence[Tasks] = (),
        answer: Words | None = None,
        choice: str = "",
        pieces: int = 7,
    ):
        self._plan = plan
        self._plans = plans or {}
        self._repairs = list(repairs)
        self._answer = answer
        self._choice = choice
        self._pieces = pieces
        self._calls = 0
        self.asked: list[PlanRequest] = []
        self.offered: list[tuple[str, ...]] = []
        self.told: list[tuple[str, ...]] = []
        self.outcomes: list[tuple[Outcome, ...]] = []

    async def plan(self, request: PlanRequest, tools: Sequence[Tool]) -> Plan:
        """The plan of the first word that the request contains, else the plan it was given."""
        self._calls += 1
        self.asked.append(request)
        self.offered.append(tuple(t.name for t in tools))
        found = next((tasks for word, tasks in self._plans.items() if word in request.text), self._plan)
        return Plan.parse([dict(t) for t in found])

    async def repair(
        self, request: PlanRequest, tools: Sequence[Tool], plan: Plan, problems: Sequence[str]
    ) -> Plan:
        """The next of its repairs; PlanError when there is none left."""
        self._calls += 1
        self.told.append(tuple(problems))
        if not self._repairs:
            raise PlanError(f"This cannot be done as asked: {'; '.join(problems)}.", tuple(problems))
        return Plan.parse([dict(t) for t in self._repairs.pop(0)])

    async def choose(self, task: str, cards: Mapping[str, str]) -> str:
        """Its choice, whatever the cards say."""
        self._calls += 1
        return self._choice

    async def answer(
        self, request: PlanRequest, plan: Plan, outcomes: Sequence[Outcome]
    ) -> AsyncIterator[str]:
        """Its answer in small pieces."""
        self._calls += 1
        self.outcomes.append(tuple(outcomes))
        text = self._answer(plan, outcomes) if callable(self._answer) else self._answer
        if text is None:
            text = "\n".join(_told(o) for o in outcomes) or "Hello."
        for start in range(0, len(text), self._pieces):
            yield text[start : start + self._pieces]

    def usage(self) -> dict[str, Any]:
        """Calls so far."""
        return {"model_calls": self._calls}


def _told(outcome: Outcome) -> str:
    if outcome.error:
        return f"{outcome.task} failed: {outcome.error}"
    made = ", ".join(f"[{a.name}]({a.name})" for a in outcome.artifacts if a.modality != "text")
    return f"{outcome.task}: {made or outcome.text}"
