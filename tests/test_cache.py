"""The result cache: by content, across restarts and processes, bounded, and never the cause of a failure."""

import os
import sqlite3
import sys
import threading
import types

import pytest
from rig import dispatch, task

from anyloom.core.artifacts import ArtifactStore
from anyloom.graphs.cache import ResultCache, key_of
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool
from anyloom.tools.fakes import Fakes


class Shout(Expert):
    name = "shout"
    tool = Tool("shout", "Shouts.", (Param("text", "text"),), "text")

    def run(self, args, run):
        return [Output.text(args["text"].upper())]


class Louder(Shout):
    card = Card(weights=("file:/new",))


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


def test_it_survives_a_restart(tmp_path, store):
    made = store.add_text("HELLO", "shout.txt")
    first = ResultCache(tmp_path / "results.sqlite")
    first.put("k", "shout", [made], 1.5)
    first.close()
    hit = ResultCache(tmp_path / "results.sqlite").get("k", store)
    assert (hit.artifacts, hit.seconds) == ((made,), 1.5)


def test_the_key_is_expert_weights_content_and_seed():
    base = key_of(Shout, {"text": "a"}, 1)
    assert base == key_of(Shout, {"text": "a"}, 1)
    others = [key_of(Louder, {"text": "a"}, 1), key_of(Shout, {"text": "b"}, 1), key_of(Shout, {"text": "a"}, 2)]
    assert len({base, *others}) == 4


def test_a_plugin_that_was_edited_is_asked_again(tmp_path, monkeypatch):
    file = tmp_path / "their_plugin.py"
    file.write_text("")
    module = types.ModuleType("their_plugin")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "their_plugin", module)
    theirs = type("Theirs", (Shout,), {"__module__": "their_plugin"})
    before = key_of(theirs, {"text": "a"}, 1)
    assert before == key_of(theirs, {"text": "a"}, 1)
    os.utime(file, ns=(1, 1))
    assert key_of(theirs, {"text": "a"}, 1) != before


def test_a_result_whose_files_are_gone_is_none(tmp_path, store):
    made = store.add_text("HELLO", "shout.txt")
    cache = ResultCache(tmp_path / "results.sqlite")
    cache.put("k", "shout", [made], 0.1)
    store.path(made).unlink()
    assert cache.get("k", store) is None
    assert len(cache) == 0


def test_it_keeps_what_was_used_last(tmp_path, store):
    cache = ResultCache(tmp_path / "results.sqlite", limit=10)
    for n in range(10):
        cache.put(f"k{n}", "shout", [store.add_text(str(n))], 0.1)
    assert cache.get("k0", store)
    cache.put("k10", "shout", [store.add_text("10")], 0.1)
    assert len(cache) <= 10
    assert cache.get("k0", store)
    assert cache.get("k1", store) is None


def test_clear_and_mean_seconds(tmp_path, store):
    cache = ResultCache(tmp_path / "results.sqlite")
    cache.put("a", "shout", [], 1.0)
    cache.put("b", "shout", [], 3.0)
    assert cache.seconds() == {"shout": 2.0}
    assert cache.clear() == 2
    assert len(cache) == 0


def test_many_threads_and_two_connections(tmp_path, store):
    caches = [ResultCache(tmp_path / "results.sqlite") for _ in range(2)]
    made = store.add_text("HELLO", "shout.txt")

    def work(n):
        for i in range(10):
            caches[n % 2].put(f"{n}-{i}", "shout", [made], 0.1)
            assert caches[(n + 1) % 2].get(f"{n}-{i}", store)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(caches[0]) == 60


async def test_a_broken_cache_is_no_cache(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "results.sqlite").write_bytes(b"this is no database" * 100)
    results = await dispatch(tmp_path, [task("text-to-speech", 0, text="hi")], Fakes())
    assert results[0].ok


async def test_the_same_content_under_another_name_is_the_same(tmp_path):
    """What counts is what is in the file, and of a text, what it says: typed or read from a file."""
    store = ArtifactStore(tmp_path / "data" / "artifacts")
    fakes = Fakes()
    note = store.add_text("Buy milk.", "note.txt")
    await dispatch(tmp_path, [task("text-to-speech", 0, text="note.txt")], fakes, files=[note])
    results = await dispatch(tmp_path, [task("text-to-speech", 0, text="Buy milk.")], fakes)
    assert results[0].cached
    assert len(fakes.calls) == 1


async def test_it_can_be_switched_off(tmp_path):
    fakes = Fakes()
    for _ in range(2):
        await dispatch(tmp_path, [task("text-to-speech", 0, text="hi")], fakes, result_cache=False)
    assert len(fakes.calls) == 2
    assert not (tmp_path / "data" / "results.sqlite").exists()


def test_the_file_is_in_wal_mode(tmp_path):
    cache = ResultCache(tmp_path / "results.sqlite")
    cache.clear()
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
