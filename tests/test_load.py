"""benchmarks/load.py at a small size: a real service, more who ask than it takes, and none of them lost."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "load.py"
SMALL = ["--requests=27", "--conversations=9", "--warm=0", "--burst=24", "--concurrent=2", "--queue=8", "--json"]


@pytest.fixture(scope="module")
def found():
    options = [] if shutil.which("redis-server") else ["--no-redis"]
    done = subprocess.run([sys.executable, str(FILE), *SMALL, *options], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(600)
def test_every_conversation_gets_its_own_answers_in_its_turn(found):
    steady = found["steady"]
    assert (steady["answered"], steady["wrong"], steady["turned_away"]) == (27, [], 0)
    fewest, most = steady["at_half"]
    assert fewest >= 1  # of 1.5 on average
    assert most - fewest <= 2
    assert len(steady["memory_mb"]) == 5


def test_a_burst_is_served_as_far_as_there_is_room_and_the_others_are_told(found):
    burst = found["burst"]
    assert burst["wrong"] == []
    assert burst["served"] >= 10
    assert burst["turned_away"] >= 1
    assert burst["served"] + burst["turned_away"] == 24
