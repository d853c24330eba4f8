"""ServeOptions: everything about the service that is not about the cascade, checked at once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import InputError
from ..fetch import Fetch

SHORTEST_TOKEN = 8


@dataclass(frozen=True)
class ServeOptions:
    """How to serve. Sizes in bytes, times in seconds, `rate` in requests a minute and client (0: no limit).

    Without `tokens` only programs of this machine are answered. `cors` names web origins that may call.
    `public_url` begins the addresses in answers where a proxy stands before the service.
    `max_json` bounds a JSON body; a form with files may have as much as one file (Settings.limits), and a little more.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tokens: tuple[str, ...] = ()
    max_concurrent: int = 2
    queue: int = 64
    rate: int = 0
    cors: tuple[str, ...] = ()
    public_url: str = ""
    max_json: int = 64 * 2**20
    max_files: int = 32
    grace: float = 10.0
    heartbeat: float = 15.0
    keep: int = 500
    fetch: Fetch = field(default_factory=Fetch)

    def checked(self) -> ServeOptions:
        """Itself; InputError when it would serve strangers without a token, or makes no sense."""
        if not self.tokens and not is_loopback(self.host):
            raise InputError(
                f"'{self.host}' can be reached from other machines, so a token is needed: "
                "give --token or --token-file, or serve on 127.0.0.1."
            )
        for token in self.tokens:
            if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
                raise InputError(
                    f"A token has at least {SHORTEST_TOKEN} ASCII characters and no blanks; "
                    f"one of {len(token)} characters does not fit."
                )
        if self.public_url and not self.public_url.startswith(("http://", "https://")):
            raise InputError(f"--public-url is '{self.public_url}', and must be like https://host/path.")
        for name, least in (("max_concurrent", 1), ("queue", 0), ("rate", 0)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise InputError(f"--{option} is {getattr(self, name)}, and must be at least {least}.")
        return self


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach a server on this host."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def tokens_in(file: Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; blank lines and those that begin with # do not count."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"The token file '{file}' cannot be read: {getattr(e, 'strerror', None) or e}.") from e
    tokens = tuple(line for line in lines if line and not line.startswith("#"))
    if not tokens:
        raise InputError(f"The token file '{file}' holds no token; write one a line.")
    return tokens
