"""State that several front ends share, in Redis: conversations, runs, results, artifacts, locks, events.

    shared = open_shared(settings)         # None without `redis` in the settings
    Engine(settings)                       # takes its parts from there by itself

Everything is under the keys `anyloom:*`. The files of this machine's data folder are a copy: what is
made is written to both, what another front end made is fetched when it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core.settings import Settings
    from .link import Link


class Shared:
    """The parts of an engine that live in Redis."""

    def __init__(self, settings: Settings, link: Link):
        from .artifacts import SharedArtifactStore
        from .cache import RedisResultCache
        from .runs import SharedRunStore

        self.link = link
        self.store = SharedArtifactStore(settings.data_dir / "artifacts", settings.limits, link)
        self.runs = SharedRunStore(settings.data_dir, self.store, link)
        self.cache = RedisResultCache(link)

    def checkpoints(self) -> Any:
        """`open_checkpoints` of the embedded engine, on the server."""
        from .checkpoints import open_redis_checkpoints

        return open_redis_checkpoints(self.link)


def open_shared(settings: Settings) -> Shared | None:
    """The shared parts, or None when the settings name no server. StorageError when it does not answer."""
    if not settings.redis:
        return None
    from .link import Link

    return Shared(settings, Link.open(settings.redis))
