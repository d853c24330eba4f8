"""Scale: what one task costs at every station of a cluster, measured; and a model that says what N machines do.

    python benchmarks/scale.py report [--docs docs/scale.md]           # all of it, load included, as the page has it
    python benchmarks/scale.py measure [--calls 100] [--out FILE]      # a real cluster of one and of two machines
    python benchmarks/scale.py simulate [FILE] [--machines 1,2,10,100,1000] [--seconds 1.0] [--fronts 1] [--price 1.0]

`measure` runs sleeping experts through the executor and reads processor time, not only the clock, so that a busy
machine spoils its figures less: of the front end, of its driver, and of redis-server (by its own count) for each task
of a plan. `simulate` sends tasks of `--seconds` through a network of queues with those times: front ends and drivers
(one processor each, as Python has it), hosts (one task at a time), one Redis server. Every machine is kept busy by
two waiting tasks. It reads out throughput, waiting, the station that is busiest, and what a thousand tasks cost at
`--price` an hour and machine. Without FILE benchmarks/scale.json is taken. `report` measures, runs the model and
benchmarks/load.py, and prints the figures as Markdown; with `--docs` it puts them into the page, between its two marks,
and the costs into that file.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import heapq
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "scale.json"


@dataclass(frozen=True)
class Costs:
    """Seconds of a processor for each task, by station; `line` is the time on the way that no processor spends.

    `one` and `two`: tasks of `task` seconds a second, seen on so many machines. `here` and `there`: median seconds of
    a call that sleeps 10 ms, in threads and on the cluster; `overhead` is the difference.
    """

    front: float
    driver: float
    redis: float
    line: float
    task: float = 0.01
    one: float = 0.0
    two: float = 0.0
    overhead: float = 0.0
    here: float = 0.0
    there: float = 0.0
    load: float = 0.0


# -- measuring -----------------------------------------------------------------------------------------


def cpu(pid: int) -> float:
    """Seconds of a processor that a process has used."""
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def jobs_of(count: int, seconds: float) -> list[Any]:
    """Calls of the tests' step expert, each another piece of work."""
    from ray_experts import Step

    from anyloom.graphs.executor import Job
    from anyloom.tools.contracts import Run

    def job(n: int) -> Any:
        text = json.dumps({"log": os.devnull, "name": str(n), "seconds": seconds})
        return Job(Step, Run(seed=n), lambda: {"text": text}, lambda outputs, seconds: seconds)

    return [job(n) for n in range(count)]


async def one_by_one(executor: Any, count: int, seconds: float) -> list[float]:
    """Wall time of each call."""
    found = []
    for job in jobs_of(count, seconds):
        started = time.perf_counter()
        await executor.perform(job)
        found.append(time.perf_counter() - started)
    return found


async def all_at_once(executor: Any, count: int, seconds: float) -> float:
    """Calls a second."""
    started = time.perf_counter()
    await asyncio.gather(*(executor.perform(j) for j in jobs_of(count, seconds)))
    return count / (time.perf_counter() - started)


def redis_time(folder: Path) -> float:
    """Seconds that redis-server works for one task of a plan, by its own count."""
    from ray_experts import Step
    from redis_server import Server
    from rig import task

    from anyloom.controller.fakes import ScriptedController
    from anyloom.core.settings import Settings
    from anyloom.graphs.engine import Engine
    from anyloom.graphs.state import Request
    from anyloom.tools.registry import Registry

    (folder / "redis").mkdir()
    server = Server(folder / "redis").start()
    try:
        plan = [
            task("step-a", n, text=json.dumps({"log": os.devnull, "name": str(n), "seconds": 0.0})) for n in range(10)
        ]
        settings = Settings(data_dir=folder / "data", cache_dir=folder / "cache", redis=server.url)

        async def go() -> float:
            engine = Engine(settings, controller=ScriptedController(plan), registry=Registry.of([Step]))
            await engine.ask(Request("warm up", fresh=True))
            before = engine.shared.link.client.info("cpu")
            for n in range(3):
                await engine.ask(Request(f"go {n}", seed=n))
            after = engine.shared.link.client.info("cpu")
            await engine.aclose()
            names = ("used_cpu_user", "used_cpu_sys")
            return sum(float(after[n]) - float(before[n]) for n in names) / 30

        return asyncio.run(go())
    finally:
        server.kill()


