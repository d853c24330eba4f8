"""Artifacts inside a page, as data URIs: pictures shown, sound and video playable, text as text.

shown = Shown(lambda sha256, media_type: store_bytes)
shown(artifact)        # HTML; a sentence for what is too large or gone
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from ...core.artifacts import Artifact, ArtifactStore
from ...core.errors import AnyloomError
from .page import text

MOST_FILE, MOST_PAGE = 4_000_000, 24_000_000  # bytes
MOST_TEXT = 1200
Load = Callable[[Mapping[str, Any]], bytes | None]


def from_store(store: ArtifactStore) -> Load:
    """Loads an artifact's bytes by what a row says of it; None when they are gone."""

    def load(one: Mapping[str, Any]) -> bytes | None:
        try:
            return store.path(Artifact.from_json({**one, "provenance": None})).read_bytes()
        except (AnyloomError, OSError):
            return None

    return load


class Shown:
    """Shows artifacts until the page has grown to MOST_PAGE; what it left out it says."""

    def __init__(self, load: Load):
        self.load = load
        self.size = 0

    def __call__(self, one: Mapping[str, Any]) -> str:
        """One artifact as HTML."""
        data = self.load(one)
        name = text(one["name"])
        if data is None:
            return f"<p class=soft>{name} is no longer stored.</p>"
        if one["modality"] == "text":
            return f"<p>{text(data.decode('utf-8', 'replace')[:MOST_TEXT])}</p>"
        if len(data) > MOST_FILE or self.size + len(data) > MOST_PAGE:
            return f"<p class=soft>{name} ({len(data) / 1e6:.1f} MB) is not shown, to keep this page small.</p>"
        self.size += len(data)
        uri = f"data:{text(one['media_type'])};base64,{base64.b64encode(data).decode()}"
        if one["modality"] == "image":
            return f'<img src="{uri}" alt="{name}">'
        return f'<{one["modality"]} controls preload="metadata" src="{uri}" title="{name}"></{one["modality"]}>'
