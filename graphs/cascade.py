"""The cascade as a LangGraph graph: plan → (approve) → dispatch → (replan once) → respond.

    graph = build_cascade(open_runtime(settings), checkpointer)
    state = await graph.ainvoke({"request": "Read this aloud"}, {"configurable": {"thread_id": "t"}})
    state["answer"]["text"]

It can be a node of another graph that has `request` and `answer` in its state. Events
(`core/events.py`) come over LangGraph's stream mode `custom`. The approval is an `interrupt()`
whose payload is the plan; resume it with `Command(resume=…)`: `{"approve": True}`,
`{"approve": False}`, `{"drop": [ids]}` or `{"plan": [tasks]}`.

Nodes have no retry policy: retrying a node would run its finished tasks again. Retries are inside
the tasks (`dispatch.py`).
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..controller.base import Outcome, PlanRequest, Turn
from ..controller.files import absent_files
from ..controller.followups import again, alone, spoken_of
from ..controller.plan import Checked, Plan, check
from ..core.artifacts import Artifact
from ..core.errors import AnyloomError, ExpertError, InputError, PlanError
from ..core.events import AnswerText, Emit, Event, Notice, PlanMade
from .citations import Citations
from .dispatch import Dispatch, durable
from .executor import one_line
from .merge import drop_tasks, merge, missing_kept
from .runtime import Runtime
from .spoken import HEARS, beside, follows, hearing
from .state import Answer, Request, Result, State, without_provenance

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

TURNS = 8  # exchanges that the conversation remembers
TURN_CHARACTERS = 2000  # of a request or answer that is remembered
TEXT_CHARACTERS = 100_000  # of a text result that the controller is told
REJECTED = "The plan was not approved, so nothing was run.\n"


def build_cascade(runtime: Runtime, checkpointer: Any = None) -> CompiledStateGraph:
    """The compiled graph. Approval and resuming need a checkpointer (or a parent graph that has one)."""
    from langgraph.graph import END, START, StateGraph

    nodes = Cascade(runtime)
    graph = StateGraph(State)
    graph.add_node("make_plan", nodes.make_plan)  # a node may not be called like a key of the state
    graph.add_node("approve", nodes.approve)
    graph.add_node("dispatch", nodes.dispatch)
    graph.add_node("replan", nodes.replan)
    graph.add_node("respond", nodes.respond)
    graph.add_edge(START, "make_plan")
    graph.add_conditional_edges("make_plan", nodes.after_plan, ["approve", "dispatch", "respond"])
    graph.add_conditional_edges("approve", nodes.after_approve, ["dispatch", "respond"])
    graph.add_conditional_edges("dispatch", nodes.after_dispatch, ["replan", "respond"])
    graph.add_conditional_edges("replan", nodes.after_replan, ["approve", "dispatch", "respond"])
    graph.add_edge("respond", END)
    return graph.compile(checkpointer=checkpointer, name="cascade")


def make_graph() -> CompiledStateGraph:
    """The cascade with the settings of environment and file: what `langgraph.json` names."""
    from ..core.settings import load_settings
    from .runtime import open_runtime

    return build_cascade(open_runtime(load_settings({})))


def stream_emitter() -> Emit:
    """An emitter onto LangGraph's custom stream that may be called from any thread. Inside a node only."""
    from langgraph.config import get_stream_writer

    writer = get_stream_writer()
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()  # the writer looks up its namespace in it

    def emit(event: Event) -> None:
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            context.run(writer, event)
        else:
            loop.call_soon_threadsafe(writer, event, context=context)

    return emit


