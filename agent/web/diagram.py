"""The plan as a picture that lives: tasks by level, edges between them, status in words and colour.

    board = Board()
    board.event(PlanMade(...)); board.event(TaskStarted(...))
    board.html()              # an SVG, and below it a fold-out for each task
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...controller.plan import referenced
from ...core.events import Event, PlanMade, TaskDone, TaskFailed, TaskProgress, TaskStarted

WIDTH, HEIGHT, GAP_X, GAP_Y = 236, 58, 44, 18
WORDS = {
    "waiting": "waiting", "running": "running", "done": "done", "cached": "from the cache", "failed": "failed",
    "skipped": "skipped", "stopped": "stopped",
}  # fmt: skip


@dataclass
class Row:
    """One task as it stands."""

    id: int
    task: str
    args: Mapping[str, str]
    dep: tuple[int, ...]
    status: str = "waiting"
    expert: str = ""
    seconds: float = 0.0
    progress: str = ""
    error: str = ""
    outputs: list[str] = field(default_factory=list)
    seed: int | None = None


class Board:
    """The state of one plan, fed by events."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.bridges: tuple[str, ...] = ()
        self.controller = ""
        self.seconds = 0.0

    def event(self, event: Event) -> bool:
        """Takes an event; whether anything changed."""
        if isinstance(event, PlanMade):
            self.rows = _rows(event.tasks)
            self.bridges, self.controller, self.seconds = event.bridges, event.controller, event.seconds
            return True
        if isinstance(event, TaskStarted) and event.id not in self.rows:  # end to end there is no plan beforehand
            self.rows[event.id] = Row(event.id, event.task, {}, ())
        row = self.rows.get(getattr(event, "id", -1))
        if row is None:
            return False
        if isinstance(event, TaskStarted):
            row.status, row.expert = "running", event.expert
        elif isinstance(event, TaskProgress):
            share = f"{100 * event.done / event.total:.0f}% " if event.total else ""
            row.progress = f"{share}{event.note}"
        elif isinstance(event, TaskDone):
            row.status, row.expert = "cached" if event.cached else "done", event.expert
            row.seconds, row.progress = event.seconds, ""
            row.outputs = [str(a.get("text") or a["name"]) for a in event.artifacts]
            row.seed = next((a["provenance"]["seed"] for a in event.artifacts if a.get("provenance")), None)
        elif isinstance(event, TaskFailed):
            row.status, row.error = "skipped" if event.skipped else "failed", event.error
        return True

    def go_on(self, plan: Iterable[Mapping[str, Any]]) -> None:
        """Takes the tasks of a run that goes on: its plan is not announced again."""
        self.rows = _rows(plan)

    def halt(self) -> None:
        """What runs was stopped."""
        for row in self.rows.values():
            if row.status == "running":
                row.status, row.progress = "stopped", ""

    def html(self) -> str:
        """The whole panel, every text of others escaped."""
        if not self.rows:
            return '<p class="al-none">The plan appears here when a request needs tools.</p>'
        notes = "".join(f'<p class="al-note">{_e(b)}</p>' for b in self.bridges)
        folds = "".join(self._fold(r) for r in self.rows.values())
        by = f"planned in {self.seconds:.1f} s by {_e(self.controller)}" if self.controller else ""
        made = f'<p class="al-made">{by}</p>'
        return f'<section aria-label="Plan">{self._svg()}{made}{notes}<div class="al-folds">{folds}</div></section>'

    def _levels(self) -> dict[int, int]:
        level: dict[int, int] = {}
        for r in self.rows.values():  # plans come in order of their dependencies
            level[r.id] = 1 + max((level.get(d, -1) for d in r.dep), default=-1)
        return level

    def _svg(self) -> str:
        level = self._levels()
        place: dict[int, tuple[int, int]] = {}
        used: dict[int, int] = {}
        for i, at in level.items():
            place[i] = (at * (WIDTH + GAP_X), used.get(at, 0) * (HEIGHT + GAP_Y))
            used[at] = used.get(at, 0) + 1
        width = max(x for x, _ in place.values()) + WIDTH + 4
        height = max(y for _, y in place.values()) + HEIGHT + 4
        edges = "".join(self._edge(place[d], place[r.id]) for r in self.rows.values() for d in r.dep if d in place)
        boxes = "".join(self._box(r, *place[r.id]) for r in self.rows.values())
        count = len(self.rows)
        label = f"{count} task{'s' if count > 1 else ''}: " + "; ".join(
            f"{r.id} {r.task} {WORDS[r.status]}" for r in self.rows.values()
        )
        view = f'viewBox="-2 -2 {width} {height}" width="{width}" height="{height}"'
        return f'<div class="al-scroll"><svg role="img" aria-label="{_e(label)}" {view}>{edges}{boxes}</svg></div>'

    @staticmethod
    def _edge(one: tuple[int, int], two: tuple[int, int]) -> str:
        x1, y1, x2, y2 = one[0] + WIDTH, one[1] + HEIGHT // 2, two[0], two[1] + HEIGHT // 2
        bend = (x2 - x1) / 2
        return f'<path class="al-edge" d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"/>'

    @staticmethod
    def _box(r: Row, x: int, y: int) -> str:
        what = r.progress or (f"{WORDS[r.status]}, {r.seconds:.1f} s" if r.status == "done" else WORDS[r.status])
        return (
            f'<g class="al-box al-{r.status}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
            f'<text x="{x + 12}" y="{y + 24}" class="al-name">{r.id}  {_e(_short(r.task, 24))}</text>'
            f'<text x="{x + 12}" y="{y + 44}" class="al-what">{_e(_short(what, 36))}</text></g>'
        )

    def _fold(self, r: Row) -> str:
        inputs = "".join(f"<li>{_e(k)}: {_e(self._source(v))}</li>" for k, v in r.args.items())
        outputs = "".join(f"<li>{_e(_short(o, 600))}</li>" for o in r.outputs)
        facts = [("expert", r.expert), ("seed", "" if r.seed is None else str(r.seed)), ("error", r.error)]
        shown = "".join(f"<li>{k}: {_e(v)}</li>" for k, v in facts if v)
        made = f"<p>made</p><ul>{outputs}</ul>" if outputs else ""
        return (
            f'<details><summary><b>{r.id}</b> {_e(r.task)} <span class="al-tag al-{r.status}">{WORDS[r.status]}'
            f"</span></summary><ul>{inputs}{shown}</ul>{made}</details>"
        )

    def _source(self, value: str) -> str:
        ref = referenced(value)
        return value if ref is None else f"what task {ref} makes"


