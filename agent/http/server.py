"""Server: runs the app with uvicorn until it is told to end, and ends in order.

On SIGTERM or Ctrl-C nothing new is taken, requests that run get some seconds to finish, the others
are stopped where they can be resumed (`anyloom resume`, or POST /v1/requests/{id}/resume later).
A second Ctrl-C ends at once.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from ...core.errors import InputError
from .app import create_app, service_of
from .options import ServeOptions

if TYPE_CHECKING:
    from ...graphs.engine import Engine

ON_TOP = 5.0  # seconds that connections get to end after the last request was stopped


class Server(uvicorn.Server):
    """Uvicorn, with the service's own way to end."""

    def __init__(self, engine: Engine, options: ServeOptions, level: str = "warning"):
        app = create_app(engine, options)
        self.service = service_of(app)
        self.options = options
        super().__init__(
            uvicorn.Config(
                app, host=options.host, port=options.port, log_level=level, access_log=False, proxy_headers=False,
                server_header=False, timeout_graceful_shutdown=round(options.grace + ON_TOP), lifespan="on",
            )
        )  # fmt: skip

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal ends in order, the second at once; none is raised again afterwards."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets requests end while connections are still served, so that clients hear how they ended."""
        drain = asyncio.create_task(self.service.jobs.drain(0.0 if self.force_exit else self.options.grace))
        await super().shutdown(sockets)
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)


def listen(options: ServeOptions) -> socket.socket:
    """The open port; InputError when it cannot be had."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((options.host.strip("[]"), options.port))
        sock.listen(2048)
    except (OSError, OverflowError) as e:
        sock.close()
        reason = getattr(e, "strerror", None) or e
        raise InputError(
            f"Cannot serve on {options.host}, port {options.port} ({reason}); choose another --port or --host."
        ) from e
    return sock


def address(sock: socket.socket) -> str:
    """Where clients reach it."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(engine: Engine, options: ServeOptions, sock: Any, level: str = "warning") -> int:
    """Serves until it is told to end; says how many requests were stopped by that and can be resumed."""
    server = Server(engine, options, level)
    asyncio.run(server.serve(sockets=[sock]))
    return server.service.jobs.cut
