"""`anyloom doctor --download`: fetch what the profile's experts need, run each of them once, and say how it went.

Before anything is fetched it says what will be: sizes, licences that forbid commercial use, gated weights
and whether there is a token for them, room on the disk. One expert is in memory at a time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...core.errors import AnyloomError, ExpertError, InputError, UnknownName

if TYPE_CHECKING:
    from ...core.settings import Settings
    from ...core.weights import Weights
    from ...tools.contracts import Expert

SPARE = 2_000_000_000  # bytes that stay free on the disk
REVISIONS = "revisions.toml"  # in the data folder: the commits that were fetched, as the settings file takes them
TABLE = "name,age\nAnn,3\nBob,4"


@dataclass(frozen=True)
class Outcome:
    """How one expert fared: `state` is ran, skipped or failed."""

    expert: str
    tool: str
    state: str
    note: str
    size: int = 0
    commits: tuple[str, ...] = ()
    load: float = 0.0
    run: float = 0.0


def download(settings: Settings, only: Sequence[str] = (), yes: bool = False) -> int:
    """Checks, fetches, runs, prints a table; the exit code: 0 when nothing failed."""
    from ...core.weights import Weights
    from ...tools.registry import Registry

    registry = Registry(settings)
    experts = chosen(registry, only)
    file = Path(settings.data_dir) / REVISIONS
    known = _noted(file) if any(_moves(uri) for e in experts for uri in e.card.weights) else {}
    weights = Weights(settings.cache_dir, offline=settings.offline, emit=_told)
    ready = announced(experts, registry, weights, settings)
    if not yes and sys.stdin.isatty():
        click.confirm("Go on?", default=True, abort=True)
    outcomes = []
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stopped)
    for expert in experts:
        reason = ready.get(expert.name, "")
        outcome = (
            Outcome(expert.name, expert.tool.name, "skipped", reason) if reason else tried(expert, weights, settings)
        )
        outcomes.append(outcome)
        click.echo(f"  {_MARK[outcome.state]} {outcome.expert}: {outcome.note}")
    _table(outcomes)
    _recorded(experts, outcomes, known, file)
    return 1 if any(o.state == "failed" for o in outcomes) else 0


def _stopped(*signal: object) -> None:
    """Ctrl-C: leaves at once, for the hub's library waits for connections that may be dead; what came is kept."""
    click.echo("\nStopped; what was fetched is kept, and the next time goes on with it.", err=True)
    os._exit(130)


_MARK = {"ran": "✓", "skipped": "–", "failed": "✗"}


def chosen(registry: Any, only: Sequence[str]) -> list[type[Expert]]:
    """The experts of the profile that have weights, or those that were named (an expert or a tool)."""
    mine = [e for e in registry.all_experts() if registry.profile in e.card.profiles]
    for name in only:
        if not any(name in (e.name, e.tool.name) for e in mine):
            raise UnknownName(f"There is no expert or tool '{name}' in the profile {registry.profile}.")
    return [e for e in mine if (not only and e.card.weights) or e.name in only or e.tool.name in only]


def announced(experts: Sequence[type[Expert]], registry: Any, weights: Weights, settings: Settings) -> dict[str, str]:
    """Prints what is about to happen; why some experts are left out, by name. InputError: the disk has no room."""
    import shutil

    from ...tools.experts.full.hub import commercial

    left_out = {e.name: reason for e in experts if (reason := _left_out(e, registry))}
    kept = [e for e in experts if e.name not in left_out]
    absent = _absent(kept, weights)
    free = shutil.disk_usage(_existing(Path(settings.cache_dir))).free
    need = sum(absent.values())
    click.echo(f"{len(kept)} experts, {need / 1e9:.1f} GB to fetch, {free / 1e9:.0f} GB free in {settings.cache_dir}")
    for expert in kept:
        if not commercial(expert.card.licence):
            click.echo(f"  licence  {expert.name}: {expert.card.licence}: no commercial use")
    moving = {u.split("@")[0][3:] for e in kept for u in e.card.weights if _moves(u)}
    if moving:
        click.echo(
            f"  revision {len(moving)} {'repositories are' if len(moving) > 1 else 'repository is'} taken at a branch, "
            f"which moves; the commits will be written to {Path(settings.data_dir) / REVISIONS}"
        )
    for name, reason in left_out.items():
        click.echo(f"  skipped  {name}: {reason}")
    if need + SPARE > free:
        raise InputError(
            f"{need / 1e9:.1f} GB are to be fetched and {free / 1e9:.1f} GB are free; free some space, choose another "
            "folder with --cache, or name fewer experts with --only."
        )
    return left_out


def _left_out(expert: type[Expert], registry: Any) -> str:
    """Why this expert is not tried; empty when it is. A token stands for having accepted gated terms."""
    if expert.card.gated:
        from huggingface_hub import get_token

        if not get_token():
            where = expert.card.source or "the hub"
            return f"gated ({expert.card.licence}): accept the terms at {where}, then `hf auth login`"
        return expert.available() or ""
    return registry.reason(expert) or ""


def _absent(experts: Iterable[type[Expert]], weights: Weights) -> dict[str, int]:
    """What is not on this disk, by repository, with the size that the cards tell."""
    found: dict[str, int] = {}
    for expert in experts:
        missing = [u for u in expert.card.weights if not weights.status(u).present]
        if missing:
            share = expert.card.size // len(expert.card.weights)
            for uri in missing:
                found[uri] = max(found.get(uri, 0), share)
    return found


