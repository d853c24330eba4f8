"""Artifact: one piece of content. ArtifactStore: where content lives, addressed by its SHA-256.

    store = ArtifactStore(folder)
    note = store.add_file("note.png")                        # what a user attached
    made = store.add_bytes(wav, "audio/wav", "speech.wav", provenance)
    store.path(made); store.text(note)

A store is a folder: `objects/ab/cdef….png` (the bytes) and beside each a `….json` (name, media
type, provenance). Files are written aside and renamed, so that a kill leaves no half-written one,
and an object is never written twice. Provenance is embedded in PNG, WAV and MP4 files as well
(`core/provenance.py`), so that a file that left the store still says how it was made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import InputError, PluginError, StorageError
from .media import Limits, inspect_file
from .provenance import embed

Modality = Literal["text", "image", "audio", "video"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "audio", "video")

EXTENSIONS = {
    "text/plain": ".txt",
    "text/markdown": ".md",
    "application/json": ".json",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "image/bmp": ".bmp",
    "audio/wav": ".wav",
    "audio/mpeg": ".mp3",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "audio/mp4": ".m4a",
    "audio/webm": ".webm",
    "audio/x-matroska": ".mka",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
}


@dataclass(frozen=True)
class Provenance:
    """How an artifact was made: enough to make it again.

    `inputs` are SHA-256 sums of the artifacts that went in; `params` the other arguments.
    No clock and no path, so that the same work gives the same bytes.
    """

    tool: str
    expert: str
    weights: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Provenance:
        """Inverse of `to_json`."""
        return cls(
            tool=data["tool"],
            expert=data["expert"],
            weights=tuple(data.get("weights", ())),
            inputs=tuple(data.get("inputs", ())),
            params=dict(data.get("params", {})),
            seed=data.get("seed"),
        )


@dataclass(frozen=True)
class Artifact:
    """One piece of content in a store. `name` is for people; `sha256` is its identity."""

    modality: Modality
    media_type: str
    sha256: str
    name: str
    size: int
    provenance: Provenance | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Artifact:
        """Inverse of `to_json`."""
        prov = data.get("provenance")
        return cls(
            modality=data["modality"],
            media_type=data["media_type"],
            sha256=data["sha256"],
            name=data["name"],
            size=data["size"],
            provenance=Provenance.from_json(prov) if prov else None,
        )


class ArtifactStore:
    """Content-addressed files below `root`. Safe for several processes at once."""

    def __init__(self, root: Path, limits: Limits | None = None):
        self.root = Path(root)
        self.limits = limits or Limits()

    def add_file(self, path: str | os.PathLike[str], name: str | None = None) -> Artifact:
        """Copies a user's file in, after checking type and limits (InputError says what is wrong)."""
        source = Path(path)
        info = inspect_file(source, self.limits)
        return self._put(source.read_bytes(), info.modality, info.media_type, name or source.name, None)

    def add_bytes(self, data: bytes, media_type: str, name: str, provenance: Provenance | None = None) -> Artifact:
        """Stores what an expert made; `provenance` is embedded in the file where its format allows."""
        if not data:
            raise PluginError(f"'{name}' is empty, so it was not stored; the expert that made it is broken.")
        modality = media_type.split("/")[0]
        if modality == "application":
            modality = "text"
        if modality not in MODALITIES:
            raise PluginError(f"'{media_type}' is no media type that anyloom stores (text, image, audio, video).")
        if provenance is not None:
            data = embed(data, media_type, provenance.to_json())
        return self._put(data, modality, media_type, name, provenance)

    def add_text(self, text: str, name: str = "text.txt", provenance: Provenance | None = None) -> Artifact:
        """Stores a string as UTF-8."""
        return self._put(text.encode(), "text", "text/plain", name, provenance)

    def get(self, sha256: str) -> Artifact:
        """The artifact with this hash, or with this unique prefix of it (at least 6 characters)."""
        if len(sha256) < 6 or any(c not in "0123456789abcdef" for c in sha256):
            raise InputError(f"'{sha256}' is no artifact id: give at least 6 hexadecimal digits of its SHA-256.")
        found = sorted((self.root / "objects" / sha256[:2]).glob(f"{sha256[2:]}*.json"))
        found = [f for f in found if not f.name.endswith(".data.json")]
        if not found:
            raise InputError(f"No artifact '{sha256}' in the store; `anyloom runs list` shows what was made.")
        if len(found) > 1:
            raise InputError(f"'{sha256}' names {len(found)} artifacts; give more digits.")
        return Artifact.from_json(json.loads(found[0].read_text()))

    def path(self, artifact: Artifact) -> Path:
        """The file with the artifact's bytes; InputError when the store no longer holds it."""
        file = self._object(artifact.sha256, artifact.media_type)
        if not file.exists():
            raise InputError(f"'{artifact.name}' ({artifact.sha256[:12]}) is gone from the store; attach it again.")
        return file

    def text(self, artifact: Artifact) -> str:
        """The content of a text artifact."""
        return self.path(artifact).read_text(encoding="utf-8", errors="replace")

    def holds(self, artifact: Artifact) -> bool:
        """Whether the bytes are there, whole (size and existence; `verify` reads them)."""
        file = self._object(artifact.sha256, artifact.media_type)
        return file.exists() and file.stat().st_size == artifact.size

    def verify(self, artifact: Artifact) -> bool:
        """Whether the bytes still have the artifact's hash."""
        return self.holds(artifact) and hashlib.sha256(self.path(artifact).read_bytes()).hexdigest() == artifact.sha256

    def export(self, artifact: Artifact, folder: Path) -> Path:
        """Copies the file out under its name, adding a number rather than overwriting another file."""
        data = self.path(artifact).read_bytes()
        stem, suffix = Path(safe_name(artifact.name)).stem, self._suffix(artifact.media_type)
        for n in range(1, 10_000):
            target = Path(folder) / (f"{stem}{suffix}" if n == 1 else f"{stem}-{n}{suffix}")
            if not target.exists():
                write_atomic(target, data)
                return target
            if target.read_bytes() == data:
                return target
        raise StorageError(f"'{folder}' holds too many files called '{stem}'; choose another folder.")

    def _put(self, data: bytes, modality: Any, media_type: str, name: str, provenance: Provenance | None) -> Artifact:
        digest = hashlib.sha256(data).hexdigest()
        artifact = Artifact(modality, media_type, digest, safe_name(name), len(data), provenance)
        file = self._object(digest, media_type)
        if not self.holds(artifact):
            write_atomic(file, data)
        meta = file.with_name(digest[2:] + ".json")
        if not meta.exists():
            write_atomic(meta, json.dumps(artifact.to_json(), ensure_ascii=False, sort_keys=True).encode(), sync=False)
        return artifact

    def _object(self, digest: str, media_type: str) -> Path:
        return self.root / "objects" / digest[:2] / (digest[2:] + self._suffix(media_type))

    @staticmethod
    def _suffix(media_type: str) -> str:
        suffix = EXTENSIONS.get(media_type, ".bin")
        return ".data.json" if suffix == ".json" else suffix


def safe_name(name: str) -> str:
    """A file name without folders or control characters, at most 120 characters and 200 bytes."""
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in name if c.isprintable() and c not in '<>:"|?*').strip(" .")
    name = name[-120:].encode()[-200:].decode(errors="ignore").strip(" .")  # file systems count bytes
    return name or "file"


def write_atomic(target: Path, data: bytes, sync: bool = True) -> None:
    """Writes aside and renames; StorageError when the disk is full or the folder cannot be written.

    Without `sync` a power cut may lose the file (never leave half of it).
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
                out.flush()
                if sync:
                    os.fsync(out.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise StorageError(
            f"Cannot write '{target}' ({e.strerror or e}); free some space or choose another folder (--data, --out)."
        ) from e