def _rows(tasks: Iterable[Mapping[str, Any]]) -> dict[int, Row]:
    return {t["id"]: Row(t["id"], t["task"], t["args"], _deps(t)) for t in tasks}


def _deps(task: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(d for d in task.get("dep", ()) if d >= 0)


def _e(text: str) -> str:
    return html.escape(text)


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


CSS = """
.al-scroll {overflow-x: auto; padding: 4px 0; contain: inline-size}
.al-box rect {fill: var(--background-fill-secondary); stroke: var(--border-color-primary); stroke-width: 1.5}
.al-box text {fill: var(--body-text-color); font-size: 13px}
.al-box .al-name {font-weight: 600}
.al-box .al-what {opacity: .75; font-size: 12px}
.al-running rect {stroke: #2563eb; stroke-width: 2.5}
.al-done rect, .al-cached rect {stroke: #15803d; stroke-width: 2}
.al-failed rect {stroke: #b91c1c; stroke-width: 2.5}
.al-skipped rect, .al-stopped rect {stroke-dasharray: 5 4}
.dark .al-running rect {stroke: #60a5fa}
.dark .al-done rect, .dark .al-cached rect {stroke: #4ade80}
.dark .al-failed rect {stroke: #f87171}
.al-edge {fill: none; stroke: var(--body-text-color-subdued); stroke-width: 1.5}
.al-folds details {border-top: 1px solid var(--border-color-primary); padding: 6px 2px}
.al-folds summary {cursor: pointer}
.al-folds ul {margin: 4px 0 4px 18px; list-style: disc; overflow-wrap: anywhere}
.al-tag {float: right; font-size: 12px; opacity: .75}
.al-made, .al-none, .al-note {font-size: 13px; color: var(--body-text-color); opacity: .75; margin: 4px 0}
.al-sides {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 20px}
.al-sides h3 {margin: 2px 0 4px; font-size: 15px}
.al-table {border-collapse: collapse; font-size: 13px; margin-top: 10px}
.al-table caption {text-align: left; font-weight: 600; padding: 4px 0}
.al-table th, .al-table td {
  text-align: left; padding: 4px 14px 4px 0 !important; vertical-align: top;
  border: solid var(--border-color-primary) !important; border-width: 1px 0 0 !important
}
.al-table tbody th {font-weight: 400; opacity: .75; white-space: nowrap}
@media (prefers-reduced-motion: no-preference) {
  .al-running rect {animation: al-pulse 1.6s ease-in-out infinite}
  @keyframes al-pulse {50% {stroke-opacity: .35}}
}
"""
