"""Line: who may run now. Whoever comes first is served first; when too many wait, the next is turned away.

    ticket = line.enter()        # Full when the queue is full
    async with ticket:           # waits for its turn
        ...
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Full(Exception):
    """Nobody else may wait. `seconds`: when to try again, as far as can be told."""

    def __init__(self, waiting: int, seconds: int):
        super().__init__(f"{waiting} requests wait already; try again in {seconds} seconds.")
        self.seconds = seconds


class Ticket:
    """A place in the line; enter it as an async context. Leaving it early, or being cancelled, gives it up."""

    def __init__(self, line: Line):
        self._line = line
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._began = 0.0

    async def __aenter__(self) -> Ticket:
        try:
            await self.turn
        except asyncio.CancelledError:
            self.leave()
            raise
        self._began = asyncio.get_running_loop().time()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        self._line.spent(asyncio.get_running_loop().time() - self._began)
        self.leave()

    def leave(self) -> None:
        """Gives the place up; once is enough."""
        self._line.remove(self)

    @property
    def position(self) -> int:
        """How many are before it; 0 when it runs."""
        return self._line.position(self)


class Line:
    """`abreast` run at once, `places` wait."""

    def __init__(self, abreast: int, places: int):
        self.abreast = abreast
        self.places = places
        self._running: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()
        self._seconds = 1.0  # what a turn takes, smoothed

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self) -> Ticket:
        """A ticket; its turn may have come at once. Full when nobody else may wait."""
        if len(self._running) >= self.abreast and len(self._waiting) >= self.places:
            seconds = self._seconds * (len(self._waiting) + 1) / self.abreast
            raise Full(len(self._waiting), max(1, min(600, round(seconds))))
        ticket = Ticket(self)
        self._waiting.append(ticket)
        self._advance()
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Takes a ticket out, wherever it is, and lets the next one run."""
        self._running.discard(ticket)
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        self._advance()

    def position(self, ticket: Ticket) -> int:
        """How many are before a ticket that waits, itself included; 0 for any other."""
        return self._waiting.index(ticket) + 1 if ticket in self._waiting else 0

    def spent(self, seconds: float) -> None:
        """Learns how long a turn took."""
        self._seconds += 0.2 * (seconds - self._seconds)

    def _advance(self) -> None:
        while self._waiting and len(self._running) < self.abreast:
            ticket = self._waiting.popleft()
            self._running.add(ticket)
            if not ticket.turn.done():
                ticket.turn.set_result(None)
