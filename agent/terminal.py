"""How a run looks in a terminal: the plan, each task as it starts and ends, the answer, the files.

At a terminal the plan is one picture that changes as tasks go on, and stays when they are done. Where
the output is no terminal the same is said in lines, without colours and without moving parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..controller.plan import referenced
from ..core.events import (
    AnswerDone,
    AnswerText,
    Download,
    Event,
    Notice,
    PlanMade,
    TaskDone,
    TaskFailed,
    TaskProgress,
    TaskStarted,
)  # fmt: skip
from ..graphs.citations import NAMED, unlinked

MARKS = {"done": "✓", "cached": "≡", "failed": "✗", "skipped": "–", "started": "•"}
JOINERS = "\u200c\u200d"  # they have no width, and Persian, Hindi and composed pictures need them


def plan_lines(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """A plan in words, a line a task: `1  text-to-speech  text ← 0`."""
    tasks = list(tasks)
    width = max((len(t["task"]) for t in tasks), default=0)
    return [f"  {t['id']}  {t['task']:<{width}}  {arguments(t['args'])}" for t in tasks]


def arguments(args: Mapping[str, Any]) -> str:
    """The arguments of a task in a few words: `image = note.png, text ← 0`."""
    parts = []
    for name, value in args.items():
        ref = referenced(str(value))
        shown = f"← {ref}" if ref is not None else f"= {short(str(value), 60)}"
        parts.append(f"{name} {shown}")
    return ", ".join(parts)


def short(text: str, length: int) -> str:
    """One line of a text, cut with an ellipsis."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def harmless(text: str) -> str:
    """Text without what a terminal would obey: control sequences and changes of direction become '�'."""
    return "".join(map(_harmless, text.replace("\r\n", "\n")))


def _harmless(char: str) -> str:
    if char.isprintable() or char in "\n\t" or char in JOINERS:
        return char
    return " " if unicodedata.category(char) == "Zs" else "�"  # a no-break space is no danger


def escaped(text: str) -> str:
    """`harmless`, and none of it is taken for markup of ours."""
    from rich.markup import escape

    return escape(harmless(text))


