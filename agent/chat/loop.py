"""The loop around a conversation: what is typed goes in, errors come out as sentences, Ctrl-C stops a request.

    code = await chat(agent, thread=None, attach=["cat.png"], mode="cascade", pictures="")
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from ...core.errors import AnyloomError
from ..agent import Agent
from ..terminal import escaped, open_console
from .commands import Command, read
from .talk import Quit, Talk

STOPPED = 130


async def chat(agent: Agent, thread: str | None, attach: Sequence[str], mode: str, pictures: str) -> int:
    """Talks until the user leaves or the input ends; the exit code."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        from .keys import Keys, terminal_draws_sixel

        console = open_console()
        if not pictures and console.color_system and terminal_draws_sixel():
            pictures = "sixel"
        talk = Talk(agent, console, Keys(agent.settings.data_dir), pictures=pictures)
    else:
        talk = Talk(agent, open_console(), Pipe(), errors=open_console(stderr=True))
    talk.mode = mode
    try:
        await guarded(talk, _begin(talk, thread, attach))
        await talk.person.listen(talk)
    except Quit:
        pass
    finally:
        await talk.agent.engine.aclose()
    if talk.person.at_terminal:
        if talk.exchanges:
            talk.console.print(f"[dim]Go on later with: {_how(talk)}[/dim]", soft_wrap=True)
        return 0
    return talk.worst


async def _begin(talk: Talk, thread: str | None, attach: Sequence[str]) -> None:
    """Opens the conversation that was asked for, or one of this name, and takes the first files."""
    from ...graphs.engine import checked_thread

    rows = [row.thread for row in await talk.agent.engine.threads()] if thread else []
    if thread and talk.person.at_terminal and thread in rows:
        await talk.open(thread)
    elif thread:
        talk.begin(checked_thread(thread))
    if talk.person.at_terminal:
        known = f"  [dim]conversation {escaped(talk.thread)}, kept for: {_how(talk)}[/dim]"
        talk.console.print(f"[bold]anyloom[/bold]{known}", soft_wrap=True)
        talk.console.print("[dim]/help lists the commands; Ctrl-D leaves[/dim]")
    if talk.unfinished:
        talk.say("Its last request was not finished; /resume goes on with it.")
    await talk.attach(attach)


def _how(talk: Talk) -> str:
    import shlex

    return escaped(f"anyloom chat --thread {shlex.quote(talk.thread)}")


async def guarded(talk: Talk, typed: Any) -> bool:
    """Carries out one line (or work that is ready), with errors as sentences; False when it was stopped by Ctrl-C."""
    work = asyncio.ensure_future(_take(talk, typed) if isinstance(typed, str) else typed)
    _on_ctrl_c(work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        hint = " [dim]/resume goes on with it; what was finished is kept[/dim]" if talk.unfinished else ""
        talk.errors.print(f"[yellow]Stopped.[/yellow]{hint}", soft_wrap=True)
        return False
    except AnyloomError as e:
        talk.complain(e)
    except (Quit, BrokenPipeError):
        raise
    except Exception as e:  # ours: the conversation goes on, the traceback is kept for the report
        from ..cli import _crash_file

        text = f"An unexpected {type(e).__name__} ({' '.join(str(e).split())[:200]}); details are in {_crash_file()}."
        talk.complain(AnyloomError(text))
    finally:
        _on_ctrl_c(_nothing if talk.person.at_terminal else None)
    return True


def _on_ctrl_c(act: Callable[[], Any] | None) -> None:
    """What Ctrl-C does from now on; None: it ends the program."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread
        if act is None:
            loop.remove_signal_handler(signal.SIGINT)
        else:
            loop.add_signal_handler(signal.SIGINT, act)


def _nothing() -> None:
    """Between two requests there is nothing to stop; at the prompt Ctrl-C is a key like others."""


async def _take(talk: Talk, line: str) -> None:
    typed = read(line)
    if isinstance(typed, Command) and not talk.person.at_terminal and not line.lstrip().startswith(f"/{typed.name}"):
        typed = line.strip()  # a line of a pipe that is a path is a request like any other
    await talk.take(typed)


class Pipe:
    """A request a line from the standard input; nobody is there to be asked."""

    at_terminal = False

    async def listen(self, talk: Talk) -> None:
        """Answers each line, ends with the input; Ctrl-C ends it all."""
        lines: asyncio.Queue[str] = asyncio.Queue(1)
        loop = asyncio.get_running_loop()

        def read_on() -> None:
            sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
            with contextlib.suppress(RuntimeError, concurrent.futures.CancelledError):  # the program is over
                for line in itertools.chain(iter(sys.stdin.readline, ""), [""]):
                    asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()

        threading.Thread(target=read_on, daemon=True).start()  # a thread of the loop's own would be waited for
        while line := await lines.get():
            if line.strip() and not await guarded(talk, line):
                talk.worst = STOPPED
                return

    async def ask(self, question: str) -> str:
        """No."""
        return "n"

    async def edit(self, text: str) -> str | None:
        """Unchanged."""
        return None

    def quiet(self) -> contextlib.AbstractContextManager[Any]:
        """There is nothing to hide."""
        return contextlib.nullcontext()
