"""A Ray cluster of the tests' own, on loopback addresses: a head that runs nothing, and two machines."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MEMORY = {"object_store_memory": 80_000_000, "memory": 500_000_000}
ENVIRONMENT = {
    "PYTHONPATH": str(HERE),
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_health_check_period_ms": "1000",  # a lost machine is noticed after five of these; Ray's own are 3 s
}


class Machines:
    """The cluster; `add` and `remove` machines. `address` is for `--ray`."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        from anyloom.agent.ray_start import patient

        patient()
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.2", "include_dashboard": False, **MEMORY}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self._next = 3

    def add(self, cpus=1, **options):
        """One more machine."""
        self._next += 1
        address = f"127.0.0.{self._next}"
        return self._cluster.add_node(num_cpus=cpus, node_ip_address=address, **{**MEMORY, **options})

    def remove(self, machine):
        """A machine that loses its power."""
        self._cluster.remove_node(machine, allow_graceful=False)

    def stop(self):
        """All of it."""
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def machines():
    """A cluster with two machines, for the tests of a file."""
    pytest.importorskip("ray")
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    cluster = Machines()
    try:
        cluster.add()
        cluster.add()
        yield cluster
    finally:
        cluster.stop()
        os.environ.clear()
        os.environ.update(before)


def processes(text):
    """The ids of processes whose command line has the text."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if text in line and "ps -eo" not in line]


if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))
