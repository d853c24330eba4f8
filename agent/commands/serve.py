"""`anyloom serve`: the agent over HTTP, OpenAI-compatible and with a typed API of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError
from .options import settings_from, shared

EXTRA = "Serving over HTTP needs more packages: pip install 'anyloom[serve]'"
NEEDED = ("fastapi", "prometheus_client", "python_multipart", "starlette", "uvicorn")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--token", metavar="T", help="What clients must send as 'Authorization: Bearer T'.")
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="File with tokens, one a line.")
@click.option("--max-concurrent", type=int, default=2, show_default=True, help="Requests that run at once.")
@click.option("--queue", type=int, default=64, show_default=True, help="Requests that may wait.")
@click.option("--rate", metavar="N/min", default="0", help="Requests a minute and client; 0 for no limit.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Web origin that may call; repeat for more.")
@click.option("--public-url", metavar="URL", help="Where clients reach it, when that is a proxy before it.")
@click.option("--grace", type=float, default=10.0, show_default=True, help="Seconds for what runs when it ends.")
@shared
def serve(
    host: str, port: int, token: str | None, token_file: Path | None, max_concurrent: int, queue: int, rate: str,
    cors: tuple[str, ...], public_url: str | None, grace: float, **flags: Any,
) -> int:  # fmt: skip
    """Serve the agent over HTTP."""
    settings = settings_from(flags)
    try:
        import prometheus_client  # noqa: F401  # needed when the first request comes; better missed here
        import python_multipart  # noqa: F401

        from ..http.options import ServeOptions, tokens_in
        from ..http.server import address, listen
        from ..http.server import serve as run
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in NEEDED:
            raise
        raise InputError(EXTRA) from e
    from ...graphs.engine import Engine

    tokens = (*((token,) if token else ()), *(tokens_in(token_file) if token_file else ()))
    options = ServeOptions(
        host=host, port=port, tokens=tokens, max_concurrent=max_concurrent, queue=queue, rate=_rate(rate), cors=cors,
        public_url=public_url or "", grace=max(0.0, grace),
    ).checked()  # fmt: skip
    engine = Engine(settings)
    if settings.ray:
        engine.runtime  # noqa: B018  joins the cluster now: no request should wait for that, or be the first to fail
    sock = listen(options)
    click.echo(f"Serving on {address(sock)} (OpenAI clients: {address(sock)}/v1). Ctrl-C ends it.", err=True)
    with sock:
        stopped = run(engine, options, sock)
    if stopped:
        click.echo(f"Stopped {stopped} on the way; `anyloom threads` lists them, `anyloom resume` goes on.", err=True)
    return 0


def _rate(text: str) -> int:
    number = text.strip().lower().removesuffix("/min").removesuffix("/minute").strip()
    if not number.isdecimal():
        raise click.BadParameter(f"'{text}' is not like 30/min", param_hint="--rate")
    return int(number)


COMMANDS = (serve,)
