"""Driver: the child process of a front end that speaks with Ray. Started by the Gateway, never by hand.

It reads Work and Stop from the front end and writes Said, Looked and Ended; it ends when the front end does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .messages import Call, Capacity, Ended, Fault, Joining, Look, Looked, Refused, Reply, Said, Stop, Work
from .pool import NAMESPACE, NoMachine, Pool, Slot, capacity

FIRST_LOOK, LOOK = 0.05, 0.2  # seconds until a call is looked after for the first time, and between two looks
JOIN, JOIN_AGAIN = 120.0, 1.0  # seconds in which a cluster may fail to start our side of the line; pause between tries
DEATHS = 3  # a call whose host died so often is not tried again: it may be what kills it
BIG = 64 << 10  # bytes from which a file goes through the object store
KEPT_PUTS = 128 << 20  # bytes of files that stay in the object store for the next task that reads them


class Driver:
    """All works of one front end."""

    def __init__(self, conn: Connection):
        self._conn = conn
        self._me = uuid.uuid4().hex
        self._pool = Pool()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._puts: dict[tuple[str, int], Any] = {}

    async def serve(self, incoming: asyncio.Queue[Any]) -> None:
        """Until the front end is gone."""
        machines, vram = await capacity()
        total = [m.total for m in machines]
        largest = max((t.memory for t in total), default=0)
        cpus, gpus = sum(t.cpus for t in total), sum(t.gpus for t in total)
        self._conn.send(Capacity(len(machines), cpus, gpus, largest, vram))
        while (message := await incoming.get()) is not None:
            if isinstance(message, Work):
                self._tasks[message.id] = asyncio.create_task(self._work(message))
            elif isinstance(message, Stop) and (task := self._tasks.get(message.id)):
                task.cancel()

    async def _work(self, work: Work) -> None:
        reply, machine = Reply(fault=Fault("Cancelled", "Stopped.")), ""
        try:
            reply, machine = await self._perform(work)
        except asyncio.CancelledError:
            pass
        except ConnectionError:
            os._exit(3)  # the line to the cluster is cut: another driver takes over
        except Exception as e:
            reply = Reply(fault=Fault.of(e, work.ref.name))
        finally:
            self._tasks.pop(work.id, None)
            with contextlib.suppress(OSError):  # the front end is gone
                self._conn.send(Ended(work.id, reply, machine))

    async def _perform(self, work: Work) -> tuple[Reply, str]:
        """On one host after the other, until one answers."""
        from ray.exceptions import ActorUnavailableError, RayActorError

        def say(text: str) -> None:
            self._conn.send(Said(work.id, text))

        deaths, told = 0, False
        while True:
            try:
                slot = await self._pool.take(work, say)
            except NoMachine as e:
                return Reply(fault=e.fault), ""
            try:
                reply = await self._call(work, slot)
                if reply.leaving:
                    self._pool.drop(work, slot)
                    continue
                return reply, slot.address
            except ActorUnavailableError:  # it may be there again in a moment, with our call in it
                slot.keys.add(work.key)
                if not told:
                    say(f"The worker at {slot.address} does not answer; waiting for it.")
                    told = True
                await asyncio.sleep(0.5)
            except RayActorError:
                self._pool.drop(work, slot)
                deaths += 1
                if deaths == DEATHS:
                    where = f"{deaths} times, the last time at {slot.address}"
                    text = f"'{work.ref.name}' lost its worker {where}; see Ray's logs there."
                    return Reply(fault=Fault("ExpertError", text)), ""
                say(f"The worker at {slot.address} died; '{work.ref.name}' is run again.")
            finally:
                self._pool.release(work, slot)

    async def _call(self, work: Work, slot: Slot) -> Reply:
        """One call, looked after while it goes on; told to stop when nobody waits any more."""
        texts = {k: v for k, v in work.args.items() if not isinstance(v, Path)}
        paths = {k: v for k, v in work.args.items() if isinstance(v, Path)}
        files = [await asyncio.to_thread(self._file, p) for p in paths.values()]
        owner = f"{self._me}-{work.id}"
        call = Call(work.key, owner, texts, tuple((k, p.suffix) for k, p in paths.items()), work.seed)
        answer = asyncio.ensure_future(_of(slot.handle.run.remote(call, *files)))
        try:
            pause, last = FIRST_LOOK, None
            while not (await asyncio.wait({answer}, timeout=pause))[0]:
                pause = LOOK
                look = await self._look(slot, work.key)
                if look is not None and look != last:
                    last = look
                    self._conn.send(Looked(work.id, look))
            return await answer  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            slot.handle.stop.remote(work.key, owner)
            answer.cancel()
            raise

    async def _look(self, slot: Slot, key: str) -> Look | None:
        try:
            return await asyncio.wait_for(_of(slot.handle.look.remote(key)), 2.0)  # type: ignore[no-any-return]
        except Exception:  # the call itself will say what is wrong
            return None

    def _file(self, path: Path) -> Any:
        """A file's bytes, or where they are in the object store. Artifacts never change, so they are put once."""
        import ray

        data = path.read_bytes()
        if len(data) < BIG:
            return data
        known = self._puts.get((str(path), len(data)))
        if known is None:
            known = self._puts[str(path), len(data)] = ray.put(data)
            while sum(size for _, size in self._puts) > KEPT_PUTS and len(self._puts) > 1:
                self._puts.pop(next(iter(self._puts)))
        return known


