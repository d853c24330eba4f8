"""`ray start` with more patience; `anyloom worker` runs it: python -m anyloom.agent.ray_start --block --address …

Ray gives a machine 30 s to be there (a number in its code, no setting) and then ends what it started. Where
others keep the processors busy that is too little, and starting over costs the same work again.

And gRPC's handlers of fork are off. The head's client proxy forks with gRPC at work in other threads, for each
client that comes by ray://HOST:10001; with the handlers, as gRPC has them on, the child starts polling again and
may die before it becomes that client's server (4 clients of 48 here; ray issue 63202, grpc issue 43055).
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

START = 180.0  # seconds for a machine to be there
ENVIRONMENT = {  # for this process and the parts of a machine
    "RAY_agent_register_timeout_ms": f"{START * 1000:.0f}",
    "RAY_worker_register_timeout_seconds": f"{START:.0f}",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # our hosts do not leave when a machine does: Ray waited 30 s
}


def patient(seconds: float = START, lost: Callable[[], bool] = lambda: False) -> None:
    """Lets what starts a machine in this process wait so long for it, unless it is lost."""
    for name, value in ENVIRONMENT.items():  # before Ray is imported, which reads some of it then
        os.environ.setdefault(name, value)
    from ray._private import services

    services.get_node = waiting(services.get_node, seconds, lost=lost)
    services.find_gcs_addresses = answering(services.find_gcs_addresses)


def answering(find: Callable[[], Iterable[str]]) -> Callable[[], set[str]]:
    """Of the heads that processes of this machine name, those that answer.

    Ray takes any for running, and a head that died would not begin again beside workers of its own that wait for it.
    """

    def answers(address: str) -> bool:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=2):
                return True
        except (OSError, ValueError):
            return False

    @functools.wraps(find)  # Ray clears its cache by an attribute of the function
    def answering_ones() -> set[str]:
        return {address for address in find() if answers(address)}

    return answering_ones


def fallen() -> bool:
    """Whether a part of the machine that this process started has ended: then it will never be there.

    Two machines that begin on one host at the same moment may choose the same socket, and one of them ends.
    """
    import psutil  # type: ignore[import-untyped]  # Ray brings it

    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.status() == psutil.STATUS_ZOMBIE:
                return True
    return False


def waiting(
    ask: Callable[..., Any], seconds: float, pause: float = 0.2, lost: Callable[[], bool] = lambda: False
) -> Callable[..., Any]:
    """`ask`, again while it raises RuntimeError (the machine is not there yet) and is not lost, at most for so long."""

    def asked(*args: Any, **named: Any) -> Any:
        end = time.monotonic() + seconds
        while True:
            try:
                return ask(*args, **named)
            except RuntimeError:
                if time.monotonic() > end or lost():
                    raise
                time.sleep(pause)

    return asked


def main() -> None:
    """`ray start` with this process's arguments."""
    import sys

    patient(lost=fallen)
    from ray.scripts.scripts import cli

    cli(["start", *sys.argv[1:]])


if __name__ == "__main__":
    main()
