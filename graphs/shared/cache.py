"""The result cache on a Redis server: one for all front ends, bounded and forgetting the least recently used."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...core.artifacts import Artifact, ArtifactStore
from ..cache import Hit
from .link import Link
from .lock import LeaseLock

T = TypeVar("T")
_log = logging.getLogger(__name__)


class RedisResultCache:
    """`ResultCache` on a server. A cache that cannot be reached is no cache, never an error."""

    def __init__(self, link: Link, limit: int = 100_000):
        self.link = link
        self.limit = limit
        self._rows, self._used, self._times = link.key("results"), link.key("results-used"), link.key("results-seconds")

    def get(self, key: str, store: ArtifactStore) -> Hit | None:
        """The result with this key, if it is known and every artifact can still be had."""

        def look() -> Hit | None:
            row = self.link.client.hget(self._rows, key)
            if row is None:
                return None
            data = json.loads(row)
            hit = Hit(tuple(Artifact.from_json(a) for a in data["artifacts"]), data["seconds"])
            if not all(store.holds(a) for a in hit.artifacts):
                self._drop([key])
                return None
            self.link.client.zadd(self._used, {key: time.time()})
            return hit

        return self._do(look, None)

    def put(self, key: str, expert: str, artifacts: Sequence[Artifact], seconds: float) -> None:
        """Remembers a result whose artifacts are in the store."""
        row = json.dumps({"artifacts": [a.to_json() for a in artifacts], "seconds": seconds}, ensure_ascii=False)

        def keep() -> None:
            with self.link.client.pipeline(transaction=True) as pipe:
                pipe.hset(self._rows, key, row)
                pipe.zadd(self._used, {key: time.time()})
                pipe.hincrbyfloat(self._times, f"{expert}:sum", seconds)
                pipe.hincrby(self._times, f"{expert}:count", 1)
                count = pipe.zcard(self._used).execute()[-1]
            if count > self.limit:  # a tenth at once, so that not every write has to tidy up
                self._drop(self.link.client.zrange(self._used, 0, count - self.limit + self.limit // 10))

        self._do(keep, None)

    def claim(self, key: str, until: contextlib.ExitStack) -> bool:
        """Whether the caller may make this result; it holds the claim until `until` is closed."""
        from filelock import Timeout
        from redis.exceptions import RedisError

        try:
            until.enter_context(LeaseLock(self.link, self.link.key("claim", key)))
        except Timeout:
            return False
        except RedisError:
            return True  # better made twice than not at all
        return True

    def seconds(self) -> dict[str, float]:
        """Mean seconds of a call, by expert."""

        def mean() -> dict[str, float]:
            rows = {k.decode(): float(v) for k, v in self.link.client.hgetall(self._times).items()}
            return {k[:-4]: v / rows[f"{k[:-4]}:count"] for k, v in rows.items() if k.endswith(":sum")}

        return self._do(mean, {})

    def __len__(self) -> int:
        return self._do(lambda: int(self.link.client.hlen(self._rows)), 0)

    def clear(self) -> int:
        """Forgets everything; says how many results that was."""
        count = len(self)
        self._do(lambda: self.link.client.delete(self._rows, self._used), None)
        return count

    def close(self) -> None:
        """The connection is the link's; nothing to close."""

    def _drop(self, keys: Sequence[str | bytes]) -> None:
        if keys:
            with self.link.client.pipeline(transaction=True) as pipe:
                pipe.hdel(self._rows, *keys).zrem(self._used, *keys).execute()

    def _do(self, work: Callable[[], T], otherwise: T) -> T:
        from redis.exceptions import RedisError

        try:
            return work()
        except (RedisError, OSError, ValueError, KeyError) as e:
            _log.warning("The shared result cache cannot be used (%s); results are made anew.", e)
            return otherwise
