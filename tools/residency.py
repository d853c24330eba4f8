"""Residency: experts in memory. They load on first use, stay while the budget allows, leave when room is needed.

    residency = Residency(4 << 30, weights, device="auto")
    with residency.use(Whisper) as expert:          # in a thread
        outputs = expert.run(args, run)
    async with residency.use(Whisper) as expert:    # in an event loop; waiting does not block it
        outputs = await asyncio.to_thread(expert.run, args, run)

One run at a time per expert; others wait for it. The one unused for longest is evicted first, and
never one that is running. What counts is the `memory` of the card.

Where there are GPUs, an expert is loaded on the one with the most room. When none has enough, idle ones rest in
main memory until they are wanted again, on the GPU where those were unused for longest; when a GPU has no room
all the same, the next one is tried, then the CPU, and that is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from ..core.errors import AnyloomError, Cancelled, ExpertError
from ..core.events import Notice
from ..core.memory import trim
from .accelerators import Gpu, gpus, out_of_memory
from .contracts import Expert, ResolvesWeights
from .selection import pick_device

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resident:
    """An expert in memory, for people to see."""

    name: str
    memory: int
    busy: bool
    device: str = ""


@dataclass
class _Seat:
    """An expert's place in memory. Taken before it is loaded, so that two loads never overbook."""

    expert: type[Expert]
    memory: int
    instance: Expert | None = None
    busy: bool = True
    last_used: int = 0
    leaving: bool = False
    device: str = ""
    resting: bool = False  # on the CPU until it is wanted on a GPU again


class Residency:
    """Loaded experts under a budget in bytes (None: no limit). Safe for many threads."""

    def __init__(
        self,
        budget: int | None,
        weights: ResolvesWeights,
        device: str = "cpu",
        gpus: Callable[[], Sequence[Gpu]] = gpus,
    ):
        self.budget = budget
        self.device = device
        self._gpus = gpus
        self._weights = weights
        self._seats: dict[type[Expert], _Seat] = {}
        self._changed = threading.Condition()
        self._clock = itertools.count()

    def use(self, expert: type[Expert], on_load: Callable[[], None] = lambda: None) -> Use:
        """A loaded instance for the length of a `with` or `async with` block. `on_load` is called before it loads.

        Raises ExpertError when it cannot be loaded or is bigger than the whole budget.
        """
        return Use(self, expert, on_load)

    def loaded(self) -> tuple[Resident, ...]:
        """What is in memory now, the most recently used first."""
        with self._changed:
            seats = sorted(self._seats.values(), key=lambda s: -s.last_used)
            return tuple(Resident(s.expert.name, s.memory, s.busy, s.device) for s in seats)

    def unload_all(self) -> None:
        """Lets go of everything; what is running leaves as soon as it ends."""
        with self._changed:
            for seat in list(self._seats.values()):
                seat.leaving = True
                if not seat.busy:
                    self._evict(seat)

    def _enter(self, expert: type[Expert], on_load: Callable[[], None], given_up: threading.Event) -> Expert:
        """Waits for the expert to be idle and for room, loads it if need be, and marks it as running."""
        need = expert.card.memory
        if self.budget is not None and need > self.budget:
            raise ExpertError(
                f"The expert '{expert.name}' needs {need / 1e9:.2f} GB and the budget for experts is "
                f"{self.budget / 1e9:.2f} GB; raise --memory."
            )
        with self._changed:
            while True:
                if given_up.is_set():
                    raise Cancelled("Stopped.")
                seat = self._seats.get(expert)
                if seat is not None and not seat.busy:
                    seat.busy, seat.last_used = True, next(self._clock)
                    break
                if seat is None and self._make_room(need):
                    seat = self._seats[expert] = _Seat(expert, need, last_used=next(self._clock))
                    break
                self._changed.wait()
        if seat.instance is None:
            self._load(seat, on_load)
        elif seat.resting:
            self._wake(seat, on_load)
        assert seat.instance is not None  # _load raises otherwise
        return seat.instance

    def _make_room(self, need: int) -> bool:
        """Evicts idle experts until `need` bytes are free; False when running ones hold too much."""
        if self.budget is None:
            return True
        free = self.budget - sum(s.memory for s in self._seats.values())
        idle = sorted((s for s in self._seats.values() if not s.busy), key=lambda s: s.last_used)
        if free + sum(s.memory for s in idle) < need:
            return False
        while free < need:
            seat = idle.pop(0)
            self._evict(seat)
            free += seat.memory
        return True

    def _load(self, seat: _Seat, on_load: Callable[[], None]) -> None:
        """Outside the lock: others may use their experts meanwhile. The seat is given up when loading fails."""
        expert = seat.expert
        try:
            on_load()
            files = expert.fetch(self._weights)
            refused: list[str] = []
            while seat.instance is None:
                device = self._place(seat, refused)
                instance = expert()
                try:
                    instance.load(device, files)
                    seat.instance = instance
                except Exception as e:
                    if not device.startswith("cuda") or not out_of_memory(e):
                        raise
                    instance.unload()
                    self._say(f"'{expert.name}' finds no room on {device}; it is loaded elsewhere.")
                    refused.append(device)
        except BaseException as e:
            with self._changed:
                self._seats.pop(expert, None)
                self._changed.notify_all()
            if isinstance(e, AnyloomError) or not isinstance(e, Exception):
                raise
            raise ExpertError(f"The expert '{expert.name}' could not be loaded: {type(e).__name__}: {e}") from e

    def _place(self, seat: _Seat, refused: Sequence[str] = ()) -> str:
        """The device to load on: the GPU with the most room, or where it can be made best; or the CPU."""
        device = pick_device(seat.expert, self.device)
        mine = [g for g in self._gpus() if device in ("cuda", g.device)] if device.startswith("cuda") else []
        left = [g for g in mine if g.device not in refused]
        with self._changed:
            if left:
                best = min(left, key=lambda gpu: self._price(gpu, seat))
                self._make_room_on(best, seat)
                device = best.device
            elif refused and "cpu" in seat.expert.card.devices:
                device = "cpu"
            elif refused:
                raise ExpertError(
                    f"The expert '{seat.expert.name}' finds no room on {' or '.join(refused)}; close other programs, "
                    "or use a smaller model with --pin.",
                    retryable=True,
                )
            seat.device = device
        return device

    def _room(self, gpu: Gpu) -> int:
        """Bytes that are free there, those deducted that somebody is just about to take."""
        return min(gpu.free, gpu.total - sum(s.memory for s in self._seats.values() if s.device == gpu.device))

    def _price(self, gpu: Gpu, seat: _Seat) -> tuple[bool, int, int]:
        """What a place there costs, least first: that it is too small, how lately who must go was used, its room."""
        room, lately = self._room(gpu), -1
        for other in self._idle_on(gpu, seat):
            if room >= seat.memory:
                break
            room, lately = room + other.memory, other.last_used
        short = room < seat.memory
        return short, 0 if short else lately, -room

    def _idle_on(self, gpu: Gpu, seat: _Seat) -> list[_Seat]:
        """Who could leave a GPU for somebody, the one unused for longest first."""
        idle = [s for s in self._seats.values() if s.device == gpu.device and not s.busy and s is not seat]
        return sorted(idle, key=lambda s: s.last_used)

    def _make_room_on(self, gpu: Gpu, seat: _Seat) -> None:
        """Sends idle experts from there to main memory, the one unused for longest first; who cannot go is evicted."""
        room = self._room(gpu)
        for other in self._idle_on(gpu, seat):
            if room >= seat.memory:
                return
            room += other.memory
            try:
                other.resting = other.instance is not None and other.instance.move("cpu")
            except Exception:  # a plugin's code: it is evicted instead
                _log.warning("The expert '%s' failed while it was moved.", other.expert.name, exc_info=True)
            if other.resting:
                other.device = "cpu"
            else:
                self._evict(other)

    def _wake(self, seat: _Seat, on_load: Callable[[], None]) -> None:
        """Back to a GPU; an expert that cannot go there is loaded anew."""
        assert seat.instance is not None
        seat.resting = False
        try:
            if seat.instance.move(self._place(seat)):
                return
        except Exception:  # no room after all, or a plugin's code
            _log.warning("The expert '%s' failed while it was moved.", seat.expert.name, exc_info=True)
        seat.instance.unload()
        seat.instance = None
        self._load(seat, on_load)

    def _say(self, text: str) -> None:
        if emit := getattr(self._weights, "emit", None):
            emit(Notice(text))

    def _leave(self, expert: type[Expert]) -> None:
        with self._changed:
            seat = self._seats[expert]
            seat.busy, seat.last_used = False, next(self._clock)
            if getattr(seat.instance, "device", seat.device) == "cpu" and seat.device.startswith("cuda"):
                seat.device, seat.resting = "cpu", True  # it found no room to work, and went there by itself
            if seat.leaving:
                self._evict(seat)
            self._changed.notify_all()

    def _evict(self, seat: _Seat) -> None:
        """Under the lock, so that the memory is free before anybody else takes it."""
        self._seats.pop(seat.expert, None)
        try:
            if seat.instance is not None:
                seat.instance.unload()
        except Exception:  # a plugin's code: it is let go of all the same
            _log.warning("The expert '%s' failed while it was unloaded.", seat.expert.name, exc_info=True)
        seat.instance = None
        trim()
        self._changed.notify_all()


