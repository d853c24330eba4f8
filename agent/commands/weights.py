"""`anyloom weights`: what is on this disk, fetching it before it is needed, checking it, cleaning up."""

from __future__ import annotations

from typing import Any

import click

from .options import settings_from, shared


@click.group()
def weights() -> None:
    """List, fetch, verify and clean the models' weights."""


@weights.command("list")
@shared
def list_(**flags: Any) -> None:
    """Show the weights of all experts of the profile, and which are here."""
    from rich.console import Console
    from rich.table import Table

    store, users = _open(flags)
    table = Table("here", "size", "used by", "weights", box=None, pad_edge=False)
    for uri, names in users.items():
        state = store.status(uri)
        size = f"{state.size / 1e6:.0f} MB" if state.size else ""
        table.add_row("yes" if state.present else "no", size, ", ".join(names), uri.split("#")[0])
    Console().print(table)


@weights.command()
@click.argument("uri", nargs=-1)
@shared
def fetch(uri: tuple[str, ...], **flags: Any) -> None:
    """Fetch weights now: those of URI, or all of the profile."""
    from ..terminal import TerminalView

    view = TerminalView()
    store, users = _open(flags, view)
    with view:
        view(_planned())
        for one in uri or users:
            path = store.resolve(one)
            view.console.print(f"{one.split('#')[0]}  {path}", soft_wrap=True)


def _planned() -> Any:
    from ...core.events import PlanMade

    return PlanMade((), (), "", 0.0)


@weights.command()
@shared
def verify(**flags: Any) -> int:
    """Check the sums of all weights that are here."""
    store, users = _open(flags)
    bad = 0
    for uri in users:
        if store.status(uri).present:
            good = store.verify(uri)
            bad += not good
            click.echo(f"{'good' if good else 'BAD '}  {uri.split('#')[0]}")
    if bad:
        click.echo("Remove the bad ones with `anyloom weights clean --all` and fetch again.", err=True)
    return 1 if bad else 0


@weights.command()
@click.option("--all", "everything", is_flag=True, help="Also weights that experts of the profile use.")
@shared
def clean(everything: bool, **flags: Any) -> None:
    """Remove weights that no expert of the profile uses any more."""
    store, users = _open(flags)
    freed = store.clean([] if everything else list(users))
    click.echo(f"{freed / 1e6:.0f} MB freed.")


def _open(flags: dict[str, Any], emit: Any = None) -> tuple[Any, dict[str, list[str]]]:
    """The weights store, and who uses which URI."""
    from ...controller.local import PLANNER
    from ...core.events import ignore
    from ...core.smollm import SMOLLM2
    from ...core.weights import Weights
    from ...tools.registry import Registry

    settings = settings_from(flags)
    users: dict[str, list[str]] = {SMOLLM2: ["controller local"], PLANNER: ["controller local"]}
    for expert in Registry(settings).all_experts():
        if settings.profile in expert.card.profiles:
            for uri in expert.card.weights:
                users.setdefault(uri, []).append(expert.name)
    return Weights(settings.cache_dir, offline=settings.offline, emit=emit or ignore), users


COMMANDS = (weights,)
