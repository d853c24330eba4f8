"""Artifacts that several front ends share: every file also in Redis, fetched from there when it is not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...core.artifacts import Artifact, ArtifactStore, Provenance, write_atomic
from ...core.errors import InputError
from ...core.media import Limits
from .link import Link

KEPT_SECONDS = 30 * 24 * 3600  # in Redis, from the last time it was wanted; the files of a data folder stay
LARGEST = 64 << 20  # bytes; what is larger is shared by a data folder on a common disk, or not at all


class SharedArtifactStore(ArtifactStore):
    """An ArtifactStore whose files other machines can have too."""

    def __init__(self, root: Path, limits: Limits | None, link: Link):
        super().__init__(root, limits)
        self.link = link

    def get(self, sha256: str) -> Artifact:
        """The artifact with this hash or unique beginning of it; a whole hash is also looked for in Redis."""
        try:
            return super().get(sha256)
        except InputError:
            meta = self.link.client.get(self.link.key("artifact", sha256)) if len(sha256) == 64 else None
            if meta is None:
                raise
            return Artifact.from_json(json.loads(meta))

    def path(self, artifact: Artifact) -> Path:
        """The file with the artifact's bytes, fetched if need be; InputError when nobody holds it any more."""
        if not super().holds(artifact):
            self._fetch(artifact)
        return super().path(artifact)

    def holds(self, artifact: Artifact) -> bool:
        """Whether the bytes are here or on the server, whole."""
        if super().holds(artifact):
            return True
        return bool(self.link.client.strlen(self._bytes_key(artifact.sha256)) == artifact.size)

    def _put(self, data: bytes, modality: Any, media_type: str, name: str, provenance: Provenance | None) -> Artifact:
        artifact = super()._put(data, modality, media_type, name, provenance)
        if len(data) <= LARGEST:
            meta = json.dumps(artifact.to_json(), ensure_ascii=False)
            with self.link.client.pipeline(transaction=True) as pipe:  # name and bytes together, or neither
                pipe.set(self._bytes_key(artifact.sha256), data, ex=KEPT_SECONDS)
                pipe.set(self.link.key("artifact", artifact.sha256), meta, ex=KEPT_SECONDS, nx=True)
                pipe.execute()
        return artifact

    def _fetch(self, artifact: Artifact) -> None:
        data = self.link.client.getex(self._bytes_key(artifact.sha256), ex=KEPT_SECONDS)
        if data is not None and len(data) == artifact.size:
            write_atomic(self._object(artifact.sha256, artifact.media_type), data)

    def _bytes_key(self, digest: str) -> str:
        return self.link.key("bytes", digest)
