"""Two modes at work, beside each other at a terminal: plan, tasks and words of each as they come.

    with SideBySide(console, ("cascade", "end2end")) as view:
        await engine.ask(request, emit=view.of("cascade"))
        view.done("cascade", "12.3 s")

They run one after the other, so that neither takes time and memory from the other; the second waits, and says so.
Where the output is no terminal, the same is said in lines under a heading for each mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.events import AnswerText, Download, Emit, Event, Notice, PlanMade, TaskDone, TaskFailed, TaskStarted
from .terminal import MARKS, TerminalView, arguments, escaped, harmless, short, weights_name

WORDS = 400  # characters of an answer that are shown while it is made


class SideBySide:
    """One half for each mode."""

    def __init__(self, console: Any, modes: Sequence[str]):
        self.console = console
        self.halves = {m: Half(m) for m in modes}
        self._live: Any = None

    def __enter__(self) -> SideBySide:
        if self.console.is_terminal:
            from rich.live import Live

            self._live = Live(get_renderable=self._picture, console=self.console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def of(self, mode: str) -> Emit:
        """Who takes this mode's events."""
        half = self.halves[mode]
        half.state = "…"
        if self._live is not None:
            return half.take
        self.console.print(f"[bold]{escaped(mode)}[/bold]")
        return TerminalView(self.console)

    def done(self, mode: str, how: str) -> None:
        """A mode is through."""
        self.halves[mode].state = how
        if self._live is None:
            self.console.print(f"\n{escaped(how)}\n", soft_wrap=True)

    def _picture(self) -> Any:
        from rich.table import Table

        grid = Table.grid(expand=True, padding=(0, 1))
        for _ in self.halves:
            grid.add_column(ratio=1)
        grid.add_row(*(h.panel() for h in self.halves.values()))
        return grid


class Half:
    """What one mode has come to."""

    def __init__(self, mode: str):
        self.mode, self.state, self.words, self.doing = mode, "waits for its turn", "", ""
        self.tasks: dict[int, tuple[str, str, str]] = {}  # mark, task, what is said of it

    def take(self, event: Event) -> None:
        """Any event of the run."""
        if isinstance(event, PlanMade):
            self.tasks = {t["id"]: ("○", t["task"], arguments(t["args"])) for t in event.tasks}
        elif isinstance(event, TaskStarted):
            self.tasks[event.id] = (MARKS["started"], event.task, event.expert)
        elif isinstance(event, TaskDone):
            made: Mapping[str, Any] = event.artifacts[0] if event.artifacts else {}
            said = made.get("text") or made.get("name") or ""
            self.tasks[event.id] = (MARKS["done"], event.task, f"{event.seconds:.1f} s  {said}")
        elif isinstance(event, TaskFailed):
            self.tasks[event.id] = (MARKS["skipped" if event.skipped else "failed"], event.task, event.error)
        elif isinstance(event, AnswerText):
            self.words += event.text
        elif isinstance(event, Download):
            self.doing = f"fetching {weights_name(event.uri)}"
        elif isinstance(event, Notice):
            self.doing = event.text

    def panel(self) -> Any:
        """As a box."""
        from rich.panel import Panel
        from rich.text import Text

        rows = [f"{mark} {i}  {task}  {short(said, 90)}" for i, (mark, task, said) in sorted(self.tasks.items())]
        parts = [*rows, *([self.doing] if self.doing else []), short(self.words, WORDS)]
        body = Text(harmless("\n".join(p for p in parts if p)) or " ")
        return Panel(body, title=escaped(self.mode), subtitle=escaped(short(self.state, 60)), title_align="left")