def tried(expert: type[Expert], weights: Weights, settings: Settings) -> Outcome:
    """Fetches, loads and runs one expert."""
    from ...tools.contracts import Run
    from ...tools.residency import Residency
    from ...tools.selection import pick_device

    residency = Residency(settings.memory, weights, settings.device)
    begun = time.perf_counter()
    ran, loaded, state, note = 0.0, 0.0, "failed", ""
    try:
        for uri in expert.card.weights:
            weights.resolve(uri)
        begun = time.perf_counter()
        with residency.use(expert) as instance:
            loaded, begun = time.perf_counter() - begun, time.perf_counter()
            state, note = _run(instance, Run(seed=settings.seed, device=pick_device(expert, settings.device)))
            ran = time.perf_counter() - begun
    except AnyloomError as e:
        note = str(e)
    except Exception as e:  # an expert's libraries may raise anything; the others are tried all the same
        note = f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"
    finally:
        residency.unload_all()
    size = sum(weights.status(u).size for u in expert.card.weights)
    return Outcome(expert.name, expert.tool.name, state, note, size, _commits(expert, weights), loaded, ran)


def _run(instance: Expert, run: Any) -> tuple[str, str]:
    """The state and what came out. An expert that finds nothing in the sample has run all the same."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        args = {p.name: v for p in instance.tool.params if (v := _sample(p, Path(folder), instance)) is not None}
        try:
            made = instance.run(args, run)[0]
        except ExpertError as e:
            if e.retryable:
                raise
            return "ran", f"said: {e}"
    kind = made.media_type
    return "ran", kind if made.modality != "text" else f"'{' '.join(made.data.decode().split())[:40]}'"


def _sample(param: Any, folder: Path, instance: Expert) -> Any:
    """Something to try a tool on: a drawn house, a second of a tone, a sentence."""
    if param.modality == "image":
        return _house(folder / "house.png")
    if param.modality == "audio":
        return _tone(folder / "tone.wav")
    if param.modality == "video":
        from ...tools.fakes import tiny_mp4

        file = folder / "film.mp4"
        file.write_bytes(tiny_mp4(b"\x40" * 32, side=64, frames=16))
        return file
    named = {"table": TABLE, "labels": "a house, a ship", "language": None, "other": "A home with a roof of tiles."}
    if param.name in named:
        return named[param.name]
    question = "question" in instance.tool.name
    return "What colour is the roof?" if question and param.name == "text" else "A small house with a red roof."


def _house(file: Path) -> Path:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (512, 512), "skyblue")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 380, 512, 512), fill="green")
    draw.rectangle((150, 250, 360, 430), fill="wheat", outline="black", width=4)
    draw.polygon(((130, 250), (255, 140), (380, 250)), fill="red", outline="black")
    picture.save(file)
    return file


def _tone(file: Path) -> Path:
    from ...tools.fakes import tiny_wav

    file.write_bytes(tiny_wav(b"\x09" * 32, rate=16_000, seconds=1.0))
    return file


def _commits(expert: type[Expert], weights: Weights) -> tuple[str, ...]:
    """The commits that its repositories were fetched at, in the card's order; none when one is not on this disk."""
    found = []
    for uri in expert.card.weights:
        path = weights.status(uri).path
        if path is None or "snapshots" not in path.parts:
            return ()
        found.append(path.parts[path.parts.index("snapshots") + 1])
    return tuple(found)


def _moves(uri: str) -> bool:
    """Whether a URI names a branch of a hub repository and not a commit."""
    from ...tools.experts.full.revisions import moves

    return uri.startswith("hf:") and moves(uri.partition("@")[2].partition("/")[0])


def _noted(file: Path) -> dict[str, str]:
    """The commits of earlier times, by expert. InputError, before anything is fetched: the file is spoiled."""
    import tomllib

    try:
        old = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {"experts": {}}
        return {name: str(table["revision"]) for name, table in old["experts"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as e:
        raise InputError(f"{file} is not as the doctor wrote it; remove it and run the doctor again.") from e


def _recorded(experts: Sequence[type[Expert]], outcomes: Sequence[Outcome], known: dict[str, str], file: Path) -> None:
    """Writes down the commits of what was taken at a branch, beside those of earlier times, ready to be pinned."""
    fetched = {o.expert: " ".join(o.commits) for o in outcomes if o.commits}
    mine = [e for e in experts if e.name in fetched and "revision" in e.defaults]
    new = {e.name: fetched[e.name] for e in mine if any(map(_moves, e.card.weights))}
    if not new:
        return
    lines = [
        "# The commits that `anyloom doctor --download` fetched. Copy a table into the settings file to pin it.",
        "",
    ]
    for name, revision in sorted((known | new).items()):
        lines += [f"[experts.{name}]", f'revision = "{revision}"', ""]
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text("\n".join(lines), encoding="utf-8")
    part.replace(file)
    click.echo(f"The commits of what was taken at a branch are in {file}; copy a table into the settings to pin it.")


def _table(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "expert", "tool", "on disk", "commit", "load", "run", "result", box=None, pad_edge=False)
    for o in outcomes:
        size = f"{o.size / 1e6:.0f} MB" if o.size else ""
        times = (f"{o.load:.1f} s", f"{o.run:.1f} s") if o.state == "ran" else ("", "")
        table.add_row(
            _MARK[o.state], o.expert, o.tool, size, o.commits[0][:12] if o.commits else "", *times, escape(o.note[:60])
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    counts = {s: sum(o.state == s for o in outcomes) for s in _MARK}
    click.echo(f"{counts['ran']} ran, {counts['skipped']} skipped, {counts['failed']} failed.")


_said: dict[str, int] = {}


def _told(event: Any) -> None:
    """A download's progress, a line for each half gigabyte."""
    uri, done = getattr(event, "uri", ""), int(getattr(event, "done", 0))
    step = done // 500_000_000
    if done and step != _said.get(uri, -1):
        _said[uri] = step
        click.echo(f"    {uri.split('#')[0]}: {done / 1e6:.0f} MB")


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