async def _of(ref: Any) -> Any:
    return await ref


def connect(address: str, say: Callable[[str], None]) -> Refused | None:
    """Joins the cluster; why not, in one sentence. `say` hears of tries that failed."""
    import logging

    try:
        import ray
    except ImportError:
        return Refused("Experts on a cluster need Ray; pip install 'anyloom[ray]'.", final=True)
    hint = "start one with `anyloom worker --head`, or leave out --ray"
    try:
        found = _reachable(address)
    except (OSError, ConnectionError) as e:
        reason = " ".join(str(e).split())[:120] or type(e).__name__
        return Refused(f"No Ray cluster answers at {address} ({reason}); {hint}.")

    def join() -> None:
        ray.init(found, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)

    try:
        persist(join, lambda e: say(f"The Ray cluster at {address} did not let us in ({_why(e)}); trying again."))
    except Exception as e:  # Ray raises all sorts: ConnectionError, RuntimeError, GcsError
        return Refused(f"The Ray cluster at {address} cannot be joined ({_why(e)}); {hint}.")
    return None


def persist(
    join: Callable[[], None], failed: Callable[[Exception], None], seconds: float = JOIN, pause: float = JOIN_AGAIN
) -> None:
    """`join`, again while the head could not start a client's server: what it lost once it may manage next time."""
    end = time.monotonic() + seconds
    while True:
        try:
            join()
            return
        except ConnectionAbortedError as e:
            if time.monotonic() + pause > end:
                raise
            failed(e)
            time.sleep(pause)


def _why(error: Exception) -> str:
    """The last line of what Ray says: the head's answer is a traceback."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _reachable(address: str) -> str:
    """The address to give to Ray, once something listens there: Ray itself would try for most of a minute."""
    found = address
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address

        found = canonicalize_bootstrap_address("auto") or ""
        if not found:
            raise ConnectionError("none runs on this machine")
    host, _, port = found.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=5):
        return found


def main(fd: int, address: str) -> None:
    """The child's life."""
    conn = Connection(fd)
    refused = connect(address, lambda text: conn.send(Joining(text)))
    if refused is not None:
        conn.send(refused)
        return
    asyncio.run(_main(conn))
    os._exit(0)  # Ray's own ending may wait for a cluster that is away


async def _main(conn: Connection) -> None:
    loop = asyncio.get_running_loop()
    incoming: asyncio.Queue[Any] = asyncio.Queue()

    def read() -> None:
        try:
            while True:
                message = conn.recv()
                loop.call_soon_threadsafe(incoming.put_nowait, message)
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    await Driver(conn).serve(incoming)


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]), sys.argv[2])
