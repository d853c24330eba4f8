"""`anyloom web`: the page in a browser."""

from __future__ import annotations

from typing import Any

import click

from ...core.errors import UserError
from .options import settings_from, shared


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need --auth.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port; without it the first free one from 7860.")
@click.option("--auth", multiple=True, metavar="NAME:PASSWORD", help="A login, or a file with one a line.")
@click.option("--open", "browser", is_flag=True, help="Open it in the browser.")
@shared
def web(host: str, port: int | None, auth: tuple[str, ...], browser: bool, **flags: Any) -> None:
    """Serve a chat page."""
    import importlib.util
    import threading

    if importlib.util.find_spec("gradio") is None:
        raise UserError("The page needs Gradio; pip install 'anyloom[web]'.")
    from ..agent import Agent
    from ..web.server import open_page, read_auth

    click.echo("Opening the page …", err=True)
    agent = Agent(settings_from(flags))
    if agent.settings.ray:
        agent.engine.runtime  # noqa: B018  joins the cluster before anybody comes
    page, address = open_page(agent, host, port, read_auth(auth), browser)
    click.echo(f"anyloom is at {address}  (Ctrl-C stops it)", err=True)
    try:
        threading.Event().wait()
    finally:
        page.close()


COMMANDS = (web,)
