"""The store: content by its hash, found by a prefix, exported under its name, whole or not at all."""

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anyloom.core.artifacts import Artifact, ArtifactStore, Provenance, safe_name, write_atomic
from anyloom.core.errors import InputError, PluginError, StorageError

SOUND = b"ID3\x04" + bytes(50)


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "store")


def files(folder):
    return [f for f in folder.rglob("*") if f.is_file()]


def test_text_goes_in_and_comes_out_once(store):
    note = store.add_text("Grüße\n", "note.txt")
    assert store.text(note) == "Grüße\n"
    assert store.add_text("Grüße\n", "another.txt").sha256 == note.sha256
    assert len(files(store.root)) == 2
    assert Artifact.from_json(note.to_json()) == note


def test_a_users_file_is_checked_on_its_way_in(store, tmp_path):
    (tmp_path / "liar.png").write_bytes(b"%PDF-1.7")
    with pytest.raises(InputError, match=r"'liar\.png' is a PDF"):
        store.add_file(tmp_path / "liar.png")
    (tmp_path / "liar.png").write_text("plain")
    with pytest.raises(InputError, match=r"'liar\.png' holds text, whatever its name says; rename it to \.txt"):
        store.add_file(tmp_path / "liar.png")
    (tmp_path / "notes.txt").write_text("plain")
    added = store.add_file(tmp_path / "notes.txt")
    assert (added.modality, added.media_type, added.name) == ("text", "text/plain", "notes.txt")


def test_prefixes(store):
    one = store.add_bytes(SOUND, "audio/mpeg", "a.mp3")
    assert store.get(one.sha256) == store.get(one.sha256[:6]) == one
    for wrong in (one.sha256[:5], "", "zzzzzz", one.sha256.upper(), "../../../etc"):
        with pytest.raises(InputError, match="no artifact id"):
            store.get(wrong)
    twin = store.root / "objects" / one.sha256[:2] / (one.sha256[2:-1] + "x.json")
    twin.write_text("{}")
    with pytest.raises(InputError, match="names 2 artifacts; give more digits"):
        store.get(one.sha256[:10])


def test_json_and_its_description_do_not_overwrite_each_other(store):
    made = store.add_bytes(b'{"a": 1}', "application/json", "a.json", Provenance("t", "e"))
    assert store.text(made) == '{"a": 1}'
    assert store.get(made.sha256) == made
    assert store.verify(made)


def test_damage_and_loss_are_found(store):
    made = store.add_bytes(SOUND, "audio/mpeg", "a.mp3")
    store.path(made).write_bytes(SOUND[:-1] + b"x")
    assert store.holds(made)
    assert not store.verify(made)
    store.path(made).unlink()
    assert not store.holds(made)
    with pytest.raises(InputError, match="is gone from the store; attach it again"):
        store.path(made)
    assert store.add_bytes(SOUND, "audio/mpeg", "a.mp3") == made
    assert store.verify(made)


def test_export_takes_another_name_rather_than_anothers_place(store, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.mp3").write_text("mine")
    first = store.add_bytes(SOUND, "audio/mpeg", "a.mp3")
    second = store.add_bytes(SOUND + b"x", "audio/mpeg", "a.mp3")
    assert [store.export(a, out).name for a in (first, second, first)] == ["a-2.mp3", "a-3.mp3", "a-2.mp3"]
    assert (out / "a.mp3").read_text() == "mine"


def test_a_long_name_in_a_wide_script_can_be_exported(store, tmp_path):
    made = store.add_bytes(SOUND, "audio/mpeg", "漢" * 200 + ".mp3")
    assert store.export(made, tmp_path / "out").read_bytes() == SOUND


@pytest.mark.parametrize(("data", "media_type"), [(b"", "image/png"), (b"x", "chemical/pdb")])
def test_what_cannot_be_stored(store, data, media_type):
    with pytest.raises(PluginError):  # it is the expert that is broken, not the disk
        store.add_bytes(data, media_type, "x")
    assert files(store.root) == []


FULL = """
import resource, signal, sys
from pathlib import Path
from anyloom.core.artifacts import ArtifactStore, write_atomic
from anyloom.core.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = ArtifactStore(Path(sys.argv[1]) / "store")
small = store.add_bytes(b"x" * 500, "audio/mpeg", "small.mp3")
kept = Path(sys.argv[1]) / "kept"
kept.write_text("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
for work in (
    lambda: store.add_bytes(b"y" * 5000, "audio/mpeg", "big.mp3"),
    lambda: store.export(small, Path(sys.argv[1]) / "out"),
    lambda: write_atomic(kept, b"z" * 5000),
):
    try:
        work()
    except StorageError as e:
        print(e)
"""


def test_a_full_disk_is_a_sentence_and_leaves_all_as_it_was(tmp_path):
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    assert all("Cannot write" in line and "free some space" in line for line in lines)
    assert (tmp_path / "kept").read_text() == "before"
    assert not files(tmp_path / "out")
    assert len(files(tmp_path / "store")) == 2
    assert not list(tmp_path.rglob(".part-*"))


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(StorageError, match="Cannot write"):
        ArtifactStore(tmp_path / "store").add_text("x")
    with pytest.raises(StorageError):
        write_atomic(tmp_path / "store" / "x", b"x")


@given(st.text(max_size=200))
@example("漢" * 120)
@example("x" + "." * 119 + "a")
def test_a_safe_name_can_be_written_below_a_folder_and_stays_there(name):
    from pathlib import PurePath

    safe = safe_name(name)
    assert PurePath("folder", safe).parent == PurePath("folder")
    assert safe not in ("", ".", "..")
    assert not safe.startswith(".")
    assert len(safe.encode()) <= 200


def test_provenance_as_json_and_back():
    provenance = Provenance("tool", "expert", ("w",), ("a" * 64,), {"n": 1}, 3)
    assert Provenance.from_json(provenance.to_json()) == provenance
    assert Provenance.from_json({"tool": "t", "expert": "e"}) == Provenance("t", "e")
