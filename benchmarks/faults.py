"""Faults: requests of ten tasks while something is killed, frozen or filled at a random moment.

    python benchmarks/faults.py [--rounds 20] [--kinds front,host,worker,redis,head,frozen,disk] [--seed 1] [--log FILE]

Redis, a Ray head and two workers are the services of docker/compose.yaml as processes on loopback addresses; the
front end is a process of its own that is started again, with `resume`, whenever it ended without an answer. After each
round it is counted: one answer, ten tasks ok, how often each task came to its end on a worker (once), artifacts that
are whole. The log is appended to FILE (docs/reliability.md is such a log). Exit code 1 when a count is wrong.

`frozen` stops a worker's processes for 20 s, as a cut line looks to the others. `disk` fills the front end's data
folder, a small file system of its own, for 3 s; it needs root. redis-server has to be installed.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
KINDS = ("front", "host", "worker", "redis", "head", "frozen", "disk")
TASKS = 10
HOSTS = ("ray::host|", "ray::Host")  # what Ray calls the processes of experts, at rest and at work
PATIENCE = 420.0  # seconds for a round


def plan_of(log: Path, round_: str, dice: random.Random) -> list[dict[str, Any]]:
    """Ten steps on three experts, each reading from up to two before it."""
    plan = []
    for n in range(TASKS):
        todo = {"log": str(log), "name": f"{round_}-{n}", "seconds": round(dice.uniform(0.1, 0.5), 2)}
        reads = dice.sample(range(n), min(n, dice.choice((0, 1, 2))))
        args = {"text": json.dumps(todo)} | {f"p{k}": f"<resource>-{d}" for k, d in enumerate(reads)}
        plan.append({"task": f"step-{'abc'[n % 3]}", "id": n, "args": args})
    return plan


def front(folder: Path, thread: str) -> int:
    """The front end: asks, or goes on with what an earlier one began. Run as a process."""
    from ray_experts import EXPERTS

    from anyloom.controller.fakes import ScriptedController
    from anyloom.core.settings import Settings
    from anyloom.graphs.engine import Engine
    from anyloom.graphs.state import Request
    from anyloom.tools.registry import Registry

    where = json.loads((folder / "where.json").read_text())
    plan = json.loads((folder / f"{thread}.json").read_text())

    async def go() -> int:
        settings = Settings(
            data_dir=Path(where["data"]), cache_dir=folder / "cache", redis=where["redis"], ray=where["ray"]
        )
        engine = Engine(settings, controller=ScriptedController(plan), registry=Registry.of(EXPERTS))
        started = any(r.thread == thread for r in await engine.threads())
        say = lambda e: print(json.dumps(e.to_json(), ensure_ascii=False)[:300], flush=True)  # noqa: E731
        answer = await (engine.resume(thread, emit=say) if started else engine.ask(Request("go"), thread, emit=say))
        report = {
            "ok": sum(r.status == "ok" for r in answer.results),
            "whole": all(engine.store.verify(a) for a in answer.artifacts),
            "done": sum(b["state"] == "done" for b in engine.runs.of(thread)),
        }
        partial = folder / f"{thread}.part"
        partial.write_text(json.dumps(report))
        partial.rename(folder / f"{thread}.report")
        await engine.aclose()
        return 0

    return asyncio.run(go())


class Bench:
    """The services, the front end and what is done to them."""

    def __init__(self, seed: int, disk: bool):
        from services import Services

        self.folder = Path(tempfile.mkdtemp(prefix="anyloom-faults-"))
        self.dice = random.Random(seed)
        self.data = self.folder / "data"
        self.data.mkdir()
        if disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(self.data)], check=True)
        self.mounted = disk
        self.services = Services(self.folder)
        self.services.start("redis")
        self.services.healthy("redis")
        self.services.start("head")
        self._wait("gcs_server", "raylet.*127.0.0.2")
        for number, address in enumerate(("127.0.0.3", "127.0.0.4")):
            self.services.start("worker", number)
            self._wait(f"raylet.*{address}")
        where = {"data": str(self.data), "redis": self.services.redis, "ray": self.services.cluster}
        (self.folder / "where.json").write_text(json.dumps(where))

    def _wait(self, *patterns: str) -> None:
        """Until these processes run: a cheaper question than the services' own checks, and enough to go on."""
        end = time.monotonic() + PATIENCE
        while not all(self.services.processes(p) for p in patterns):
            if time.monotonic() > end:
                raise SystemExit(f"{' or '.join(patterns)} did not start; logs are in {self.folder}.")
            time.sleep(0.5)

    def close(self) -> None:
        """Ends everything."""
        self.services.stop()
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.data)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def round(self, kind: str, name: str) -> dict[str, Any]:
        """One request with one fault; what was counted."""
        log = self.folder / f"{name}.log"
        log.touch()
        (self.folder / f"{name}.json").write_text(json.dumps(plan_of(log, name, self.dice)))
        report, begun = self.folder / f"{name}.report", time.monotonic()
        process, starts = self._begin(name), 1
        while not log.read_text() and process.poll() is None and time.monotonic() - begun < PATIENCE:
            time.sleep(0.05)  # the fault comes while tasks run, not while programs start
        moment = self.dice.uniform(0.0, 3.0)
        time.sleep(moment)
        running = process.poll() is None
        getattr(self, f"_{kind}")(process)
        while time.monotonic() - begun < PATIENCE and not report.exists():
            if process.poll() is not None and not report.exists():
                process, starts = self._begin(name), starts + 1
            time.sleep(0.2)
        process.kill() if not report.exists() else process.wait(60)
        lines = [line.split()[:2] for line in log.read_text().splitlines()]
        ends = Counter(task for word, task in lines if word == "end")
        found = json.loads(report.read_text()) if report.exists() else {"ok": 0, "whole": False, "done": 0}
        row = {
            "kind": kind, "moment": round(moment, 2), "running": running, "starts": starts, "answers": found["done"],
            "ok": found["ok"], "ended": len(ends), "twice": sum(n > 1 for n in ends.values()), "whole": found["whole"],
            "begun": sum(word == "begin" for word, _ in lines), "seconds": round(time.monotonic() - begun, 1),
        }  # fmt: skip
        counts = (row["answers"], row["ok"], row["ended"], row["twice"], row["whole"])
        row["good"] = counts == (1, TASKS, TASKS, 0, True)
        return row

    def _begin(self, thread: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(Path(__file__)), "--front", str(self.folder), thread]
        with (self.folder / f"{thread}.out").open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, env=self.services.environment)

    def _kill(self, pids: list[int], number: int = signal.SIGKILL) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _hosts(self) -> list[int]:
        raylets = self.services.processes("raylet.*127.0.0.[34]")
        return [pid for r in raylets for pid, title in self.services.children(r) if title.startswith(HOSTS)]

    def _front(self, process: Any) -> None:
        process.kill()

    def _host(self, process: Any) -> None:
        hosts = self._hosts()
        self._kill([self.dice.choice(hosts)] if hosts else [])

    def _of_worker(self) -> list[int]:
        return self.services.processes(f"raylet.*{self.dice.choice(['127.0.0.3', '127.0.0.4'])}")

    def _worker(self, process: Any) -> None:
        self._kill(self._of_worker())  # its hosts die with it

    def _redis(self, process: Any) -> None:
        self.services.running["redis", 0].kill()
        self.services.running["redis", 0].wait()
        time.sleep(2)
        self.services.start("redis")

    def _head(self, process: Any) -> None:
        self._kill(self.services.processes("gcs_server") + self.services.processes("raylet.*127.0.0.2"))

    def _frozen(self, process: Any) -> None:
        raylets = self._of_worker()
        frozen = raylets + [pid for r in raylets for pid, _ in self.services.children(r)]
        self._kill(frozen, signal.SIGSTOP)
        time.sleep(20)
        self._kill(frozen, signal.SIGCONT)

    def _disk(self, process: Any) -> None:
        filler = self.data / "filler"
        try:
            with filler.open("wb") as out:
                while True:
                    out.write(b"x" * 4096)
                    out.flush()
        except OSError:
            time.sleep(3)
        filler.unlink(missing_ok=True)


