"""A lease on a name, held by one process of all: what a lock file is on one machine."""

from __future__ import annotations

import functools
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any

from .link import Link

LEASE = 30.0  # seconds until the server gives up on a holder that died on another machine
RENEW = 8.0
DELETE_IF = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class LeaseLock:
    """A context manager in the manner of `filelock.FileLock(timeout=0)`: raises its Timeout when held elsewhere.

    A holder that died on this machine holds nothing: its lease is taken over at once.
    """

    def __init__(self, link: Link, name: str):
        self._client: Any = link.client
        self._lock: Any = link.client.lock(name, timeout=LEASE, blocking=False, thread_local=False)
        self._name = name
        self._done = threading.Event()

    def __enter__(self) -> LeaseLock:
        from filelock import Timeout

        if not self._acquire() and not (self._freed() and self._acquire()):
            raise Timeout(self._name)
        self._done.clear()
        threading.Thread(target=self._renew, daemon=True, name="anyloom-lease").start()
        return self

    def __exit__(self, *exc: object) -> None:
        from redis.exceptions import RedisError

        self._done.set()
        try:
            self._lock.release()
        except RedisError:
            return  # the server is away or gave the lease up: it ends by itself

    def _acquire(self) -> bool:
        return bool(self._lock.acquire(token=f"{here()}|{os.getpid()}|{uuid.uuid4().hex}"))

    def _freed(self) -> bool:
        """Takes the lease from a holder that is no more."""
        held = self._client.get(self._name)
        if held is None or not _dead(bytes(held).decode()):
            return held is None
        return bool(self._client.eval(DELETE_IF, 1, self._name, held))

    def _renew(self) -> None:
        """Prolongs the lease while the holder lives; a server that was away is asked again."""
        from redis.exceptions import RedisError

        while not self._done.wait(RENEW):
            try:
                self._lock.reacquire()
            except RedisError:
                continue


@functools.cache
def here() -> str:
    """What the processes share whose numbers this process can see; empty where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _dead(token: str) -> bool:
    """Whether the holder was a process of this machine and ended."""
    where, _, rest = token.partition("|")
    number = rest.partition("|")[0]
    if not where or where != here() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives, and is another user's
        pass
    return False
