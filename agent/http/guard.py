"""Guard: what every HTTP request passes before anything else looks at it. A plain ASGI layer.

Who asks (token, or this machine alone), from where (no foreign web page), how often, and how much is sent:
the size of a body is counted while it is read, whatever its header says.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .errors import Refused
from .files import Files
from .metrics import Metrics
from .options import ServeOptions, is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/health", "/health/live", "/health/ready", "/docs", "/openapi.json")
COSTLY = ("/v1/chat/completions", "/v1/requests", "/v1/files", "/hugginggpt", "/tasks", "/results")
CLIENTS = 10_000  # how many are remembered for the rate limit
FORM_EXTRA = 2**20
LINGER = 5.0  # seconds
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class Guard:
    """Wraps an ASGI app."""

    def __init__(self, app: Any, options: ServeOptions, files: Files, metrics: Metrics):
        self.app = app
        self.options = options
        self.files = files
        self.metrics = metrics
        self.rate = Rate(options.rate)
        self._digests = [_digest(t) for t in options.tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        out = Outgoing(send)
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        try:
            self._admit(scope, headers)
            await self.app(scope, self._counted(receive, headers, out), out)
        except Refused as e:
            out.refused = out.refused or e
        except Exception as e:  # of any kind: a framework wraps what `receive` raises in errors of its own
            if out.refused is None or not _comes_of(e, out.refused):
                raise
        finally:
            if out.refused is not None and not out.started:
                await _answer(out, receive)
            self.metrics.http(scope["method"], getattr(scope.get("route"), "path", "none"), out.status)

    def _admit(self, scope: Scope, headers: MutableMapping[str, str]) -> None:
        """Refused, in one sentence, unless the request may go on."""
        path = scope["path"]
        if scope["method"] == "OPTIONS" and self.options.cors:
            return  # a browser asks whether it may ask; carries nothing
        client = scope["client"][0] if scope.get("client") else ""
        if not self.options.tokens:
            self._of_this_machine(headers)
        elif path not in OPEN:
            client = f"{self._token(scope, headers)} {client}"
        if scope["method"] == "POST" and path in COSTLY:
            wait = self.rate.take(client)
            if wait:
                self._refuse("rate", 429, f"More than {self.options.rate} requests a minute; wait {wait} s.", wait)
        limit = self._limit(headers)
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            self._too_big(limit)

    def _of_this_machine(self, headers: MutableMapping[str, str]) -> None:
        """Without a token a web page must not reach us, neither across origins nor by a name that points here."""
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if not is_loopback(host):
            self._refuse("origin", 403, f"'{host[:80]}' is no name of this machine; a token is needed for others.")
        origin = headers.get("origin")
        if origin and origin not in self.options.cors and urlsplit(origin).netloc != headers.get("host"):
            self._refuse("origin", 403, f"The web page '{origin[:80]}' may not ask here; allow it with --cors.")

    def _token(self, scope: Scope, headers: MutableMapping[str, str]) -> int:
        """Which token was given; all are compared, each in constant time."""
        kind, _, given = headers.get("authorization", "").partition(" ")
        digest = _digest(given.strip()) if kind.lower() == "bearer" else b""
        found = [n for n, known in enumerate(self._digests) if hmac.compare_digest(known, digest)]
        if found:
            return found[0]
        if scope["method"] in ("GET", "HEAD"):
            key = parse_qs(scope["query_string"].decode("latin-1")).get("key", [""])[0]
            if key and self.files.opens(scope["path"], key):
                return -1
        given_one = "is wrong" if headers.get("authorization") else "is missing"
        return self._refuse("token", 401, f"The token {given_one}; send it as 'Authorization: Bearer TOKEN'.")

    def _limit(self, headers: MutableMapping[str, str]) -> int:
        form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        return self.files.store.limits.file_bytes + FORM_EXTRA if form else self.options.max_json

    def _counted(self, receive: Receive, headers: MutableMapping[str, str], out: Outgoing) -> Receive:
        """`receive`, until more was sent than is allowed."""
        limit = self._limit(headers)
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                try:
                    self._too_big(limit)
                except Refused as e:
                    out.refused = e  # the app may take this for a body that is no JSON, and say so
                    raise
            return message

        return counted

    def _too_big(self, limit: int) -> None:
        self._refuse("size", 413, f"The body has more than {limit / 1e6:.0f} MB, which is the limit.")

    def _refuse(self, reason: str, status: int, message: str, retry: int | None = None) -> Any:
        self.metrics.refused(reason)
        raise Refused(status, message, retry=retry)


class Rate:
    """A bucket a client: as many as a minute's worth at once, then one at a time as they come back."""

    def __init__(self, a_minute: int):
        self.a_minute = a_minute
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> int:
        """0 when it may go on, else the whole seconds to wait."""
        if not self.a_minute:
            return 0
        now = time.monotonic()
        left, at = self._buckets.pop(client, (float(self.a_minute), now))
        left = min(float(self.a_minute), left + (now - at) * self.a_minute / 60)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)  # at the end: the oldest come first
        while len(self._buckets) > CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        return 0 if allowed else max(1, int((1 - left) * 60 / self.a_minute + 0.999))


def _comes_of(error: BaseException | None, cause: BaseException) -> bool:
    """Whether an error is another one, was raised from it or while it was handled, or is a group that holds it."""
    if error is None or error is cause:
        return error is cause
    inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return any(_comes_of(e, cause) for e in (error.__cause__, error.__context__, *inside))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Outgoing:
    """`send`, with headers for safety; silent once the request was refused, as the refusal is answered instead."""

    def __init__(self, send: Send):
        self.send = send
        self.refused: Refused | None = None
        self.started = False
        self.status = 500

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """Passes a message on."""
        if self.refused is not None and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", [])}
            extra = [h for h in HEADERS if h[0] not in given]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await self.send(message)


async def _answer(out: Outgoing, receive: Receive) -> None:
    """The refusal itself, without the app.

    What is still being sent is read and thrown away for a while: a connection that is closed with data
    on their way is reset, and the client would never read why.
    """
    refused, out.refused = out.refused, None
    assert refused is not None
    body = json.dumps(refused.body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    raw = [(k.lower().encode(), v.encode()) for k, v in (headers | refused.headers).items()]
    await out({"type": "http.response.start", "status": refused.status, "headers": raw})
    await out({"type": "http.response.body", "body": body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body"):
                pass
    await out({"type": "http.response.body", "body": b""})
