"""The keyboard of a conversation: a prompt with history, completion and several lines (prompt_toolkit)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ..modes import modes
from ..terminal import harmless
from .complete import completer
from .loop import guarded
from .talk import Talk

ANSWERS_IN = 0.5  # seconds that a terminal has to say what it can


class Keys:
    """Who sits at the terminal."""

    at_terminal = True

    def __init__(self, data_dir: Path):
        self.file = data_dir / "chat-history"

    async def listen(self, talk: Talk) -> None:
        """Reads and answers until Ctrl-D or /quit."""
        session = self._session(talk)
        while True:
            try:
                line = await session.prompt_async(lambda: self._prompt(talk), handle_sigint=False)
            except KeyboardInterrupt:  # at an empty prompt
                talk.say("Ctrl-D or /quit leaves; the conversation is kept.")
                continue
            except EOFError:
                return
            if line.strip():
                await guarded(talk, line)

    def _session(self, talk: Talk) -> Any:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.styles import Style

        names, words = _names(talk)
        quiet_bar = Style.from_dict({"bottom-toolbar": "noreverse fg:ansibrightblack"})
        return PromptSession(
            history=self._history(), completer=completer(names, words), complete_while_typing=True,
            complete_in_thread=True, auto_suggest=AutoSuggestFromHistory(), key_bindings=_keys(), multiline=True,
            prompt_continuation="… ", bottom_toolbar=lambda: self._toolbar(talk), reserve_space_for_menu=6,
            style=quiet_bar,
        )  # fmt: skip

    def _history(self) -> Any:
        """What was typed before, readable by its owner only; in memory where it cannot be written."""
        from prompt_toolkit.history import FileHistory, InMemoryHistory

        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        except OSError:
            return InMemoryHistory()
        return FileHistory(str(self.file))

    @staticmethod
    def _prompt(talk: Talk) -> str:
        return f"({len(talk.attached)}) > " if talk.attached else "> "

    @staticmethod
    def _toolbar(talk: Talk) -> str:
        parts = [talk.mode, talk.agent.settings.controller, f"conversation {talk.thread}"]
        parts += ["plans wait for a yes"] if talk.approve else []
        parts += [f"attached: {', '.join(a.name for a in talk.attached)}"] if talk.attached else []
        return " " + harmless("  ·  ".join(parts))

    async def ask(self, question: str) -> str:
        """Puts a question; Ctrl-C and Ctrl-D mean no. What was typed before it was seen is no answer."""
        from prompt_toolkit import PromptSession

        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios

            with contextlib.suppress(termios.error):
                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        try:
            answer: str = await PromptSession().prompt_async(question, handle_sigint=False)
            return answer
        except (EOFError, KeyboardInterrupt):
            return "n"

    async def edit(self, text: str) -> str | None:
        """Lets the user's editor ($VISUAL, $EDITOR) have a text."""
        import click

        try:
            return await asyncio.to_thread(lambda: click.edit(text, extension=".json"))
        except click.ClickException as e:
            raise InputError(f"The editor did not open ({e.format_message()}); set EDITOR. The plan waits.") from e

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """What is typed while a request runs is not shown in the middle of it; the next prompt gets it."""
        try:
            import termios

            fd = sys.stdin.fileno()
            before = termios.tcgetattr(fd)
        except (ImportError, OSError, ValueError, termios.error):
            yield
            return
        silent = [*before]
        silent[3] &= ~termios.ECHO
        termios.tcsetattr(fd, termios.TCSADRAIN, silent)
        try:
            yield
        finally:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _names(talk: Talk) -> tuple[dict[str, Any], Any]:
    """What Tab offers after each command, and in a request."""
    def registry() -> Any:
        return talk.agent.engine.runtime.registry

    def tools() -> list[str]:
        return [t.name for t in registry().offered()]

    def pins() -> list[str]:
        return [f"{t}={e.name}" for t in tools() for e in registry().experts(t)]

    def threads() -> list[str]:
        return list(dict.fromkeys(r.thread for r in talk.agent.engine.runs.list()))[:20]

    arguments = {
        "tools": tools,
        "mode": modes,
        "policy": lambda: ["fastest", "best", "pinned", "llm", *pins()],
        "controller": lambda: ["local", "openai:"],
        "plan": lambda: ["on", "off"],
        "resume": threads,
        "open": lambda: [str(n + 1) for n in range(len(talk.gallery.items))],
    }
    return arguments, lambda: [*tools(), *dict.fromkeys(p.partition("=")[2] for p in pins())]


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

    @keys.add("tab")
    def _(event: Any) -> None:
        complete(event.current_buffer)

    @keys.add("c-c")
    def _(event: Any) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt, style="class:aborting")

    return keys


def complete(buffer: Any) -> None:
    """Tab: the only choice is taken at once, also where the menu has not come up yet; several are gone through."""
    from prompt_toolkit.completion import CompleteEvent

    state = buffer.complete_state
    asked = CompleteEvent(completion_requested=True)
    choices = state.completions if state else list(buffer.completer.get_completions(buffer.document, asked))
    if len(choices) == 1:
        buffer.apply_completion(choices[0])
    elif state:
        buffer.complete_next()
    else:
        buffer.start_completion(insert_common_part=True)


def terminal_draws_sixel() -> bool:
    """Asks the terminal for its attributes (DA1): sixel is number 4. False where it does not answer soon."""
    try:
        import termios
        import tty

        fd = sys.stdin.fileno()
        before = termios.tcgetattr(fd)
    except (ImportError, OSError, ValueError, termios.error):
        return False
    if select.select([fd], [], [], 0)[0]:  # somebody types already, and it would be lost
        return False
    try:
        tty.setcbreak(fd)
        sys.stdout.write("\x1b[c")
        sys.stdout.flush()
        answer, until = b"", time.monotonic() + ANSWERS_IN
        while not answer.endswith(b"c") and (left := until - time.monotonic()) > 0:
            if select.select([fd], [], [], left)[0]:
                answer += os.read(fd, 64)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
    return b"\x1b[?" in answer and b"4" in answer.rpartition(b"?")[2].rstrip(b"c").split(b";")[1:]
