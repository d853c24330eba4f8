"""One conversation at a terminal: its state, and how a request is answered. Knows nothing of keys and prompts.

    talk = Talk(agent, console, person)          # `person` answers questions; loop.py and tests have some
    await talk.take(read('/attach cat.png'))
    await talk.take("describe it aloud")

What each command does is in `setting.py` and `keeping.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...core.artifacts import Artifact
from ...core.errors import AnyloomError, InputError, PlanError, UnknownName, nearest
from ...core.events import Emit, Event, RunStarted
from ..agent import Agent
from ..intake import distinct, take
from ..modes import COMPARE
from ..terminal import TerminalView, escaped
from . import commands
from .commands import Command
from .gallery import Gallery

if TYPE_CHECKING:
    from ...graphs.engine import NeedsApproval
    from ...graphs.state import Answer, Request

QUESTION = "Run it? [y]es, [n]o, [e]dit, or numbers of tasks to drop: "
SHOWN = 8  # exchanges that are shown of a conversation that is opened
Begin = Callable[[Any], Awaitable[Any]]


class Person(Protocol):
    """Who types. `at_terminal`: questions are answered, and paths in what is typed are files dropped there."""

    at_terminal: bool

    async def listen(self, talk: Talk) -> None:
        """Takes what is typed until there is no more."""

    async def ask(self, question: str) -> str:
        """Puts a question."""

    async def edit(self, text: str) -> str | None:
        """Lets a text be changed; None when it was left as it is."""

    def quiet(self) -> AbstractContextManager[Any]:
        """While a request runs: what is typed is not shown."""


class Quit(Exception):
    """The user wants to leave."""


@dataclass
class Exchange:
    """A request and its answer, if it has one by now. `thread` differs from the talk's for a comparison.

    `begun` is False where it was refused before a run began: nothing of it is stored or can be resumed.
    """

    request: Request
    thread: str
    answer: Answer | None = None
    begun: bool = True


class Talk:
    """The state of one conversation. Commands change it through its attributes."""

    def __init__(
        self, agent: Agent, console: Any, person: Person, thread: str | None = None, pictures: str = "",
        errors: Any = None,
    ):  # fmt: skip
        from ...graphs.engine import checked_thread, new_thread

        self.agent, self.console, self.person = agent, console, person
        self.errors = errors or console
        self.gallery = Gallery(console, pictures)
        self.thread = checked_thread(thread) if thread else new_thread()
        self.mode = "cascade"
        self.policy: str | None = None
        self.pins: dict[str, str] = {}
        self.approve = False
        self.attached: list[Artifact] = []
        self.exchanges: list[Exchange] = []
        self.worst = 0  # the exit code, where nobody is at the terminal

    @property
    def unfinished(self) -> bool:
        """Whether `/resume` has something to go on with here."""
        last = self.exchanges[-1] if self.exchanges else None
        return last is not None and last.answer is None and last.thread == self.thread and last.begun

    async def take(self, typed: Command | str) -> None:
        """Carries out a command or a request. Errors are AnyloomErrors; Quit ends the conversation."""
        from . import keeping, setting

        if isinstance(typed, str):
            await self.ask(typed)
            return
        act = getattr(setting, f"do_{typed.name}", None) or getattr(keeping, f"do_{typed.name}")
        await act(self, typed)

    async def attach(self, words: Sequence[str]) -> None:
        """Takes files, addresses, or numbers of this conversation along; says what is wrong with them now."""
        for word in words:
            if word.isdigit():
                artifact = self.gallery.artifact(word)
            else:
                artifact = await asyncio.to_thread(self._taken, word)
            if any(a.sha256 == artifact.sha256 for a in self.attached):
                self.say(f"{artifact.name} is attached already")
                continue
            name = distinct(artifact.name, {a.name for a in self.attached})
            self.attached.append(dataclasses.replace(artifact, name=name))
            size = f"{artifact.size / 1000:.0f} kB" if artifact.size >= 1000 else f"{artifact.size} bytes"
            self.say(f"attached {name} ({artifact.modality}, {size})")

    def _taken(self, word: str) -> Artifact:
        return take(self.agent.engine.store, word, allow_urls=not self.agent.settings.offline)

    async def ask(self, text: str, **options: Any) -> None:
        """Answers a request in this conversation, with what is attached."""
        if self.person.at_terminal:
            text, paths = commands.lift(text)
            await self.attach(paths)
        request = await self.request(text, **options)
        self.attached = []
        await self.again(request)

    async def again(self, request: Request) -> None:
        """Answers a request that is ready, as the mode says. One that is refused leaves its files attached."""
        from .setting import compare

        if request.mode == COMPARE:
            await compare(self, request)
            return
        try:
            await self.answer(request)
        except AnyloomError:
            if not self.exchanges[-1].begun:
                self.attached = list(request.attachments)
            raise

    async def request(self, text: str, **options: Any) -> Request:
        """A checked request with what is attached and set here."""
        options = {"mode": self.mode, "policy": self.policy, "pinned": self.pins, "approve": self.approve, **options}
        request = await asyncio.to_thread(lambda: self.agent.request(text, **options))
        return dataclasses.replace(request, attachments=tuple(self.attached))

    async def answer(self, request: Request, thread: str | None = None, turns: Sequence[dict[str, Any]] = ()) -> None:
        """Answers a request that is ready, here or in another thread that begins with `turns`."""
        exchange = Exchange(request, thread or self.thread, begun=False)
        self.exchanges.append(exchange)
        engine = self.agent.engine

        def begin(emit: Emit) -> Awaitable[Answer]:
            def noting(event: Event) -> None:
                exchange.begun = exchange.begun or isinstance(event, RunStarted)
                emit(event)

            return engine.ask(request, thread=exchange.thread, emit=noting, turns=turns)

        await self.run(exchange, begin)

    async def run(self, exchange: Exchange, begin: Begin, plan: Sequence[Any] = ()) -> None:
        """Shows a run until there is an answer; asks about its plan where that is wanted."""
        from ...graphs.engine import NeedsApproval

        waiting: NeedsApproval | None = None
        while True:
            try:
                with self.person.quiet(), TerminalView(self.console, plan) as view:
                    exchange.answer = await begin(view)
                break
            except NeedsApproval as pause:
                waiting, plan = pause, pause.plan
            except PlanError as e:
                if waiting is None:
                    raise
                self.complain(e)
            begin, plan = await self._decision(waiting, plan)
        self._show(exchange.answer)

    async def _decision(self, waiting: NeedsApproval, plan: Sequence[Any]) -> tuple[Begin, Sequence[Any]]:
        """Asks until there is a decision about a plan; returns what goes on, and with which plan."""
        decision: dict[str, Any] = {}
        while not decision:
            reply = (await self.person.ask(QUESTION)).strip().lower()
            words = reply.replace(",", " ").split()
            if reply in ("", "y", "yes"):
                decision = {"approve": True}
            elif reply in ("n", "no"):
                decision = {"approve": False}
            elif reply in ("e", "edit"):
                edited = await self._edited(plan)
                decision = {} if edited is None else {"plan": edited}
            elif all(w.isdecimal() for w in words):
                decision = {"drop": [int(w) for w in words]}
            else:
                self.say(f"'{reply}' is neither yes, no, edit nor a list of task numbers.")
        engine = self.agent.engine
        return (lambda emit: engine.resume(waiting.thread, emit=emit, **decision)), decision.get("plan", waiting.plan)

    async def _edited(self, plan: Sequence[Any]) -> list[Any] | None:
        """The plan as the user's editor leaves it; None when it is as it was, or no plan any more."""
        try:
            text = await self.person.edit(json.dumps([dict(t) for t in plan], indent=2, ensure_ascii=False))
            edited = None if text is None else json.loads(text)
        except InputError as e:  # there is no editor
            self.complain(e)
            return None
        except ValueError as e:
            self.say(f"That is no JSON ({e}); the plan is as it was.")
            return None
        if edited is None:
            self.say("The plan is as it was.")
        elif not isinstance(edited, list) or not all(isinstance(t, dict) for t in edited):
            self.say("A plan is a list of tasks; it is as it was.")
            return None
        return edited

    def _show(self, answer: Answer) -> None:
        if not answer.ok:
            self.worst = max(self.worst, 1)
        if answer.artifacts:
            self.console.print()
        self.gallery.show(self.agent.engine.store, answer.artifacts)
        took = answer.costs.get("seconds")
        if took is not None:
            self.console.print(f"[dim]{float(took):.1f} s[/dim]")

    async def open(self, thread: str) -> None:
        """Another conversation: what was said there is shown. UnknownName when there is none."""
        from ...graphs.state import Answer, Request

        engine = self.agent.engine
        rows = sorted({row.thread for row in await engine.threads()})
        fitting = [t for t in rows if t == thread] or [t for t in rows if t.startswith(thread)]
        if len(fitting) != 1:
            near = f"; it is the beginning of {len(fitting)}" if fitting else nearest(thread, rows)
            raise UnknownName(f"There is no conversation '{thread}'{near}; /threads lists them.")
        bundles = await asyncio.to_thread(engine.runs.of, fitting[0])
        self.begin(fitting[0])
        for b in bundles:
            answer = Answer.of_run(b) if b["state"] == "done" else None
            self.exchanges.append(Exchange(Request.from_json(b["request"]), self.thread, answer))
        self._recount()

    def _recount(self) -> None:
        """Shows the newest exchanges of a conversation that was opened, and numbers the files of all."""
        hidden = len(self.exchanges) - SHOWN
        if hidden > 0:
            self.say(f"({hidden} earlier exchanges are not shown; /save writes them all)")
        for n, x in enumerate(self.exchanges):
            if n >= hidden:
                self.console.print(f"[bold cyan]>[/bold cyan] {escaped(x.request.text)}", soft_wrap=True)
                self.say(x.answer.text.strip() if x.answer else "(not finished)")
            if x.answer:
                self.gallery.show(self.agent.engine.store, x.answer.artifacts, draw=False, quiet=n < hidden)

    def begin(self, thread: str) -> None:
        """Leaves this conversation for another; settings stay."""
        self.thread, self.exchanges, self.attached = thread, [], []
        self.gallery.items.clear()

    def say(self, text: str) -> None:
        """A line of our own."""
        self.console.print(escaped(text), soft_wrap=True)

    def complain(self, error: AnyloomError) -> None:
        """An error, in its one sentence."""
        self.worst = max(self.worst, error.exit_code)
        sentence = str(error).replace("use --mode cascade", "go on with /mode cascade")  # there are no flags here
        self.errors.print(f"[red]{escaped(' '.join(sentence.split()))}[/red]", soft_wrap=True)
