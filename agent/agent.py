"""Agent: anyloom from Python.

agent = Agent()                                             # settings from environment and file
answer = agent.ask("Describe this aloud", attachments=["cat.png"])
answer.text, answer.artifacts
answer = await agent.aask("...")                            # inside an event loop
async for event in agent.astream("..."):                    # typed events, the last is AnswerDone
    ...
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.events import Emit, Event, ignore
from ..core.settings import Settings, load_settings

if TYPE_CHECKING:
    from ..core.artifacts import Artifact
    from ..graphs.engine import Engine
    from ..graphs.state import Answer, Request

Attachment = str | os.PathLike[str]


class Agent:
    """One agent with its store, experts and conversations. Options are those of `Settings`.

    Use as a context manager, or call `close()`, to end background threads and files at once.
    """

    def __init__(self, settings: Settings | None = None, **options: Any):
        self.settings = settings or load_settings(options)
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine behind, opened when first used."""
        if self._engine is None:
            from ..graphs.engine import Engine

            self._engine = Engine(self.settings)
        return self._engine

    def ask(
        self, text: str, attachments: Iterable[Attachment] = (), *, thread: str | None = None, **options: Any
    ) -> Answer:
        """Answers a request. `options` are those of Request (mode, seed, approve, ...).

        Raises InputError for files that cannot be used, PlanError when no plan can be made.
        """
        return _run(self._once(text, attachments, thread, ignore, options))

    def stream(
        self, text: str, attachments: Iterable[Attachment] = (), *, thread: str | None = None, **options: Any
    ) -> Iterator[Event]:
        """`ask`, yielding each event as it happens; the last one is AnswerDone."""
        events = self.astream(text, attachments, thread=thread, **options)
        with asyncio.Runner() as runner:
            while (event := runner.run(_next(events))) is not None:
                yield event

    async def aask(
        self, text: str, attachments: Iterable[Attachment] = (), *, thread: str | None = None, **options: Any
    ) -> Answer:
        """`ask` inside an event loop."""
        request = await asyncio.to_thread(self.request, text, attachments, **options)
        return await self.engine.ask(request, thread=thread)

    async def astream(
        self, text: str, attachments: Iterable[Attachment] = (), *, thread: str | None = None, **options: Any
    ) -> AsyncIterator[Event]:
        """`stream` inside an event loop. Closing the iterator stops the run."""
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        request = await asyncio.to_thread(self.request, text, attachments, **options)

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        work = asyncio.create_task(self.engine.ask(request, thread=thread, emit=emit))
        work.add_done_callback(lambda _: loop.call_soon(events.put_nowait, None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    def request(self, text: str, attachments: Iterable[Attachment] = (), **options: Any) -> Request:
        """A checked Request with its attachments (paths, http(s) URLs) in the store; InputError says what is wrong."""
        from ..graphs.state import Request
        from .intake import checked_text

        text = checked_text(text, self.settings.limits)
        options.setdefault("seed", self.settings.seed)
        return Request(text=text, attachments=self._attach(attachments), **options)

    def _attach(self, attachments: Iterable[Attachment]) -> tuple[Artifact, ...]:
        from .intake import take_all

        return take_all(self.engine.store, attachments, allow_urls=not self.settings.offline)

    async def _once(
        self, text: str, attachments: Iterable[Attachment], thread: str | None, emit: Emit, options: dict[str, Any]
    ) -> Answer:
        try:
            return await self.engine.ask(self.request(text, attachments, **options), thread=thread, emit=emit)
        finally:
            await self.engine.aclose(unload=False)

    def close(self) -> None:
        """Unloads experts and closes files."""
        if self._engine is not None:
            _run(self._engine.aclose())

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _run(work: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise InputError("An event loop is running here: use `await agent.aask(...)` or `agent.astream(...)`.")


async def _next(events: AsyncIterator[Event]) -> Event | None:
    return await anext(events, None)
