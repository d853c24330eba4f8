"""Gateway: the front end's side of the driver process. It outlives the driver, and the cluster.

gateway = Gateway("auto", data_dir / "ray.log")
gateway.open()                       # connects; ExpertError says what to do when there is no cluster
ticket = gateway.submit(expert, args, seed, key)
for message in ticket: ...           # Said, Looked, and at last Ended
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import queue
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ...core.errors import ExpertError
from ...tools.contracts import Expert
from .messages import Capacity, Ended, ExpertRef, Fault, Joining, Looked, Needs, Refused, Reply, Said, Stop, Work

_log = logging.getLogger(__name__)

CONNECT = 180.0  # seconds for the first connection; longer than the driver tries (JOIN, and its last try)
PATIENCE = 300.0  # seconds that a cluster may be away while tasks wait for it
AGAIN = 1.0  # seconds between two drivers


class Ticket:
    """One work: what is heard of it, in order, ending with Ended."""

    def __init__(self, work: Work):
        self.work = work
        self._heard: queue.SimpleQueue[Said | Looked | Ended] = queue.SimpleQueue()

    def hear(self, message: Said | Looked | Ended) -> None:
        """From the gateway."""
        self._heard.put(message)

    def __iter__(self) -> Iterator[Said | Looked | Ended]:
        while True:
            message = self._heard.get()
            yield message
            if isinstance(message, Ended):
                return


class Gateway:
    """Safe for many threads. Without `open` it connects by itself at the first work."""

    def __init__(self, address: str, log: Path):
        self.address = address
        self.log = log
        self.capacity: Capacity | None = None
        self._numbers = itertools.count()
        self._tickets: dict[int, Ticket] = {}
        self._lock = threading.Lock()
        self._conn: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._first: queue.SimpleQueue[Capacity | Refused] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._away_since = 0.0

    def open(self) -> Capacity:
        """Connects, if it is not yet; what the cluster has. ExpertError: there is none."""
        with self._lock:
            if self._thread is None:
                self._closing = threading.Event()
                self._thread = threading.Thread(target=self._keep, daemon=True, name="anyloom-ray")
                self._thread.start()
        if self.capacity is None:
            try:
                told = self._first.get(timeout=CONNECT)
            except queue.Empty:
                told = Refused(f"The Ray cluster at {self.address} did not answer for {CONNECT:.0f} s; see {self.log}.")
            self._first.put(told)  # for whoever else waits
            if isinstance(told, Refused):
                self.close()
                raise ExpertError(told.text)
        assert self.capacity is not None
        return self.capacity

    def submit(self, expert: type[Expert], args: Mapping[str, Any], device: str, seed: int, key: str) -> Ticket:
        """Sends a work on its way; without a key it is its own."""
        capacity = self.open()
        needs = Needs.of(expert, device, capacity.vram if capacity.gpus else None)
        number = next(self._numbers)
        work = Work(number, key or uuid.uuid4().hex, ExpertRef.of(expert), needs, dict(args), seed, expert.batch)
        ticket = Ticket(work)
        with self._lock:
            self._tickets[number] = ticket
            self._send(work)
        return ticket

    def stop(self, ticket: Ticket) -> None:
        """Nobody waits for it any more."""
        with self._lock:
            if self._tickets.pop(ticket.work.id, None) is not None:
                self._send(Stop(ticket.work.id))
        ticket.hear(Ended(ticket.work.id, Reply(fault=Fault("Cancelled", "Stopped."))))

    def close(self) -> None:
        """Ends the driver; hosts stay where they are for other front ends, until they are idle for long."""
        self._closing.set()
        with self._lock:
            process, self._thread = self._process, None
            self.capacity = None
            self._first = queue.SimpleQueue()
        if process is not None:
            process.kill()
            process.wait()

    # -- the driver --------------------------------------------------------------------------------

    def _send(self, message: Work | Stop) -> None:
        """Under the lock. When the driver is gone, the next one is told of all that is open."""
        if self._conn is not None:
            with contextlib.suppress(OSError):
                self._conn.send(message)

    def _keep(self) -> None:
        """In a thread: one driver after the other, until closed."""
        closing = self._closing
        while not closing.is_set():
            ours, theirs = socket.socketpair()
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with theirs, self.log.open("ab") as log:
                command = [sys.executable, "-m", __package__ + ".driver", str(theirs.fileno()), self.address]
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
                process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=environment, start_new_session=True,
                )  # fmt: skip
            self._process = process
            if closing.is_set():  # closed while it was being started
                process.kill()
            conn = Connection(ours.detach())
            self._listen(conn)
            with self._lock:
                self._conn = None
            conn.close()
            process.kill()
            process.wait()
            self._away()
            closing.wait(AGAIN)

    def _listen(self, conn: Connection) -> None:
        """To one driver, until it ends."""
        while True:
            try:
                message = conn.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Capacity):
                self.capacity, self._away_since = message, 0.0
                self._first.put(message)
                with self._lock:
                    self._conn = conn
                    for ticket in self._tickets.values():
                        self._send(ticket.work)
            elif isinstance(message, Joining):
                _log.warning("%s", message.text)
            elif isinstance(message, Refused):
                if self.capacity is None:
                    self._first.put(message)
                    self._closing.set()
                return
            else:
                self._tell(message)

    def _tell(self, message: Said | Looked | Ended) -> None:
        with self._lock:
            ticket = self._tickets.get(message.id)
            if isinstance(message, Ended):
                self._tickets.pop(message.id, None)
        if ticket is not None:
            ticket.hear(message)

    def _away(self) -> None:
        """The driver ended though nobody asked it to: those who wait are told, and after long enough given up."""
        if self._closing.is_set():
            return
        now = time.monotonic()
        with self._lock:
            tickets = list(self._tickets.values())
        if not self._away_since:
            self._away_since = now
            for ticket in tickets:
                ticket.hear(Said(ticket.work.id, "The Ray cluster does not answer; waiting for it."))
        elif now - self._away_since > PATIENCE:
            text = f"The Ray cluster at {self.address} was away for {PATIENCE:.0f} s; start it and resume."
            for ticket in tickets:
                self._tell(Ended(ticket.work.id, Reply(fault=Fault("ExpertError", text))))