@dataclass(frozen=True)
class Cascade:
    """The nodes, over one runtime. State in, update out."""

    runtime: Runtime

    async def make_plan(self, state: State) -> dict[str, Any]:
        """Asks the controller for a plan over the offered tools, and checks it; one round of repair."""
        request = _anew(Request.from_json(state["request"]), state)
        begun: dict[str, Any] = {
            "request": request.to_json(),
            "run": state.get("run") or secrets.token_hex(5),
            "given": None, "plan": [], "bridges": [], "results": [], "round": 0, "rejected": False, "answer": None,
        }  # fmt: skip
        started = time.perf_counter()
        before = self.runtime.controller.usage()
        given = state.get("given")
        if given:
            checked = Checked(Plan.parse(given["plan"]), tuple(given.get("bridges", ())))
            begun["results"] = list(given.get("results", ()))
        else:
            checked = await self.planned(request, state)
        seconds = time.perf_counter() - started
        self._announce(checked, seconds)
        costs = {"seconds": seconds, "plan_seconds": seconds, **_spent(before, self.runtime.controller.usage())}
        return {**begun, "plan": checked.plan.to_json(), "bridges": list(checked.bridges), "costs": costs}

    def after_plan(self, state: State) -> str:
        """Nothing to run: respond. Approval wanted: ask."""
        if not state["plan"]:
            return "respond"
        return "approve" if state["request"]["approve"] else "dispatch"

    async def approve(self, state: State) -> dict[str, Any]:
        """Waits until somebody decides about the plan; asks again while an edited plan cannot run."""
        from langgraph.types import interrupt

        payload = {"plan": state["plan"], "bridges": state["bridges"], "run": state.get("run", ""), "problems": []}
        while True:
            decision = interrupt(payload)
            try:
                checked = self._decided(decision, state)
            except (PlanError, InputError) as e:
                payload = {**payload, "problems": list(getattr(e, "problems", ())) or [str(e)]}
                continue
            if checked is None:
                return {"plan": [], "bridges": [], "rejected": True}
            kept = {t.id for t in checked.plan.tasks}
            return {
                "plan": checked.plan.to_json(),
                "bridges": list(checked.bridges),
                "results": [r for r in state["results"] if r["id"] in kept],
                "rejected": not checked.plan,
            }

    def after_approve(self, state: State) -> str:
        """Runs what was approved."""
        return "dispatch" if state["plan"] else "respond"

    async def dispatch(self, state: State) -> dict[str, Any]:
        """Runs every task of the plan that has no result yet."""
        started = time.perf_counter()
        before = self.runtime.controller.usage()
        request = Request.from_json(state["request"])
        done = {r["id"]: Result.from_json(r) for r in state["results"]}
        work = Dispatch(
            self.runtime, request, Plan.parse(state["plan"]), all_files(request, state), done, stream_emitter()
        )
        results = await work.run(durable)
        ran = [r for r in results if r.id not in done]
        costs = _add(state["costs"], {
            "seconds": time.perf_counter() - started,
            "expert_seconds": sum(r.seconds for r in ran),
            "cached": sum(r.cached for r in ran),
            **_spent(before, self.runtime.controller.usage()),
        })  # fmt: skip
        return {"results": [r.to_json() for r in results], "costs": costs}

    def after_dispatch(self, state: State) -> str:
        """One more round of planning when something failed, or where a recording has said what to do; a replay is
        left as it came out."""
        failed = any(r["status"] == "failed" for r in state["results"])
        replay = bool(state["request"]["steps"] or state["request"]["fresh"])
        again = failed or follows(state["request"]["text"], Plan.parse(state["plan"]))
        return "replan" if again and not state["round"] and not replay else "respond"

    async def replan(self, state: State) -> dict[str, Any]:
        """Tells the controller what failed and why, or lets it plan what was heard. Finished tasks keep their results
        and are not run again."""
        started = time.perf_counter()
        before = self.runtime.controller.usage()
        request = Request.from_json(state["request"])
        old = Plan.parse(state["plan"])
        done = {r["id"]: Result.from_json(r) for r in state["results"] if r["status"] == "ok"}
        update: dict[str, Any] = {"round": 1}
        try:
            spoken = follows(request.text, old) and len(done) == len(old.tasks)
            checked = await (self._heard if spoken else self._replanned)(request, state, old, done)
        except AnyloomError:
            return update  # nothing better is known; the failures stand and the answer tells them
        plan, results = merge(old, checked.plan, done)
        if any(t.id not in results for t in plan.tasks):
            seconds = time.perf_counter() - started
            bridges = (*state["bridges"], *(b for b in checked.bridges if b not in state["bridges"]))
            self._announce(Checked(plan, bridges), seconds)
            spent = {"seconds": seconds, "plan_seconds": seconds, **_spent(before, self.runtime.controller.usage())}
            update |= {
                "plan": plan.to_json(),
                "bridges": list(bridges),
                "results": [r.to_json() for r in results.values()],
                "costs": _add(state["costs"], spent),
            }
        return update

    def after_replan(self, state: State) -> str:
        """Runs what the new plan added, after approval where that is wanted."""
        if len(state["results"]) == len(state["plan"]):
            return "respond"
        return "approve" if state["request"]["approve"] else "dispatch"

    async def respond(self, state: State) -> dict[str, Any]:
        """Streams the answer, lets no file be named that is not there, and remembers the exchange."""
        started = time.perf_counter()
        before = self.runtime.controller.usage()
        request = Request.from_json(state["request"])
        plan = Plan.parse(state["plan"])
        results = tuple(Result.from_json(r) for r in state["results"])
        files = all_files(request, state)
        outcomes = [await asyncio.to_thread(self._outcome, r) for r in results]
        made = tuple(a for r in results for a in r.artifacts)
        text = REJECTED if state.get("rejected") else ""
        emit = stream_emitter()
        if text:
            emit(AnswerText(text))
        else:
            guard = Citations(
                {a.name for a in made} | set(files),
                [request.text, *(o.text for o in outcomes), *(o.error for o in outcomes)],
                texts=bool(plan),
            )
            async for piece in self._worded(request, state, plan, outcomes, guard):
                text += piece
                emit(AnswerText(piece))
        costs = _add(state["costs"], {
            "seconds": time.perf_counter() - started, **_spent(before, self.runtime.controller.usage())
        })  # fmt: skip
        answer = Answer(
            text, made, tuple(plan.to_json()), results, tuple(state["bridges"]), costs, state["run"], _thread()
        )
        return {"answer": answer.to_json(), "costs": costs, "turns": _remember(state, request, answer), "run": ""}

    async def planned(self, request: Request, state: State) -> Checked:
        """A plan that can run, by the controller, after at most one round of repair. PlanError: there is none."""
        check_named(request, state)
        asked = plan_request(request, state)
        tools = self.runtime.registry.offered()
        if missing := self.runtime.registry.too_small():
            why = next(iter(missing.values()))
            if not tools:
                raise PlanError(f"Nothing can run here: {why}.")
            stream_emitter()(Notice(f"Left out is {', '.join(missing)}: {why}."))
        files = modalities(all_files(request, state))
        controller = self.runtime.controller
        plan = await self._ask(controller.plan(asked, tools))
        if any(t.name == HEARS for t in tools):
            plan = hearing(request.text, plan, asked.files)
        try:
            return self._check(plan, files)
        except PlanError as e:
            again = await self._ask(controller.repair(asked, tools, plan, e.problems or (str(e),)))
            return self._check(again, files)

    async def _replanned(
        self, request: Request, state: State, old: Plan, done: Mapping[int, Result]
    ) -> Checked:
        asked = plan_request(request, state)
        problems = [
            f"task {r['id']} ({r['task']}) failed: {r['error']}" for r in state["results"] if r["status"] == "failed"
        ] + [f"task {i} ({r.task}) succeeded and need not be run again" for i, r in done.items()]
        new = await self._ask(
            self.runtime.controller.repair(asked, self.runtime.registry.offered(), old, problems)
        )
        return self._check(missing_kept(new, old, done), modalities(all_files(request, state)))

    async def _heard(self, request: Request, state: State, old: Plan, done: Mapping[int, Result]) -> Checked:
        """A plan for what a recording says, over the other files."""
        said = (await asyncio.to_thread(self._outcome, done[old.tasks[-1].id])).text.strip()
        files = modalities(beside(old, all_files(request, state)))
        asked = PlanRequest(said, modalities(beside(old, offered_files(request, state))))
        return self._check(await self._ask(self.runtime.controller.plan(asked, self.runtime.registry.offered())), files)

    async def _ask(self, question: Any) -> Plan:
        """The controller's plan. A chat model on the network may fail in any way: one sentence then."""
        try:
            plan: Plan = await question
            return plan
        except AnyloomError:
            raise
        except Exception as e:
            raise ExpertError(
                f"The controller '{self.runtime.controller.name}' failed with {type(e).__name__}: {one_line(e)}"
            ) from e

    def _check(self, plan: Plan, files: Mapping[str, str]) -> Checked:
        return check(plan, self.runtime.registry.offered(), files, max_tasks=self.runtime.settings.max_tasks)

    def _announce(self, checked: Checked, seconds: float) -> None:
        stream_emitter()(
            PlanMade(tuple(checked.plan.to_json()), checked.bridges, self.runtime.controller.name, seconds)
        )

    def _decided(self, decision: Any, state: State) -> Checked | None:
        """What the decision comes to: a plan (possibly empty), or None when it was turned down."""
        if not isinstance(decision, Mapping):
            decision = {"approve": bool(decision)}
        plan = Plan.parse(state["plan"])
        if decision.get("plan") is not None:
            files = modalities(all_files(Request.from_json(state["request"]), state))
            return self._check(Plan.parse(decision["plan"]), files)
        if decision.get("drop"):
            return Checked(drop_tasks(plan, decision["drop"]), tuple(state["bridges"]))
        return Checked(plan, tuple(state["bridges"])) if decision.get("approve") else None

    def _outcome(self, result: Result) -> Outcome:
        """A result as the controller is told it, with its whole text."""
        store = self.runtime.store
        texts = [store.text(a) for a in result.artifacts if a.modality == "text" and store.holds(a)]
        text = "\n".join(texts)[:TEXT_CHARACTERS]
        return Outcome(result.id, result.task, result.expert, result.artifacts, text, result.error)

    async def _worded(
        self, request: Request, state: State, plan: Plan, outcomes: Sequence[Outcome], guard: Citations
    ) -> AsyncIterator[str]:
        """The controller's words, guarded; a plain summary of the results where it fails."""
        said = False
        try:
            async for piece in self.runtime.controller.answer(plan_request(request, state), plan, outcomes):
                if shown := guard.feed(piece):
                    said = True
                    yield shown
        except Exception as e:  # a chat model on the network; what the experts made must not be lost with it
            if not plan:
                raise _as_ours(e, self.runtime.controller.name) from e
            stream_emitter()(Notice(f"The controller could not word the answer: {one_line(e)}"))
            from ..controller.local import summary

            for piece in summary(plan, outcomes):
                yield ("\n\n" if said else "") + guard.clean(piece)
            return
        if shown := guard.flush():
            yield shown


