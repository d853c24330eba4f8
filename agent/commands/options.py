"""Options that many commands share, and how they become Settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ...core.settings import Settings, load_settings

SHARED = (
    click.option("--profile", type=click.Choice(["pocket", "full"]), help="Which experts are on."),
    click.option("--controller", metavar="NAME", help="local, openai:MODEL, openai:MODEL@URL or python:module:object."),
    click.option("--policy", type=click.Choice(["fastest", "best", "pinned", "llm"]), help="How an expert is chosen."),
    click.option("--pin", multiple=True, metavar="TOOL=EXPERT", help="Always use this expert for this tool."),
    click.option("--memory", metavar="SIZE", help="Budget for loaded experts, such as 4GiB."),
    click.option("--device", metavar="NAME", help="auto, cpu or cuda."),
    click.option("--data", "data_dir", type=click.Path(path_type=Path), help="Where artifacts and runs are kept."),
    click.option("--cache", "cache_dir", type=click.Path(path_type=Path), help="Where weights are kept."),
    click.option("--redis", metavar="URL", help="Share conversations, results and artifacts: redis://HOST:6379/0."),
    click.option("--ray", metavar="ADDRESS", help="Run experts on a Ray cluster: auto, or ray://HOST:10001."),
    click.option("--otlp", metavar="URL", help="Send traces to an OpenTelemetry collector: http://HOST:4318."),
    click.option("--offline", is_flag=True, default=None, help="Fetch nothing."),
)


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the shared options to a command."""
    for option in reversed(SHARED):
        command = option(command)
    return command


def settings_from(flags: dict[str, Any]) -> Settings:
    """Settings out of a command's flags; those not given come from environment, file and defaults."""
    given = {k: v for k, v in flags.items() if v is not None and k != "pin"}
    if flags.get("pin"):
        given["pinned"] = dict(_pair(p) for p in flags["pin"])
        given.setdefault("policy", "pinned")
    return load_settings(given)


def _pair(text: str) -> tuple[str, str]:
    tool, equals, expert = text.partition("=")
    if not equals or not tool or not expert:
        raise click.BadParameter(f"'{text}' is not TOOL=EXPERT", param_hint="--pin")
    return tool, expert
