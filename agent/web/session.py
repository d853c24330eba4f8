"""What the page's controls do. Every handler checks that the conversation is the caller's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from ...controller.plan import Plan
from ...core.artifacts import Artifact, safe_name
from ...core.errors import AnyloomError, InputError, PlanError
from ...core.events import AnswerText, Download, Emit, Event, Notice, TaskProgress
from ...core.media import inspect_file
from ...graphs.citations import unlinked
from ...graphs.engine import NeedsApproval, new_thread
from ...graphs.state import Request
from ..agent import Agent
from ..modes import COMPARE, modes, title
from .comparison import Compared, Of, Sides, both, written
from .diagram import Board
from .owners import Owners

Message = dict[str, Any]
SHOWN = re.compile(r"image/(png|jpeg|gif|webp|bmp)|audio/.*|video/(mp4|webm)|text/.*")  # browsers show no others
LIVE = 500  # conversations whose newest plan is remembered, so that a stop can be drawn
PLANNING = "planning …"
PACE = 0.1  # seconds between two drawings: progress comes faster than a browser draws


class Door:
    """Answers for the page, over one agent."""

    def __init__(self, agent: Agent):
        self.agent = agent
        folder = agent.settings.data_dir / "web"
        self.owners = Owners(folder / "owners.sqlite")
        self.secret = _secret(folder / "secret")
        self.policy = agent.settings.policy
        self._live: dict[str, tuple[Board | Sides, list[Message]]] = {}
        self._out = Path(tempfile.mkdtemp(prefix="anyloom-web-"))

    def modes(self) -> list[tuple[str, str]]:
        """Label and name of each way to answer: the engine's modes, and all of them compared."""
        return [(title(m), m) for m in modes()]

    def about(self) -> str:
        """What the person who runs this server has set."""
        s = self.agent.settings
        limits = s.limits
        return (
            f"Set by this server: controller `{s.controller}`, profile `{s.profile}`; files up to "
            f"{limits.file_bytes / 1e6:.0f} MB, requests up to {limits.text_characters:,} characters."
        )

    # -- requests ---------------------------------------------------------------------------------

    async def put(self, typed: dict[str, Any] | None, chat: list[Message], camera: str | None) -> tuple[Any, ...]:
        """Moves what was typed into the conversation; the files travel on to `answer`."""
        typed = typed or {}
        files = [f for f in (*(typed.get("files") or ()), camera) if f]
        text = (typed.get("text") or "").strip()
        said = [{"role": "user", "content": await asyncio.to_thread(self._preview, f)} for f in files]
        if text:
            said.append({"role": "user", "content": plain(text)})
        return {"text": "", "files": []}, [*chat, *said], [text, *files], None

    def _preview(self, file: str) -> Any:
        """A file in the conversation; by name alone where a browser would show a broken picture."""
        try:
            kind = inspect_file(Path(file), self.agent.settings.limits).media_type
        except InputError:  # `answer` says what is wrong with it
            kind = ""
        return {"path": file} if SHOWN.fullmatch(kind) else plain(safe_name(Path(file).name))

    def give_back(self, box: dict[str, Any] | None, asked: list[str]) -> tuple[Any, Any]:
        """After a refusal the request is in the box again, unless something else was typed meanwhile."""
        typed = box or {}
        if not asked or typed.get("text") or typed.get("files"):
            return gr.skip(), []
        return {"text": asked[0], "files": asked[1:]}, []

    async def answer(
        self, owner: str, thread: str, asked: list[str], chat: list[Message], mode: str, policy: str, seed: float,
        limit: float, approve: bool, request: gr.Request,
    ) -> AsyncIterator[tuple[Any, ...]]:  # fmt: skip
        """Answers what `put` took, showing all that happens."""
        owner = _owner(owner, request)
        options = {"mode": mode, "policy": policy, "seed": int(seed or 0), "approve": approve}
        options["max_seconds"] = float(limit) if limit else None
        new = not thread
        thread = thread or new_thread()

        async def begin(emit: Emit) -> Any:
            if not asked or not asked[0]:
                raise InputError("The request is empty; say what should be done with it.")
            ready = await asyncio.to_thread(lambda: self.agent.request(asked[0], asked[1:], **options))
            if not (self.owners.claim(thread, owner, asked[0]) if new else self.owners.owns(thread, owner)):
                raise InputError("This conversation is not yours.")
            try:
                return await self._ask(ready, thread, emit)
            except AnyloomError:
                if new and await asyncio.to_thread(self.agent.engine.runs.last, thread) is None:
                    self.owners.forget(thread, owner)  # refused before it began: there is nothing to go back to
                raise

        async with aclosing(self._show(begin, thread, chat, asked, Sides() if mode == COMPARE else None)) as states:
            async for shown in states:
                yield shown

    async def _ask(self, request: Request, thread: str, emit: Emit) -> Any:
        engine = self.agent.engine
        if request.mode == COMPARE:
            return await both(engine, request, thread, emit)
        return await engine.ask(request, thread=thread, emit=emit)

    async def again(
        self, owner: str, thread: str, chat: list[Message], seed: float, mode: str, policy: str, _: float,
        limit: float, approve: bool, request: gr.Request,
    ) -> AsyncIterator[tuple[Any, ...]]:  # fmt: skip
        """The last request of the conversation with the next seed; it takes the place of the last answer."""
        number = int(seed or 0) + 1

        async def begin(emit: Emit) -> Any:
            self._mine(owner, thread, request)
            last = await asyncio.to_thread(self.agent.engine.runs.last, thread)
            if last is None:
                raise InputError("Nothing was asked here yet.")
            if last["state"] == "done":
                await self.agent.engine.undo(thread)
            changed = {"seed": number, "mode": mode, "policy": policy, "approve": approve}
            changed["max_seconds"] = float(limit) if limit else None
            return await self._ask(Request.from_json({**last["request"], **changed}), thread, emit)

        said = {"role": "user", "content": f"Again, with seed {number}."}
        board = Sides() if mode == COMPARE else None
        async with aclosing(self._show(begin, thread, [*chat, said], board=board)) as states:
            async for shown in states:
                yield *shown, number

    async def resume(
        self, owner: str, thread: str, chat: list[Message], request: gr.Request
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Finishes what was stopped; finished tasks are not run again."""

        async def begin(emit: Emit) -> Any:
            self._mine(owner, thread, request)
            last = await asyncio.to_thread(self.agent.engine.runs.last, thread)
            board.go_on((last or {}).get("plan") or ())
            return await self.agent.engine.resume(thread, emit=emit)

        board = Board()
        async with aclosing(self._show(begin, thread, chat, board=board)) as states:
            async for shown in states:
                yield shown

    async def decide(
        self, owner: str, thread: str, chat: list[Message], keep: list[str], edited: str, request: gr.Request
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Runs the plan that waits: as edited, or without the tasks that were taken out."""

        async def begin(emit: Emit) -> Any:
            self._mine(owner, thread, request)
            waiting = await self._waiting(thread)
            kept.append(([f"{t['id']} {t['task']}" for t in waiting], edited))
            try:
                plan = json.loads(edited)
            except ValueError as e:
                raise InputError(f"The plan is no JSON ({e}).") from e
            chosen = {int(k.split(" ", 1)[0]) for k in keep}
            dropped = [t["id"] for t in waiting if t["id"] not in chosen]
            board.go_on(Plan.parse(plan).to_json() if plan != waiting else [t for t in waiting if t["id"] in chosen])
            if plan != waiting:
                return await self.agent.engine.resume(thread, plan=plan, emit=emit)
            if dropped:
                return await self.agent.engine.resume(thread, drop=dropped, emit=emit)
            return await self.agent.engine.resume(thread, approve=True, emit=emit)

        board = Board()
        kept: list[tuple[list[str], str]] = []
        async with aclosing(self._show(begin, thread, chat, board=board, kept=kept)) as states:
            async for shown in states:
                yield shown

    async def reject(
        self, owner: str, thread: str, chat: list[Message], request: gr.Request
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Does not run the plan that waits."""

        async def begin(emit: Emit) -> Any:
            self._mine(owner, thread, request)
            return await self.agent.engine.resume(thread, approve=False, emit=emit)

        async with aclosing(self._show(begin, thread, chat)) as states:
            async for shown in states:
                yield shown

    async def _waiting(self, thread: str) -> list[dict[str, Any]]:
        try:
            await self.agent.engine.resume(thread)
        except NeedsApproval as pause:
            return [dict(t) for t in pause.plan]
        raise InputError("No plan waits here any more.")

    async def _show(
        self, begin: Callable[[Emit], Awaitable[Any]], thread: str, chat: list[Message], asked: list[str] | None = None,
        board: Board | Sides | None = None, kept: Sequence[tuple[list[str], str]] = (),
    ) -> AsyncGenerator[tuple[Any, ...], None]:  # fmt: skip
        """Runs `begin` and yields the page's state after each event; errors are one sentence of the answer.

        `asked` is what goes back into the box when it is refused, `kept` the plan that then waits on.
        """
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        board = Board() if board is None else board
        said, note, turn, new = "", PLANNING, "", False
        if thread:
            self._live[thread] = (board, chat)
            if len(self._live) > LIVE:
                del self._live[next(iter(self._live))]
        work = asyncio.ensure_future(begin(lambda e: loop.call_soon_threadsafe(events.put_nowait, e)))  # type: ignore[arg-type]
        work.add_done_callback(lambda _: events.put_nowait(None))

        def state(
            messages: list[Message], *, names: Any = None, approval: Any = None, refused: bool = False
        ) -> tuple[Any, ...]:
            keep, text = approval or ([], "")
            files = gr.update() if names is None else gr.update(choices=names, value=None)
            waits = gr.update(visible=approval is not None)
            here = "" if refused and not self.owners.known(thread) else thread
            back = list(asked or ()) if refused else []
            return messages, board.html(), here, back, files, waits, gr.update(choices=keep, value=keep), text

        try:
            yield state([*chat, _said(note)])
            while (event := await events.get()) is not None:
                drawn = board.event(event)
                if isinstance(event, Of):
                    said, turn, event = said if turn == event.mode else "", event.mode, event.event
                if isinstance(event, AnswerText):
                    said += event.text
                elif isinstance(event, Notice):
                    note = event.text
                elif isinstance(event, Download):
                    note = _fetching(event)
                elif isinstance(event, TaskProgress) and not drawn:  # end to end: there is no plan
                    note = f"{event.note} …"
                elif drawn:
                    note = "" if note == PLANNING else note
                new = new or drawn or isinstance(event, AnswerText | Notice | Download | TaskProgress)
                if new and events.empty():
                    new = False
                    yield state([*chat, _said(unlinked(said) or note or "working …")])
                    await asyncio.sleep(PACE)
            answer = await work
            if isinstance(answer, Compared):
                messages = [*chat, *await self._compared(answer, board)]
            else:
                messages = [*chat, *self._messages(answer.text, answer.artifacts)]
            names = await self._files(thread)
            self._live.pop(thread, None)
            yield state(messages, names=names)
        except NeedsApproval as pause:
            tasks = [f"{t['id']} {t['task']}" for t in pause.plan]
            plan = json.dumps([dict(t) for t in pause.plan], indent=2, ensure_ascii=False)
            self._live.pop(thread, None)
            yield state([*chat, _said("The plan waits for you below.")], approval=(tasks, plan))
        except AnyloomError as e:
            self._live.pop(thread, None)
            again = kept[0] if kept and isinstance(e, (InputError, PlanError)) else None
            yield state([*chat, _said(self._sentence(str(e)))], refused=True, approval=again)
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work

    def _sentence(self, error: str) -> str:
        """An error for the page: it has controls, no flags, and tells nobody where this server keeps its files."""
        error = error.replace("use --mode cascade", f"choose the mode '{title('cascade')}'")
        error = error.replace(" or use another --thread", "")
        return " ".join(error.replace(str(self.agent.settings.data_dir), "DATA").split())

    async def _compared(self, found: Compared, board: Board | Sides) -> list[Message]:
        """Each mode's answer under its name, and the comparison as a file to keep."""
        from ...evaluation.pair import lines

        if isinstance(board, Sides):
            board.table = lines(found.sides)
        messages: list[Message] = []
        for side in found.sides:
            answer = found.answers.get(side["mode"])
            text = answer.text if answer else self._sentence(side["reason"])
            messages += self._messages(f"{title(side['mode'])}: {text.strip()}", answer.artifacts if answer else ())
        page = await asyncio.to_thread(written, found, self.agent.engine, self._out / secrets.token_hex(8))
        return [*messages, {"role": "assistant", "content": {"path": str(page)}}]

    def _messages(self, text: str, artifacts: Any) -> list[Message]:
        """An answer for the conversation: its text, then each file with how it was made."""
        messages = [_said(unlinked(text).strip() or "Done.")]
        for a in artifacts:
            if a.modality == "text":
                continue
            file = self.agent.engine.store.export(a, self._out / secrets.token_hex(8))
            made = provenance(a if a.provenance else self._stored(a))
            messages.append({"role": "assistant", "content": {"path": str(file), "alt_text": made}})
            messages.append(_said(made))
        return messages

    def _stored(self, artifact: Artifact) -> Artifact:
        """With its provenance: what a conversation remembers is without."""
        try:
            return self.agent.engine.store.get(artifact.sha256)
        except AnyloomError:
            return artifact

    async def _files(self, thread: str) -> list[str]:
        """The names that the next request may use."""
        turns = await self.agent.engine.history(thread)
        return list(dict.fromkeys(a.name for t in reversed(turns) for a in t.artifacts))

    # -- conversations ----------------------------------------------------------------------------

    def stopped(self, owner: str, thread: str, request: gr.Request) -> tuple[Any, Any]:
        """Said when a run was stopped; the run itself is cancelled by Gradio closing its handler."""
        if thread not in self._live or not self.owners.owns(thread, _owner(owner, request)):
            return gr.skip(), gr.skip()
        board, before = self._live.pop(thread)
        board.halt()
        said = _said("Stopped. What was finished is kept; 'Finish what was stopped' goes on with it.")
        return [*before, said], board.html()

    def use(self, box: dict[str, Any] | None, name: str | None) -> tuple[Any, Any]:
        """Puts a file's name into the next request."""
        box = box or {"text": "", "files": []}
        return ({**box, "text": f"{box.get('text') or ''} {name}".strip()} if name else gr.skip()), None

    def new(self) -> tuple[Any, ...]:
        """An empty conversation."""
        return (*self._blank(), gr.update(value=None))

    def arrive(self, owner: str, thread: str, request: gr.Request) -> tuple[str, Any]:
        """A browser opens the page: it gets its secret, and its conversations."""
        owner = owner or secrets.token_urlsafe(24)
        return owner, self.listed(owner, thread, request)

    def listed(self, owner: str, thread: str, request: gr.Request) -> Any:
        """The caller's conversations."""
        rows = self.owners.threads(_owner(owner, request))
        return gr.update(choices=[(t or n, n) for t, n in rows], value=thread or None)

    async def open(self, owner: str, thread: str, request: gr.Request) -> tuple[Any, ...]:
        """A conversation as it was."""
        self._mine(owner, thread, request)
        chat: list[Message] = []
        for turn in await self.agent.engine.history(thread):
            chat.append({"role": "user", "content": plain(turn.request)})
            chat += self._messages(turn.answer, turn.artifacts)
        names = gr.update(choices=await self._files(thread), value=None)
        return chat, Board().html(), thread, [], names, gr.update(visible=False), gr.update(choices=[]), ""

    def forget(self, owner: str, thread: str, request: gr.Request) -> tuple[Any, ...]:
        """Takes a conversation off the list."""
        if thread:
            self.owners.forget(thread, _owner(owner, request))
        return (*self._blank(), self.listed(owner, "", request))

    @staticmethod
    def _blank() -> tuple[Any, ...]:
        nothing = gr.update(choices=[], value=None)
        return [], Board().html(), "", [], nothing, gr.update(visible=False), gr.update(choices=[]), ""

    def _mine(self, owner: str, thread: str, request: gr.Request) -> None:
        if not thread or not self.owners.owns(thread, _owner(owner, request)):
            raise InputError("Nothing was asked here yet." if not thread else "This conversation is not yours.")


def provenance(a: Artifact) -> str:
    """`speech.wav: made by text-to-speech (piper-joe), seed 7, from 1 file`."""
    p = a.provenance
    if p is None:
        return f"{a.name}: attached"
    source = f", from {len(p.inputs)} file{'s' if len(p.inputs) > 1 else ''}" if p.inputs else ""
    return f"{a.name}: made by {p.tool} ({p.expert}), seed {p.seed}{source}"


def _said(text: str) -> Message:
    return {"role": "assistant", "content": plain(text)}


def plain(text: str) -> str:
    """A text that is shown as it is. Gradio takes tags out; a word joiner makes them none."""
    return text.replace("<", "<\u2060")


def _fetching(event: Download) -> str:
    name = event.uri.split(":", 1)[-1].split("/")[0]
    return f"fetching {name}: {event.done / 1e6:.0f} of {event.total / 1e6:.0f} MB"


def _owner(owner: str, request: gr.Request | None) -> str:
    """With a login the user's name; without one the browser's secret."""
    user = getattr(request, "username", None)
    return f"user:{user}" if user else f"browser:{owner}"


def _secret(file: Path) -> str:
    """The key under which browsers keep their owner's secret; the same after a restart."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(32))
    return file.read_text()
