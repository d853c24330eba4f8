"""Pool: which host runs which call. Hosts are detached actors that all front ends of a cluster share.

At most one host of an expert on a machine (one a GPU), so that weights are loaded once a machine; a
further machine is taken when those there are busy. Where there is no room, the host that was idle for
longest leaves; when none is idle, the one that would leave first is drained.
"""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .host import Host
from .messages import ExpertRef, Fault, Needs, Work

NAMESPACE = "anyloom"
DEPTH = 2  # batches at one host: one that runs and one that waits there, so that no time is lost between them
ASK = 30.0  # seconds for the cluster to answer a question about itself
START = 120.0  # seconds for a host to start
FIT = 30.0  # seconds to wait for a machine that could hold the expert at all
EMPTY = 240.0  # seconds to wait where there is no machine at all: the cluster is only just back, they join it again
DRAIN = 10.0  # seconds to wait for an idle host before a busy one is asked to leave

Say = Callable[[str], None]


class NoMachine(Exception):
    """No machine can run the expert; `fault` says it in one sentence."""

    def __init__(self, fault: Fault):
        super().__init__(fault.message)
        self.fault = fault


@dataclass
class Slot:
    """A host as this driver sees it. `load`: calls that this driver has there; `keys`: what it had before us."""

    name: str
    address: str
    handle: Any
    keys: set[str] = field(default_factory=set)
    load: int = 0


@dataclass
class Group:
    """The hosts of one expert, and who waits for one."""

    ref: ExpertRef
    needs: Needs
    slots: list[Slot] = field(default_factory=list)
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    growing: asyncio.Task[None] | None = None
    grow_again: float = 0.0
    fault: Fault | None = None

    @property
    def prefix(self) -> str:
        """What the names of these hosts begin with: the expert with its options, and what it asks for."""
        digest = hashlib.sha256(pickle.dumps((self.ref, self.needs))).hexdigest()[:16]
        return f"host|{self.ref.name}|{digest}|{self.needs.cpus}|{self.needs.gpus}|{self.needs.memory}|"

    def wake(self, all_of_them: bool = False) -> None:
        """Lets those who wait look again, in the order in which they came."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                if not all_of_them:
                    return


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster: its id, address and resources."""

    id: str
    address: str
    total: Needs

    def has(self, needs: Needs, used: Needs = Needs(0, 0, 0)) -> bool:  # noqa: B008 frozen
        """Whether it has room for that beside what is used."""
        return (
            self.total.cpus - used.cpus >= needs.cpus - 1e-6
            and self.total.gpus - used.gpus >= needs.gpus - 1e-6
            and self.total.memory - used.memory >= needs.memory
        )


class Pool:
    """All groups of one driver."""

    def __init__(self) -> None:
        self._groups: dict[tuple[ExpertRef, Needs], Group] = {}

    async def take(self, work: Work, say: Say) -> Slot:
        """A host with a free place; give it back with `release`. NoMachine: there is none that could."""
        group = self._groups.setdefault((work.ref, work.needs), Group(work.ref, work.needs))
        while True:
            found = next((s for s in group.slots if work.key in s.keys), None)
            if found is None:
                free = [s for s in group.slots if s.load < DEPTH * max(1, work.batch)]
                found = min(free, key=lambda s: s.load, default=None)
                if found is None or found.load:
                    self._grow(group, say)
            if found is not None:
                found.load += 1
                return found
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            group.waiting.append(waiter)
            try:
                await asyncio.wait_for(waiter, 2.0)
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    group.wake()  # it was meant for somebody
                raise
            if group.fault is not None and not group.slots:
                raise NoMachine(group.fault)

    def release(self, work: Work, slot: Slot) -> None:
        """The call is over."""
        slot.load -= 1
        self._groups[work.ref, work.needs].wake()

    def drop(self, work: Work, slot: Slot) -> None:
        """The host is gone."""
        group = self._groups[work.ref, work.needs]
        group.slots = [s for s in group.slots if s is not slot]
        group.wake(all_of_them=True)

    def _grow(self, group: Group, say: Say) -> None:
        """Looks for one host more, in the background, one look at a time."""
        if (group.growing is None or group.growing.done()) and time.monotonic() >= group.grow_again:
            group.growing = asyncio.create_task(self._grown(group, say))

    async def _grown(self, group: Group, say: Say) -> None:
        group.fault = None
        slots: Sequence[Slot] = ()
        try:
            slots = await self._more(group, say)
        except NoMachine as e:
            group.fault = e.fault
        except Exception as e:  # the cluster may fail in any way while it changes; it is asked again
            say(f"The Ray cluster could not start '{group.ref.name}' ({_short(e)}); trying again.")
            group.grow_again = time.monotonic() + 1.0
        else:
            if not slots and group.slots:
                group.grow_again = time.monotonic() + 2.0
        group.slots.extend(slots)
        group.wake(all_of_them=True)

    async def _more(self, group: Group, say: Say) -> Sequence[Slot]:
        """All hosts that are there already, since any may have what is asked for; else a new one, or none: no room."""
        begun, told = time.monotonic(), False
        while True:
            names, machines = await asyncio.gather(_ask(_host_names), _ask(_machines))
            alive = {m.id: m for m in machines}
            mine = {s.name for s in group.slots}
            there = [n for n in names if n.startswith(group.prefix) and n not in mine and _machine_of(n) in alive]
            found = await asyncio.gather(*(self._attach(n, alive[_machine_of(n)]) for n in there))
            if attached := [slot for slot in found if slot is not None]:
                return attached
            able = [m for m in machines if m.has(group.needs)]
            if (target := _roomy(group, able, names)) and (slot := await self._start(group, *target)):
                return [slot]
            if group.slots:
                return ()
            waited = time.monotonic() - begun
            if not able and waited > (FIT if machines else EMPTY):
                raise NoMachine(Fault("ExpertError", _nowhere(group, machines)))
            if not told and waited > 1.0:
                told = True
                what = "room on the Ray cluster" if machines else "a machine to join the Ray cluster"
                say(f"'{group.ref.name}' waits for {what}.")
            if able:
                await self._make_room({m.id for m in able}, names, drain=waited > DRAIN)
            await asyncio.sleep(0.3)

    async def _attach(self, name: str, machine: Machine) -> Slot | None:
        import ray

        try:
            handle = await _ask(lambda: ray.get_actor(name, namespace=NAMESPACE))
            ready = await asyncio.wait_for(_await(handle.ready.remote()), ASK)
        except (ValueError, TimeoutError, ray.exceptions.RayError):
            return None  # it is just gone, or being started
        return None if ready is None else Slot(name, machine.address, handle, set(ready[1]))

    async def _start(self, group: Group, machine: Machine, index: int) -> Slot | None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        needs, name = group.needs, f"{group.prefix}{machine.id}|{index}"
        options = {
            "name": name, "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True, "max_restarts": 0,
            "max_concurrency": 1000, "num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(machine.id, soft=False),
        }  # fmt: skip
        made = ray.remote(Host).options(**options)
        handle = await _ask(lambda: made.remote(group.ref, needs.gpus > 0))
        try:
            ready = await asyncio.wait_for(_await(handle.ready.remote()), START)
        except TimeoutError:
            await _ask(lambda: ray.kill(handle))
            raise
        return None if ready is None else Slot(name, machine.address, handle, set(ready[1]))

    async def _make_room(self, on: set[str], names: Sequence[str], drain: bool) -> None:
        """Asks the host that was idle for longest, on one of these machines, to leave."""
        import ray

        handles = []
        for name in names:
            if _machine_of(name) in on:
                try:
                    handles.append(await _ask(lambda name=name: ray.get_actor(name, namespace=NAMESPACE)))  # type: ignore[misc]
                except (ValueError, ray.exceptions.RayError):
                    continue
        idle = await asyncio.gather(
            *(asyncio.wait_for(_await(h.idle.remote()), 2.0) for h in handles), return_exceptions=True
        )
        order = sorted(
            ((i, n) for n, i in enumerate(idle) if isinstance(i, float) and (i > 0 or drain)), key=lambda x: -x[0]
        )
        if order:
            await asyncio.wait_for(_await(handles[order[0][1]].retire.remote(drain)), 2.0)


