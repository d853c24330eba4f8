"""A lease on a name, held by one process of all: what a lock file is on one machine."""

from __future__ import annotations

import threading
from typing import Any

from .link import Link

LEASE = 30.0  # seconds until the server gives up on a holder that died
RENEW = 8.0


class LeaseLock:
    """A context manager in the manner of `filelock.FileLock(timeout=0)`: raises its Timeout when held elsewhere."""

    def __init__(self, link: Link, name: str):
        self._lock: Any = link.client.lock(name, timeout=LEASE, blocking=False, thread_local=False)
        self._name = name
        self._done = threading.Event()

    def __enter__(self) -> LeaseLock:
        from filelock import Timeout

        if not self._lock.acquire():
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

    def _renew(self) -> None:
        """Prolongs the lease while the holder lives; a server that was away is asked again."""
        from redis.exceptions import RedisError

        while not self._done.wait(RENEW):
            try:
                self._lock.reacquire()
            except RedisError:
                continue
