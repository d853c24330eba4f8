"""Files of the service: what clients send becomes artifacts, and artifacts get addresses.

    artifact = await files.take(part, "cat.png")      # bytes, a data: URI, an http(s) URL, one of our own addresses
    files.url(artifact, "http://127.0.0.1:8000")      # http://127.0.0.1:8000/v1/artifacts/SHA256/cat.png

An address works for who has the token. Where tokens are used it carries a key of its own as well (an
HMAC over the hash), so that a picture in an answer can be shown by a browser that sends no token.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote, unquote

from ...core.artifacts import Artifact, ArtifactStore, safe_name
from ...core.errors import InputError
from ..intake import take
from .options import ServeOptions

OURS = re.compile(
    r"(?:https?://[^\s<>()\[\]\"']+?)?/v1/artifacts/([0-9a-f]{64})(?:/([^\s<>()\[\]\"'?#]+))?(?:\?key=\w+)?"
)
KEY_LENGTH = 32
THREADS = 8  # slow addresses must not keep the engine's threads busy


class Files:
    """The way in and the addresses, over one store."""

    def __init__(self, store: ArtifactStore, options: ServeOptions, allow_urls: bool = True):
        self.store = store
        self.allow_urls = allow_urls
        self.options = options
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="anyloom-intake")
        secret = options.tokens[0] if options.tokens else secrets.token_hex(16)
        self._secret = hashlib.sha256(b"anyloom artifact key " + secret.encode()).digest()

    async def take(self, what: bytes | str, name: str | None = None) -> Artifact:
        """An artifact out of what a client sent, checked. Never a path. InputError says what is wrong."""
        if isinstance(what, str) and (ours := OURS.fullmatch(what.strip())):
            return await self.known(ours[1], ours[2])

        def work() -> Artifact:
            return take(self.store, what, name, allow_urls=self.allow_urls, allow_paths=False, fetch=self.options.fetch)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def known(self, sha256: str, name: str | None = None) -> Artifact:
        """The artifact of this whole hash. Its hash is what lets somebody have it, so no beginning of one will do."""
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InputError(f"'{sha256[:80]}' is no artifact id: give the 64 hexadecimal digits of its SHA-256.")
        artifact = await asyncio.to_thread(self.store.get, sha256)
        return replace(artifact, name=safe_name(unquote(name))) if name else artifact

    def url(self, artifact: Artifact, base: str) -> str:
        """Its address."""
        key = f"?key={self.key(artifact.sha256)}" if self.options.tokens else ""
        return f"{base.rstrip('/')}/v1/artifacts/{artifact.sha256}/{quote(artifact.name)}{key}"

    def key(self, sha256: str) -> str:
        """What opens one artifact without a token."""
        return hmac.new(self._secret, sha256.encode(), hashlib.sha256).hexdigest()[:KEY_LENGTH]

    def opens(self, path: str, key: str) -> bool:
        """Whether a key opens what is asked for."""
        ours = OURS.fullmatch(path)
        return bool(ours) and hmac.compare_digest(self.key(ours[1]).encode(), key.encode())  # type: ignore[index]

    def close(self) -> None:
        """Ends the threads; one that waits for a slow address is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
