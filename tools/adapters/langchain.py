"""LangChain tools as experts.

A tool's arguments are texts, unless its metadata says otherwise, and so is its result:

    weather.metadata = {"anyloom": {"params": {"photo": "image"}, "output": "audio"}}

A media argument reaches the tool as a path. A media result is bytes with a media type, given as the
artifact of a tool with `response_format="content_and_artifact"`: `{"data": b"…", "media_type": "audio/wav"}`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any

from ...core.errors import AnyloomError, ExpertError, PluginError
from ..contracts import Card, Expert, Output, Param, Run, Tool

PLAIN = ("string", "number", "integer", "boolean")


def experts_of(spec: str) -> list[type[Expert]]:
    """The experts of `module:object`. PluginError: it cannot be imported or holds no LangChain tools."""
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as e:  # a stranger's import may raise anything
        raise PluginError(f"langchain: '{spec}' cannot be imported ({type(e).__name__}: {e}).") from e
    from langchain_core.tools import BaseTool

    tools = list(found) if isinstance(found, list | tuple) else [found]
    if not all(isinstance(t, BaseTool) for t in tools):
        raise PluginError(f"langchain: '{spec}' is no LangChain tool, nor a list of them.")
    return [expert_of(t) for t in tools]


def expert_of(tool: Any) -> type[Expert]:
    """One LangChain tool as an expert class."""
    told = (tool.metadata or {}).get("anyloom", {})
    params = params_of(tool.tool_call_schema.model_json_schema(), told.get("params", {}))
    made = Tool(tool_name(tool.name), first_sentence(tool.description), params, told.get("output", "text"))
    return type(
        "LangChainTool",
        (_LangChain,),
        {"name": f"langchain-{made.name}", "tool": made, "card": _CARD, "lc": tool, "__doc__": tool.description},
    )


_CARD = Card(licence="as its package", memory=1_000_000)


def tool_name(name: str) -> str:
    """`get_weather` → `get-weather`: small letters and hyphens, as anyloom's own."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "tool"


def first_sentence(text: str) -> str:
    """What a planner needs of a description: its first sentence, on one line."""
    line = " ".join(text.split())
    return re.split(r"(?<=[.!?]) ", line, maxsplit=1)[0][:200] or "does what its name says"


def params_of(schema: Mapping[str, Any], kinds: Mapping[str, str]) -> tuple[Param, ...]:
    """The arguments of a JSON schema. PluginError: one that must be given is neither text nor number nor media."""
    needed = set(schema.get("required", ()))
    params = []
    for name, prop in schema.get("properties", {}).items():
        kind = kinds.get(name, "text")
        types = [prop.get("type"), *(o.get("type") for o in prop.get("anyOf", ()))]
        if kind == "text" and not any(t in PLAIN for t in types):
            if name in needed:
                raise PluginError(f"The argument '{name}' is no text or number, which is all that can be planned.")
            continue
        if name in needed:
            params.append(Param(name, kind, str(prop.get("description", ""))))
    return tuple(params)


class _LangChain(Expert):
    """Calls a LangChain tool."""

    lc: Any

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """What the tool returned. ExpertError carries what it raised."""
        run.check()
        call = {"name": self.lc.name, "args": {k: _plain(v) for k, v in args.items()}, "id": "1", "type": "tool_call"}
        try:
            message = self.lc.invoke(call)
        except AnyloomError:
            raise
        except Exception as e:  # a stranger's code
            reason = " ".join(str(e).split())[:200]
            raise ExpertError(f"The tool '{self.lc.name}' failed: {type(e).__name__}: {reason}.") from e
        run.check()
        media = message.artifact
        if isinstance(media, dict) and isinstance(media.get("data"), bytes) and "media_type" in media:
            return [Output(media["data"], str(media["media_type"]), self.tool.name)]
        return [Output.text(message.content if isinstance(message.content, str) else str(message.content))]


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else str(value)
