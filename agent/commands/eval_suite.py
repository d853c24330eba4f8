"""`anyloom eval`: the two modes over a suite, `eval chains`, `eval diff`, `eval report`; also `eval planner`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError
from .eval_pocket import eval_pocket
from .options import settings_from, shared
from .train import eval_planner


def several_modes(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    """`cascade,end2end` as names."""
    names = tuple(dict.fromkeys(w.strip() for w in value.split(",") if w.strip()))
    if not names or set(names) - {"cascade", "end2end"}:
        raise click.BadParameter(f"'{value}' is not cascade, end2end or both with a comma between.")
    return names


MODES = click.option(
    "--modes", default="cascade,end2end", show_default=True, callback=several_modes, help="Which to measure, in order."
)
SEEDS = click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="How many seeds each.")
SEED = click.option("--seed", type=click.IntRange(0), help="The first of them.")
RESUME = click.option("--resume", is_flag=True, help="Go on with the run that --out holds.")
LIMIT = click.option("--limit", type=click.IntRange(1), help="Only so many items, spread over the conversions.")


@click.group("eval", invoke_without_command=True)
@click.option("--suite", default="pocket", show_default=True, help="A bundled suite, or a .toml or .jsonl file.")
@MODES
@LIMIT
@SEEDS
@SEED
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("anyloom-eval"),
    show_default=True,
    help="Where rows, result.json and report.html go.",
)
@RESUME
@shared
@click.pass_context
def evaluate(
    context: click.Context, suite: str, modes: tuple[str, ...], limit: int | None, seeds: int, seed: int | None,
    out: Path, resume: bool, **flags: Any,
) -> int | None:  # fmt: skip
    """Measure cascade against end-to-end over a suite of items (needs the extra `eval`)."""
    if context.invoked_subcommand is not None:
        return None
    from ...evaluation.items import read_suite
    from ...evaluation.packages import MEASURING, need
    from ...evaluation.runner import Job

    need(*MEASURING)
    settings = settings_from({**flags, "seed": seed})
    job = Job(read_suite(suite).limited(limit), modes, tuple(range(settings.seed, settings.seed + seeds)))
    return asyncio.run(_suite(settings, job, out, resume))


async def _suite(settings: Any, job: Any, out: Path, resume: bool) -> int:
    from ...evaluation.bench import open_bench
    from ...evaluation.report.inline import from_store
    from ...evaluation.results import suite_result, write
    from ...evaluation.runner import WORK, run_suite

    bench = open_bench(settings, out / WORK)
    try:
        with Progress(bench, job.modes) as progress:
            rows = await run_suite(bench, job, out, resume=resume, told=progress, emit=progress.event)
            progress.note("reading and counting what was made")
            result = await suite_result(bench, job, rows, out)
        page = write(result, out, from_store(bench.store))
    finally:
        await bench.aclose()
    click.echo(table(result))
    click.echo(f"The report is {page}.")
    return 0


class Progress:
    """A bar at a terminal, else a line for each row; says beforehand which mode cannot be measured."""

    def __init__(self, bench: Any, modes: tuple[str, ...]):
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        from ...evaluation.pair import unread
        from ..terminal import escaped, open_console

        self.escaped, self.console = escaped, open_console(stderr=True)
        self.bar = Bar(
            BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"),
            console=self.console, disable=not self.console.is_terminal, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=None)
        for mode in modes:
            if mode in bench.cannot:
                self.console.print(f"[yellow]note[/yellow] {mode}: {escaped(bench.cannot[mode])}", soft_wrap=True)
        if lacks := unread(bench):
            self.console.print(f"[yellow]note[/yellow] {lacks}", soft_wrap=True)

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.bar.stop()

    def __call__(self, done: int, total: int, row: Mapping[str, Any]) -> None:
        """A row was measured."""
        said = f"{row['item']} {row['mode']}: {row['status']}"
        self.bar.update(self.task, completed=done, total=total, description=self.escaped(said))
        if not self.console.is_terminal:
            self.console.print(f"{done}/{total} {self.escaped(said)}", soft_wrap=True)

    def note(self, text: str) -> None:
        """What happens without a count."""
        self.bar.update(self.task, description=self.escaped(text))

    def event(self, event: Any) -> None:
        """Shows what the engine says of a long wait, such as a download."""
        from ...core.events import Download

        if isinstance(event, Download):
            from ..terminal import weights_name

            self.note(f"fetching {weights_name(event.uri)}")


def table(result: Mapping[str, Any]) -> str:
    """The figures as text: a line for each conversion and mode."""
    lines = [
        f"{'conversion':<18}{'mode':<10}{'answered':>9}{'missed':>8}{'failed':>8}{'cannot':>8}{'kept':>22}{'seconds':>9}"
    ]
    for c in result["figures"]["cells"]:
        kept = c["scores"].get("kept")
        shown = _interval(kept) if kept or not c["unjudged"] else "not judged"
        seconds = f"{c['costs']['seconds']['mean']:.1f}" if "seconds" in c["costs"] else "–"
        counts = f"{c['done']:>9}{c['missed']:>8}{c['failed']:>8}{c['cannot']:>8}"
        lines.append(f"{c['conversion']:<18}{c['mode']:<10}{counts}{shown:>22}{seconds:>9}")
    return "\n".join(lines)


def several(known: str) -> Any:
    """A callback for words with commas between, which the job checks."""

    def words(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
        names = tuple(w.strip() for w in value.split(",") if w.strip())
        if not names:
            raise click.BadParameter(f"'{value}' names nothing; give {known}, with commas between.")
        return names

    return words


@evaluate.command("chains")
@click.option(
    "--via",
    default="image,speech,video",
    show_default=True,
    callback=several("image, audio, video or speech"),
    help="What lies between two texts, in turn: image, audio, video, speech.",
)
@click.option("--steps", type=click.IntRange(1, 12), default=6, show_default=True, help="Conversions of a chain.")
@click.option(
    "--arms",
    default="cascade,end2end",
    show_default=True,
    callback=several("cascade or end2end"),
    help="Who goes through it: cascade, end2end, and the cascade with true-readers or true-makers.",
)
@LIMIT
@SEEDS
@SEED
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("anyloom-chains"),
    show_default=True,
    help="Where rows, result.json and report.html go.",
)
@RESUME
@shared
def chains(
    via: tuple[str, ...], steps: int, arms: tuple[str, ...], limit: int | None, seeds: int, seed: int | None,
    out: Path, resume: bool, **flags: Any,
) -> int:  # fmt: skip
    """How much of a meaning is left after 1, 2, 3, … conversions, and which of them loses most."""
    from ...evaluation.chains import ChainJob
    from ...evaluation.packages import MEASURING, need

    need(*MEASURING)
    settings = settings_from({**flags, "seed": seed})
    job = ChainJob(via, steps, tuple(dict.fromkeys(arms)), tuple(range(settings.seed, settings.seed + seeds)), limit)
    return asyncio.run(_chains(settings, job, out, resume))


async def _chains(settings: Any, job: Any, out: Path, resume: bool) -> int:
    from ...evaluation.bench import open_bench
    from ...evaluation.chains import run_chains
    from ...evaluation.report.inline import from_store
    from ...evaluation.results import chain_result, write
    from ...evaluation.runner import WORK

    bench = open_bench(settings, out / WORK)
    try:
        with Progress(bench, job.arms) as progress:
            rows = await run_chains(bench, job, out, resume=resume, told=progress, emit=progress.event)
        page = await asyncio.to_thread(write, chain_result(job, rows, out), out, from_store(bench.store))
    finally:
        await bench.aclose()
    click.echo(chain_table(chain_result(job, rows, out)))
    click.echo(f"The report is {page}.")
    return 0


def chain_table(result: Mapping[str, Any]) -> str:
    """Fidelity against the number of conversions as text."""
    lines = [f"{'arm':<14}{'k':>2}  {'conversion':<17}{'done':>5}{'not':>5}{'cannot':>8}{'kept':>20}{'similarity':>20}"]
    for c in result["figures"]["curves"]:
        lost = c["missed"] + c["failed"] + c["broken"]
        shown = f"{_interval(c.get('kept')):>20}{_interval(c.get('similarity')):>20}"
        lines.append(f"{c['mode']:<14}{c['k']:>2}  {c['conversion']:<17}{c['done']:>5}{lost:>5}{c['cannot']:>8}{shown}")
    reasons = dict.fromkeys(f"{c['mode']}: {r}" for c in result["figures"]["curves"] for r in c["reasons"])
    return "\n".join([*lines, *reasons])


def _interval(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "–"
    between = f"{found['low']:.2f}–{found['high']:.2f}" if found["n"] > 1 else "one item"
    return f"{found['mean']:.2f} ({between})"


@evaluate.command("report")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def report(folder: Path) -> None:
    """Write report.html again from the result.json in FOLDER."""
    from ...core.artifacts import ArtifactStore
    from ...evaluation.report.inline import from_store
    from ...evaluation.results import read, write
    from ...evaluation.runner import WORK

    page = write(read(folder), folder, from_store(ArtifactStore(folder / WORK / "artifacts")))
    click.echo(f"The report is {page}.")


@evaluate.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Also figures that did not change.")
def diff(first: Path, second: Path, everything: bool) -> None:
    """What changed from the result FIRST to SECOND (result.json files, or their folders)."""
    from ...evaluation.difference import difference
    from ...evaluation.packages import need
    from ...evaluation.results import read

    need("scipy")
    if first.resolve() == second.resolve():
        raise InputError("Both names are the same result; name two.")
    found = difference(read(first), read(second))
    for note in found["notes"]:
        click.echo(f"note: {note}")
    rows = [r for r in found["rows"] if everything or r["difference"]]
    if not rows:
        click.echo("Nothing differs.")
    for r in rows:
        p = "" if r["p"] is None else f", p {r['corrected']:.3f}"
        click.echo(
            f"{r['mode']:<9}{r['conversion']:<17}{r['metric']:<13}{r['first']:>12.4g} → {r['second']:<12.4g}"
            f"{r['difference']:+.4g} ({r['low']:+.4g} to {r['high']:+.4g}; {r['n']} items{p})"
        )


@evaluate.command("make-suite")
@click.option(
    "--media", type=click.Path(path_type=Path, exists=True), required=True, help="The folder of `train mmllm-media`."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the suite goes.")
@click.option("--each", type=click.IntRange(2, 200), default=12, show_default=True, help="Items of a conversion.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def make_suite(media: Path, out: Path, each: int, seed: int) -> None:
    """Make a suite of what training never saw; the bundled one was made so, with 12 of each and seed 0."""
    from ...evaluation.suites.held_out import NAME, build

    items = build(media, out, each, seed)
    click.echo(f"{len(items)} items are in {out / NAME}; measure with `anyloom eval --suite {out / NAME}`.")


evaluate.add_command(eval_planner)
evaluate.add_command(eval_pocket)

COMMANDS = (evaluate,)
