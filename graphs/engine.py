"""Engine: the cascade with everything it needs, opened when first used. The CLI, the page and Agent use it.

    engine = Engine(settings)
    answer = await engine.ask(Request("Read this aloud", (note,)), thread="t1", emit=print)
    answer = await engine.resume("t1")                 # after a kill: finished tasks are not run again
    answer = await engine.resume("t1", approve=True)   # after NeedsApproval; or drop=[2], or plan=[...]
    await engine.aclose()

Every run leaves a bundle (`runs.py`). One answer at a time per conversation, over all processes.
Cancelling the asyncio task stops the experts at their next check; what was finished stays finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import Artifact, ArtifactStore
from ..core.errors import AnyloomError, InputError, PlanError, UnknownName, UserError, nearest
from ..core.events import AnswerDone, Emit, Event, Notice, PlanMade, RunStarted, ignore
from .runs import Replayed, RunLog, RunRow, RunStore, compare, rerun
from .shared import open_shared
from .state import Answer, Request
from .tracing import open_tracer

if TYPE_CHECKING:
    from ..controller.base import Turn
    from ..controller.plan import Checked
    from ..core.settings import Settings
    from .runtime import Runtime

MODES = ("cascade", "end2end")
RECORDED = (
    "profile", "controller", "policy", "pinned", "device", "memory", "seed", "task_timeout", "retries", "max_tasks",
)  # fmt: skip


class NeedsApproval(UserError):
    """The plan of this conversation waits for a decision; `resume` takes it."""

    def __init__(self, thread: str, run: str, plan: Sequence[Mapping[str, Any]], bridges: Sequence[str]):
        super().__init__(f"The plan waits for approval; go on with `anyloom resume {thread}`.")
        self.thread = thread
        self.run = run
        self.plan = tuple(plan)
        self.bridges = tuple(bridges)


class Engine:
    """One cascade over one data folder. `parts` replace what the settings would open (see `open_runtime`)."""

    def __init__(self, settings: Settings, **parts: Any):
        self.settings = settings
        self.data_dir = Path(settings.data_dir)
        self.shared = open_shared(settings)
        if self.shared is not None:
            parts = {"store": self.shared.store, "cache": self.shared.cache, **parts}
        self.store: ArtifactStore = parts.get("store") or ArtifactStore(self.data_dir / "artifacts", settings.limits)
        self.runs: RunStore = self.shared.runs if self.shared else RunStore(self.data_dir, self.store)
        self._tracer = parts.pop("tracer", None) or open_tracer(settings)
        self._speaker = parts.pop("end2end", None)  # a Source, in place of the trained model
        self._parts = {**parts, "store": self.store}
        self._runtime: Runtime | None = None
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Emit]] = []
        self._open: tuple[asyncio.AbstractEventLoop, contextlib.AsyncExitStack, Any, Any] | None = None
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    @property
    def runtime(self) -> Runtime:
        """Registry, controller, experts and the rest; nothing is loaded by looking at it."""
        if self._runtime is None:
            from .runtime import open_runtime

            self._runtime = open_runtime(self.settings, self._broadcast, **self._parts)
        return self._runtime

    async def ask(
        self,
        request: Request,
        thread: str | None = None,
        emit: Emit = ignore,
        *,
        run: str | None = None,
        turns: Sequence[Mapping[str, Any]] = (),
    ) -> Answer:
        """Answers a request; without `thread` in a new conversation.

        `run` names the bundle beforehand. `turns`, as in `State`, are the earlier exchanges of a conversation
        that is kept elsewhere; they take the place of what is remembered here.
        PlanError: no plan can be made. NeedsApproval: the request asks for approval of its plan.
        """
        if request.mode not in MODES:
            known = ", ".join(MODES)
            raise UnknownName(f"There is no mode '{request.mode}'{nearest(request.mode, MODES)}; there is {known}.")
        if not request.text.strip():
            raise InputError("The request is empty; say what should be done.")
        self._check_pins({**(self.settings.pinned or {}), **request.pinned})
        if request.mode == "end2end" and request.approve:
            raise InputError("The end-to-end mode makes no plan that could be approved; use --mode cascade.")
        if request.mode == "end2end":
            await asyncio.to_thread(self._end2end)  # says at once when there is no trained model
        new = thread is None
        thread = new_thread() if thread is None else checked_thread(thread)
        with self._sole(thread):
            if not new:  # looks through every bundle there is
                self._leave_behind(thread, emit)
            return await self._begin(run or secrets.token_hex(5), request, thread, emit, turns=turns)

    async def resume(
        self,
        thread: str,
        *,
        approve: bool | None = None,
        plan: Sequence[Mapping[str, Any]] | None = None,
        drop: Sequence[int] | None = None,
        emit: Emit = ignore,
    ) -> Answer:
        """Goes on where a conversation's newest run stopped; gives its answer again where it is done.

        `approve`, `plan` (an edited one) or `drop` (task ids) decide about a plan that waits: without
        one of them NeedsApproval is raised again. PlanError: the edited plan cannot run; it still waits.
        """
        decision = _decision(approve, plan, drop)
        with self._sole(thread):
            last = await asyncio.to_thread(self._last, thread)
            if last is None:
                known = [row.thread for row in self.runs.threads()]
                raise UnknownName(f"There is no conversation '{thread}'{nearest(thread, known)}.")
            graph, _ = await self._graph(last["request"].get("mode", "cascade"))
            state = await graph.aget_state(_config(thread))
            answer = state.values.get("answer")
            if decision is not None and not state.interrupts:
                raise InputError(f"No plan waits for approval in '{thread}'; resume it without a decision.")
            if state.next and state.values.get("run") == last["id"] and "__start__" not in state.next:
                return await self._continue(last, state, decision, thread, emit)
            if answer and answer["run"] == last["id"]:
                return await self._again(last, Answer.from_json(answer), emit)
            if last["state"] == "done":  # what came after it was taken back
                return await self._again(last, Answer.of_run(last), emit)
            # killed before the first checkpoint: the request is all there is, and it is enough
            request = Request.from_json(last["request"])
            turns = last.get("turns") or ()
            return await self._begin(last["id"], request, thread, emit, last.get("given"), turns=turns)

    async def replay(
        self,
        run: str,
        from_step: int | None = None,
        expert: str | None = None,
        seed: int | None = None,
        emit: Emit = ignore,
    ) -> Replayed:
        """Does a run again with its experts and seeds, in a conversation of its own, and compares the hashes.

        `from_step` keeps what does not depend on that task; `expert` and `seed` are for that task.
        """
        bundle = self.runs.get(run)
        plan = rerun(bundle, self.store, from_step, expert, seed)
        if expert is not None:
            self._check_expert(bundle, from_step, expert)
        thread = new_thread()
        with self._sole(thread):
            answer = await self._begin(secrets.token_hex(5), plan.request, thread, emit, plan.given, bundle["id"])
        return compare(bundle, answer, plan.again)

    async def plan_only(self, request: Request, emit: Emit = ignore) -> Checked:
        """The checked plan for a request, outside any conversation; nothing runs. Says PlanMade."""
        from .cascade import Cascade

        if request.mode == "end2end":
            raise InputError("The end-to-end mode makes no plan; leave --plan-only away, or use --mode cascade.")
        started = time.perf_counter()
        listener = (asyncio.get_running_loop(), emit)
        self._listeners.append(listener)
        try:
            checked = await Cascade(self.runtime).planned(request, {})
        finally:
            self._listeners.remove(listener)
        name = self.runtime.controller.name
        emit(PlanMade(tuple(checked.plan.to_json()), checked.bridges, name, time.perf_counter() - started))
        return checked

    async def threads(self) -> list[RunRow]:
        """The conversations, the newest first, each by its newest run."""
        return await asyncio.to_thread(self.runs.threads)

    async def history(self, thread: str) -> tuple[Turn, ...]:
        """The remembered exchanges of a conversation, the newest last; empty for one that does not exist."""
        from .cascade import turns_of

        graph, _ = await self._graph()
        state = await graph.aget_state(_config(thread))
        return turns_of(state.values.get("turns") or ())

    async def undo(self, thread: str) -> Turn | None:
        """Takes back the last exchange of a conversation and returns it; None when there is none.

        One that was not finished is given up; an answered one is no longer remembered. The run's bundle is kept.
        """
        from .cascade import turns_of

        with self._sole(thread):
            kept = await asyncio.to_thread(self.runs.of, thread)
            graph, _ = await self._graph()
            values = (await graph.aget_state(_config(thread))).values
            turns = list(values.get("turns") or ())
            told = (values.get("answer") or {}).get("run")
            answered = not kept or kept[-1]["state"] == "done" or told == kept[-1]["id"]
            if answered and turns:
                await graph.aupdate_state(_config(thread), {"turns": turns[:-1]}, as_node="respond")
            if kept:
                await asyncio.to_thread(self._close, kept[-1]["id"], "undone")
        if not answered:
            return turns_of([{"request": kept[-1]["request"]["text"], "answer": "", "artifacts": []}])[0]
        return turns_of(turns[-1:])[0] if turns else None

    async def aclose(self, unload: bool = True) -> None:
        """Closes files, and lets go of the experts unless `unload` is False. The engine can be used again."""
        if self._runtime is not None:
            await self._runtime.executor.aclose(5.0)
            if unload and self._runtime.residency is not None:
                await asyncio.to_thread(self._runtime.residency.unload_all)
            if self._runtime.cache is not None:
                self._runtime.cache.close()
        if self._tracer is not None:
            await asyncio.to_thread(self._tracer.flush)
        if self._open is not None:
            stack, self._open = self._open[1], None
            await stack.aclose()

    def _end2end(self) -> Any:
        """The model of the end-to-end mode; WeightsError when none was trained."""
        if self._speaker is None:
            from .end2end import speaker_source

            self._speaker = speaker_source(self.settings)
        return self._speaker

    async def _graph(self, mode: str = "cascade") -> tuple[Any, Any]:
        """The compiled graph of a mode and the saver, for this event loop; opened once, however many ask at once."""
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening[0] is not loop:
            self._opening = (loop, asyncio.Lock())
        async with self._opening[1]:
            graphs, saver = await self._opened(loop)
        return graphs[mode], saver

    async def _opened(self, loop: asyncio.AbstractEventLoop) -> tuple[Any, Any]:
        if self._open is not None and self._open[0] is not loop:
            stack, self._open = self._open[1], None
            with contextlib.suppress(Exception):  # its loop is gone, and the connection with it
                await stack.aclose()
        if self._open is None:
            from .cascade import build_cascade
            from .checkpoints import open_checkpoints
            from .end2end import build_end2end

            stack = contextlib.AsyncExitStack()
            file = self.data_dir / "checkpoints.sqlite"
            opened = self.shared.checkpoints() if self.shared else open_checkpoints(file)
            saver = await stack.enter_async_context(opened)
            graphs = {
                "cascade": build_cascade(self.runtime, saver),
                "end2end": build_end2end(self.runtime, self._end2end, saver),
            }
            self._open = (loop, stack, graphs, saver)
        return self._open[2], self._open[3]

    async def _begin(
        self,
        run: str,
        request: Request,
        thread: str,
        emit: Emit,
        given: dict[str, Any] | None = None,
        replay_of: str = "",
        turns: Sequence[Mapping[str, Any]] = (),
    ) -> Answer:
        """A run from its start. The bundle is written first: should all else be lost, it holds the request."""
        recorded = {name: _plain(getattr(self.settings, name, None)) for name in RECORDED}
        log = await asyncio.to_thread(
            lambda: self.runs.begin(
                run, thread, request, recorded, given=given, replay_of=replay_of, turns=[dict(t) for t in turns]
            )
        )
        values: dict[str, Any] = {"request": request.to_json(), "run": run, "given": given}
        if turns:
            values["turns"] = [dict(t) for t in turns]
        return await self._run(values, run, request, thread, log, emit)

    async def _continue(
        self, last: Mapping[str, Any], state: Any, decision: dict[str, Any] | None, thread: str, emit: Emit
    ) -> Answer:
        """A run from where its checkpoint is."""
        request = Request.from_json(last["request"])
        waits = bool(state.interrupts)
        if waits and decision is None:
            raise _needs_approval(thread, state)
        from langgraph.types import Command

        log = await asyncio.to_thread(self.runs.reopen, last["id"])
        values: Any = Command(resume=decision) if waits else None
        return await self._run(values, last["id"], request, thread, log, emit, decided=waits)

    async def _again(self, last: Mapping[str, Any], answer: Answer, emit: Emit) -> Answer:
        """The run was done: gives its answer again, and closes a bundle that a kill left open."""
        if last["state"] != "done":
            log = await asyncio.to_thread(self.runs.reopen, last["id"])
            await asyncio.to_thread(log.finish, "done", answer, "", ())
            log.close()
        emit(AnswerDone(answer.to_json()))
        return answer

    async def _run(
        self, values: Any, run: str, request: Request, thread: str, log: RunLog, emit: Emit, decided: bool = False
    ) -> Answer:
        """Lets the graph go on and records what happens; every way out leaves the bundle in a true state."""

        spans = self._tracer.run(self.runtime.controller) if self._tracer is not None else None

        def say(event: Event) -> None:
            log.event(event)
            if spans is not None:
                spans(event)
            emit(event)

        listener = (asyncio.get_running_loop(), say)
        self._listeners.append(listener)
        try:
            say(RunStarted(run, thread, request.mode))
            answer, files = await self._stream(values, thread, say, request.mode, decided)
            await asyncio.to_thread(log.finish, "done", answer, "", files)
            say(AnswerDone(answer.to_json()))
            return answer
        except NeedsApproval:
            log.finish("waiting")
            raise
        except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
            log.finish("stopped", error="Stopped.")
            raise
        except PlanError as e:
            log.finish("waiting" if decided else "failed", error=str(e))
            raise
        except Exception as e:
            log.finish("failed", error=str(e) if isinstance(e, AnyloomError) else f"{type(e).__name__}: {e}")
            raise
        finally:
            if spans is not None:
                spans.end(sys.exception())
            self._listeners.remove(listener)
            log.close()

    async def _stream(
        self, values: Any, thread: str, say: Emit, mode: str, decided: bool
    ) -> tuple[Answer, list[Artifact]]:
        """The answer, and the earlier files of the conversation that its plan names."""
        from .cascade import all_files
        from .checkpoints import trim

        graph, saver = await self._graph(mode)
        config = _config(thread)
        earlier = (await graph.aget_state(config)).values
        if isinstance(values, Mapping) and values.get("turns"):
            earlier = values
        events: AsyncIterator[Any] = graph.astream(values, config, stream_mode="custom", durability="sync")
        async with contextlib.aclosing(events):  # type: ignore[type-var]  # astream is a generator
            async for event in events:
                say(event)
        state = await graph.aget_state(config)
        if state.interrupts:
            problems = tuple(state.interrupts[0].value["problems"])
            if decided and problems:
                raise PlanError(f"The edited plan cannot run: {'; '.join(problems)}.", problems)
            raise _needs_approval(thread, state)
        answer = Answer.from_json(state.values["answer"])
        await trim(saver, thread)
        used = {v for t in answer.plan for v in t["args"].values()}
        known = all_files(Request.from_json(state.values["request"]), {"turns": earlier.get("turns") or []})
        return answer, [a for name, a in known.items() if name in used]

    @contextlib.contextmanager
    def _sole(self, thread: str) -> Any:
        """One answer at a time per conversation."""
        from filelock import Timeout

        try:
            with self.runs.lock(thread):
                yield
        except Timeout as e:
            raise InputError(
                f"The conversation '{thread}' is being answered right now; wait for it or use another --thread."
            ) from e

    def _leave_behind(self, thread: str, emit: Emit) -> None:
        """A new request in a conversation takes the place of one that was not finished; that is said."""
        last = self.runs.last(thread)
        if last is None or last["state"] not in ("running", "waiting", "stopped"):
            return
        self._close(last["id"], "abandoned")
        emit(Notice(f"The run {last['id']} of this conversation was not finished and is left behind."))

    def _last(self, thread: str) -> dict[str, Any] | None:
        """The newest bundle of a conversation that was not taken back."""
        last = self.runs.last(thread)
        if last is not None and last["state"] == "undone":
            return next(reversed(self.runs.of(thread)), None)
        return last

    def _close(self, run: str, state: str) -> None:
        """Notes that nobody goes on with a run."""
        log = self.runs.reopen(run)
        log.update(state=state)
        log.close()

    def _check_expert(self, bundle: Mapping[str, Any], step: int | None, expert: str) -> None:
        tool = next(t["task"] for t in bundle["plan"] if t["id"] == step)
        names = [e.name for e in self.runtime.registry.experts(tool)]
        if expert not in names:
            known = ", ".join(names)
            raise UnknownName(f"No expert '{expert}' performs '{tool}'{nearest(expert, names)}; there is {known}.")

    def _check_pins(self, pinned: Mapping[str, str]) -> None:
        """Says that a pinned expert does not exist before anything is planned."""
        for tool, expert in pinned.items():
            names = [e.name for e in self.runtime.registry.experts(tool)]
            if expert not in names:
                known = f"there is {', '.join(names)}" if names else "nobody performs it here"
                raise UnknownName(f"No expert '{expert}' performs '{tool}'{nearest(expert, names)}; {known}.")

    def _broadcast(self, event: Event) -> None:
        """For what belongs to no single run, such as a download: everybody who listens hears it, in their loop."""

        def tell(listener: tuple[asyncio.AbstractEventLoop, Emit]) -> None:
            if listener in self._listeners:
                listener[1](event)

        for listener in tuple(self._listeners):
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody listens
                listener[0].call_soon_threadsafe(tell, listener)


def new_thread() -> str:
    """A name for a new conversation."""
    return secrets.token_hex(4)


def checked_thread(name: str) -> str:
    """The name itself; InputError when it can be none."""
    if not name or len(name) > 80 or not name.isprintable() or name != name.strip():
        raise InputError(f"'{name[:80]}' cannot name a conversation; use 1 to 80 printable characters.")
    return name


def _config(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}}


def _decision(
    approve: bool | None, plan: Sequence[Mapping[str, Any]] | None, drop: Sequence[int] | None
) -> dict[str, Any] | None:
    if plan is not None:
        return {"plan": [dict(t) for t in plan]}
    if drop:
        return {"drop": list(drop)}
    return None if approve is None else {"approve": approve}


def _needs_approval(thread: str, state: Any) -> NeedsApproval:
    waiting = state.interrupts[0].value
    return NeedsApproval(thread, waiting["run"], waiting["plan"], waiting["bridges"])


def _plain(value: Any) -> Any:
    """A setting as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
