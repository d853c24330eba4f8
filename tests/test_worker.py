"""`anyloom worker` without a cluster: what it tells Ray of this machine, and its one-sentence errors."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anyloom.agent.cli import main
from anyloom.agent.ray_start import answering, waiting
from anyloom.agent.worker import Worker
from anyloom.core.errors import InputError
from anyloom.graphs.cluster.messages import VRAM


def option(worker, name):
    return worker.arguments[worker.arguments.index(name) + 1]


def test_a_head_keeps_its_state_in_redis_when_told_to():
    made = Worker.head(6379, 10001, "redis://:secret@keeper:6380/0", host="10.0.0.1", cpus=0.0)
    assert made.environment["RAY_REDIS_ADDRESS"] == "keeper:6380"
    assert option(made, "--redis-password") == "secret"
    assert (option(made, "--node-ip-address"), option(made, "--num-cpus")) == ("10.0.0.1", "0")
    assert not Worker.head(6379, 10001).environment
    with pytest.raises(InputError, match="redis://HOST:6379"):
        Worker.head(6379, 10001, "keeper:6380")


def test_the_memory_of_the_smallest_gpu_is_told(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81920\necho 24576\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert json.loads(option(Worker.joining("head:6379"), "--resources")) == {VRAM: 24576}
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert "--resources" not in Worker.joining("head:6379").arguments


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Say which cluster to join"),
        (["head:6379", "--head"], "Say which cluster to join"),
        (["head"], "'head' is not the address of a head; say HOST:6379."),
        (["head:6379", "--redis", "redis://x"], "Only a head keeps state in Redis"),
        (["head:6379", "--memory", "lots"], "must be a size such as 4GiB"),
    ],
)
def test_a_wrong_command_is_one_sentence(words, said, capsys):
    pytest.importorskip("ray")
    assert main(["worker", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


def test_a_machine_that_is_in_no_cluster_is_unhealthy(capsys):
    pytest.importorskip("ray")
    assert main(["worker", "--check", "127.0.0.1:1"]) == 1
    assert "the head at 127.0.0.1:1 does not answer" in capsys.readouterr().err


def test_a_machine_that_is_not_there_yet_is_waited_for_unless_it_is_lost():
    answers = [RuntimeError("not yet"), RuntimeError("not yet")]

    def ask(name):
        if answers:
            raise answers.pop()
        return f"{name} is there"

    assert waiting(ask, seconds=10, pause=0)("node") == "node is there"
    answers[:] = [RuntimeError("gone")] * 5
    with pytest.raises(RuntimeError, match="gone"):
        waiting(ask, seconds=60, pause=0, lost=lambda: True)("node")
    assert len(answers) == 4


def test_a_head_that_nobody_hears_is_not_running():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        named = {f"127.0.0.1:{port}", "127.0.0.1:1", "nonsense"}
        assert answering(lambda: named)() == {f"127.0.0.1:{port}"}


def test_what_a_failed_start_left_is_ended_before_the_next(tmp_path, monkeypatch):
    left = tmp_path / "left"

    class Falls(Worker):
        def _start(self):
            words = f"sleep 60 & echo $! >> {left}; exit 1"
            return subprocess.Popen(["sh", "-c", words], start_new_session=True)

    class Enough(Exception):
        pass

    told = []

    def say(text):
        told.append(text)
        if len(told) == 2:
            raise Enough

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("anyloom.agent.worker.FIRST_PAUSE", 0.01)
    with pytest.raises(Enough):
        Falls(()).run(say)
    time.sleep(0.1)
    pids = left.read_text().split()
    assert len(pids) == 2
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_part_that_ended_is_seen():
    pytest.importorskip("psutil")
    words = (  # in a process of its own: that of the tests has other children
        "import subprocess, time; from anyloom.agent.ray_start import fallen;"
        "part = subprocess.Popen(['sleep', '60']); print(fallen()); part.kill(); time.sleep(0.3);"
        "print(fallen()); part.wait(); print(fallen())"
    )
    told = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["False", "True", "False"]
