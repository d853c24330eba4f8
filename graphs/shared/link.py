"""The connection to a Redis server: what it can do, and patience while it is away."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import StorageError, UserError

PREFIX = "anyloom"
PATIENCE = 60  # tries, up to 2 s apart: a server may be away this long without a run being lost


@dataclass
class Link:
    """One server. `searches`: it has RedisJSON and RediSearch (Redis 8, Redis Stack)."""

    url: str
    client: Any
    version: str
    searches: bool
    _async: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, url: str) -> Link:
        """Asks the server what it is. StorageError: it does not answer; UserError: no client installed."""
        try:
            import redis
        except ImportError as e:
            raise UserError("A shared server needs the Redis client; pip install 'anyloom[redis]'.") from e
        client = redis.Redis.from_url(url, socket_connect_timeout=5)
        try:
            info = client.info("server")
            searches = _answers(client, "FT._LIST") and _answers(client, "JSON.GET", f"{PREFIX}:none")
        except (redis.RedisError, OSError) as e:
            raise StorageError(
                f"No Redis server answers at {shown(url)} ({_reason(e)}); start it, or leave out --redis."
            ) from e
        client.close()
        return cls(url, redis.Redis.from_url(url, **_patient()), str(info.get("redis_version", "?")), searches)

    def describe(self) -> str:
        """For people: the server and which checkpoint format it gets."""
        form = "langgraph-checkpoint-redis" if self.searches else "langgraph-checkpoint-plainredis"
        return f"Redis {self.version} at {shown(self.url)}, conversations by {form}"

    def key(self, *parts: str) -> str:
        """`anyloom:part:part`."""
        return ":".join((PREFIX, *parts))

    def async_client(self) -> Any:
        """A client for the running event loop."""
        import redis.asyncio

        return redis.asyncio.Redis.from_url(self.url, **_patient(asynchronous=True))


def shown(url: str) -> str:
    """The address without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)


def _patient(asynchronous: bool = False) -> dict[str, Any]:
    from redis import exceptions
    from redis.backoff import ExponentialBackoff

    if asynchronous:
        from redis.asyncio.retry import Retry
    else:
        from redis.retry import Retry  # type: ignore[assignment]
    errors = [exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, ConnectionError]
    retry = Retry(ExponentialBackoff(cap=2.0, base=0.05), PATIENCE)
    return {"retry": retry, "retry_on_error": errors, "socket_connect_timeout": 5, "socket_timeout": 30}


def _answers(client: Any, *command: str) -> bool:
    """Whether the server knows a command; a command for another key type is one it knows."""
    import redis

    try:
        client.execute_command(*command)
        return True
    except redis.ResponseError as e:
        return "unknown command" not in str(e).lower()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
