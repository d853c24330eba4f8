"""`anyloom runs`: every answered request is a bundle that can be listed, shown, replayed, compared, exported."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from .options import settings_from, shared


@click.group()
def runs() -> None:
    """List, show, replay, compare and export runs."""


@runs.command("list")
@shared
def list_(**flags: Any) -> None:
    """List the runs, newest first."""
    rows = _store(flags).list()
    for row in rows:
        click.echo(f"{row.id:<14} {row.when:<20} {row.state:<8} {' '.join(row.request.split())[:70]}")
    if not rows:
        click.echo('No runs yet; make one with anyloom ask "..."')


@runs.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print the whole bundle as JSON.")
@shared
def show(run: str, as_json: bool, **flags: Any) -> None:
    """Show one run: request, plan, results, answer."""
    from ..terminal import plan_lines

    bundle = _store(flags).get(run)
    if as_json:
        click.echo(json.dumps(bundle, ensure_ascii=False, indent=1))
        return
    click.echo(f"run      {bundle['id']}\nthread   {bundle['thread']}\nrequest  {bundle['request']['text']}\n")
    click.echo("\n".join(plan_lines(bundle["plan"])) or "  no tool was needed")
    click.echo()
    for result in bundle["results"]:
        made = ", ".join(f"{a['name']} {a['sha256'][:12]}" for a in result["artifacts"])
        how = "cached" if result["cached"] else f"{result['seconds']:.1f} s"
        click.echo(f"  {result['id']}  {result['status']:<8} {result['expert']:<22} {how:<8} {made or result['error']}")
    click.echo(f"\n{bundle['answer']['text'].strip()}")


@runs.command()
@click.argument("run")
@click.option("--from", "from_step", type=int, help="Run again from this task; what it does not depend on is kept.")
@click.option("--expert", help="Use this expert for the task of --from.")
@click.option("--seed", type=int, help="Another seed.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Copy the files that are made here.")
@shared
def replay(
    run: str, from_step: int | None, expert: str | None, seed: int | None, out: Path | None, **flags: Any
) -> int:
    """Run it again, whole or from a step, and say whether the same came out."""
    from ...graphs.engine import Engine
    from ..terminal import TerminalView

    settings = settings_from(flags)

    async def go() -> int:
        engine = Engine(settings)
        view = TerminalView()
        try:
            with view:
                outcome = await engine.replay(run, from_step=from_step, expert=expert, seed=seed, emit=view)
            for line in outcome.lines():
                click.echo(line)
            if out:
                view.files([engine.store.export(a, out) for a in outcome.answer.artifacts if a.modality != "text"])
            return 0 if outcome.answer.ok else 1
        finally:
            await engine.aclose()

    return asyncio.run(go())


@runs.command()
@click.argument("first")
@click.argument("second")
@shared
def diff(first: str, second: str, **flags: Any) -> None:
    """Compare two runs: plan, experts, seeds, outputs, times."""
    lines = _store(flags).diff(first, second)
    click.echo("\n".join(lines) or "No difference.")


@runs.command()
@click.argument("run")
@click.argument("target", type=click.Path(path_type=Path))
@shared
def export(run: str, target: Path, **flags: Any) -> None:
    """Write the bundle with its files to TARGET: a folder, or a .zip."""
    click.echo(f"Wrote {_store(flags).export(run, target)}.")


def _store(flags: dict[str, Any]) -> Any:
    from ...core.artifacts import ArtifactStore
    from ...graphs.runs import RunStore

    settings = settings_from(flags)
    data = Path(settings.data_dir)
    return RunStore(data, ArtifactStore(data / "artifacts", settings.limits))


COMMANDS = (runs,)
