"""A machine of a Ray cluster, kept alive: `ray start` in the foreground, started again whenever it ends.

Worker.head(...) or Worker.joining("head:6379", ...)
worker.run()                      # until SIGTERM or Ctrl-C
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ..core.errors import InputError, UserError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0  # seconds until it is started again; longer each time it ends soon
STEADY = 60.0  # seconds after which an end counts as a new one
GRACE = 15.0  # seconds for Ray to end by itself


@dataclass(frozen=True)
class Worker:
    """One machine. `arguments` are Ray's; `environment` is added to this process's own."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def head(cls, port: int, client_port: int, redis: str = "", **machine: object) -> Worker:
        """The first machine of a cluster. With `redis` its state is kept there, and outlives it."""
        arguments = [
            "--head", "--port", str(port), "--ray-client-server-port", str(client_port), "--include-dashboard", "false",
        ]  # fmt: skip
        environment = {}
        if redis:
            url = urlsplit(redis)
            if url.scheme not in ("redis", "rediss") or not url.hostname:
                raise InputError("The head keeps its state in Redis by --redis redis://HOST:6379.")
            where = f"{url.hostname}:{url.port or 6379}"
            environment["RAY_REDIS_ADDRESS"] = f"rediss://{where}" if url.scheme == "rediss" else where
            environment["RAY_external_storage_namespace"] = "anyloom-ray"
            if url.password:
                arguments += ["--redis-password", url.password]
        return cls((*arguments, *_machine(**machine)), environment)  # type: ignore[arg-type]

    @classmethod
    def joining(cls, address: str, **machine: object) -> Worker:
        """A further machine."""
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdecimal():
            raise InputError(f"'{address}' is not the address of a head; say HOST:6379.")
        return cls(("--address", address, *_machine(**machine)))  # type: ignore[arg-type]

    def run(self, say: Callable[[str], None]) -> None:
        """Keeps it running; returns when it is told to end."""
        ending = threading.Event()
        process: list[subprocess.Popen[bytes]] = []

        def end(*_: object) -> None:
            ending.set()
            for p in process:
                p.terminate()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        pause = FIRST_PAUSE
        while not ending.is_set():
            started = time.monotonic()
            process[:] = [self._start()]
            code = process[0].wait()
            if ending.is_set():
                break
            _end_all(process[0])  # a start that failed leaves parts behind, and no other one begins beside them
            pause = FIRST_PAUSE if time.monotonic() - started > STEADY else min(LONGEST_PAUSE, pause * 2)
            say(f"Ray ended (code {code}); starting it again in {pause:.0f} s.")
            ending.wait(pause * random.uniform(0.5, 1.0))  # others on this host may have ended at the same moment
        for p in process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(GRACE)
            _end_all(p)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", __package__ + ".ray_start", "--block", *self.arguments]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **self.environment}
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the group of processes that this one began."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def needs_ray() -> None:
    """UserError when Ray is not installed."""
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise UserError("A worker needs Ray; pip install 'anyloom[ray]'.")


def part_of(address: str, host: str = "") -> str | None:
    """None when this machine is a living part of the cluster at `address`, else why it is not."""
    import socket

    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled; it is there

    head, _, port = address.rpartition(":")
    try:
        with socket.create_connection((head, int(port)), timeout=5):
            pass
        nodes = GcsClient(address=address).get_all_node_info(timeout=10)
    except Exception as e:  # Ray's own errors are of many kinds
        return f"the head at {address} does not answer ({type(e).__name__})"
    mine = {host} if host else _addresses()
    alive = {n.node_manager_address for n in nodes.values() if n.state == 0}
    return None if alive & mine else f"this machine ({', '.join(sorted(mine))}) is none of its {len(alive)} machines"


def _addresses() -> set[str]:
    import socket

    with contextlib.suppress(OSError):
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return set()


def _machine(
    *, host: str = "", cpus: float | None = None, gpus: float | None = None, memory: int | None = None,
    object_memory: int | None = None, folder: Path | None = None,
) -> Sequence[str]:  # fmt: skip
    """What this machine has, in Ray's options."""
    found = ["--disable-usage-stats"]
    if host:
        found += ["--node-ip-address", host]
    if folder is not None:
        found += ["--temp-dir", str(folder)]
    for name, value in (
        ("num-cpus", cpus), ("num-gpus", gpus), ("memory", memory), ("object-store-memory", object_memory),
    ):  # fmt: skip
        if value is not None:
            found += [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    if vram := _smallest_gpu():
        from ..graphs.cluster.messages import VRAM

        found += ["--resources", json.dumps({VRAM: vram})]
    return found


def _smallest_gpu() -> int:
    """MiB of memory of the smallest GPU of this machine; 0 without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        command = [tool, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return min(int(line) for line in told.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0
