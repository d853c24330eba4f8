"""Faults: requests of ten tasks while something is killed, cut off or filled at a random moment.

    python benchmarks/faults.py [--rounds 20] [--kinds front,host,worker,redis,head,cut,disk] [--seed 1] [--log FILE]

Redis, a Ray head and two workers are the services of docker/compose.yaml as processes of this machine. The front end
is a process that is started again, with `resume`, whenever it ended without an answer. After each round it is counted:
one answer, ten tasks ok, how often each task came to its end on a worker (once), artifacts that are whole. The next
round begins when all machines are back. The log is appended to FILE (docs/reliability.md is such a log). Exit code 1
when a count is wrong.

- front, host (an expert's process), worker (a machine's Ray), redis, head: kill -9; redis is away for 2 s, the others
  come back as fast as they can.
- cut: a cluster of its own, whose second worker is in a network namespace at the end of a cable that is out for 20 s.
  Where namespaces are not allowed (they need root and `ip`), `frozen` takes its place: a worker's processes are
  stopped for 20 s, which looks the same to the others, and only to them.
- disk: the front end's data folder, a small file system of its own, is full for 3 s; it needs root.

redis-server has to be installed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import platform
import random
import re
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
KINDS = ("front", "host", "worker", "redis", "head", "cut", "frozen", "disk")
USUAL = ",".join(k for k in KINDS if k != "frozen")
TASKS = 10
HOSTS = ("ray::host|", "ray::Host")  # what Ray calls the processes of experts, at rest and at work
OUTAGE = 20.0  # seconds that a cable is out
PATIENCE = 420.0  # seconds for a round, and for the machines to be there


def plan_of(log: Path, round_: str, dice: random.Random) -> list[dict[str, Any]]:
    """Ten steps on three experts, each reading from up to two before it."""
    plan = []
    for n in range(TASKS):
        todo = {"log": str(log), "name": f"{round_}-{n}", "seconds": round(dice.uniform(0.2, 0.8), 2)}
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


class Cable:
    """A network namespace for one machine, and the cable that connects it to this one."""

    here, there = "10.213.7.1", "10.213.7.2"

    def __init__(self) -> None:
        self.name = f"anyloom{os.getpid()}"
        self._end, far = f"al{os.getpid()}", "eth0"
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self._end, "type", "veth", "peer", "name", far, "netns", self.name)
        self._ip("addr", "add", f"{self.here}/24", "dev", self._end)
        self._ip("link", "set", self._end, "up")
        for words in (f"addr add {self.there}/24 dev {far}", f"link set {far} up", "link set lo up"):
            self._ip("-n", self.name, *words.split())
        # The machines on this side have addresses of their own, which stay when the cable is out.
        self.addresses = ("10.213.8.2", "10.213.8.3")
        for address in self.addresses:
            self._ip("addr", "add", f"{address}/32", "dev", "lo")
        self._ip("-n", self.name, "route", "add", "10.213.8.0/24", "via", self.here)

    @staticmethod
    def possible() -> bool:
        """Whether this process may make one."""
        tried = f"anyloom{os.getpid()}-try"
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return False
        made = subprocess.run(["ip", "netns", "add", tried], capture_output=True).returncode == 0
        subprocess.run(["ip", "netns", "del", tried], capture_output=True)
        return made

    def plug(self, on: bool) -> None:
        """In, or out: nothing passes, and neither side is told."""
        self._ip("link", "set", self._end, "up" if on else "down")

    def close(self) -> None:
        """Takes it all away."""
        for address in self.addresses:
            subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        subprocess.run(["ip", "link", "del", self._end], capture_output=True)

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)


class Bench:
    """The services, the front end and what is done to them. `cable`: the second worker is at its end."""

    def __init__(self, seed: int, disk: bool, cable: Cable | None, patience: float):
        from services import HEAD, WORKERS, Services

        self.cable, self.patience = cable, patience
        self.folder = Path(tempfile.mkdtemp(prefix="anyloom-faults-"))
        self.dice = random.Random(seed)
        self.data = self.folder / "data"
        self.data.mkdir()
        if disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(self.data)], check=True)
        self.mounted = disk
        self.head, self.workers = HEAD, list(WORKERS)
        before = {}
        if cable is not None:
            self.head, self.workers = cable.addresses[0], [cable.addresses[1], cable.there]
            before = {1: ["ip", "netns", "exec", cable.name]}
        self.services = Services(self.folder, self.head, self.workers, before)

    def start(self) -> None:
        """Redis, the head, the workers."""
        self.services.start("redis")
        self.services.healthy("redis")
        self.services.start("head")
        self._wait(self.head)
        for number in range(len(self.workers)):
            self.services.start("worker", number)
            self._wait(self.workers[number])
        where = {"data": str(self.data), "redis": self.services.redis, "ray": self.services.cluster}
        (self.folder / "where.json").write_text(json.dumps(where))

    def whole(self) -> None:
        """Waits until all machines are there."""
        for address in (self.head, *self.workers):
            self._wait(address)

    def _wait(self, address: str) -> None:
        """Until a machine runs and its cluster knows it."""
        from anyloom.agent.worker import part_of

        end = time.monotonic() + self.patience
        while not self._raylets(address) or part_of(self.services.cluster, address):
            if time.monotonic() > end:
                name = ("head", 0) if address == self.head else ("worker", self.workers.index(address))
                said = self.services.log(*name)[-1000:]
                raise SystemExit(f"The machine {address} did not come up in {self.patience:.0f} s; it said: {said}")
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
        while not log.read_text() and process.poll() is None and time.monotonic() - begun < self.patience:
            time.sleep(0.05)  # the fault comes while tasks run, not while programs start
        moment = self.dice.uniform(0.0, 2.0)
        time.sleep(moment)
        running = process.poll() is None
        getattr(self, f"_{kind}")(process)
        while time.monotonic() - begun < self.patience and not report.exists():
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

    def _raylets(self, address: str) -> list[int]:
        """A machine's Ray; not that of others, whose command lines name the head's address too."""
        return self.services.processes(f"raylet/raylet .*--node_ip_address={re.escape(address)} ")

    def _hosts(self) -> list[int]:
        raylets = [pid for address in self.workers for pid in self._raylets(address)]
        return [pid for r in raylets for pid, title in self.services.children(r) if title.startswith(HOSTS)]

    def _front(self, process: Any) -> None:
        process.kill()

    def _host(self, process: Any) -> None:
        hosts = self._hosts()
        self._kill([self.dice.choice(hosts)] if hosts else [])

    def _of_worker(self) -> list[int]:
        return self._raylets(self.dice.choice(self.workers))

    def _worker(self, process: Any) -> None:
        self._kill(self._of_worker())  # its hosts die with it

    def _redis(self, process: Any) -> None:
        self.services.running["redis", 0].kill()
        self.services.running["redis", 0].wait()
        time.sleep(2)
        self.services.start("redis")

    def _head(self, process: Any) -> None:
        self._kill(self.services.processes("gcs/gcs_server ") + self._raylets(self.head))

    def _frozen(self, process: Any) -> None:
        raylets = self._of_worker()
        frozen = raylets + [pid for r in raylets for pid, _ in self.services.children(r)]
        self._kill(frozen, signal.SIGSTOP)
        time.sleep(OUTAGE)
        self._kill(frozen, signal.SIGCONT)

    def _cut(self, process: Any) -> None:
        assert self.cable is not None
        self.cable.plug(False)
        try:
            time.sleep(OUTAGE)
        finally:
            self.cable.plug(True)

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
    parser.add_argument("--kinds", default=USUAL)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for a round")
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
    if "cut" in kinds and not Cable.possible():
        print("cut: no network namespace can be made here; frozen takes its place")
        kinds[kinds.index("cut")] = "frozen"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Told to end."))
    signal.signal(signal.SIGINT, lambda *_: sys.exit("Told to end."))  # a shell starts what it puts behind it deaf
    rows: list[dict[str, Any]] = []
    try:
        for cut in (False, True):
            if mine := [k for k in kinds if (k == "cut") is cut]:
                rounds(mine, options, rows)
    finally:
        if rows and options.log:
            with options.log.open("a") as out:
                out.write(table(rows, options))
    print(table(rows, options))
    return 0 if all(r["good"] for r in rows) else 1


def rounds(kinds: list[str], options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """On one cluster, each kind in turn; the rows grow as they are counted."""
    begun = time.monotonic()
    with contextlib.ExitStack() as ending:
        cable = Cable() if "cut" in kinds else None
        if cable is not None:
            ending.callback(cable.close)
        bench = Bench(options.seed, "disk" in kinds, cable, options.patience)
        ending.callback(bench.close)
        bench.start()
        print(f"the cluster is there after {time.monotonic() - begun:.0f} s", flush=True)
        for n in range(options.rounds):
            for kind in kinds:
                bench.whole()
                rows.append(bench.round(kind, f"round-{kind}-{n}"))
                print(json.dumps(rows[-1]), flush=True)
                if not rows[-1]["good"]:
                    print((bench.folder / f"round-{kind}-{n}.out").read_text()[-3000:], flush=True)


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """The counts by kind of fault, as Markdown."""
    day = datetime.date.today().isoformat()
    command = f"python benchmarks/faults.py --rounds {options.rounds} --kinds {options.kinds} --seed {options.seed}"
    load = os.getloadavg()[0]
    lines = [
        f"\n## {day}: `{command}`\n",
        f"{os.cpu_count()} processors ({platform.machine()}), load {load:.1f}; {TASKS} tasks a request. `struck`: the "
        "request was still running when the fault came.\n",
        "| fault | requests | struck | one answer | tasks ended | ended twice | not whole | front restarted "
        "| seconds, median and longest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in (k for k in KINDS if any(r["kind"] == k for r in rows)):
        mine = [r for r in rows if r["kind"] == kind]
        seconds = sorted(r["seconds"] for r in mine)
        counts = [
            len(mine), sum(r["running"] for r in mine), sum(r["answers"] == 1 for r in mine),
            sum(r["ended"] for r in mine), sum(r["twice"] for r in mine), sum(not r["whole"] for r in mine),
            sum(r["starts"] - 1 for r in mine), f"{seconds[len(mine) // 2]:.0f}, {seconds[-1]:.0f}",
        ]  # fmt: skip
        lines.append(f"| {kind} | " + " | ".join(str(c) for c in counts) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
