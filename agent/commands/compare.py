"""`anyloom compare`: one request in both modes, side by side; a table, a JSON file and a page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError
from .eval_suite import MODES
from .options import settings_from, shared

FOLDER = Path("anyloom-compare")


@click.command()
@click.argument("request")
@click.option(
    "--attach", "-a", "attach", multiple=True, metavar="FILE|URL", help="A file or http(s) address; repeat for more."
)
@MODES
@click.option("--meaning", metavar="TEXT", help="What the answer should be about; else what is attached or asked.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True,
    help="Where result.json, report.html and what is made go; the comparison before is replaced.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), help="Seed of everything random.")
@shared
def compare(
    request: str, attach: tuple[str, ...], modes: tuple[str, ...], meaning: str | None, out: Path, **flags: Any
) -> int:
    """Answer REQUEST as a cascade and end to end, and measure both."""
    settings = settings_from(flags)
    check_folder(out)
    return asyncio.run(_compare(settings, request, attach, modes, meaning, out))


def check_folder(out: Path) -> None:
    """InputError when the folder holds something else that a comparison would spoil."""
    from ...evaluation.results import RESULT, read
    from ...evaluation.runner import RUN

    other = (out / RUN).exists() or ((out / RESULT).exists() and read(out)["kind"] != "pair")
    if other:
        raise InputError(f"'{out}' holds a run of `anyloom eval`; choose another --out.")


async def _compare(
    settings: Any, request: str, attach: Sequence[str], modes: Sequence[str], meaning: str | None, out: Path
) -> int:
    from ...evaluation.bench import open_bench
    from ...evaluation.pair import meaning_of, pair_result, side, unread
    from ...evaluation.report.inline import from_store
    from ...evaluation.results import write
    from ...evaluation.runner import WORK
    from ..intake import checked_text, take_all
    from ..side_by_side import SideBySide
    from ..terminal import open_console

    text = checked_text(request, settings.limits)
    bench = open_bench(settings, out / WORK)
    console = open_console()
    try:
        files = await asyncio.to_thread(take_all, bench.store, attach, allow_urls=not settings.offline)
        about = meaning or await meaning_of(bench, text, files)
        sides: list[dict[str, Any]] = []
        with SideBySide(console, modes) as view:
            for mode in modes:
                if sides:
                    await asyncio.to_thread(bench.rest)
                one = await side(bench, mode, text, files, seed=settings.seed, meaning=about, emit=view.of(mode))
                view.done(mode, one["reason"] or f"{one['costs']['seconds']:.1f} s")
                sides.append(one)
        result = pair_result(bench, text, files, about, sides, settings.seed)
        page = await asyncio.to_thread(write, result, out, from_store(bench.store))
    finally:
        await bench.aclose()
    print_table(console, sides)
    if note := unread(bench):
        console.print(f"[yellow]note[/yellow] {note}", soft_wrap=True)
    console.print(f"The page is {page}.", soft_wrap=True)
    return 0 if any(s["status"] == "done" for s in sides) else 1


def print_table(console: Any, sides: Sequence[Mapping[str, Any]]) -> None:
    """What both took and made, a column for each mode."""
    from rich.table import Table

    from ...evaluation.pair import lines
    from ..terminal import escaped, short

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("", *(s["mode"] for s in sides)):
        table.add_column(escaped(head))
    for name, cells in lines(sides):
        table.add_row(name, *(escaped(short(c, 200)) for c in cells))
    console.print(table)


COMMANDS = (compare,)
