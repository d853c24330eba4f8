"""Checkpoints: where LangGraph keeps the state of conversations, one SQLite file in the data folder.

    async with open_checkpoints(data_dir / "checkpoints.sqlite") as saver:
        graph = build_cascade(runtime, saver)
        ... graph.astream(..., durability="sync")
        await trim(saver, thread)

WAL and a busy timeout let several processes share the file. The serializer is strict: nothing but
plain JSON types and LangGraph's own is ever rebuilt from the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import StorageError

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

BUSY_MS = 10_000
T = TypeVar("T")


@contextlib.asynccontextmanager
async def open_checkpoints(file: Path) -> AsyncIterator[AsyncSqliteSaver]:
    """A saver on this file, closed at the end of the block. StorageError when it cannot be used."""
    import aiosqlite
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    class SqliteSaver(AsyncSqliteSaver):
        """Whose writes are whole: stopped between a write and its commit, the file would stay locked."""

        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            return await whole(super().aput(*args, **kwargs))

        async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
            await whole(super().aput_writes(*args, **kwargs))

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        connection = aiosqlite.connect(file)
        _end_with_the_program(connection)
        db = await connection
    except (OSError, sqlite3.Error) as e:
        raise StorageError(_unusable(file, e)) from e
    try:
        try:
            await db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            await db.execute("PRAGMA journal_mode=WAL")
            await db.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing; a power cut the last moments
            saver = SqliteSaver(db, serde=JsonPlusSerializer(allowed_msgpack_modules=None))
            await saver.setup()
        except sqlite3.Error as e:
            raise StorageError(_unusable(file, e)) from e
        try:
            yield saver
        finally:
            async with saver.lock:  # a write of a stopped run that is still on its way comes before this or too late
                with contextlib.suppress(sqlite3.Error, ValueError):
                    await db.rollback()  # closed within a transaction, the file stays locked while any cursor lives
                await db.close()
    finally:
        await db.close()


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """The work's result. Whoever is cancelled meanwhile is so when the work has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)  # what it raised is nobody's any more
        raise


async def trim(saver: Any, thread: str) -> None:
    """Drops all but the newest checkpoint of a conversation whose run is over, so that the file stays small."""
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    if isinstance(saver, AsyncSqliteSaver):  # a server forgets by itself
        await whole(_trimmed(saver, thread))


async def _trimmed(saver: AsyncSqliteSaver, thread: str) -> None:
    await saver.setup()
    async with saver.lock:
        for table in ("writes", "checkpoints"):
            await saver.conn.execute(
                f"DELETE FROM {table} WHERE thread_id = ? AND (checkpoint_ns != '' OR checkpoint_id < "
                "(SELECT MAX(checkpoint_id) FROM checkpoints WHERE thread_id = ? AND checkpoint_ns = ''))",
                (thread, thread),
            )
        await saver.conn.commit()


def _end_with_the_program(connection: object) -> None:
    """An engine that nobody closed must not keep the program from ending; aiosqlite's thread would."""
    thread = getattr(connection, "_thread", None)
    if thread is not None:
        thread.daemon = True


def _unusable(file: Path, error: Exception) -> str:
    return f"The conversations in '{file}' cannot be opened ({error}); choose another folder with --data."
