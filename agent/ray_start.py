"""`ray start` with more patience; `anyloom worker` runs it: python -m anyloom.agent.ray_start --block --address …

Ray gives a machine 30 s to be there (a number in its code, no setting) and then ends what it started. Where
others keep the processors busy that is too little, and starting over costs the same work again.

And gRPC's handlers of fork are off. The head's client proxy forks with gRPC at work in other threads, for each
client that comes by ray://HOST:10001; with the handlers, as gRPC has them on, the child starts polling again and
may die before it becomes that client's server (4 clients of 48 here; ray issue 63202, grpc issue 43055).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

START = 180.0  # seconds for a machine to be there
ENVIRONMENT = {  # for this process and the parts of a machine
    "RAY_agent_register_timeout_ms": f"{START * 1000:.0f}",
    "RAY_worker_register_timeout_seconds": f"{START:.0f}",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # our hosts do not leave when a machine does: Ray waited 30 s
}


def patient(seconds: float = START) -> None:
    """Lets what starts a machine in this process wait so long for it."""
    for name, value in ENVIRONMENT.items():  # before Ray is imported, which reads some of it then
        os.environ.setdefault(name, value)
    from ray._private import services

    services.get_node = waiting(services.get_node, seconds)


def waiting(ask: Callable[..., Any], seconds: float, pause: float = 0.2) -> Callable[..., Any]:
    """`ask`, again while it raises RuntimeError (the machine is not there yet), at most for so long."""

    def asked(*args: Any, **named: Any) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                return ask(*args, **named)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(pause)

    return asked


def main() -> None:
    """`ray start` with this process's arguments."""
    import sys

    patient()
    from ray.scripts.scripts import cli

    cli(["start", *sys.argv[1:]])


if __name__ == "__main__":
    main()
