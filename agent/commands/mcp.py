"""`anyloom mcp`: anyloom's tools for MCP clients, over standard input and output."""

from __future__ import annotations

from typing import Any

import click

from ...core.errors import UserError
from .options import settings_from, shared


@click.command()
@shared
def mcp(**flags: Any) -> None:
    """Offer all tools to an MCP client (stdio)."""
    import asyncio
    import contextlib
    import importlib.util
    import os
    import sys

    if importlib.util.find_spec("mcp") is None:
        raise UserError("MCP needs its package; pip install 'anyloom[mcp]'.")
    from ...graphs.engine import Engine
    from ..mcp_server import serve_stdio

    # Only the protocol may reach the client: whatever else prints goes to the standard error.
    sys.stdout.flush()
    protocol = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(protocol, "w", encoding="utf-8")
    engine = Engine(settings_from(flags))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(serve_stdio(engine))


COMMANDS = (mcp,)
