"""benchmarks/faults.py where it can be wrong without a cluster: the cable, the plans, the log."""

import argparse
import importlib.util
import json
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from anyloom.controller.plan import Plan

FILE = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("faults_bench", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_cable_that_is_out_lets_nothing_pass_and_then_again(faults):
    if not faults.Cable.possible():
        pytest.skip("network namespaces need root and `ip` (apt-get install iproute2)")
    cable = faults.Cable()
    try:
        with socket.socket() as door:
            door.bind((cable.addresses[0], 0))
            door.listen()
            call = f"import socket; socket.create_connection({door.getsockname()!r}, 1)"

            def passes():
                command = ["ip", "netns", "exec", cable.name, sys.executable, "-S", "-c", call]
                return subprocess.run(command, capture_output=True).returncode == 0

            assert passes()
            cable.plug(False)
            assert not passes()
            cable.plug(True)
            assert any(passes() for _ in range(20))
    finally:
        cable.close()
    assert cable.name not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout


def test_plans_are_valid_and_follow_the_dice(faults, tmp_path):
    one, same, other = (faults.plan_of(tmp_path, "r", random.Random(n)) for n in (1, 1, 2))
    assert one == same != other
    tasks = Plan.parse(one).tasks
    assert len(tasks) == faults.TASKS
    assert all(d < t.id for t in tasks for d in t.dep)
    assert any(t.dep for t in tasks)
    assert {json.loads(t.args["text"])["name"] for t in tasks} == {f"r-{n}" for n in range(faults.TASKS)}


def row(kind, **changed):
    found = {
        "kind": kind, "running": True, "starts": 1, "answers": 1, "ok": 10, "ended": 10, "twice": 0, "whole": True,
        "seconds": 5.0,
    }  # fmt: skip
    return found | changed


def test_the_log_hides_nothing(faults):
    options = argparse.Namespace(rounds=2, kinds="front,disk", seed=1)
    rows = [row("front"), row("front", starts=3, seconds=30.0), row("disk", running=False, twice=1, whole=False)]
    told = faults.table(rows, options)
    assert "| front | 2 | 2 | 2 | 20 | 0 | 0 | 2 | 30, 30 |" in told
    assert "| disk | 1 | 0 | 1 | 10 | 1 | 1 | 0 | 5, 5 |" in told
    assert "--rounds 2 --kinds front,disk --seed 1" in told