def main() -> int:
    """Runs the rounds and writes the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--front", nargs=2, metavar=("FOLDER", "THREAD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.front:
        return front(Path(options.front[0]), options.front[1])
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"there is no fault '{sorted(unknown)[0]}'; there is {', '.join(KINDS)}")
    if "disk" in kinds and os.geteuid() != 0:
        print("disk: left out, it needs root to mount a small file system")
        kinds.remove("disk")
    rows = []
    bench = Bench(options.seed, "disk" in kinds)
    try:
        for kind in kinds:
            for n in range(options.rounds):
                rows.append(bench.round(kind, f"{kind}-{n}"))
                print(json.dumps(rows[-1]), flush=True)
                if not rows[-1]["good"]:
                    print((bench.folder / f"{kind}-{n}.out").read_text()[-3000:], flush=True)
    finally:
        bench.close()
    text = table(rows, options)
    print(text)
    if options.log:
        with options.log.open("a") as out:
            out.write(text)
    return 0 if rows and all(r["good"] for r in rows) else 1


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The counts by kind of fault, as Markdown."""
    day = datetime.date.today().isoformat()
    command = f"python benchmarks/faults.py --rounds {options.rounds} --kinds {options.kinds} --seed {options.seed}"
    load = os.getloadavg()[0]
    lines = [
        f"\n## {day}: `{command}`\n",
        f"{os.cpu_count()} processors ({platform.machine()}), load {load:.1f}; {TASKS} tasks a request.\n",
        "| fault | requests | one answer | tasks ended | ended twice | not whole | front restarted | seconds, median |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(r["kind"] for r in rows):
        mine = [r for r in rows if r["kind"] == kind]
        seconds = sorted(r["seconds"] for r in mine)[len(mine) // 2]
        counts = [
            len(mine), sum(r["answers"] == 1 for r in mine), sum(r["ended"] for r in mine),
            sum(r["twice"] for r in mine), sum(not r["whole"] for r in mine),
            sum(r["starts"] - 1 for r in mine), seconds,
        ]  # fmt: skip
        lines.append(f"| {kind} | " + " | ".join(str(c) for c in counts) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
