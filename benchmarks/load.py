"""Load: many conversations at once through the HTTP door; throughput, waiting, memory, fairness, back-pressure.

    python benchmarks/load.py [--requests 500] [--conversations 50] [--warm 500] [--burst 200] [--json]

The service is a process of its own: `anyloom serve`'s server and engine with its usual line (2 at once, 64 waiting),
conversations, results and locks in a redis-server of its own (--no-redis: SQLite and files), and two experts that only
sleep for --seconds. What is measured is the front end, the line, Redis and the checkpoints; every request makes
something new, so that no cache answers.

1. `--warm` requests fill what a service keeps of requests that ended.
2. Each conversation asks its share of `--requests`, one after the other. Who is turned away (429) comes again when the
   service said so. Counted: right answers, requests a second, times from the first try to the answer (p50, p99), the
   memory of the service at each fifth, and how far each conversation was when half of all was done.
3. `--burst` new conversations ask at once and do not come again: how many are served, at which rate, how soon the
   others are turned away; and whether the next request after it is answered as quickly as ever.

Exit code 1 when an answer is wrong or missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anyloom.controller.base import Controller, Outcome, PlanRequest
from anyloom.controller.plan import Plan
from anyloom.tools.contracts import Card, Expert, Output, Param, Run, Tool

ROOT = Path(__file__).parents[1]
START = 120.0  # seconds for the service to answer


# -- the service ---------------------------------------------------------------------------------------


class Sleeper(Expert):
    """Sleeps and says what it was told."""

    name = "sleeper"
    tool = Tool("sleep-and-say", "A text, later.", (Param("text", "text"),), "text")
    card = Card(memory=1_000_000, speed="instant")
    seconds = 0.005

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The same text."""
        run.check()
        time.sleep(self.seconds)
        return [Output.text(args["text"])]


class Second(Sleeper):
    """Another, so that two may sleep at once."""

    name = "second-sleeper"
    tool = Tool("say-again", "A text, later.", (Param("text", "text"),), "text")


class Planner(Controller):
    """Two tasks for every request, the second reading the first; the answer is what the second said."""

    name = "load"

    async def plan(self, request: PlanRequest, tools: Sequence[Tool]) -> Plan:
        """Always the same, over the request's own text."""
        first = {"task": Sleeper.tool.name, "id": 0, "args": {"text": request.text}}
        return Plan.parse([first, {"task": Second.tool.name, "id": 1, "args": {"text": "<resource>-0"}}])

    async def repair(self, request: PlanRequest, tools: Sequence[Tool], plan: Plan, problems: Sequence[str]) -> Plan:
        """Never needed."""
        raise AssertionError(problems)

    async def choose(self, task: str, cards: Mapping[str, str]) -> str:
        """Never asked: each tool has one expert."""
        raise AssertionError(task)

    async def answer(self, request: PlanRequest, plan: Plan, outcomes: Sequence[Outcome]) -> AsyncIterator[str]:
        """The last result."""
        yield outcomes[-1].text

    def usage(self) -> dict[str, Any]:
        """No model is called."""
        return {}


def service(folder: Path, redis: str, concurrent: int, queue: int, seconds: float) -> int:
    """The service, until it is told to end. Run as a process; it writes its address into the folder."""
    from anyloom.agent.http.options import ServeOptions
    from anyloom.agent.http.server import address, listen, serve
    from anyloom.core.settings import Settings
    from anyloom.graphs.engine import Engine
    from anyloom.tools.registry import Registry

    Sleeper.seconds = seconds
    settings = Settings(data_dir=folder / "data", cache_dir=folder / "cache", redis=redis)
    engine = Engine(settings, controller=Planner(), registry=Registry.of([Sleeper, Second]))
    options = ServeOptions(port=0, max_concurrent=concurrent, queue=queue)
    sock = listen(options)
    (folder / "part").write_text(address(sock))
    (folder / "part").rename(folder / "address")
    serve(engine, options, sock)
    return 0


# -- those who ask -------------------------------------------------------------------------------------


