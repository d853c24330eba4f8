"""What all tests share: no test reads the user's settings or writes the user's data.

Weights are the exception: they are large, fetched once, and shared between runs of the tests.
"""

import os

import pytest


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
