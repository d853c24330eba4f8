"""The tools of an MCP server as experts. The server runs while it is needed, in a thread of its own.

Its list of tools is kept on disk by the hash of its configuration, so that looking at the registry
starts nothing; a changed table asks again, as does deleting `mcp/` in the data folder. Images, sounds and videos go in
as base64 in arguments that the server's schema marks with `contentMediaType`, and come out of its
image, audio and resource content.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import hashlib
import json
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...core.artifacts import write_atomic
from ...core.errors import ExpertError, PluginError
from ..contracts import Card, Expert, Output, Param, Run, Tool
from .langchain import first_sentence, params_of, tool_name

START_SECONDS = 30.0
CALL_SECONDS = 300.0


def server_experts(name: str, table: Mapping[str, Any], folder: Path) -> list[type[Expert]]:
    """An expert for each tool of a server. PluginError: it does not start, or its entry is wrong."""
    if not (table.get("command") or table.get("url")):
        raise PluginError(f"[mcp.{name}] names neither a command nor a url.")
    line = Line.of(name, table)
    file = folder / f"{name}-{line.digest[:12]}.json"
    if not file.exists():
        write_atomic(file, json.dumps(line.tools()).encode())
    found = []
    for raw in json.loads(file.read_text()):
        try:
            found.append(_expert(name, raw, line))
        except PluginError:
            continue  # an argument that cannot be planned: the others are still of use
    return found


def _expert(server: str, raw: Mapping[str, Any], line: Line) -> type[Expert]:
    schema = raw["inputSchema"]
    kinds = {n: str(p["contentMediaType"]).split("/")[0] for n, p in schema.get("properties", {}).items()
             if "contentMediaType" in p}  # fmt: skip
    output = str((raw.get("_meta") or {}).get("anyloom/output", "text"))
    params: tuple[Param, ...] = params_of(schema, kinds)
    tool = Tool(tool_name(raw["name"]), first_sentence(raw.get("description") or raw["name"]), params, output)
    facts = {"name": f"mcp-{tool_name(server)}-{tool.name}", "tool": tool, "raw_name": raw["name"], "line": line}
    return type("MCPTool", (_MCP,), {**facts, "card": Card(licence="as the server says", memory=1_000_000)})


class _MCP(Expert):
    """Calls a tool of an MCP server."""

    raw_name: str
    line: Line

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """What the server returned: text, or the first media of the promised kind."""
        run.check()
        given = {k: v if isinstance(v, str) else _base64(Path(v)) for k, v in args.items()}
        content = self.line.call(self.raw_name, given, run)
        media = [_media(c) for c in content]
        made = [o for o in media if o is not None and o.modality == self.tool.output]
        if made:
            return made
        if self.tool.output != "text":
            raise ExpertError(f"The tool '{self.raw_name}' gave no {self.tool.output}.")
        return [Output.text("\n".join(c["text"] for c in content if c["type"] == "text"))]


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _media(content: Mapping[str, Any]) -> Output | None:
    if content["type"] in ("image", "audio"):
        return Output(base64.b64decode(content["data"]), content["mimeType"])
    resource = content.get("resource") or {}
    if "blob" in resource:
        return Output(base64.b64decode(resource["blob"]), resource.get("mimeType") or "application/octet-stream")
    return None


class Line:
    """The connection to one server: opened when first used, opened again when it broke, closed with the program."""

    _known: ClassVar[weakref.WeakValueDictionary[str, Line]] = weakref.WeakValueDictionary()
    _lock = threading.Lock()

    def __init__(self, name: str, table: Mapping[str, Any], digest: str):
        self.name, self.table, self.digest = name, dict(table), digest
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: asyncio.Queue[Any] | None = None
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._own = threading.Lock()  # over the three above: nobody may wait for the dead

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> Line:
        """The line to this server; one for all who ask."""
        digest = hashlib.sha256(json.dumps([name, table], sort_keys=True, default=str).encode()).hexdigest()
        with cls._lock:
            line = cls._known.get(digest) or cls(name, table, digest)
            cls._known[digest] = line
            return line

    def tools(self) -> list[dict[str, Any]]:
        """The server's tools as JSON. PluginError when it does not start."""
        try:
            answer = self._do("list", None).result(START_SECONDS)
        except Exception as e:
            raise PluginError(f"[mcp.{self.name}]: the server does not answer ({_reason(e)}).") from e
        return [t.model_dump(mode="json", by_alias=True) for t in answer.tools]

    def call(self, tool: str, args: Mapping[str, Any], run: Run) -> list[dict[str, Any]]:
        """The content of a call's result. ExpertError: the server died (retryable) or said no."""
        future = self._do("call", (tool, dict(args)))
        waited = 0.0
        while True:
            try:
                answer = future.result(0.2)
                break
            except concurrent.futures.TimeoutError as e:
                waited += 0.2
                if run.stop.is_set():
                    future.cancel()
                    run.check()
                if waited > CALL_SECONDS:
                    raise ExpertError(f"The MCP server '{self.name}' took more than {CALL_SECONDS:.0f} s.") from e
            except Exception as e:
                raise ExpertError(f"The MCP server '{self.name}' failed ({_reason(e)}).", retryable=True) from e
        content = [c.model_dump(mode="json", by_alias=True) for c in answer.content]
        if answer.isError:
            said = " ".join(c.get("text", "") for c in content).strip() or "no reason given"
            raise ExpertError(f"The tool '{tool}' of '{self.name}' said: {said[:300]}")
        return content

    def _do(self, what: str, args: Any) -> concurrent.futures.Future[Any]:
        """Hands a call to the server's thread, starting both if need be."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._own:
            if self._loop is None:
                self._loop, self._calls = asyncio.new_event_loop(), asyncio.Queue()
                serving = (self._loop, self._calls)
                threading.Thread(target=self._serve, args=serving, daemon=True, name=f"mcp-{self.name}").start()
            assert self._calls is not None
            self._waiting.add(done)
            self._loop.call_soon_threadsafe(self._calls.put_nowait, (what, args, done))
        return done

    def _serve(self, loop: asyncio.AbstractEventLoop, calls: asyncio.Queue[Any]) -> None:
        """The server's thread: talks until the connection ends, then tells whoever waits."""
        try:
            loop.run_until_complete(self._talk(calls))
            reason = "it ended"
        except BaseException as e:
            reason = _reason(e)
        with self._own:
            self._loop = self._calls = None
            lost, self._waiting = self._waiting, set()
        for future in lost:
            if not future.done():
                future.set_exception(RuntimeError(reason))
        loop.close()

    async def _talk(self, calls: asyncio.Queue[Any]) -> None:
        """Opens the session and carries out calls until the server breaks."""
        async with self._session() as session:
            await asyncio.wait_for(session.initialize(), START_SECONDS)
            while True:
                what, args, done = await calls.get()
                answer = await (session.list_tools() if what == "list" else session.call_tool(*args))
                with self._own:
                    self._waiting.discard(done)
                if not done.cancelled():
                    done.set_result(answer)

    def _session(self) -> Any:
        import contextlib

        from mcp import ClientSession, StdioServerParameters
        from mcp.client.stdio import stdio_client

        @contextlib.asynccontextmanager
        async def opened() -> Any:
            if self.table.get("url"):
                from mcp.client.streamable_http import streamablehttp_client as client

                streams: Any = client(str(self.table["url"]), headers=dict(self.table.get("headers") or {}))
            else:
                streams = stdio_client(
                    StdioServerParameters(
                        command=str(self.table["command"]), args=[str(a) for a in self.table.get("args", ())],
                        env={k: str(v) for k, v in (self.table.get("env") or {}).items()} or None,
                    )
                )  # fmt: skip
            async with streams as (incoming, outgoing, *_), ClientSession(incoming, outgoing) as session:
                yield session

        return opened()


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