def measure(calls: int) -> Costs:
    """On a real cluster, at one machine and at two."""
    sys.path.insert(0, str(ROOT / "tests"))
    from ray_cluster import ENVIRONMENT, Machines

    from anyloom.graphs.cluster.executor import RayExecutor
    from anyloom.graphs.executor import ThreadExecutor
    from anyloom.tools.residency import Residency

    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as name:
        redis = redis_time(Path(name))
        machines = Machines()
        residency = Residency(None, object(), "cpu")
        try:
            machines.add()
            executor = RayExecutor.open(machines.address, Path(name), residency)
            driver = executor.gateway._process.pid

            async def go() -> Costs:
                threads = ThreadExecutor(residency)
                await one_by_one(executor, 5, 0.01)  # starts the host
                await one_by_one(threads, 5, 0.01)
                here = await one_by_one(threads, calls, 0.01)
                before = time.process_time(), cpu(driver)
                there = await one_by_one(executor, calls, 0.01)
                after = time.process_time(), cpu(driver)
                front, drive = ((b - a) / calls for a, b in zip(before, after, strict=True))
                medians = statistics.median(here), statistics.median(there)
                overhead = medians[1] - medians[0]
                one = await all_at_once(executor, calls, 0.1)
                machines.add()
                await all_at_once(executor, 20, 0.1)  # starts the second host
                two = await all_at_once(executor, calls, 0.1)
                line = max(0.0, overhead - front - drive)
                return Costs(front, drive, redis, line, 0.1, one, two, overhead, *medians, os.getloadavg()[0])

            costs = asyncio.run(go())
            executor.gateway.close()
            return costs
        finally:
            machines.stop()


# -- the model -----------------------------------------------------------------------------------------


class Station:
    """Servers with one queue."""

    def __init__(self, servers: int):
        self.free = servers
        self.servers = servers
        self.queue: deque[Any] = deque()
        self.busy = 0.0