def plan_request(request: Request, state: State) -> PlanRequest:
    """What the controller plans from: the request, the files it may use, and the conversation."""
    files = modalities(offered_files(request, state))
    attached = tuple(a.name for a in request.attachments)
    return PlanRequest(request.text, files, turns_of(state.get("turns") or ()), attached)


def check_named(request: Request, state: State) -> None:
    """InputError where a request wants a picture, sound or clip read that is not there. Attached files may have
    other names than the ones they are called by."""
    files = all_files(request, state)
    if not request.attachments and (absent := absent_files(request.text, files)):
        have = f", or name one of {', '.join(list(files)[:5])}" if files else ""
        raise InputError(f"There is no file '{absent[0]}' here; attach it{have}.")


def turns_of(turns: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """The remembered exchanges, for a controller."""
    return tuple(
        Turn(t["request"], t["answer"], tuple(Artifact.from_json(a) for a in t["artifacts"])) for t in turns
    )


def all_files(request: Request, state: State) -> dict[str, Artifact]:
    """Every file of the conversation by name: attached now, then attached or made before, newest first."""
    files = {a.name: a for a in request.attachments}
    for turn in reversed(state.get("turns") or []):
        for raw in (*turn["artifacts"], *turn["attachments"]):
            files.setdefault(raw["name"], Artifact.from_json(raw))
    return files


def offered_files(request: Request, state: State) -> dict[str, Artifact]:
    """Those that a plan is made with: attached now or named in the request; else those of the last exchange.

    What the request speaks of and that one lacks is the newest of its kind: "describe it", then "now blur it".
    """
    every = all_files(request, state)
    chosen = {a.name for a in request.attachments} | {n for n in every if n in request.text}
    if not chosen and (turns := state.get("turns")):
        chosen = {raw["name"] for raw in (*turns[-1]["artifacts"], *turns[-1]["attachments"])}
        lacking = spoken_of(request.text) - {every[n].modality for n in chosen}
        chosen |= {next((n for n, a in every.items() if a.modality == kind), "") for kind in lacking}
    return {n: a for n, a in every.items() if n in chosen}


def _anew(request: Request, state: State) -> Request:
    """The request; where it asks for the last answer anew, with a seed of its own: the same one would say the same."""
    turns = state.get("turns") or ()
    if not turns or not again(request.text):
        return request
    return replace(request, seed=turns[-1].get("seed", len(turns) - 1) + (request.seed or 0) + 1)


def modalities(files: Mapping[str, Artifact]) -> dict[str, str]:
    """Name -> modality."""
    return {name: a.modality for name, a in files.items()}


def _remember(state: State, request: Request, answer: Answer) -> list[dict[str, Any]]:
    turn = {
        "request": request.text[:TURN_CHARACTERS],
        "answer": answer.text[:TURN_CHARACTERS],
        "artifacts": [without_provenance(a).to_json() for a in answer.artifacts],
        "attachments": [without_provenance(a).to_json() for a in request.attachments],
        "seed": request.seed or 0,
    }
    return kept_turns([*(state.get("turns") or []), turn])


def kept_turns(turns: Sequence[Mapping[str, Any]], most: int = TURNS) -> list[dict[str, Any]]:
    """The newest exchanges. A follow-up that comes to be the oldest says by itself what it meant."""
    if len(turns) <= most:
        return [dict(t) for t in turns]
    first, rest = turns[0], list(turns[1:])
    while len(rest) >= most:
        second = rest.pop(0)
        first = {**second, "request": alone(PlanRequest(second["request"], history=turns_of([first]))).text}
    return [dict(t) for t in (first, *rest)]


def _thread() -> str:
    from langgraph.config import get_config

    return str(get_config().get("configurable", {}).get("thread_id", ""))


def _spent(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """What a controller's counters grew by."""
    return {k: v - before.get(k, 0) for k, v in after.items() if isinstance(v, int | float) and k != "plan_seconds"}


def _add(costs: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(costs.get(k, 0) + more.get(k, 0), 4) for k in {**costs, **more}}


def _as_ours(error: Exception, controller: str) -> AnyloomError:
    if isinstance(error, AnyloomError):
        return error
    return ExpertError(f"The controller '{controller}' failed with {type(error).__name__}: {one_line(error)}")