def open_console(**options: Any) -> Any:
    """A console that shows text as it is: no guessed highlights, no `:smile:` turned into a picture."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, **options)


_MAY_BE = re.compile(r"(?:!|!?\[[^\[\]\n]*(?:\](?:\([^()\n]*)?)?)\Z")


class TerminalView:
    """Shows events as they come. Use as a context manager, so that moving parts are ended.

    `plan` is what is known of a run that goes on: its tasks are shown as they come up.
    """

    def __init__(self, console: Any = None, plan: Iterable[Mapping[str, Any]] = ()):
        from .board import Board

        self.console = console or open_console()
        self.board = Board(self.console, plan) if self.console.is_terminal else None
        self.words = Words(self.console) if self.console.is_terminal else None
        self.names = Names()
        self.said_download: set[str] = set()
        self.in_answer = self.ended = False

    def __enter__(self) -> TerminalView:
        if self.board:
            self.board.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.board:
            self.board.stop()
        if self.in_answer:  # stopped in the middle of it
            self._on_AnswerDone()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        handler = getattr(self, "_on_" + type(event).__name__, None)
        of_answer = isinstance(event, AnswerText | AnswerDone)
        if of_answer or self.in_answer or self.board is None:
            shown = handler and not of_answer and not isinstance(event, TaskProgress)
            if shown and self.in_answer and not self.ended:  # a picture begun behind a sentence
                self._write((self.words.flush() if self.words else "") + "\n")
                self.ended = True
            if handler:
                handler(event)
        elif isinstance(event, Notice):
            self._on_Notice(event)
        else:
            self.board.take(event)

    def files(self, paths: list[Path]) -> None:
        """Where the files are."""
        self.console.print("\n[bold]Files[/bold]")
        for path in paths:
            self.console.print(f"  {escaped(str(path))}", soft_wrap=True)

    def _on_Notice(self, event: Notice) -> None:
        self.console.print(f"[yellow]note[/yellow] {escaped(event.text)}", soft_wrap=True)

    def _on_Download(self, event: Download) -> None:
        if event.uri not in self.said_download:
            self.said_download.add(event.uri)
            self.console.print(f"fetching {escaped(weights_name(event.uri))}")

    def _on_PlanMade(self, event: PlanMade) -> None:
        if not event.tasks:
            return
        self.console.print(f"Plan ({event.seconds:.1f} s, {escaped(event.controller)})")
        for line in plan_lines(event.tasks):
            self.console.print(escaped(line), soft_wrap=True)
        for bridge in event.bridges:
            self.console.print(f"  bridge {escaped(bridge)}", soft_wrap=True)
        self.console.print()

    def _on_TaskStarted(self, event: TaskStarted) -> None:
        self.console.print(f"{MARKS['started']} {event.id}  {escaped(event.task)}  {escaped(event.expert)}")

    def _on_TaskProgress(self, event: TaskProgress) -> None:
        """Only a terminal shows it."""

    def _on_TaskDone(self, event: TaskDone) -> None:
        mark = MARKS["cached"] if event.cached else MARKS["done"]
        how = "from the cache" if event.cached else f"{event.seconds:.1f} s"
        self.console.print(f"{mark} {event.id}  {escaped(event.task)}  {escaped(event.expert)}, {how}", soft_wrap=True)
        for artifact in event.artifacts:
            shown = artifact.get("text") or artifact["name"]
            self.console.print(f"     {escaped(short(shown, 200))}", soft_wrap=True)

    def _on_TaskFailed(self, event: TaskFailed) -> None:
        mark = MARKS["skipped" if event.skipped else "failed"]
        self.console.print(f"{mark} {event.id}  {escaped(event.task)}  {escaped(event.error)}", soft_wrap=True)

    def _on_AnswerText(self, event: AnswerText) -> None:
        if not self.in_answer:
            self.in_answer = True
            if self.board:
                self.board.stop()
            self.console.print("\n[bold]Answer[/bold]" if self.board is None or self.board.rows else "")
        self._say(self.names.feed(harmless(event.text)))

    def _on_AnswerDone(self, event: AnswerDone | None = None) -> None:
        if self.in_answer:
            self.in_answer = False
            self._say(self.names.flush())
            self._write((self.words.flush() if self.words else "") + "\n" * (not self.ended))

    def _say(self, text: str) -> None:
        if text:
            self.ended = text.endswith("\n")
            self._write(self.words.feed(text) if self.words else text)

    def _write(self, text: str) -> None:
        from rich.text import Text

        self.console.print(Text(text), end="", soft_wrap=True)


class Names:
    """Writes a file that an answer names as a link, `[a.png](a.png)`, as its name alone. Texts come in pieces: what
    may yet become such a link waits for the rest. Links that lead elsewhere stay as they are."""

    LONGEST = 400  # characters of a link

    def __init__(self) -> None:
        self.open = ""

    def feed(self, text: str) -> str:
        """What can be written by now."""
        text, at, self.open = self.open + text, 0, ""
        for link in NAMED.finditer(text):
            at = link.end()
        if (found := _MAY_BE.search(text, at)) and len(found[0]) <= self.LONGEST:
            text, self.open = text[: found.start()], found[0]
        return unlinked(text)

    def flush(self) -> str:
        """What waited and became none."""
        last, self.open = self.open, ""
        return last


class Words:
    """Breaks a text that comes in pieces between its words, where a terminal would break it anywhere."""

    def __init__(self, console: Any):
        self.console, self.column, self.word = console, 0, ""

    def feed(self, text: str) -> str:
        """What can be written by now: all but the word that may go on."""
        from re import split

        *whole, self.word = split(r"(\s)", self.word + text)
        return "".join(map(self._put, whole))

    def flush(self) -> str:
        """The last word."""
        last, self.word = self._put(self.word), ""
        return last

    def _put(self, part: str) -> str:
        from rich.cells import cell_len

        if part == "\n":
            self.column = 0
            return part
        width, room = cell_len(part), self.console.width - 1
        broken = self.column + width > room and self.column > 0
        if broken and part.isspace():
            self.column = room
            return ""
        self.column = width if broken else self.column + width
        return "\n" * broken + part


def weights_name(uri: str) -> str:
    """What is fetched, in a word."""
    return uri.split(":", 1)[-1].split("/")[0].split("#")[0]
