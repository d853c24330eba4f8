"""anyloom's tools for MCP clients: each tool that can run here, and `anyloom_ask` for a whole request.

    server = build(engine)                 # mcp.server.lowlevel.Server
    await serve_stdio(engine)

Media come in as `data:` URIs, http(s) addresses or ids of earlier results (`artifact:SHA256`), never as
paths of this machine; they go out as MCP's image, audio and resource content. Only the protocol is
written to the standard output.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import mcp.types as types
from mcp.server.lowlevel import Server

from ..controller.plan import Plan
from ..core.artifacts import Artifact
from ..core.errors import AnyloomError, InputError
from ..core.events import Event, TaskProgress
from ..graphs.dispatch import Dispatch
from ..graphs.state import Request
from .intake import take

if TYPE_CHECKING:
    from ..graphs.engine import Engine
    from ..tools.contracts import Tool

ASK = "anyloom_ask"
MEDIA = "A data: URI, an http(s) address, or the id of an earlier result (artifact:…)."


def schema(tool: Tool) -> dict[str, Any]:
    """JSON schema of a tool's arguments, and a seed."""
    properties: dict[str, Any] = {}
    for p in tool.params:
        words = [p.description or f"{p.modality} to work on"]
        if p.modality not in ("text", "url"):
            words.append(MEDIA)
        properties[p.name] = {"type": "string", "description": " ".join(words)}
    properties["seed"] = {"type": "integer", "description": "The same seed gives the same result.", "default": 0}
    required = [p.name for p in tool.params if p.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


ASK_SCHEMA = {
    "type": "object",
    "properties": {
        "request": {"type": "string", "description": "What should be done, in words."},
        "attachments": {"type": "array", "items": {"type": "string", "description": MEDIA}},
        "seed": {"type": "integer", "default": 0},
    },
    "required": ["request"],
    "additionalProperties": False,
}


def build(engine: Engine) -> Server:
    """The MCP server over an engine."""
    server: Server = Server("anyloom", instructions="Tools that turn text, pictures, sound and video into each other.")

    @server.list_tools()  # type: ignore[no-untyped-call, untyped-decorator]
    async def listed() -> list[types.Tool]:
        words = "Plans a request over all of these tools, runs the plan, and returns text and files."
        tools = [types.Tool(name=ASK, description=words, inputSchema=ASK_SCHEMA)]
        for t in engine.runtime.registry.offered():
            described = f"{t.description} ({t.signature()})"
            tools.append(types.Tool(name=t.name, description=described, inputSchema=schema(t)))
        return tools

    @server.call_tool()  # type: ignore[untyped-decorator]
    async def called(name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        try:
            return types.CallToolResult(content=await _call(engine, name, arguments, _reporter(server)))
        except AnyloomError as e:
            told = types.TextContent(type="text", text=" ".join(str(e).split()))
            return types.CallToolResult(content=[told], isError=True)

    return server


async def _call(engine: Engine, name: str, arguments: Mapping[str, Any], emit: Any) -> list[Any]:
    """Runs one tool, or a whole request; the content of the answer."""
    if name == ASK:
        files = [await _take(engine, f, n) for n, f in enumerate(arguments.get("attachments") or ())]
        request = Request(arguments["request"], tuple(files), seed=int(arguments.get("seed") or 0))
        answer = await engine.ask(request, emit=emit)
        made = [_content(engine, a) for a in answer.artifacts if a.modality != "text"]
        return [types.TextContent(type="text", text=answer.text.strip()), *_flat(made)]
    tool = engine.runtime.registry.tool(name)
    args: dict[str, str] = {}
    given: dict[str, Artifact] = {}
    for n, p in enumerate(tool.params):
        if p.name not in arguments:
            continue
        value = str(arguments[p.name])
        if p.modality in ("text", "url"):
            args[p.name] = value
            continue
        artifact = await _take(engine, value, n)
        given[artifact.name] = artifact
        args[p.name] = artifact.name
    request = Request(name, tuple(given.values()), seed=int(arguments.get("seed") or 0))
    plan = Plan.parse([{"task": name, "id": 0, "args": args}])
    (result,) = await Dispatch(engine.runtime, request, plan, given, emit=emit).run()
    if not result.ok:
        raise InputError(result.error)
    return _flat([_content(engine, a) for a in result.artifacts])


async def _take(engine: Engine, what: str, number: int) -> Artifact:
    """An argument as an artifact: an earlier result, a `data:` URI or an address."""
    if what.startswith("artifact:"):
        return engine.store.get(what.removeprefix("artifact:"))
    urls = not engine.settings.offline
    return await asyncio.to_thread(lambda: take(engine.store, what, None, allow_urls=urls, allow_paths=False))


def _content(engine: Engine, artifact: Artifact) -> list[Any]:
    """An artifact as MCP content, with its id for later calls."""
    if artifact.modality == "text":
        return [types.TextContent(type="text", text=engine.store.text(artifact))]
    data = base64.b64encode(engine.store.path(artifact).read_bytes()).decode()
    uri = f"artifact:{artifact.sha256}"
    told = types.TextContent(type="text", text=f"{artifact.name}: {uri}")
    if artifact.modality == "image":
        return [types.ImageContent(type="image", data=data, mimeType=artifact.media_type), told]
    if artifact.modality == "audio":
        return [types.AudioContent(type="audio", data=data, mimeType=artifact.media_type), told]
    blob = types.BlobResourceContents(uri=uri, mimeType=artifact.media_type, blob=data)  # type: ignore[arg-type]
    return [types.EmbeddedResource(type="resource", resource=blob), told]


def _flat(parts: list[list[Any]]) -> list[Any]:
    return [c for part in parts for c in part]


def _reporter(server: Server) -> Any:
    """An emitter that passes progress on to the client, where it asked for it."""
    context = server.request_context
    token = context.meta.progressToken if context.meta else None
    loop = asyncio.get_running_loop()

    def emit(event: Event) -> None:
        if token is None or not isinstance(event, TaskProgress):
            return
        told = context.session.send_progress_notification(token, event.done, event.total or None, event.note)
        asyncio.run_coroutine_threadsafe(told, loop)

    return emit


async def serve_stdio(engine: Engine) -> None:
    """Serves one client over standard input and output until it goes away."""
    from mcp.server.stdio import stdio_server

    server = build(engine)
    try:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        await engine.aclose()
