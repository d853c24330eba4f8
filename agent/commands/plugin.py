"""`anyloom plugin`: begin a plugin, and check those that are installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ...core.errors import PluginError
from .options import settings_from, shared


@click.group()
def plugin() -> None:
    """Begin a plugin, or check one."""


@plugin.command()
@click.argument("name")
@click.option("--tool", metavar="TOOL", help="Another expert for this tool; without it the plugin brings a new tool.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=".", help="Where the folder goes.")
def new(name: str, tool: str | None, out: Path) -> None:
    """Write a package with an expert, its entry point and its test."""
    from ..plugin_kit.new import write_plugin

    folder = write_plugin(name, out, tool)
    module = f"anyloom_{name.replace('-', '_')}"
    click.echo(f"{folder} is written. Its expert is in {folder / module / '__init__.py'}.")
    click.echo(f"Next: pip install -e {folder}  and  anyloom plugin check {name}")


@plugin.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@shared
def check(name: str | None, as_json: bool, **flags: Any) -> int:
    """Try the expert NAME, or all of them, on small samples: outputs, errors, stop, seed, memory."""
    from ...core.weights import Weights
    from ...tools.registry import Registry
    from ..plugin_kit.check import check_expert

    settings = settings_from(flags)
    registry = Registry(settings)
    if name and registry.failures and name not in {e.name for e in registry.all_experts()}:
        raise PluginError(f"There is no expert '{name}', and {'; '.join(str(f) for f in registry.failures)}")
    experts = [registry.expert(name)] if name else [e for e in registry.all_experts() if registry.reason(e) is None]
    weights = Weights(settings.cache_dir, offline=settings.offline)
    rows = []
    for failure in registry.failures:
        rows.append({"expert": "?", "what": "import", "ok": False, "problem": str(failure)})
    for expert in experts:
        for f in check_expert(expert, weights):
            rows.append({"expert": expert.name, "what": f.what, "ok": f.ok, "problem": f.problem})
            if not as_json:
                click.echo(f"{'ok   ' if f.ok else 'FAULT'}  {expert.name}  {f.what}  {f.problem}".rstrip())
    if as_json:
        click.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    return 0 if all(r["ok"] for r in rows) else 1


COMMANDS = (plugin,)
