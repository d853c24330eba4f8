"""Intake: how content from outside becomes an artifact. Every door (Python, terminal, page, HTTP) uses it.

    take(store, "cat.png", allow_urls=True)                       # a path of this machine
    take(store, uploaded, "cat.png", allow_urls=False)            # bytes with a name
    take(store, "data:image/png;base64,iVBO…", allow_urls=True, allow_paths=False)
    take(store, "https://example.org/cat.png", allow_urls=True)   # a URL that the user gave

What it is, is decided by its content (`core/media.py`), never by a name or a header; a text under the name of a
picture, sound or video is refused. What cannot be used is an InputError of one sentence, the same at every door.
URLs go through `fetch.py`. Calls block; inside an event loop use `await asyncio.to_thread(take, …)`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import tempfile
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ..core.artifacts import EXTENSIONS, Artifact, ArtifactStore, safe_name
from ..core.errors import InputError
from .fetch import INSTEAD, Fetch, shown

if TYPE_CHECKING:
    from ..core.media import Limits

What = str | bytes | os.PathLike[str]

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_FETCH = Fetch()


def take(
    store: ArtifactStore,
    what: What,
    name: str | None = None,
    *,
    allow_urls: bool,
    allow_paths: bool = True,
    fetch: Fetch = _FETCH,
) -> Artifact:
    """Puts a path, bytes, a `data:` URI or an http(s) URL into the store, checked. InputError says what is wrong.

    A door that strangers reach passes `allow_paths=False`: nobody names files of this machine there.
    """
    if isinstance(what, bytes):
        return _take_bytes(store, what, name or "file")
    if isinstance(what, str):
        if what[:5].lower() == "data:":
            return _take_data(store, what, name)
        if is_url(what):
            if not allow_urls:
                raise InputError(f"'{shown(what)}' is an address, and none are fetched here (offline); {INSTEAD}.")
            data, found = fetch.get(what.strip(), store.limits.file_bytes)
            return _take_bytes(store, data, name or found)
    if not allow_paths:
        raise InputError(f"'{shown(str(what))}' is no data: URI and no http(s) address; nothing else is opened here.")
    return _take_path(store, what, name)


def checked_text(text: str, limits: Limits) -> str:
    """A request's words, without blanks around them; InputError when there are none, or too many."""
    if len(text) > limits.text_characters:
        most = f"{limits.text_characters:,}"
        raise InputError(f"The request has {len(text):,} characters; shorten it, the limit is {most}.")
    if not text.strip():
        raise InputError("The request is empty; say what should be done.")
    return text.strip()


def is_url(text: str) -> bool:
    """Whether this reads as an address (`scheme://…`) and not as a path; of which kind is for `take` to judge."""
    return bool(_SCHEME.match(text))


def take_all(store: ArtifactStore, whats: Iterable[What], *, allow_urls: bool, **how: Any) -> tuple[Artifact, ...]:
    """`take` for each, under names that differ: the second `cat.png` is `cat-2.png`."""
    found: dict[str, Artifact] = {}
    for what in whats:
        artifact = take(store, what, allow_urls=allow_urls, **how)
        name = distinct(artifact.name, found)
        found[name] = replace(artifact, name=name)
    return tuple(found.values())


def distinct(name: str, taken: Container[str]) -> str:
    """The name, or `name-2`, `name-3`, ... where it is taken."""
    path, n, free = Path(name), 1, name
    while free in taken:
        n += 1
        free = f"{path.stem}-{n}{path.suffix}"
    return free


def decoded(text: str, limits: Limits, name: str = "file") -> bytes:
    """The bytes of base64 text; InputError when it is none, or more than a file may have."""
    text = text.strip()
    if len(text) * 3 // 4 > limits.file_bytes + 2:
        raise InputError(f"'{name}' has {len(text) * 0.75e-6:.0f} MB; the limit is {limits.file_bytes / 1e6:.0f} MB.")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as e:
        raise InputError(f"The data of '{name}' are no valid base64; encode the file again.") from e


def _take_path(store: ArtifactStore, path: What, name: str | None) -> Artifact:
    assert not isinstance(path, bytes)
    own = Path(path).name
    try:
        return store.add_file(path, name)
    except InputError as e:
        said = str(e).replace(own, safe_name(own)) if own else str(e)  # markup and control characters stay out of it
        raise InputError("".join(c if c.isprintable() else "?" for c in said)) from e


def _take_bytes(store: ArtifactStore, data: bytes, name: str) -> Artifact:
    """Bytes are looked at as a file: that is what the readers of pictures, sound and video open."""
    name = safe_name(name)
    if len(data) > store.limits.file_bytes:  # before it is written anywhere
        most = store.limits.file_bytes / 1e6
        raise InputError(f"'{name}' has {len(data) / 1e6:.0f} MB; the limit is {most:.0f} MB.")
    with tempfile.TemporaryDirectory(prefix="anyloom-") as folder:
        file = Path(folder) / name
        file.write_bytes(data)
        artifact = store.add_file(file, name)
    if Path(name).suffix:
        return artifact
    return replace(artifact, name=f"{name}{EXTENSIONS.get(artifact.media_type, '')}")


def _take_data(store: ArtifactStore, uri: str, name: str | None) -> Artifact:
    """A `data:` URI (RFC 2397). Its media type serves to name it and for nothing else."""
    head, comma, body = uri[5:].partition(",")
    if not comma:
        raise InputError(f"'{shown(uri)}' is no data: URI; it must be like data:image/png;base64,iVBOR...")
    kind, *rest = (part.strip().lower() for part in head.split(";"))
    name = name or f"file{EXTENSIONS.get(kind, '')}"
    if "base64" in rest:
        return _take_bytes(store, decoded(unquote_to_bytes(body).decode("latin-1"), store.limits, name), name)
    if len(body) > 3 * store.limits.file_bytes:
        raise InputError(f"'{name}' has more than {store.limits.file_bytes / 1e6:.0f} MB, which is the limit.")
    return _take_bytes(store, unquote_to_bytes(body), name)
