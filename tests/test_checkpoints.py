"""Checkpoints in SQLite: a write is whole, whoever is stopped in its middle."""

import asyncio
import contextlib
import sqlite3

from langgraph.checkpoint.base import empty_checkpoint

from anyloom.graphs.checkpoints import open_checkpoints, trim

CONFIG = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}


async def test_a_stop_between_a_write_and_its_commit_leaves_nothing_locked(tmp_path):
    file = tmp_path / "checkpoints.sqlite"

    def write():
        with contextlib.closing(sqlite3.connect(file, timeout=0.1)) as other:
            other.execute("BEGIN IMMEDIATE")

    async with open_checkpoints(file) as saver:
        commit = saver.conn.commit

        async def late():
            await asyncio.sleep(0.2)
            await commit()

        saver.conn.commit = late
        for work in (
            saver.aput(CONFIG, empty_checkpoint(), {}, {}),
            saver.aput_writes({"configurable": {**CONFIG["configurable"], "checkpoint_id": "1"}}, [("a", 1)], "task"),
            trim(saver, "talk"),
        ):
            task = asyncio.create_task(work)
            await asyncio.sleep(0.1)
            task.cancel()
            [stopped] = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(stopped, asyncio.CancelledError)
            await asyncio.to_thread(write)
