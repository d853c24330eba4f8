"""Any LangChain chat model as the controller, and `open_controller`, which finds it by name.

    local                                   anyloom's own planner (no key, no network)
    openai:gpt-5-mini                       OPENAI_API_KEY as langchain-openai reads it
    openai:MODEL@http://localhost:11434/v1  any server with OpenAI's API: Ollama, vLLM, llama.cpp
    python:my_package.models:chat           a chat model object, or a function that makes one

Structured output is the provider's own where the model has it; otherwise the plan is parsed from
the text, and a plan that does not parse is sent back once with the fault spelled out.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import PlanError, SettingsError
from ..prompts import load
from ..tools.contracts import Tool
from .base import Controller, Outcome, PlanRequest
from .plan import Plan

PLAN_SCHEMA: dict[str, Any] = {
    "title": "plan",
    "description": "The tasks that answer the request; empty when no tool is needed.",
    "type": "object",
    "properties": {
        "plan": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "task": {"type": "string"},
                    "id": {"type": "integer"},
                    "dep": {"type": "array", "items": {"type": "integer"}},
                    "args": {"type": "object", "additionalProperties": {"type": "string"}},
                },
                "required": ["task", "id", "args"],
            },
        }
    },
    "required": ["plan"],
}


class ChatController(Controller):
    """Plans, selects and answers with a LangChain chat model."""

    def __init__(self, model: Any, name: str):
        self.model = model
        self.name = name
        self._calls = 0
        self._tokens: dict[str, int] = {"input_tokens": 0, "output_tokens": 0}

    async def plan(self, request: PlanRequest, tools: Sequence[Tool]) -> Plan:
        """Asks for a plan over exactly these tools; one more try when it does not parse."""
        messages = self._messages(request, tools)
        try:
            return await self._ask(messages)
        except PlanError as e:
            fault = load("repair").render(plan="", problems=f"- {e}")
            return await self._ask([*messages, ("user", fault)])

    async def repair(self, request: PlanRequest, tools: Sequence[Tool], plan: Plan, problems: Sequence[str]) -> Plan:
        """Sends the plan back with what was wrong with it."""
        fault = load("repair").render(
            plan=json.dumps(plan.to_json(), ensure_ascii=False), problems="\n".join(f"- {p}" for p in problems)
        )
        return await self._ask([*self._messages(request, tools), ("user", fault)])

    async def choose(self, task: str, cards: Mapping[str, str]) -> str:
        """The name the model answers with; the caller checks that it exists."""
        prompt = load("choose").render(task=task, cards="\n".join(f"{n}: {c}" for n, c in cards.items()))
        reply = await self._invoke([("user", prompt)])
        words = reply.replace("`", " ").replace('"', " ").split()
        return next((w.strip(".,:") for w in words if w.strip(".,:") in cards), words[0] if words else "")

    async def answer(self, request: PlanRequest, plan: Plan, outcomes: Sequence[Outcome]) -> AsyncIterator[str]:
        """Streams the answer, made from the results alone."""
        results = "\n".join(_told(o) for o in outcomes) or "(no tool was needed)"
        messages = [("system", load("answer").render(results=results)), *self._said(request)]
        self._calls += 1
        async for chunk in self.model.astream(messages):
            self._count(chunk)
            if piece := _text(chunk):
                yield piece

    def usage(self) -> dict[str, Any]:
        """Model calls and tokens."""
        return {"model_calls": self._calls, **self._tokens}

    def _messages(self, request: PlanRequest, tools: Sequence[Tool]) -> list[tuple[str, str]]:
        listed = "\n".join(
            f"- {t.name}: {t.description} Arguments: "
            + ", ".join(f"{p.name} ({p.modality}{'' if p.required else ', optional'})" for p in t.params)
            + f". Gives {t.output}."
            for t in tools
        )
        files = "\n".join(f"- {name} ({kind})" for name, kind in request.files.items()) or "(none)"
        return [("system", load("plan").render(tools=listed, files=files)), *self._said(request)]

    @staticmethod
    def _said(request: PlanRequest) -> list[tuple[str, str]]:
        turns: list[tuple[str, str]] = []
        for turn in request.history[-6:]:
            turns += [("user", turn.request), ("assistant", turn.answer)]
        return [*turns, ("user", request.text)]

    async def _ask(self, messages: list[tuple[str, str]]) -> Plan:
        self._calls += 1
        try:
            structured = self.model.with_structured_output(PLAN_SCHEMA, include_raw=True)
        except (NotImplementedError, AttributeError):  # how LangChain models say that they cannot; parse their text
            self._calls -= 1
            return Plan.parse(await self._invoke(messages))
        result = await structured.ainvoke(messages)
        if isinstance(result, Mapping) and "raw" in result:
            self._count(result["raw"])
            if result.get("parsed") is None:
                return Plan.parse(_text(result["raw"]))
            result = result["parsed"]
        return Plan.parse(result)

    async def _invoke(self, messages: list[tuple[str, str]]) -> str:
        self._calls += 1
        reply = await self.model.ainvoke(messages)
        self._count(reply)
        return _text(reply)

    def _count(self, message: Any) -> None:
        used = getattr(message, "usage_metadata", None) or {}
        for key in self._tokens:
            self._tokens[key] += int(used.get(key, 0))


def _text(message: Any) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(p if isinstance(p, str) else p.get("text", "") for p in content)


def _told(outcome: Outcome) -> str:
    if outcome.error:
        return f"task {outcome.id} ({outcome.task}) FAILED: {outcome.error}"
    files = ", ".join(f"{a.name} ({a.modality})" for a in outcome.artifacts if a.modality != "text")
    text = f' text: """{outcome.text[:4000]}"""' if outcome.text else ""
    return f"task {outcome.id} ({outcome.task}, by {outcome.expert}): {files}{text}"


def open_controller(name: str, weights: Any, cache_dir: Path, max_tasks: int = 16) -> Controller:
    """The controller of that name; SettingsError says what can be written."""
    from .local import open_local

    kind, _, rest = name.partition(":")
    if name == "local":
        return open_local(weights, cache_dir, max_tasks)
    if kind == "openai" and rest:
        return ChatController(_openai(rest), name)
    if kind == "python" and ":" in rest:
        return ChatController(_python(rest), name)
    raise SettingsError(
        f"There is no controller '{name}'; write local, openai:MODEL, openai:MODEL@URL or python:module:object."
    )


def _openai(rest: str) -> Any:
    model, _, url = rest.partition("@")
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as e:
        raise SettingsError("The controller 'openai:' needs langchain-openai: pip install 'anyloom[openai]'.") from e
    try:
        extra = {"base_url": url, "api_key": "none"} if url else {}
        return ChatOpenAI(model=model, temperature=0, **extra)  # type: ignore[arg-type]
    except Exception as e:  # the client's own errors are many: a missing key is the usual one
        raise SettingsError(f"The controller 'openai:{rest}' cannot be opened: {str(e).splitlines()[0]}.") from e


def _python(rest: str) -> Any:
    import importlib

    module, _, attribute = rest.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        raise SettingsError(f"The controller 'python:{rest}' cannot be imported: {e}.") from e
    return found() if callable(found) and not hasattr(found, "ainvoke") else found
