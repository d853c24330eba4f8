"""`anyloom tools`, `doctor`, `artifact show`, `threads`: what there is, and whether it works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .options import settings_from, shared


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@shared
def tools(as_json: bool, **flags: Any) -> None:
    """List the tools that can be planned, their experts, and what is not available and why."""
    from ...tools.registry import Registry

    settings = settings_from(flags)
    registry = Registry(settings)
    rows = [_tool_row(registry, settings, t) for t in registry.tools()]
    if as_json:
        failures = [str(f) for f in registry.failures]
        click.echo(json.dumps({"tools": rows, "failures": failures}, ensure_ascii=False, indent=1))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("", "tool", "takes → gives", "experts", box=None, pad_edge=False)
    mine = [r for r in rows if any(settings.profile in e["profiles"] for e in r["experts"])]
    for row in mine:
        experts = ", ".join(e["name"] for e in row["experts"] if not e["missing"])
        table.add_row(
            "✓" if row["offered"] else "–", row["name"], row["signature"].replace("->", "→"), experts or "none here"
        )
    console.print(table)
    if others := [r["name"] for r in rows if r not in mine]:
        console.print(f"[dim]No expert of the profile {settings.profile}: {', '.join(others)}[/dim]", soft_wrap=True)
    if bound := sorted({e["name"] for r in mine for e in r["experts"] if not e["commercial"] and not e["missing"]}):
        console.print(f"[dim]Licences that forbid commercial use: {', '.join(bound)}[/dim]", soft_wrap=True)
    for row in rows:
        for expert in row["experts"]:
            if expert["missing"] and settings.profile in expert["profiles"]:
                console.print(f"[dim]{expert['name']}: {escape(expert['missing'])}[/dim]", soft_wrap=True)
    for failure in registry.failures:
        console.print(f"[red]plugin[/red] {escape(str(failure))}", soft_wrap=True)


def _tool_row(registry: Any, settings: Any, tool: Any) -> dict[str, Any]:
    from ...tools.experts.full.hub import commercial

    offered = {t.name for t in registry.offered()}
    experts = [
        {
            "name": e.name, "missing": registry.reason(e) or "", "licence": e.card.licence, "memory": e.card.memory,
            "speed": e.card.speed, "quality": e.card.quality, "profiles": list(e.card.profiles), "size": e.card.size,
            "gated": e.card.gated, "commercial": commercial(e.card.licence), "weights": list(e.card.weights),
        }
        for e in registry.all_experts() if e.tool.name == tool.name
    ]  # fmt: skip
    return {
        "name": tool.name, "description": tool.description, "signature": tool.signature(),
        "offered": tool.name in offered, "experts": experts,
    }  # fmt: skip


@click.command()
@click.option("--download", is_flag=True, help="Fetch the weights of all experts and run each of them once.")
@click.option("--only", multiple=True, metavar="NAME", help="With --download: this expert, or those of this tool.")
@click.option("--yes", is_flag=True, help="With --download: do not ask before it begins.")
@shared
def doctor(download: bool, only: tuple[str, ...], yes: bool, **flags: Any) -> int:
    """Check this machine: settings and where they come from, folders, weights, experts, plugins."""
    if download:
        from . import doctor_full

        return doctor_full.download(settings_from(flags), only, yes)
    import os
    import platform
    import shutil

    from ...core.settings import origins
    from ...core.weights import Weights
    from ...tools.registry import Registry

    settings = settings_from(flags)
    click.echo(
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    click.echo("\nSettings")
    for key, source in origins(settings).items():
        value = getattr(settings.limits, key[7:]) if key.startswith("limits.") else getattr(settings, key)
        click.echo(f"  {key:<14} {str(value)[:70]:<40} {source}")
    faults = 0
    click.echo("\nFolders")
    for name in ("data_dir", "cache_dir"):
        fault = _folder(Path(getattr(settings, name)))
        faults += bool(fault)
        free = shutil.disk_usage(_existing(Path(getattr(settings, name)))).free / 1e9
        click.echo(f"  {'✗' if fault else '✓'} {name} {getattr(settings, name)}  {fault or f'{free:.0f} GB free'}")
    registry = Registry(settings)
    weights = Weights(settings.cache_dir, offline=settings.offline)
    click.echo("\nExperts")
    for expert in registry.all_experts():
        if settings.profile not in expert.card.profiles:
            continue
        missing = registry.reason(expert)
        absent = [u for u in expert.card.weights if not weights.status(u).present]
        note = missing or (f"weights are fetched on first use ({expert.card.size / 1e6:.0f} MB)" if absent else "ready")
        click.echo(f"  {'–' if missing else '✓'} {expert.name:<22} {expert.tool.name:<30} {note}")
    if registry.failures:
        click.echo("\nPlugins that failed")
        for failure in registry.failures:
            click.echo(f"  ✗ {failure}")
    return 1 if faults else 0


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder


def _folder(folder: Path) -> str:
    """Why this folder cannot be written, or an empty string."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as e:
        return f"cannot be written ({e.strerror}); choose another with --{'data' if 'data' in folder.name else 'cache'}"


@click.group()
def artifact() -> None:
    """Look at what was made."""


@artifact.command("show")
@click.argument("which")
@shared
def artifact_show(which: str, **flags: Any) -> None:
    """Show how WHICH was made: a file (its embedded provenance), or an id in the store."""
    from ...core.artifacts import ArtifactStore
    from ...core.errors import InputError
    from ...core.provenance import extract

    path = Path(which)
    if path.exists():
        found = extract(path)
        if found is None:
            raise InputError(
                f"'{which}' holds no provenance of anyloom; it was made elsewhere, or its format cannot carry any."
            )
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    if path.suffix:
        raise InputError(f"There is no file '{which}'.")
    settings = settings_from(flags)
    store = ArtifactStore(Path(settings.data_dir) / "artifacts", settings.limits)
    one = store.get(which)
    click.echo(json.dumps({**one.to_json(), "file": str(store.path(one))}, ensure_ascii=False, indent=1))


@click.command()
@shared
def threads(**flags: Any) -> None:
    """List the conversations, newest first, and which of them wait to be resumed."""
    import asyncio

    from ...graphs.engine import Engine

    async def gather() -> list[Any]:
        engine = Engine(settings_from(flags))
        try:
            return list(await engine.threads())
        finally:
            await engine.aclose()

    rows = asyncio.run(gather())
    for row in rows:
        click.echo(f"{row.thread:<14} {row.when:<20} {row.state:<10} {' '.join(row.request.split())[:70]}")
    if not rows:
        click.echo('No conversations yet; start one with anyloom ask "..."')


COMMANDS = (tools, doctor, artifact, threads)
