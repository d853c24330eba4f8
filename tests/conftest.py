"""What all tests share: no test reads the user's settings or writes the user's data.

Weights are the exception: they are large, fetched once, and shared between runs of the tests.

`make test` runs files side by side (pytest-xdist), a processor each; `python -m pytest` one after the other.
"""

import os

import pytest

SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ
if SIDE_BY_SIDE:  # before torch is imported; what tests start inherits it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Each takes a minute or more: begun first, so that none is left over when all else is done.
LONG = (
    "test_full_gpus.py", "test_web.py", "test_docker.py", "test_pocket_senses.py", "test_pocket_pictures.py",
    "test_smollm.py", "test_full_hub.py", "test_plugin_kit.py", "test_mmllm_training.py", "test_chat_terminal.py",
    "test_full_experts.py", "test_cli.py", "test_mmllm_pocket.py", "test_main_job.py", "test_eval_commands.py",
)  # fmt: skip
TOGETHER = {"test_ray.py": "ray", "test_docker.py": "ray"}  # one Ray cluster at a time


def pytest_collection_modifyitems(items):
    if SIDE_BY_SIDE:
        order = {name: n for n, name in enumerate(LONG)}
        items.sort(key=lambda item: order.get(item.path.name, len(LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Files side by side, in the order in which they were collected."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return TOGETHER.get(file.rpartition("/")[2], file)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="session")
def own_settings(tmp_path_factory):
    """Takes ANYLOOM_* out of the environment, all but the cache; data go to a temporary folder."""
    before = {k: v for k, v in os.environ.items() if k.startswith("ANYLOOM_")}
    for name in before.keys() - {"ANYLOOM_CACHE"}:
        del os.environ[name]
    os.environ["ANYLOOM_DATA"] = str(tmp_path_factory.mktemp("data"))
    yield
    del os.environ["ANYLOOM_DATA"]
    os.environ.update(before)
