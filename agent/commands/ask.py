"""`anyloom ask` and `anyloom resume`: a request in, an answer with its files out."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError, UserError
from ...core.events import Event
from .options import settings_from, shared


@click.command()
@click.argument("request", required=False)
@click.option(
    "--attach", "-a", "attach", multiple=True, metavar="FILE|URL",
    help="A file or http(s) address to go with the request; repeat for more."
)
@click.option(
    "--mode", type=click.Choice(["cascade", "end2end"]), default="cascade", show_default=True, help="Who answers."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Copy the files that are made here.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
@click.option("--plan-only", is_flag=True, help="Show the plan and run nothing.")
@click.option("--approve", is_flag=True, help="Show the plan and ask before it runs.")
@click.option("--seed", type=int, help="Seed of everything random.")
@click.option("--thread", metavar="NAME", help="Go on with this conversation.")
@click.option("--fresh", is_flag=True, help="Run every task, also those whose result is known.")
@shared
def ask(
    request: str | None, attach: tuple[str, ...], mode: str, out: Path | None, as_json: bool,
    plan_only: bool, approve: bool, seed: int | None, thread: str | None, fresh: bool, **flags: Any,
) -> int:  # fmt: skip
    """Answer REQUEST. Without REQUEST it is read from the standard input."""
    from ..agent import Agent

    text = _request(request)
    agent = Agent(settings_from({**flags, "seed": seed}))
    view = _view(as_json)
    options: dict[str, Any] = {"mode": mode, "approve": approve, "fresh": fresh}
    if plan_only:
        return asyncio.run(_plan_only(agent, text, attach, view, options))
    return asyncio.run(_answer(agent, view, out, _start(agent, text, attach, thread, options), approve))


@click.command()
@click.argument("thread")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Copy the files that are made here.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines.")
@shared
def resume(thread: str, out: Path | None, as_json: bool, **flags: Any) -> int:
    """Finish what was interrupted in the conversation THREAD, without running finished tasks again."""
    from ..agent import Agent

    agent = Agent(settings_from(flags))

    def begin(emit: Any) -> Any:
        return agent.engine.resume(thread, emit=emit)

    return asyncio.run(_answer(agent, _view(as_json), out, begin, True))


def _request(given: str | None) -> str:
    if given and given != "-":
        if not sys.stdin.isatty() and given and _piped():
            return f"{given}\n\n{_stdin()}".strip()
        return given
    if sys.stdin.isatty():
        raise click.UsageError('Say what should be done: anyloom ask "describe this picture" --attach cat.png')
    return _stdin()


def _stdin() -> str:
    """The text that was piped in; InputError when it is a picture or the like."""
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError("What was piped in is no text (UTF-8); give a picture, sound or video with --attach FILE.")
    return text


def _piped() -> bool:
    """Whether the standard input is a pipe or file with something in it (and not just closed)."""
    import os
    import stat

    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _view(as_json: bool) -> Any:
    if as_json:
        return JsonView()
    from ..terminal import TerminalView

    return TerminalView()


class JsonView:
    """Events as JSON lines on the standard output."""

    def __call__(self, event: Event) -> None:
        """Prints one event."""
        click.echo(json.dumps(event.to_json(), ensure_ascii=False))

    def __enter__(self) -> JsonView:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing to end."""

    def files(self, paths: list[Path]) -> None:
        """Where the files are."""
        click.echo(json.dumps({"event": "files", "paths": [str(p) for p in paths]}, ensure_ascii=False))


def _start(agent: Any, text: str, attach: tuple[str, ...], thread: str | None, options: dict[str, Any]) -> Any:
    request = agent.request(text, attach, **options)

    def begin(emit: Any) -> Any:
        return agent.engine.ask(request, thread=thread, emit=emit)

    return begin


async def _plan_only(agent: Any, text: str, attach: tuple[str, ...], view: Any, options: dict[str, Any]) -> int:
    try:
        with view:
            await agent.engine.plan_only(agent.request(text, attach, **options), emit=view)
    finally:
        await agent.engine.aclose()
    return 0


async def _answer(agent: Any, view: Any, out: Path | None, begin: Any, interactive: bool) -> int:
    from ...graphs.engine import NeedsApproval

    try:
        decision: Any = None
        while True:
            try:
                with view:
                    answer = await (begin(view) if decision is None else decision(view))
                break
            except NeedsApproval as pause:
                decision = _approval(agent, pause, interactive)
        store = agent.engine.store
        made = [a for a in answer.artifacts if a.modality != "text"]
        folder = out or agent.settings.out_dir
        paths = [store.export(a, folder) if folder else store.path(a) for a in made]
        if paths:
            view.files(paths)
        return 0 if answer.ok else 1
    finally:
        await agent.engine.aclose()


def _approval(agent: Any, pause: Any, interactive: bool) -> Any:
    """Asks whether the plan may run; returns what goes on."""
    if not sys.stdin.isatty():
        raise UserError(
            f"The plan waits for approval and nobody is at the terminal; run `anyloom resume {pause.thread}` there."
        )
    reply = click.prompt("Run it? [y]es, [n]o, or numbers of tasks to drop", default="y").strip().lower()
    if reply in ("n", "no"):
        raise click.Abort
    if reply in ("y", "yes"):
        return lambda emit: agent.engine.resume(pause.thread, approve=True, emit=emit)
    drop = [int(word) for word in reply.replace(",", " ").split() if word.isdigit()]
    if not drop:
        raise InputError(f"'{reply}' is neither yes, no nor a list of task numbers; nothing was run.")
    return lambda emit: agent.engine.resume(pause.thread, drop=drop, emit=emit)


COMMANDS = (ask, resume)
