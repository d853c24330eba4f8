"""The plan at a terminal while it runs: a line a task, with status, expert, time, and what it made.

    board = Board(console)
    board.start(); board.take(PlanMade(...)); board.take(TaskStarted(...)); board.stop()

It is drawn anew eight times a second in place (rich's Live); `stop` leaves the last picture.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.events import Download, Event, PlanMade, TaskDone, TaskFailed, TaskProgress, TaskStarted
from .terminal import MARKS, arguments, harmless, short, weights_name

WAITING = "○"
STYLES = {"done": "green", "cached": "green", "failed": "red", "skipped": "yellow", "waiting": "dim", "running": "cyan"}
TEXT_LINES = 3  # of a text result that stand below its task
BAR = 24  # characters


@dataclass
class Row:
    """One task. `status` is waiting, running, done, cached, failed, skipped or stopped."""

    id: int
    task: str
    args: str = ""
    status: str = "waiting"
    expert: str = ""
    started: float = 0.0
    seconds: float = 0.0
    step: tuple[float, float, str] = (0.0, 0.0, "")
    made: tuple[str, ...] = ()


class Board:
    """Takes events and draws. `plan` is what is known of tasks that come up without a PlanMade."""

    def __init__(self, console: Any, plan: Iterable[Mapping[str, Any]] = ()):
        from rich.live import Live
        from rich.spinner import Spinner

        self.console = console
        self.known = {t.get("id"): arguments(t.get("args") or {}) for t in plan}
        self.rows: dict[int, Row] = {}
        self.head = ""
        self.bridges: tuple[str, ...] = ()
        self.doing = "" if self.known else "planning"
        self.began = time.monotonic()
        self.downloads: dict[str, Download] = {}
        self.running = False
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._picture, console=console, refresh_per_second=8, vertical_overflow="ellipsis"
        )

    def start(self) -> None:
        """Begins to draw."""
        self.running = True
        self._live.start(refresh=True)

    def stop(self) -> None:
        """Draws the last picture, with what did not end marked as stopped."""
        if not self.running:
            return
        self.running, self.doing = False, ""
        self.downloads.clear()
        for row in self.rows.values():
            if row.status == "running":
                row.status, row.seconds = "stopped", time.monotonic() - row.started
        self._live.vertical_overflow = "visible"
        self._live.stop()

    def take(self, event: Event) -> None:
        """Notes what an event says; the next drawing shows it."""
        if isinstance(event, PlanMade):
            self._plan(event)
        elif isinstance(event, Download):
            self.downloads[event.uri] = event
            if event.total and event.done >= event.total:
                self.downloads.pop(event.uri)
        elif isinstance(event, TaskStarted):
            row = self._row(event.id, event.task)
            row.status, row.expert, row.started = "running", event.expert, time.monotonic()
        elif isinstance(event, TaskProgress):
            if event.id in self.rows:
                self.rows[event.id].step = (event.done, event.total, event.note)
            elif not self.rows:  # end to end: there is no plan, and a model is opened first
                self.doing = event.note
        elif isinstance(event, TaskDone):
            row = self._row(event.id, event.task)
            row.status, row.expert, row.seconds = "cached" if event.cached else "done", event.expert, event.seconds
            row.made = tuple(a.get("text") or a["name"] for a in event.artifacts)
        elif isinstance(event, TaskFailed):
            row = self._row(event.id, event.task)
            row.status, row.made = "skipped" if event.skipped else "failed", (event.error,)

    def _plan(self, event: PlanMade) -> None:
        self.doing = "" if event.tasks else "answering"
        if not event.tasks:
            return
        self.head, self.bridges = f"({event.seconds:.1f} s, {event.controller})", event.bridges
        earlier, self.rows = self.rows, {}
        for task in event.tasks:  # a second plan keeps what was done
            row = earlier.get(task["id"])
            kept = row is not None and row.task == task["task"] and row.status in ("done", "cached")
            self.rows[task["id"]] = row if row and kept else Row(task["id"], task["task"], arguments(task["args"]))

    def _row(self, id: int, task: str) -> Row:
        self.doing = ""
        return self.rows.setdefault(id, Row(id, task, self.known.get(id, "")))

    def _picture(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        width = max(self.console.width - 1, 20)
        lines: list[Text] = []
        if self.head:
            lines.append(Text.assemble(("Plan", "bold"), (f" {harmless(self.head)}", "dim")))
        for bridge in self.bridges:
            lines.append(Text.assemble(("  bridge ", "yellow"), harmless(bridge)))
        rows = list(self.rows.values())
        names = max((len(r.task) for r in rows), default=0)
        experts = max((len(r.expert) for r in rows), default=0)
        for row in rows:
            lines += self._task(row, names, experts, width)
        for download in list(self.downloads.values()):
            lines.append(self._download(download))
        if self.doing:
            seconds = time.monotonic() - self.began
            lines.append(Text.assemble(self._turning(), f" {self.doing}", (f"  {seconds:.0f} s", "dim")))
        for line in lines:
            if line.cell_len > width:
                line.truncate(width, overflow="ellipsis")
        return Group(*lines)

    def _task(self, row: Row, names: int, experts: int, width: int) -> list[Any]:
        from rich.text import Text

        style = STYLES.get(row.status, "yellow")
        line = Text.assemble(
            self._mark(row), (f" {row.id}  ", style), harmless(f"{row.task:<{names}}"),
            (f"  {harmless(row.expert):<{experts}}  {self._time(row):>7}  ", "dim" if row.expert else ""),
            (harmless(row.args), "dim"),
        )  # fmt: skip
        below = Text("     ")
        if row.status == "running" and (row.step[1] or row.step[2]):
            return [line, below + self._bar(*row.step)]
        shown = [harmless(short(m, TEXT_LINES * (width - 5))) for m in row.made if m.strip()]
        red = "red" if row.status == "failed" else ""
        wrapped = [part for m in shown for part in Text(m, red).wrap(self.console, max(width - 5, 10))[:TEXT_LINES]]
        return [line, *(below + part for part in wrapped)]

    def _mark(self, row: Row) -> Any:
        if row.status == "running":
            return self._turning()
        return (MARKS.get(row.status, WAITING if row.status == "waiting" else "■"), STYLES.get(row.status, "yellow"))

    def _turning(self) -> Any:
        text = self._spinner.render(time.monotonic())
        return (getattr(text, "plain", "*"), "cyan")

    def _time(self, row: Row) -> str:
        if row.status == "running":
            return f"{time.monotonic() - row.started:.1f} s"
        if row.status in ("done", "failed", "stopped"):
            return f"{row.seconds:.1f} s" if row.seconds else ""
        return {"cached": "cache", "skipped": "skipped"}.get(row.status, "")

    @staticmethod
    def _bar(done: float, total: float, note: str) -> Any:
        from rich.text import Text

        if not total:
            return Text(harmless(note), "dim")
        full = round(BAR * min(max(done / total, 0), 1))
        steps = f" {done:g} of {total:g}" if total > 1 else f" {100 * done / total:.0f} %"
        return Text.assemble(("━" * full, "cyan"), ("━" * (BAR - full), "bright_black"), f"{steps} {harmless(note)}")

    def _download(self, event: Download) -> Any:
        from rich.text import Text

        name = f"{self._turning()[0]} fetching {harmless(weights_name(event.uri))} "
        if not event.total:
            return Text(f"{name} {event.done / 1e6:.0f} MB")
        return Text(name) + self._bar(round(event.done / 1e6), max(round(event.total / 1e6), 1), "MB")