class Use:
    """One use of an expert, as a context manager for threads and for event loops."""

    def __init__(self, residency: Residency, expert: type[Expert], on_load: Callable[[], None]):
        self._residency = residency
        self._expert = expert
        self._on_load = on_load
        self._given_up = threading.Event()
        self._instance: Expert | None = None

    def __enter__(self) -> Expert:
        return self._residency._enter(self._expert, self._on_load, self._given_up)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._residency._leave(self._expert)

    async def __aenter__(self) -> Expert:
        """Waits in a thread of its own: in the loop's few shared ones, those who wait would keep out who runs."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Expert] = loop.create_future()
        threading.Thread(target=self._arrive, args=(loop, arrived), daemon=True, name="anyloom-expert").start()
        try:
            return await arrived
        except asyncio.CancelledError:
            self.give_up()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._residency._leave(self._expert)

    def _arrive(self, loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[Expert]) -> None:
        """In the thread: gets the expert and hands it over, or back when nobody waits any more."""
        try:
            instance = self.__enter__()
        except BaseException as e:  # handed to the waiter, whatever it is
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, arrived, None, e)
            return
        with self._residency._changed:
            if not self._given_up.is_set():
                self._instance = instance
        try:
            if self._instance is not None:
                loop.call_soon_threadsafe(_settle, arrived, instance, None)
                return
        except RuntimeError:  # the loop is closed
            pass
        self._residency._leave(self._expert)

    def give_up(self) -> None:
        """The waiter was cancelled: the thread stops waiting; what it already handed over goes back."""
        with self._residency._changed:
            self._given_up.set()
            self._residency._changed.notify_all()
            handed_over = self._instance is not None
        if handed_over:
            self._residency._leave(self._expert)


def _settle(arrived: asyncio.Future[Expert], instance: Expert | None, error: BaseException | None) -> None:
    if arrived.done():
        return
    if error is not None:
        arrived.set_exception(error)
    elif instance is not None:
        arrived.set_result(instance)
