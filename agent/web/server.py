"""Serves the page: address, login, limits. Beyond this machine only with a login."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import SettingsError
from ..agent import Agent

PORT = 7860
AT_ONCE = 16  # handlers that run side by side; the experts have their own limits
WAITING = 64  # visitors in line before one is asked to come back


def open_page(
    agent: Agent, host: str = "127.0.0.1", port: int | None = None, auth: Sequence[tuple[str, str]] = (),
    browser: bool = False,
) -> tuple[Any, str]:  # fmt: skip
    """Starts the server in a thread; returns the Blocks (close it with `.close()`) and its address."""
    import gradio as gr

    from .page import CSS, build
    from .session import Door

    if not is_loopback(host) and not auth:
        raise SettingsError(f"'{host}' is reached by others, so a login is needed: --auth NAME:PASSWORD.")
    port = free_port(host, port)
    page = build(Door(agent))
    page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False)
    fonts = ["system-ui", "-apple-system", "Segoe UI", "sans-serif"]  # names only: nothing is fetched
    theme = gr.themes.Default(font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"])
    page.launch(
        server_name=host, server_port=port, auth=list(auth) or None, prevent_thread_lock=True, quiet=True, share=False,
        show_error=False, ssr_mode=False, inbrowser=browser, max_file_size=agent.settings.limits.file_bytes,
        blocked_paths=[str(agent.settings.data_dir)], allowed_paths=[], footer_links=[], theme=theme, css=CSS,
        enable_monitoring=False, pwa=False, mcp_server=False, run_history=False,
    )  # fmt: skip
    shown = f"[{host}]" if ":" in host else host
    return page, f"http://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port(host: str, port: int | None) -> int:
    """The port asked for, or the first free one from 7860; SettingsError when it is taken."""
    for candidate in [port] if port else range(PORT, PORT + 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, candidate))
                return candidate
            except OSError as e:
                reason = e.strerror
    asked = f"Port {port}" if port else f"No port from {PORT} on"
    raise SettingsError(f"{asked} can be opened on '{host}' ({reason}); choose another with --port.")


def read_auth(given: Sequence[str]) -> list[tuple[str, str]]:
    """`NAME:PASSWORD`, or the name of a file with one such line a user."""
    users = []
    for one in given:
        lines = Path(one).read_text().splitlines() if Path(one).is_file() else [one]
        for line in filter(str.strip, lines):
            name, colon, password = line.strip().partition(":")
            if not (name and colon and password):
                raise SettingsError("--auth takes NAME:PASSWORD, or a file with one such line a user.")
            users.append((name, password))
    return users
