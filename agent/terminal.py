"""How a run looks in a terminal: the plan, each task as it starts and ends, the answer, the files.

Where the output is no terminal the same lines come without colours and without moving parts.
"""

from __future__ import annotations

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

MARKS = {"done": "✓", "cached": "≡", "failed": "✗", "skipped": "–", "started": "•"}


def plan_lines(tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """A plan in words, a line a task: `1  text-to-speech  text ← 0`."""
    tasks = list(tasks)
    width = max((len(t["task"]) for t in tasks), default=0)
    return [f"  {t['id']}  {t['task']:<{width}}  {_arguments(t['args'])}" for t in tasks]


def _arguments(args: Mapping[str, str]) -> str:
    parts = []
    for name, value in args.items():
        ref = referenced(value)
        shown = f"← {ref}" if ref is not None else f"= {_short(value, 60)}"
        parts.append(f"{name} {shown}")
    return ", ".join(parts)


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


class TerminalView:
    """Shows events as they come. Use as a context manager, so that moving parts are ended."""

    def __init__(self, console: Any = None):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = console or Console(highlight=False)
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.bars: dict[Any, Any] = {}
        self.said_download: set[str] = set()
        self.in_answer = False

    def __enter__(self) -> TerminalView:
        self.progress.start()
        self._bar("plan", "planning")
        return self

    def __exit__(self, *exc: object) -> None:
        for key in list(self.bars):
            self._end(key)
        self.progress.stop()

    def __call__(self, event: Event) -> None:
        """Shows one event."""
        handler = getattr(self, "_on_" + type(event).__name__, None)
        if handler:
            handler(event)

    def files(self, paths: list[Path]) -> None:
        """Where the files are."""
        self.console.print("\n[bold]Files[/bold]")
        for path in paths:
            self.console.print(f"  {_escape(str(path))}", soft_wrap=True)

    def _on_Notice(self, event: Notice) -> None:
        self.console.print(f"[yellow]note[/yellow] {_escape(event.text)}", soft_wrap=True)

    def _on_Download(self, event: Download) -> None:
        name = event.uri.split(":", 1)[-1].split("/")[0].split("#")[0]
        if event.uri not in self.said_download:
            self.said_download.add(event.uri)
            if not self.console.is_terminal:
                self.console.print(f"fetching {_escape(name)}")
        key = ("download", event.uri)
        size = f"{event.done / 1e6:.0f}" + (f" of {event.total / 1e6:.0f} MB" if event.total else " MB")
        self._bar(key, f"fetching {name}", event.done, event.total or None, size)
        if event.total and event.done >= event.total:
            self._end(key)

    def _on_PlanMade(self, event: PlanMade) -> None:
        self._end("plan")
        if not event.tasks:
            return
        self.console.print(f"[bold]Plan[/bold] [dim]({event.seconds:.1f} s, {_escape(event.controller)})[/dim]")
        for line in plan_lines(event.tasks):
            self.console.print(_escape(line), soft_wrap=True)
        for bridge in event.bridges:
            self.console.print(f"  [yellow]bridge[/yellow] {_escape(bridge)}", soft_wrap=True)
        self.console.print()

    def _on_TaskStarted(self, event: TaskStarted) -> None:
        label = f"{event.id}  {event.task}"
        if not self.console.is_terminal:
            self.console.print(f"{MARKS['started']} {label}  {event.expert}")
        self._bar(event.id, f"{label}  [dim]{_escape(event.expert)}[/dim]")

    def _on_TaskProgress(self, event: TaskProgress) -> None:
        if event.id in self.bars:
            self.progress.update(self.bars[event.id], completed=event.done, total=event.total or None, note=event.note)

    def _on_TaskDone(self, event: TaskDone) -> None:
        self._end(event.id)
        mark = MARKS["cached"] if event.cached else MARKS["done"]
        how = "from the cache" if event.cached else f"{event.seconds:.1f} s"
        self.console.print(
            f"[green]{mark}[/green] {event.id}  {_escape(event.task)}  [dim]{_escape(event.expert)}, {how}[/dim]",
            soft_wrap=True,
        )
        for artifact in event.artifacts:
            shown = artifact.get("text") or artifact["name"]
            self.console.print(f"     {_escape(_short(shown, 200))}", soft_wrap=True)

    def _on_TaskFailed(self, event: TaskFailed) -> None:
        self._end(event.id)
        mark = MARKS["skipped" if event.skipped else "failed"]
        self.console.print(
            f"[red]{mark}[/red] {event.id}  {_escape(event.task)}  {_escape(event.error)}", soft_wrap=True
        )

    def _on_AnswerText(self, event: AnswerText) -> None:
        self._end("plan")
        if not self.in_answer:
            self.in_answer = True
            self.console.print("\n[bold]Answer[/bold]")
        self.console.print(_escape(event.text), end="", soft_wrap=True)

    def _on_AnswerDone(self, event: AnswerDone) -> None:
        if self.in_answer:
            self.console.print()

    def _bar(self, key: Any, label: str, done: float = 0, total: float | None = None, note: str = "") -> None:
        if key not in self.bars:
            self.bars[key] = self.progress.add_task(label, total=None, note="")
        self.progress.update(self.bars[key], completed=done, total=total, note=note)

    def _end(self, key: Any) -> None:
        if key in self.bars:
            self.progress.remove_task(self.bars.pop(key))


def _escape(text: str) -> str:
    """Text as it is: no markup of ours, no control sequences of others."""
    from rich.markup import escape

    return escape("".join(c if c.isprintable() or c in "\n\t" else "�" for c in text))
