"""The loop around a conversation: keys and history (prompt_toolkit), Ctrl-C, and lines from a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

from ...core.errors import AnyloomError
from ..agent import Agent
from ..terminal import _escape
from .commands import completer, read
from .talk import Quit, Talk


async def chat(agent: Agent, thread: str | None, attach: list[str], pictures: str) -> int:
    """Talks until the user leaves or the input ends; the exit code."""
    from rich.console import Console

    console = Console(highlight=False)
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    door = Keys(agent.settings.data_dir) if at_terminal else Pipe()
    talk = Talk(agent, console, door.ask, door.edit, None if thread else thread, pictures)
    try:
        if thread:
            await _known(talk, thread)
        if at_terminal:
            console.print(f"[bold]anyloom[/bold]  [dim]conversation {talk.thread}; /help lists the commands[/dim]")
        for path in attach:
            talk.attached.append(path)
        await door.listen(talk)
    except Quit:
        pass
    finally:
        await talk.agent.engine.aclose()
    if at_terminal and talk.exchanges:
        console.print(f"[dim]Go on later with: anyloom chat --thread {talk.thread}[/dim]")
    return 1 if talk.failed else 0


async def _known(talk: Talk, thread: str) -> None:
    """Opens a conversation that exists, or begins one of this name."""
    if any(row.thread == thread for row in await talk.agent.engine.threads()):
        await talk.open(thread)
        last = await asyncio.to_thread(talk.agent.engine.runs.last, thread)
        if last and last["state"] != "done":
            talk.say(f"Its last request was not finished ({last['state']}); /resume goes on with it.")
    else:
        from ...graphs.engine import checked_thread

        talk.thread = checked_thread(thread)


async def guarded(talk: Talk, line: str) -> None:
    """One line, with errors as sentences, and Ctrl-C stopping what runs rather than the program."""
    work = asyncio.ensure_future(_take(talk, line))
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, ValueError):  # no signals here: Windows, or not the main thread
        loop.add_signal_handler(signal.SIGINT, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        talk.console.print("\n[yellow]Stopped.[/yellow] [dim]/resume goes on with it, what was finished is kept[/dim]")
    except AnyloomError as e:
        talk.failed = True
        talk.console.print(f"[red]{_escape(' '.join(str(e).split()))}[/red]", soft_wrap=True)
    finally:
        with contextlib.suppress(NotImplementedError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)


async def _take(talk: Talk, line: str) -> None:
    await talk.take(read(line))


class Pipe:
    """A request a line from the standard input."""

    async def listen(self, talk: Talk) -> None:
        """Answers each line; ends with the input."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip():
                await guarded(talk, line)

    async def ask(self, question: str) -> str:
        """Nobody is there to ask: no."""
        return "n"

    async def edit(self, text: str) -> str | None:
        """Nobody is there to edit."""
        return None


class Keys:
    """A prompt with history, completion and several lines."""

    def __init__(self, data_dir: Path):
        self.history = data_dir / "chat-history"
        self.session: Any = None

    async def listen(self, talk: Talk) -> None:
        """Reads and answers until Ctrl-D or /quit."""
        self.session = self._open(talk)
        warned = False
        while True:
            try:
                line = await self.session.prompt_async(self._prompt(talk))
            except KeyboardInterrupt:
                talk.say("Ctrl-D or /quit leaves.")
                if warned:
                    return
                warned = True
                continue
            except EOFError:
                return
            warned = False
            if line.strip():
                await guarded(talk, line)

    def _open(self, talk: Talk) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import FileHistory

        from ...graphs.engine import MODES

        self.history.parent.mkdir(parents=True, exist_ok=True)
        registry = talk.agent.engine.runtime.registry
        names = {
            "tools": lambda: [t.name for t in registry.offered()],
            "mode": lambda: list(MODES),
            "policy": lambda: ["fastest", "best", "pinned", "llm"],
            "plan": lambda: ["on", "off"],
            "resume": lambda: [r.thread for r in talk.agent.engine.runs.threads()][:20],
            "open": lambda: [str(n + 1) for n in range(len(talk.files))],
        }
        return PromptSession(
            history=FileHistory(str(self.history)), completer=completer(names), complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(), key_bindings=self._keys(), multiline=True,
            prompt_continuation="… ", bottom_toolbar=lambda: self._toolbar(talk), reserve_space_for_menu=6,
        )  # fmt: skip

    @staticmethod
    def _prompt(talk: Talk) -> str:
        return f"({len(talk.attached)}) > " if talk.attached else "> "

    @staticmethod
    def _toolbar(talk: Talk) -> str:
        files = f"  attached: {', '.join(Path(p).name for p in talk.attached)}" if talk.attached else ""
        approval = "  plans wait for a yes" if talk.approve else ""
        return f" {talk.mode}  {talk.agent.settings.controller}  {talk.thread}{approval}{files}"

    @staticmethod
    def _keys() -> Any:
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("enter")
        def _(event: Any) -> None:
            buffer = event.current_buffer
            if buffer.complete_state and buffer.complete_state.current_completion:
                buffer.apply_completion(buffer.complete_state.current_completion)
            elif buffer.document.text_before_cursor.endswith("\\") and buffer.document.is_cursor_at_the_end:
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _(event: Any) -> None:
            event.current_buffer.insert_text("\n")

        return keys

    async def ask(self, question: str) -> str:
        """Puts a question; Ctrl-C and Ctrl-D mean no."""
        from prompt_toolkit import PromptSession

        try:
            answer: str = await PromptSession().prompt_async(question)
            return answer
        except (EOFError, KeyboardInterrupt):
            return "n"

    async def edit(self, text: str) -> str | None:
        """Lets the user's editor have a text."""
        import click

        return await asyncio.to_thread(lambda: click.edit(text, extension=".json"))
