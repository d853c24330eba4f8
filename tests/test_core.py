"""The ground everything stands on: media checks, provenance in files, the store, settings, plugins."""

import io
import json
import struct
import subprocess
import sys
import wave
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyloom.core.artifacts import ArtifactStore, Provenance, safe_name
from anyloom.core.errors import InputError, SettingsError
from anyloom.core.media import Limits, inspect_file
from anyloom.core.plugins import load_entry_points
from anyloom.core.provenance import embed, extract
from anyloom.core.settings import load_settings, origins

MADE = Provenance("text-to-speech", "piper-joe", ("pypi:x==1/a#sha256=0",), ("ab" * 32,), {"text": "grüße \x00"}, 7)


def png(size=(8, 6), **options):
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG", **options)
    return out.getvalue()


def jpeg():
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (16, 16), "blue").save(out, "JPEG")
    return out.getvalue()


def wav(seconds=0.5, rate=16000):
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(rate)
        w.writeframes(b"\x01\x00" * int(seconds * rate))
    return out.getvalue()


def mp4(frames=8):
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for n in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), n * 20, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "modality", "media_type"),
    [
        ("a.png", png(), "image", "image/png"),
        ("lies.txt", png(), "image", "image/png"),
        ("a.jpg", jpeg(), "image", "image/jpeg"),
        ("a.wav", wav(), "audio", "audio/wav"),
        ("a.mp4", mp4(), "video", "video/mp4"),
        ("a.txt", "Grüße\n".encode(), "text", "text/plain"),
        ("a.md", b"# x", "text", "text/markdown"),
    ],
)
def test_a_file_is_what_its_content_says(tmp_path, name, data, modality, media_type):
    (tmp_path / name).write_bytes(data)
    info = inspect_file(tmp_path / name, Limits())
    assert (info.modality, info.media_type) == (modality, media_type)


def huge_png():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    import zlib

    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png()[33:]


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("a", "b")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (png()[:40], "broken or truncated picture"),
        (b"\x89PNG\r\n\x1a\nrubbish", "broken or truncated picture"),
        (huge_png(), "too many pixels"),
        (b"RIFF\x00\x00\x00\x00WAVEjunk", "broken or truncated sound"),
        (wav()[:30], "broken or truncated sound"),
        (mp4()[:200], "broken or truncated sound"),
        (b"<svg onload='x'></svg>", "SVG drawing"),
        (b"<?xml version='1.0'?><svg/>", "SVG drawing"),
        (zipped(), "ZIP archive"),
        (b"%PDF-1.7", "PDF"),
        (b"\xff\xfe\x00\x01binary\x80", "cepted"),
        (b"caf\xe9", "no kind that is accepted"),
        (b"  \n", "only blanks"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(tmp_path, data, said):
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        inspect_file(tmp_path / "x.bin", Limits())
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_limits_and_missing_files(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(3))
    with pytest.raises(InputError, match="limit is 1 for audio"):
        inspect_file(tmp_path / "a.wav", Limits(audio_seconds=1))
    with pytest.raises(InputError, match="limit is 0 MB"):
        inspect_file(tmp_path / "a.wav", Limits(file_bytes=10))
    with pytest.raises(InputError, match="There is no file"):
        inspect_file(tmp_path / "gone.png", Limits())
    with pytest.raises(InputError, match="is a folder"):
        inspect_file(tmp_path, Limits())


@pytest.mark.parametrize(
    ("data", "kind"), [(png(), "image/png"), (jpeg(), "image/jpeg"), (wav(), "audio/wav"), (mp4(), "video/mp4")]
)
def test_provenance_is_in_the_file_and_the_file_still_opens(tmp_path, data, kind):
    once = embed(data, kind, MADE.to_json())
    twice = embed(once, kind, {**MADE.to_json(), "seed": 8})
    file = tmp_path / "x.bin"
    file.write_bytes(once)
    assert Provenance.from_json(extract(file)) == MADE
    assert inspect_file(file, Limits()).media_type == kind
    file.write_bytes(twice)
    assert extract(file)["seed"] == 8
    assert twice.count(b"piper-joe") == 1
    file.write_bytes(data)
    assert extract(file) is None


def test_the_store_keeps_exports_and_finds(tmp_path):
    store = ArtifactStore(tmp_path / "s")
    made = store.add_bytes(png(), "image/png", "../../etc/pic.png", MADE)
    assert made.name == "pic.png"
    assert store.get(made.sha256[:8]) == made
    assert store.add_bytes(png(), "image/png", "other.png", MADE).sha256 == made.sha256
    first = store.export(made, tmp_path / "out")
    (tmp_path / "out" / "pic.png").write_bytes(b"mine")
    second = store.export(made, tmp_path / "out")
    assert (first.name, second.name) == ("pic.png", "pic-2.png")
    assert (tmp_path / "out" / "pic.png").read_bytes() == b"mine"
    assert store.verify(made)
    with pytest.raises(InputError, match="No artifact"):
        store.get("abcdef12")
    with pytest.raises(InputError, match="no artifact id"):
        store.get("../../x")


FULL_DISK = """
import resource, sys
from pathlib import Path
from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import StorageError
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    ArtifactStore(Path(sys.argv[1])).add_bytes(b"x" * 5000, "audio/mpeg", "a.mp3")
except StorageError as e:
    print(e)
"""


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "s")], capture_output=True, text=True, check=True
    )
    assert "free some space" in run.stdout
    assert not [f for f in (tmp_path / "s").rglob("*") if f.is_file()]