async def capacity() -> tuple[list[Machine], int]:
    """The machines, and the memory of the smallest GPU where a worker told it (bytes, else 0)."""
    import ray

    from .messages import VRAM

    machines = await _ask(_machines)
    told = [n["Resources"][VRAM] for n in await _ask(ray.nodes) if n["Alive"] and VRAM in n["Resources"]]
    return machines, int(min(told, default=0)) << 20


def _roomy(group: Group, able: Sequence[Machine], names: Sequence[str]) -> tuple[Machine, int] | None:
    """The machine with the most free processors that has no host of the group yet, and a number for it there."""
    used: dict[str, Needs] = {}
    for name in names:
        if (needs := _needs_of(name)) is not None:
            before = used.get(_machine_of(name), Needs(0, 0, 0))
            used[_machine_of(name)] = Needs(
                before.cpus + needs.cpus, before.gpus + needs.gpus, before.memory + needs.memory
            )
    best: tuple[float, Machine, int] | None = None
    for machine in able:
        there = used.get(machine.id, Needs(0, 0, 0))
        most = int((machine.total.gpus + 1e-6) // group.needs.gpus) if group.needs.gpus else 1
        taken = {n.rpartition("|")[2] for n in names if n.startswith(f"{group.prefix}{machine.id}|")}
        index = next((i for i in range(most) if str(i) not in taken), None)
        if index is None or not machine.has(group.needs, there):
            continue
        free = machine.total.cpus - there.cpus
        if best is None or free > best[0]:
            best = (free, machine, index)
    return best[1:] if best else None


def _nowhere(group: Group, machines: Sequence[Machine]) -> str:
    needs = group.needs
    what = f"{needs.gpus:g} GPU and " if needs.gpus else ""
    wanted = f"{what}{needs.cpus:g} processors and {needs.memory / 1e9:.2f} GB"
    return (
        f"None of the {len(machines)} machines of the Ray cluster has {wanted} for '{group.ref.name}'; "
        "start one that has with `anyloom worker`."
    )


def _host_names() -> list[str]:
    import ray

    named = ray.util.list_named_actors(all_namespaces=True)
    return [n["name"] for n in named if n["namespace"] == NAMESPACE and n["name"].startswith("host|")]


def _machines() -> list[Machine]:
    import ray

    found = []
    for node in ray.nodes():
        has = node["Resources"]
        total = Needs(has.get("CPU", 0.0), has.get("GPU", 0.0), int(has.get("memory", 0)))
        if node["Alive"] and (total.cpus or total.gpus):
            found.append(Machine(node["NodeID"], node["NodeManagerAddress"], total))
    return found


def _machine_of(name: str) -> str:
    return name.split("|")[-2]


def _needs_of(name: str) -> Needs | None:
    try:
        cpus, gpus, memory = name.split("|")[3:6]
        return Needs(float(cpus), float(gpus), int(memory))
    except ValueError:
        return None


async def _ask(question: Callable[[], Any]) -> Any:
    """Asks the cluster in a thread: while its head is away the answer may never come."""
    return await asyncio.wait_for(asyncio.to_thread(question), ASK)


async def _await(ref: Any) -> Any:
    return await ref


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
