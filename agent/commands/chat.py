"""`anyloom chat`: a conversation at the terminal."""

from __future__ import annotations

from typing import Any

import click

from ..modes import COMPARE
from .options import settings_from, shared


@click.command()
@click.option("--thread", metavar="NAME", help="Go on with this conversation, or give a new one this name.")
@click.option(
    "--attach", "-a", "attach", multiple=True, metavar="FILE|URL", help="Take a file along with the first request."
)
@click.option(
    "--mode", type=click.Choice(["cascade", "end2end", COMPARE]), default="cascade", show_default=True,
    help="Who answers; compare asks both.",
)  # fmt: skip
@shared
def chat(thread: str | None, attach: tuple[str, ...], mode: str, **flags: Any) -> int:
    """Talk at the terminal. From a pipe: one request a line."""
    import asyncio

    from ...core.settings import terminal_pictures
    from ..agent import Agent
    from ..chat.loop import chat as talk

    agent = Agent(settings_from(flags))
    return asyncio.run(talk(agent, thread, attach, mode, terminal_pictures()))


COMMANDS = (chat,)
