"""anyloom as an MCP server: seen by a real client, over a pair of streams and over stdio."""

import base64
import os
import sys

import pytest
from rig import engine, task

pytest.importorskip("mcp")
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.memory import create_connected_server_and_client_session as connected

from anyloom.agent.mcp_server import build
from anyloom.controller.fakes import ScriptedController
from anyloom.tools.fakes import Fakes, tiny_png

PICTURE = "data:image/png;base64," + base64.b64encode(tiny_png(b"abc")).decode()
CHAIN = [task("text-to-image", 0, text="a cat"), task("text-to-speech", 1, text="hello")]


def kinds(result):
    return [c.type for c in result.content]


async def test_tools_are_listed_with_their_arguments(tmp_path):
    async with connected(build(engine(tmp_path))) as client:
        tools = {t.name: t for t in (await client.list_tools()).tools}
    assert {"anyloom_ask", "text-to-image", "image-to-text"} <= set(tools)
    asked = tools["visual-question-answering"].inputSchema
    assert asked["required"] == ["image", "text"]
    assert "artifact:" in asked["properties"]["image"]["description"]


async def test_a_tool_takes_media_and_gives_media(tmp_path):
    async with connected(build(engine(tmp_path))) as client:
        seen = await client.call_tool("image-to-text", {"image": PICTURE})
        drawn = await client.call_tool("text-to-image", {"text": "a cat", "seed": 3})
        spoken = await client.call_tool("text-to-speech", {"text": "hello"})
        filmed = await client.call_tool("text-to-video", {"text": "a cat runs"})
        again = drawn.content[1].text.split(": ")[1]
        chained = await client.call_tool("image-to-text", {"image": again})
    assert not seen.isError
    assert kinds(seen) == ["text"]
    assert kinds(drawn) == ["image", "text"]
    assert base64.b64decode(drawn.content[0].data).startswith(b"\x89PNG")
    assert (kinds(spoken)[0], spoken.content[0].mimeType) == ("audio", "audio/wav")
    assert kinds(filmed)[0] == "resource"
    assert not chained.isError


async def test_a_whole_request(tmp_path):
    async with connected(build(engine(tmp_path, ScriptedController(CHAIN)))) as client:
        asked = {"request": "draw a cat and say hello", "attachments": [PICTURE]}
        answer = await client.call_tool("anyloom_ask", asked)
    assert {"image", "audio"} <= set(kinds(answer))


@pytest.mark.parametrize("what", ["/etc/passwd", "../x.png", "http://127.0.0.1/x.png", "artifact:abcdef0123", "data:,"])
async def test_what_may_not_be_read_is_an_error_in_one_sentence(tmp_path, what):
    async with connected(build(engine(tmp_path))) as client:
        refused = await client.call_tool("image-to-text", {"image": what})
    assert refused.isError
    assert len(refused.content[0].text.splitlines()) == 1


async def test_failures_and_unknown_tools_are_errors(tmp_path):
    fakes = Fakes(broken=["text-to-speech"])
    async with connected(build(engine(tmp_path, fakes=fakes, retries=0))) as client:
        broken = await client.call_tool("text-to-speech", {"text": "hello"})
        unknown = await client.call_tool("text-to-smell", {"text": "roses"})
        missing = await client.call_tool("text-to-image", {})
    assert broken.isError
    assert "as the test asked" in broken.content[0].text
    assert unknown.isError
    assert missing.isError


async def test_progress_reaches_the_client(tmp_path):
    heard = []

    async def hear(done, total, note):
        heard.append(note)

    async with connected(build(engine(tmp_path))) as client:
        await client.call_tool("text-to-image", {"text": "a cat"}, progress_callback=hear)
    assert heard


async def test_the_command_speaks_only_the_protocol(tmp_path):
    env = {**os.environ, "ANYLOOM_DATA_DIR": str(tmp_path / "d"), "ANYLOOM_CACHE_DIR": str(tmp_path / "c")}
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "anyloom.agent", "mcp"], env={**env, "ANYLOOM_OFFLINE": "1"}
    )
    async with stdio_client(server) as (incoming, outgoing), ClientSession(incoming, outgoing) as client:
        await client.initialize()
        tools = [t.name for t in (await client.list_tools()).tools]
        grey = await client.call_tool("image-to-image", {"image": PICTURE, "text": "make it grey"})
    assert "image-to-image" in tools
    assert kinds(grey)[0] == "image"
