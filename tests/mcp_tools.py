"""An MCP server for the tests: text, a picture made, a picture taken, a sound, and a death."""

import base64
import io
import os
import wave
from typing import Annotated

from mcp.server.fastmcp import FastMCP, Image
from mcp.types import AudioContent
from pydantic import Field

server = FastMCP("tests")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@server.tool()
def shout_text(text: str) -> str:
    """Writes a text in capital letters. More words that no planner needs."""
    return text.upper() + os.environ.get("MARK", "")


@server.tool(meta={"anyloom/output": "image"})
def paint_dot(colour: str) -> Image:
    """Paints a dot of a colour."""
    return Image(data=PNG, format="png")


@server.tool()
def weigh_picture(picture: Annotated[str, Field(json_schema_extra={"contentMediaType": "image/png"})]) -> str:
    """Says how many bytes a picture has."""
    return str(len(base64.b64decode(picture)))


@server.tool(meta={"anyloom/output": "audio"}, structured_output=False)
def ring_bell(text: str) -> list[AudioContent]:
    """Rings a bell."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\1" * 800)
    return [AudioContent(type="audio", data=base64.b64encode(out.getvalue()).decode(), mimeType="audio/wav")]


@server.tool()
def die_now(text: str) -> str:
    """Ends the server."""
    os._exit(3)


@server.tool()
def take_list(things: list[str]) -> str:
    """Takes what cannot be planned."""
    return ",".join(things)


if __name__ == "__main__":
    server.run()
