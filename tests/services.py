"""The services of docker/compose.yaml as processes of this machine: their own commands, on loopback addresses."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker" / "compose.yaml"
HEAD, WORKERS = "127.0.0.2", ("127.0.0.3", "127.0.0.4")
SMALL = ["--object-memory", "80MB", "--memory", "500MB"]


def free_port(address="127.0.0.1"):
    """A port that nobody listens on."""
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def every_process():
    """(id, parent's id, command line) of all; what `ps` shows of a long command line depends on the terminal."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            args = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # it has just ended
        if args:
            yield int(folder.name), parent, args


class Services:
    """Starts, kills and stops them by name. `folder` is for data and logs.

    `head` and `workers` are the machines' addresses; `before` has words to put before a worker's command, by number.
    """

    def __init__(self, folder, head=HEAD, workers=WORKERS, before=None, **environment):
        self.head, self.workers, self.before = head, workers, before or {}
        self.services = yaml.safe_load(COMPOSE.read_text())["services"]
        self.folder = folder
        self.short = Path(tempfile.mkdtemp(prefix="al-"))  # Ray's sockets want a short path
        self.ports = {"redis": free_port(), "gcs": free_port(head), "client": free_port(head), "api": free_port()}
        self.running = {}
        keep = {k: v for k, v in os.environ.items() if not k.startswith("ANYLOOM_")}
        self.environment = keep | {
            "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "PYTHONPATH": str(ROOT / "tests"),
            "ANYLOOM_DATA": str(folder / "data"), "ANYLOOM_CACHE": str(folder / "cache"), "ANYLOOM_OFFLINE": "yes",
            **environment,
        }  # fmt: skip

    @property
    def redis(self):
        return f"redis://127.0.0.1:{self.ports['redis']}"

    @property
    def cluster(self):
        """For `--ray` on a machine of the cluster."""
        return f"{self.head}:{self.ports['gcs']}"

    def command(self, name, number=0):
        """A service's command with this machine's addresses in place of the names that Docker resolves."""
        words = [str(w) for w in self.services[name]["command"]]
        for there, here in (
            ("redis://redis:6379", self.redis), ("ray://head:10001", f"ray://{self.head}:{self.ports['client']}"),
            ("head:6379", self.cluster), ("0.0.0.0", "127.0.0.1"),
            ("/run/secrets/token", str(self.folder / "token.txt")),
        ):  # fmt: skip
            words = [w.replace(there, here) for w in words]
        if name == "redis":
            return [*words, "--port", str(self.ports["redis"]), "--bind", "127.0.0.1", "--dir", str(self.short)]
        if name == "head":
            ports = ["--port", str(self.ports["gcs"]), "--client-port", str(self.ports["client"])]
            words += ["--host", self.head, *ports, "--folder", str(self.short / "ray"), *SMALL]
        if name == "worker":
            words += ["--host", self.workers[number], "--cpus", "1", *SMALL]
            return [*self.before.get(number, ()), sys.executable, "-m", "anyloom.agent", *words]
        if name == "api":
            words += ["--port", str(self.ports["api"])]
        return [sys.executable, "-m", "anyloom.agent", *words]

    def health(self, name):
        """The exit code of a service's health check."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        words = [w.replace("head:6379", self.cluster).replace(":8000/", f":{self.ports['api']}/") for w in words]
        if words[0] == "anyloom":
            where = [] if name == "worker" else [self.cluster]
            host = self.workers[0] if name == "worker" else self.head
            words = [sys.executable, "-m", "anyloom.agent", *words[1:], *where, "--host", host]
        elif words[0] == "redis-cli":
            words[1:1] = ["-p", str(self.ports["redis"])]
        words[0] = sys.executable if words[0] == "python" else words[0]
        return subprocess.run(words, capture_output=True, env=self.environment, timeout=120).returncode

    def start(self, name, number=0):
        """One process; its output goes to a file."""
        with (self.folder / f"{name}-{number}.log").open("ab") as log:
            self.running[name, number] = subprocess.Popen(
                self.command(name, number), env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        return self.running[name, number]

    def healthy(self, name, seconds=240.0):
        """Waits until a service's own check passes."""
        end = time.monotonic() + seconds
        while self.health(name) != 0:
            log = (self.folder / f"{name}-0.log").read_text(errors="replace")[-2000:]
            assert self.running[name, 0].poll() is None, f"{name} ended: {log}"
            assert time.monotonic() < end, f"{name} is not healthy after {seconds} s: {log}"
            time.sleep(0.5)

    def log(self, name, number=0):
        return (self.folder / f"{name}-{number}.log").read_text(errors="replace")

    def processes(self, pattern):
        """Ids of Ray's processes of this cluster whose command line has the pattern."""
        mine = [(p, a) for p, _, a in every_process() if str(self.short) in a or self.cluster in a]
        return [pid for pid, args in mine if re.search(pattern, args)]

    def children(self, parent):
        """Ids and command lines of a process's children."""
        return [(pid, args) for pid, above, args in every_process() if above == parent]

    def stop(self):
        """All of them, as Docker would, and then by force what is left."""
        for process in reversed(list(self.running.values())):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        until = time.monotonic() + 30  # Ray's agents look only now and then whether their node is still there
        while (left := self.processes(".")) and time.monotonic() < until:
            time.sleep(0.5)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self.short, ignore_errors=True)
        return left