class Load:
    """Conversations, and what they saw."""

    def __init__(self, client: Any, memory: Any):
        self.client = client
        self.memory = memory
        self.times: list[float] = []
        self.refused = 0
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.half: Counter[str] | None = None
        self.resident: list[int] = []
        self.total = 0

    async def ask(self, thread: str, text: str, again: bool = True) -> bool:
        """One request, to its answer; False when it was turned away for good."""
        body = {"text": text} | ({"thread": thread} if thread else {})
        begun = time.perf_counter()
        while True:
            answer = await self.client.post("/v1/requests", json=body)
            if answer.status_code != 429:
                break
            self.refused += 1
            if not again:
                return False
            await asyncio.sleep(float(answer.headers["retry-after"]))
        if answer.status_code != 202:
            self.wrong.append(f"{answer.status_code}: {answer.text[:200]}")
            return False
        said = await self._said(answer.json()["id"])
        self.times.append(time.perf_counter() - begun)
        if said != text:
            self.wrong.append(f"asked '{text}', answered '{said}'")
        return True

    async def _said(self, name: str) -> str:
        """The answer's text, from the stream of events."""
        said = ""
        async with self.client.stream("GET", f"/v1/requests/{name}/events") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    event = json.loads(line[6:])
                    if event["event"] == "answer_done":
                        said = event["answer"]["text"]
                    elif event.get("error"):
                        said = event["error"]
        return said

    async def conversation(self, thread: str, count: int) -> None:
        """One request after the other."""
        for n in range(count):
            await self.ask(thread, f"{thread} says {n}")
            self.done[thread] += 1
            through = self.done.total()
            if self.half is None and through * 2 >= self.total:
                self.half = Counter(self.done)
            if through * 5 // self.total > len(self.resident):
                self.resident.append(self.memory())

    async def steady(self, name: str, requests: int, conversations: int) -> dict[str, Any]:
        """All conversations at once."""
        shares = [requests // conversations + (n < requests % conversations) for n in range(conversations)]
        self.total = requests
        begun = time.perf_counter()
        await asyncio.gather(*(self.conversation(f"{name}-{n}", share) for n, share in enumerate(shares) if share))
        seconds = time.perf_counter() - begun
        times = sorted(self.times)
        counts = [(self.half or self.done)[f"{name}-{n}"] for n in range(conversations)]
        return {
            "requests": requests, "answered": len(times), "wrong": self.wrong, "turned_away": self.refused,
            "a_second": round(requests / seconds, 1), "p50": round(times[len(times) // 2], 3),
            "p99": round(times[min(len(times) - 1, int(len(times) * 0.99))], 3), "at_half": [min(counts), max(counts)],
            "memory_mb": [round(m / 1e6, 1) for m in self.resident],
        }  # fmt: skip

    async def burst(self, count: int) -> dict[str, Any]:
        """All at once, none comes again; then one more."""
        begun = time.perf_counter()
        refusals: list[float] = []

        async def one(n: int) -> bool:
            started = time.perf_counter()
            served = await self.ask("", f"burst {n}", again=False)
            if not served:
                refusals.append(time.perf_counter() - started)
            return served

        served = sum(await asyncio.gather(*(one(n) for n in range(count))))
        seconds = time.perf_counter() - begun
        started = time.perf_counter()
        await self.ask("", "after the burst")
        return {
            "asked": count, "served": served, "turned_away": len(refusals), "wrong": self.wrong,
            "a_second": round(served / seconds, 1), "slowest_refusal": round(max(refusals, default=0.0), 3),
            "next_after_it": round(time.perf_counter() - started, 3),
        }  # fmt: skip


async def load(url: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    """The three parts."""
    import httpx
    import psutil

    process = psutil.Process(pid)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:

        def fresh() -> Load:
            return Load(client, lambda: process.memory_info().rss)

        if options.warm:
            await fresh().steady("warm", options.warm, options.conversations)
        found = {"steady": await fresh().steady("talk", options.requests, options.conversations)}
        if options.burst:
            found["burst"] = await fresh().burst(options.burst)
        return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Starts the service, asks, ends it."""
    redis = None
    with tempfile.TemporaryDirectory(prefix="anyloom-load-") as name:
        folder = Path(name)
        if not options.no_redis:
            sys.path.insert(0, str(ROOT / "tests"))
            from redis_server import Server

            (folder / "redis").mkdir()
            redis = Server(folder / "redis").start()
        with (folder / "log").open("wb") as log:
            words = [redis.url if redis else "", options.concurrent, options.queue, options.seconds]
            command = [sys.executable, str(Path(__file__)), "--service", str(folder), *map(str, words)]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + START
            while not (folder / "address").exists():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"The service did not start: {(folder / 'log').read_text()[-1000:]}")
                time.sleep(0.1)
            found = asyncio.run(load((folder / "address").read_text(), process.pid, options))
            return {"load": round(os.getloadavg()[0], 1), "redis": redis is not None, **found}
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
            if redis:
                redis.kill()


def table(found: Mapping[str, Any], options: argparse.Namespace) -> str:
    """The figures as Markdown."""
    steady = found["steady"]
    kept = "Redis" if found["redis"] else "SQLite and files"
    memory = " → ".join(f"{m:g}" for m in steady["memory_mb"])
    rows = [
        ("answered, of these wrong", f"{steady['answered']} of {steady['requests']}, {len(steady['wrong'])}"),
        ("requests a second", steady["a_second"]),
        ("from the first try to the answer, p50 and p99", f"{steady['p50']:g} s, {steady['p99']:g} s"),
        ("turned away and come again", f"{steady['turned_away']} times"),
        ("answers a conversation had at half time, fewest and most", f"{steady['at_half'][0]}, {steady['at_half'][1]}"),
        ("memory of the service at each fifth, MB", memory),
    ]
    if burst := found.get("burst"):
        rows += [
            (f"burst of {burst['asked']}: served, turned away", f"{burst['served']}, {burst['turned_away']}"),
            ("burst: requests a second", burst["a_second"]),
            ("burst: slowest refusal; the next request after it", f"{burst['slowest_refusal']:g} s; "
             f"{burst['next_after_it']:g} s"),
        ]  # fmt: skip
    head = (
        f"{steady['requests']} requests from {options.conversations} conversations, {options.concurrent} at once and "
        f"{options.queue} waiting, two tasks of {options.seconds * 1000:g} ms each; {kept}; {os.cpu_count()} "
        f"processors, which those who ask share; load {found['load']:g}."
    )
    return "\n".join([head, "", "| | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]) + "\n"


def main() -> int:
    """Runs it and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--warm", type=int, default=500)
    parser.add_argument("--burst", type=int, default=200)
    parser.add_argument("--concurrent", type=int, default=2)
    parser.add_argument("--queue", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.005)
    parser.add_argument("--no-redis", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--service", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.service:
        folder, redis, concurrent, queue, seconds = options.service
        return service(Path(folder), redis, int(concurrent), int(queue), float(seconds))
    found = run(options)
    print(json.dumps(found) if options.json else table(found, options))
    wrong = found["steady"]["wrong"] + found.get("burst", {}).get("wrong", [])
    for line in wrong[:10]:
        print(line, file=sys.stderr)
    return 1 if wrong or found["steady"]["answered"] < options.requests else 0


if __name__ == "__main__":
    sys.exit(main())
