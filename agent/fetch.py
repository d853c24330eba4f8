"""Fetch: what is behind an http(s) URL that the user gave, and never what is behind the firewall.

    data, name = Fetch().get("https://example.org/cat.png", limit=200_000_000)

The host is resolved once, every address it has must be public, and the connection goes to exactly
such an address (a name that changes its mind between check and use gains nothing). Redirects are
followed a few times and checked in the same way. Size and time are bounded while reading. Proxies
of the environment are not used: behind one, the check of the address would mean nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from ..core.errors import InputError

SECONDS = 60.0
REDIRECTS = 5
CHUNK = 1 << 16
INSTEAD = "download it yourself and give the file"
_MOVED = (301, 302, 303, 307, 308)
# Prefixes that carry an IPv4 address inside, or lead elsewhere: 6to4, Teredo, NAT64, IPv4-compatible, site-local.
_DETOURS = tuple(
    ipaddress.ip_network(n)
    for n in ("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10", "192.88.99.0/24")
)

Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


def is_public(address: str) -> bool:
    """Whether this is an ordinary address of the internet, and none that leads back into a network of ours."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.ipv4_mapped is not None or ip.scope_id):
        return False
    if any(ip in net for net in _DETOURS if net.version == ip.version):
        return False
    bad = ip.is_private or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved
    return ip.is_global and not bad


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, in the system's order."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(address: str, port: int, timeout: float) -> socket.socket:
    """A connection to a checked address."""
    return socket.create_connection((address, port), timeout=timeout)


@dataclass(frozen=True)
class Fetch:
    """Fetches URLs. `resolve` and `connect` are the ways to the network; tests give others."""

    seconds: float = SECONDS
    redirects: int = REDIRECTS
    resolve: Resolve = resolve
    connect: Connect = connect

    def get(self, url: str, limit: int) -> tuple[bytes, str]:
        """The content (at most `limit` bytes) and the name at the end of the URL. InputError in one sentence."""
        end = time.monotonic() + self.seconds
        here = url
        for _ in range(self.redirects + 1):
            with self._open(here, end) as answer:
                if answer.status in _MOVED and (target := answer.getheader("Location")):
                    here = urljoin(here, target)
                    continue
                if answer.status != 200:
                    raise InputError(
                        f"'{shown(here)}' answered {answer.status} {_plain(answer.reason)}; check the address."
                    )
                return self._read(answer, here, limit, end), name_in(here)
        raise InputError(f"'{shown(url)}' leads through more than {self.redirects} redirects; {INSTEAD}.")

    @contextlib.contextmanager
    def _open(self, url: str, end: float) -> Iterator[http.client.HTTPResponse]:
        """The answer's head. At the end of the time the connection is cut, whatever the other side sends."""
        scheme, host, port, target = split(url)
        link = _Link(host, port, scheme == "https", self._reach(url, host, port, end))
        cut = threading.Timer(max(0.0, end - time.monotonic()), link.cut)
        cut.daemon = True
        cut.start()
        try:
            link.request("GET", target, headers={
                "User-Agent": "anyloom", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close",
            })  # fmt: skip
            yield link.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise self._failed(url, e, end) from e
        finally:
            cut.cancel()
            link.close()

    def _reach(self, url: str, host: str, port: int, end: float) -> socket.socket:
        """A connection to the first address that answers, once all of them were found public."""
        addresses = self._resolved(url, host, port, end)
        for address in addresses:
            if not is_public(address):
                raise InputError(
                    f"'{shown(url)}' leads to {address}, which is no public address; only those are fetched: {INSTEAD}."
                )
        fault: OSError = OSError("no address")
        for address in addresses:
            try:
                return self.connect(address, port, max(0.1, min(10.0, end - time.monotonic())))
            except OSError as e:
                fault = e
        raise self._failed(url, fault, end)

    def _resolved(self, url: str, host: str, port: int, end: float) -> Sequence[str]:
        """The host's addresses; the system's resolver knows no time limit, so it is asked in a thread."""
        found: list[str] = []
        faults: list[Exception] = []

        def ask() -> None:
            try:
                found.extend(self.resolve(host, port))
            except (OSError, UnicodeError, ValueError) as e:
                faults.append(e)

        thread = threading.Thread(target=ask, daemon=True, name="anyloom-resolve")
        thread.start()
        thread.join(max(0.0, end - time.monotonic()))
        if not found:
            raise InputError(f"The host '{shown(host)}' cannot be found; check the address '{shown(url)}'.")
        return found

    def _read(self, answer: http.client.HTTPResponse, url: str, limit: int, end: float) -> bytes:
        """The body, as far as the limits allow."""
        too_big = InputError(f"'{shown(url)}' has more than {limit / 1e6:.0f} MB, which is the limit.")
        if answer.length is not None and answer.length > limit:
            raise too_big
        data = bytearray()
        while chunk := answer.read1(CHUNK):
            data += chunk
            if len(data) > limit:
                raise too_big
        if time.monotonic() >= end:  # a connection that was cut reads like one that ended
            raise TimeoutError
        if answer.length:
            raise OSError("it was cut off")
        return bytes(data)

    def _failed(self, url: str, error: Exception, end: float) -> InputError:
        if isinstance(error, TimeoutError) or time.monotonic() >= end:
            return InputError(f"'{shown(url)}' took longer than {self.seconds:g} seconds; {INSTEAD}.")
        reason = _plain(getattr(error, "strerror", None) or error or type(error).__name__)
        return InputError(f"'{shown(url)}' cannot be fetched ({reason}); {INSTEAD}.")


class _Link(http.client.HTTPConnection):
    """An HTTP(S) connection over a socket that is already there; certificates are checked against the name."""

    def __init__(self, host: str, port: int, secure: bool, reached: socket.socket):
        super().__init__(host, port)
        self.default_port = 443 if secure else 80
        self._secure = secure
        self._reached = reached

    def connect(self) -> None:
        """Takes the socket, wrapped in TLS for https."""
        self.sock = self._reached
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self._reached, server_hostname=self.host)

    def cut(self) -> None:
        """Ends the connection from another thread: a read that waits on it returns at once."""
        for sock in (self.sock, self._reached):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket, also where it was never used."""
        super().close()
        self._reached.close()


def split(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and the target of the request; InputError for what is no plain http(s) URL."""
    bad = InputError(f"'{shown(url)}' is no address that can be fetched; it must be like https://host/path.")
    if not url.isprintable() or " " in url.strip() or "\\" in url:
        raise bad
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host = host if ":" in host else host.encode("idna").decode()
    except (ValueError, UnicodeError) as e:
        raise bad from e
    if parts.scheme.lower() not in ("http", "https"):
        raise InputError(f"'{shown(url)}' is not fetched: only http and https addresses are; {INSTEAD}.")
    if not host or "@" in parts.netloc:
        raise bad
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    secure = parts.scheme.lower() == "https"
    return parts.scheme.lower(), host, port or (443 if secure else 80), target + query


def name_in(url: str) -> str:
    """The file name at the end of a URL."""
    return unquote(urlsplit(url).path).rstrip("/").rsplit("/", 1)[-1] or "download"


def shown(text: str) -> str:
    """A value from outside for a message: one line, at most 100 characters."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _plain(reason: object) -> str:
    return shown(" ".join(str(reason).split())) or "no reason given"