@given(st.text(max_size=200))
def test_a_safe_name_is_a_plain_file_name(name):
    safe = safe_name(name)
    assert safe
    assert "/" not in safe
    assert safe not in (".", "..")
    assert len(safe) <= 120
    assert safe.isprintable()


def test_flags_beat_environment_beats_file_beats_defaults(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('policy = "fastest"\nmemory = "1GiB"\nseed = 3\n[limits]\naudio_seconds = 60\n')
    environ = {"ANYLOOM_CONFIG": str(file), "ANYLOOM_MEMORY": "2GiB", "ANYLOOM_SEED": "4", "HOME": str(tmp_path)}
    s = load_settings({"seed": 5, "policy": None}, environ)
    assert (s.policy, s.memory, s.seed, s.limits.audio_seconds, s.retries) == ("fastest", 2 * 2**30, 5, 60, 2)
    where = origins(s)
    assert where["seed"] == "flag"
    assert where["memory"] == "ANYLOOM_MEMORY"
    assert where["policy"] == str(file)
    assert where["retries"] == "default"


@pytest.mark.parametrize(
    ("flags", "environ", "said"),
    [
        ({"policy": "fastst"}, {}, "flag: 'policy' is 'fastst', and must be one of .* did you mean 'fastest'"),
        ({"polcy": "best"}, {}, "no setting 'polcy', did you mean 'policy'"),
        ({}, {"ANYLOOM_MEMORY": "much"}, "ANYLOOM_MEMORY: 'memory' is 'much', and must be a size such as 4GiB"),
        ({}, {"ANYLOOM_SEED": "-1"}, "whole number"),
        ({}, {"ANYLOOM_OFFLINE": "perhaps"}, "yes or no"),
        ({}, {"ANYLOOM_CONFIG": "gone.toml"}, "there is no such file"),
        ({"device": "gpu"}, {}, "auto, cpu, cuda"),
    ],
)
def test_a_wrong_setting_names_source_key_value_and_cure(flags, environ, said):
    with pytest.raises(SettingsError, match=said):
        load_settings(flags, environ)


def test_a_plugin_that_breaks_on_import_is_reported_and_breaks_nothing(tmp_path):
    (tmp_path / "good_one.py").write_text("thing = 1")
    (tmp_path / "bad_one.py").write_text("raise SystemExit('no licence\\nfound')")
    info = tmp_path / "kit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kit\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[anyloom.test]\ngood = good_one:thing\nbad = bad_one:thing\ngone = nowhere:x\n"
    )
    code = (
        "from anyloom.core.plugins import load_entry_points as l; import json;"
        "r = l('anyloom.test'); print(json.dumps([r.objects, {f.name: str(f) for f in r.failures}]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)}
    )
    objects, failures = json.loads(run.stdout)
    assert objects == {"good": 1}
    assert set(failures) == {"bad", "gone"}
    assert "kit" in failures["bad"]
    assert "no licence found" in failures["bad"]


def test_a_group_without_plugins_is_empty():
    assert load_entry_points("anyloom.nobody").objects == {}