def simulate(
    costs: Costs, machines: int, seconds: float, fronts: int, tasks: int, seed: int, steady: bool = False
) -> dict[str, Any]:
    """A closed network: `machines` × 2 tasks are always on their way, as the driver sends no more to a host.

    `steady`: every task takes as long as the next, as the measured ones do; else times are exponential.
    """
    dice = random.Random(seed)
    stations = {
        "redis": Station(1), "front": Station(fronts), "driver": Station(fronts), "host": Station(machines),
        "line": Station(10**9),
    }  # fmt: skip
    way = ("redis", "front", "driver", "line", "host", "driver", "front", "redis")
    halves = {"redis": costs.redis / 2, "front": costs.front / 2, "driver": costs.driver / 2, "line": costs.line}
    events: list[tuple[float, int, int, int, float]] = []
    number, now, done, started_at = 0, 0.0, 0, {}
    waits: list[float] = []
    warm = tasks // 5
    warm_at = 0.0

    def push(station: Station, task: int, step: int, took: float) -> None:
        nonlocal number
        number += 1
        station.busy += took
        heapq.heappush(events, (now + took, number, task, step, took))

    def enter(task: int, step: int) -> None:
        station = stations[way[step]]
        mean = seconds if way[step] == "host" else max(1e-9, halves[way[step]])
        took = mean if steady else dice.expovariate(1 / mean)
        if station.free:
            station.free -= 1
            push(station, task, step, took)
        else:
            station.queue.append((task, step, took))

    for task in range(2 * machines):
        started_at[task] = 0.0
        enter(task, 0)
    while done < tasks + warm:
        now, _, task, step, _ = heapq.heappop(events)
        station = stations[way[step]]
        if station.queue:
            push(station, *station.queue.popleft())
        else:
            station.free += 1
        if step + 1 < len(way):
            enter(task, step + 1)
            continue
        done += 1
        if done == warm:
            warm_at = now
            for s in stations.values():
                s.busy = 0.0
        elif done > warm:
            waits.append(now - started_at[task])
        started_at[task] = now
        enter(task, 0)
    span = now - warm_at
    use = {n: s.busy / span / s.servers for n, s in stations.items() if n != "line"}
    waits.sort()
    return {
        "machines": machines, "a_second": tasks / span, "p50": waits[len(waits) // 2],
        "p99": waits[int(len(waits) * 0.99)], "busiest": max(use, key=lambda n: use[n]), "use": use,
    }  # fmt: skip


# -- the page ------------------------------------------------------------------------------------------

MARKS = "<!-- figures of benchmarks/scale.py report -->", "<!-- end of figures -->"
GOALS = {"overhead": 0.005, "two": 1.8}  # seconds; times the throughput of one machine


def report(costs: Costs, load: str, seed: int = 1) -> str:
    """The figures as Markdown."""
    met = {True: "met", False: "missed"}
    times = costs.two / costs.one
    rows = [
        ("a call that sleeps 10 ms, in threads and on the cluster", f"{ms(costs.here)}, {ms(costs.there)}", ""),
        ("the cluster's overhead", ms(costs.overhead), f"under 5 ms: {met[costs.overhead < GOALS['overhead']]}"),
        (f"calls of {ms(costs.task)} a second on one machine and on two", f"{costs.one:.2f}, {costs.two:.2f}", ""),
        ("two machines against one", f"{times:.2f} ×", f"1.8 × and more: {met[times >= GOALS['two']]}"),
        ("processor time a task: front end, driver, redis-server",
         ", ".join(ms(s) for s in (costs.front, costs.driver, costs.redis)), ""),
    ]  # fmt: skip
    lines = [
        f"Measured on {datetime.date.today().isoformat()} on {os.cpu_count()} processors that front end, cluster and "
        f"Redis share, load {costs.load:.1f}, by `python benchmarks/scale.py report`.\n",
        "| | | goal |\n|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "\nThe model against what was seen: "
        + "; ".join(f"{n} machine(s) {seen:.2f} seen, {said:.2f} by the model" for n, seen, said in checks(costs, seed))
        + ". Read out for tasks of 1 s and one front end:\n",
        "| machines | tasks a second | p50, p99 | busiest | front end | driver | Redis | 1,000 tasks at 1.00 an hour |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for machines in (1, 2, 10, 100, 1000):
        row = simulate(costs, machines, 1.0, 1, 20_000, seed)
        use = " | ".join(f"{row['use'][n]:.0%}" for n in ("front", "driver", "redis"))
        spent = price(row, machines, 1, 1.0)
        lines.append(
            f"| {machines:,} | {row['a_second']:.1f} | {row['p50']:.1f} s, {row['p99']:.1f} s | {row['busiest']} "
            f"| {use} | {spent:.2f} |"
        )
    return "\n".join([*lines, "\n### Under load\n", f"`python benchmarks/load.py`: {load.strip()}"]) + "\n"


def ms(seconds: float) -> str:
    """As milliseconds."""
    return f"{seconds * 1000:.1f} ms"


def checks(costs: Costs, seed: int) -> list[tuple[int, float, float]]:
    """Machines, tasks a second seen, and by the model."""
    return [
        (machines, seen, simulate(costs, machines, costs.task, 1, 2_000, seed, steady=True)["a_second"])
        for machines, seen in ((1, costs.one), (2, costs.two))
        if seen
    ]


def price(row: dict[str, Any], machines: int, fronts: int, an_hour: float) -> float:
    """What a thousand tasks cost, every machine at so much an hour."""
    return float(1000 / row["a_second"] / 3600 * (machines + fronts) * an_hour)


def into(page: Path, figures: str) -> None:
    """Puts the figures between the page's marks. SystemExit: it has none."""
    first, last = MARKS
    text = page.read_text()
    if not text.find(first) < text.find(last):
        raise SystemExit(f"'{page}' has no place for figures; put these two lines into it: {first} {last}")
    before, after = text.split(first)[0], text.split(last)[1]
    page.write_text(f"{before}{first}\n{figures}{last}{after}")


def main() -> int:
    """Measures, or reads out the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    real = commands.add_parser("measure")
    real.add_argument("--calls", type=int, default=100)
    real.add_argument("--out", type=Path)
    model = commands.add_parser("simulate")
    model.add_argument("file", nargs="?", type=Path, default=MEASURED)
    model.add_argument("--machines", default="1,2,10,100,1000")
    model.add_argument("--seconds", type=float, default=1.0)
    model.add_argument("--fronts", type=int, default=1)
    model.add_argument("--tasks", type=int, default=20_000)
    model.add_argument("--price", type=float, default=1.0)
    model.add_argument("--seed", type=int, default=1)
    page = commands.add_parser("report")
    page.add_argument("--calls", type=int, default=100)
    page.add_argument("--docs", type=Path)
    options = parser.parse_args()
    if options.command == "report":
        costs = measure(options.calls)
        load = subprocess.run([sys.executable, str(MEASURED.with_name("load.py"))], capture_output=True, text=True)
        if load.returncode:
            raise SystemExit(f"benchmarks/load.py found faults: {load.stdout}{load.stderr}")
        figures = report(costs, load.stdout)
        print(figures)
        if options.docs:
            into(options.docs, figures)
            MEASURED.write_text(json.dumps(asdict(costs), indent=1) + "\n")
        return 0
    if options.command == "measure":
        text = json.dumps(asdict(measure(options.calls)), indent=1)
        print(text)
        if options.out:
            options.out.write_text(text + "\n")
        return 0
    if not options.file.exists():
        parser.error(f"there is no '{options.file.name}'; make it with: python benchmarks/scale.py measure --out FILE")
    costs = Costs(**json.loads(options.file.read_text()))
    for machines, seen, said in checks(costs, options.seed):
        print(f"check at {machines}: {seen:.2f} tasks/s seen, {said:.2f} by the model")
    print(f"\ntasks of {options.seconds:g} s, {options.fronts} front end(s)")
    columns = ("machines", "tasks/s", "p50 s", "p99 s", "front", "driver", "redis", "hosts", "cost of 1000", "busiest")
    print(" ".join(f"{c:>12}" for c in columns))
    for machines in (int(m) for m in options.machines.split(",")):
        row = simulate(costs, machines, options.seconds, options.fronts, options.tasks, options.seed)
        cost = price(row, machines, options.fronts, options.price)
        use = [f"{row['use'][n]:.1%}" for n in ("front", "driver", "redis", "host")]
        cells = [machines, f"{row['a_second']:.1f}", f"{row['p50']:.2f}", f"{row['p99']:.2f}", *use, f"{cost:.3f}"]
        print(" ".join(f"{c:>12}" for c in (*cells, row["busiest"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
