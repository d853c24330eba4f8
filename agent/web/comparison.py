"""One request in every mode, for the page: the plans beside each other, then what each mode took and made.

    sides = Sides(MODES)                                        # a board for each mode, fed by events of the kind Of
    found = await both(engine, request, thread, emit)           # one mode after the other, as `anyloom compare` does
    sides.table = lines(found.sides); sides.html()
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.events import Emit, Event
from ...graphs.engine import MODES, new_thread
from ..modes import title
from .diagram import Board

if TYPE_CHECKING:
    from ...graphs.engine import Engine
    from ...graphs.state import Answer, Request


@dataclass(frozen=True)
class Of(Event):
    """An event of one mode's run."""

    mode: str
    event: Event


@dataclass(frozen=True)
class Compared:
    """What came of it: an answer for each mode that gave one, what is measured of each, and the result for a file."""

    answers: dict[str, Answer]
    sides: list[dict[str, Any]]
    result: dict[str, Any]


class Sides:
    """The boards of a comparison, beside each other."""

    def __init__(self, modes: Sequence[str] = MODES):
        self.boards = {m: Board() for m in modes}
        self.table: list[tuple[str, list[str]]] = []
        self.turn = ""

    def event(self, event: Event) -> bool:
        """Takes an event; whether anything changed."""
        if not isinstance(event, Of):
            return False
        changed = self.turn != event.mode
        self.turn = event.mode
        return self.boards[event.mode].event(event.event) or changed

    def halt(self) -> None:
        """What runs was stopped."""
        for board in self.boards.values():
            board.halt()

    def html(self) -> str:
        """All boards, and the table when there is one."""
        return f'<div class="al-sides">{"".join(map(self._side, self.boards))}</div>{self._table()}'

    def _side(self, mode: str) -> str:
        board, order = self.boards[mode], list(self.boards)
        waits = not self.table and (not self.turn or order.index(mode) > order.index(self.turn))
        shown = board.html() if board.rows else f'<p class="al-none">{"waits for its turn" if waits else "no plan"}</p>'
        return f"<div><h3>{html.escape(title(mode))}</h3>{shown}</div>"

    def _table(self) -> str:
        if not self.table:
            return ""
        head = "".join(f'<th scope="col">{html.escape(title(m))}</th>' for m in self.boards)
        rows = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th>{"".join(f"<td>{html.escape(c)}</td>" for c in cells)}</tr>'
            for name, cells in self.table
        )
        return (
            f'<div class="al-scroll"><table class="al-table"><caption>Compared</caption><thead><tr><td></td>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table></div>"
        )


async def both(engine: Engine, request: Request, thread: str, emit: Emit) -> Compared:
    """Answers in each mode in turn. The conversation goes on from the first; the others get one of their own."""
    from ...evaluation.pair import beside, meaning_of, pair_result, watched

    bench = beside(engine)
    about = await meaning_of(bench, request.text, request.attachments)
    turns = [
        {"request": t.request, "answer": t.answer, "artifacts": [a.to_json() for a in t.artifacts], "attachments": []}
        for t in await engine.history(thread)
    ]
    answers: dict[str, Answer] = {}
    sides: list[dict[str, Any]] = []
    for mode in MODES:
        own = mode == MODES[0]

        async def answered(mode: str = mode, own: bool = own) -> Answer:
            asked = dataclasses.replace(request, mode=mode, approve=False)
            answers[mode] = await engine.ask(
                asked, thread=thread if own else new_thread(), emit=lambda e: emit(Of(mode, e)),
                turns=() if own else turns,
            )  # fmt: skip
            return answers[mode]

        sides.append(await watched(bench, mode, answered(), request.attachments, about))
    result = pair_result(bench, request.text, request.attachments, about, sides, request.seed or 0)
    return Compared(answers, sides, result)


def written(found: Compared, engine: Engine, folder: Path) -> Path:
    """The comparison as a page in one file, to keep or to send to somebody."""
    from ...evaluation.report.inline import from_store
    from ...evaluation.results import write

    folder.mkdir(parents=True)
    report: Path = write(found.result, folder, from_store(engine.store))
    return report.rename(folder / "comparison.html")
