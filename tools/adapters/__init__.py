"""Tools of others as anyloom's: LangChain tools and the tools of MCP servers, named in the settings file.

    langchain = ["my_tools:weather"]          # a BaseTool, or a list of them

    [mcp.files]                               # a server that is started when it is needed
    command = "uvx"
    args = ["some-mcp-server"]
    env = {API_KEY = "…"}
    [mcp.remote]                              # or one that runs elsewhere
    url = "https://example.org/mcp"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...core.errors import AnyloomError, PluginError

if TYPE_CHECKING:
    from ...core.settings import Settings
    from ..contracts import Expert


def configured(settings: Settings) -> Iterator[type[Expert] | PluginError]:
    """An expert for each tool that the settings name; a PluginError for each entry that cannot be used."""
    for spec in settings.langchain:
        from .langchain import experts_of

        try:
            yield from experts_of(spec)
        except AnyloomError as e:
            yield PluginError(str(e))
    for name, table in settings.mcp.items():
        from .mcp import server_experts

        try:
            yield from server_experts(name, table, settings.data_dir / "mcp")
        except AnyloomError as e:
            yield PluginError(str(e))
