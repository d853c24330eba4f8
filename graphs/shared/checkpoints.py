"""Checkpoints on a Redis server: the saver that fits it, found by asking the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ...core.errors import StorageError, UserError
from .link import Link

KEPT_SECONDS = 90 * 24 * 3600  # a conversation nobody goes on with is forgotten after this


@contextlib.asynccontextmanager
async def open_redis_checkpoints(link: Link) -> AsyncIterator[Any]:
    """A LangGraph saver: langgraph-checkpoint-redis where the server has its modules, else one on core commands."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from redis.exceptions import RedisError

    serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    client = link.async_client()
    try:
        saver: Any
        if link.searches:
            from langgraph.checkpoint.redis.aio import AsyncRedisSaver

            ttl = {"default_ttl": KEPT_SECONDS // 60, "refresh_on_read": True}
            saver = AsyncRedisSaver(redis_client=client, ttl=ttl)
            saver.serde = serde
            await saver.asetup()
        else:
            from langgraph_checkpoint_plainredis import AsyncRedisSaver as PlainSaver

            saver = PlainSaver(client, prefix=link.key("checkpoints"), serde=serde, ttl=KEPT_SECONDS)
        yield saver
    except ImportError as e:
        raise UserError(f"'{e.name}' is not installed; pip install 'anyloom[redis]'.") from e
    except RedisError as e:
        raise StorageError(f"The Redis server stopped answering ({e}); what was finished is kept.") from e
    finally:
        await client.aclose()
