"""Jobs: the requests that a service carries out, each in a task of its own, watched by whoever asks.

    job = jobs.start(request, door="requests", thread=None)     # Full when too many wait
    async for index, event in job.follow(after=-1, beat=15):    # None as the event: a heartbeat
        ...
    jobs.cancel(job); jobs.go_on(job, approve=True)

A job is called like its run. Its events are kept from the first to the last, so that a client may
come late or come back. What happens on the way to its turn is said in events `status` of our own;
all others are those of `core/events.py`. Jobs that ended are forgotten after a while; their bundles
on disk then answer for them (`Jobs.get`), also after the service was started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import PlanError, UnknownName
from ...core.events import Event
from ...graphs.engine import Engine, NeedsApproval
from ...graphs.state import Answer, Request
from .errors import Refused, refusal
from .line import Full, Line, Ticket
from .metrics import Metrics

OVER = ("done", "failed", "stopped")
SHUTTING_DOWN = "The service is shutting down; send the request again in a moment."
# A bundle's states, in the words used here; what was left behind in any way is `stopped`.
FROM_DISK = {"done": "done", "failed": "failed", "waiting": "waiting"}


@dataclass
class Job:
    """One request on its way. `state`: queued, running, waiting (for approval), done, failed, stopped."""

    id: str
    door: str
    request: Request
    thread: str = ""
    turns: Sequence[Mapping[str, Any]] = ()
    state: str = "queued"
    created: float = field(default_factory=time.time)
    ended: float | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    plan: list[dict[str, Any]] = field(default_factory=list)
    answer: Answer | None = None
    error: Refused | None = None
    ticket: Ticket | None = None
    task: asyncio.Task[None] | None = None
    bell: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen unless somebody resumes it."""
        return self.state in OVER

    @property
    def busy(self) -> bool:
        """Whether it waits for its turn or runs."""
        return self.state in ("queued", "running")

    def say(self, event: Mapping[str, Any]) -> None:
        """Appends an event and wakes those who follow."""
        self.events.append(dict(event))
        self.bell.set()
        self.bell = asyncio.Event()

    def status(self, state: str, **more: Any) -> None:
        """Goes into a state and says so."""
        self.state = state
        self.say({"event": "status", "state": state, **more})

    async def follow(
        self, after: int = -1, beat: float | None = None
    ) -> AsyncIterator[tuple[int, dict[str, Any] | None]]:
        """Its events after the one numbered `after`, as they come, to its end; None where nothing came for `beat` s."""
        at = after + 1
        while True:
            bell = self.bell
            while at < len(self.events):
                yield at, self.events[at]
                at += 1
            if bell is not self.bell:
                continue
            if self.over:
                return
            try:
                await asyncio.wait_for(bell.wait(), beat)
            except TimeoutError:
                yield at, None

    async def outcome(self) -> Answer:
        """Its answer, once it is there; raises what it ended with. A plan that waits is no answer: Refused."""
        while self.busy:
            await self.bell.wait()
        if self.answer is not None:
            return self.answer
        raise self.error or Refused(409, f"The request '{self.id}' is {self.state}.")


class Jobs:
    """All jobs of a service over one engine."""

    def __init__(self, engine: Engine, line: Line, metrics: Metrics, keep: int = 500):
        self.engine = engine
        self.line = line
        self.metrics = metrics
        self.keep = keep
        self.draining = False
        self.cut = 0  # how many were stopped by the end of the service and can be resumed
        self._jobs: dict[str, Job] = {}

    def start(
        self, request: Request, door: str, thread: str | None = None, turns: Sequence[Mapping[str, Any]] = ()
    ) -> Job:
        """A new job. Refused: too many wait (429), the conversation is busy (409), or the service ends (503)."""
        if thread and any(j.thread == thread and not j.over for j in self._jobs.values()):
            raise Refused(409, f"The conversation '{thread}' is being answered or waits for approval; decide it first.")
        job = Job(secrets.token_hex(8), door, request, thread or "", turns)
        self._run(job, {})
        self._jobs[job.id] = job
        self._forget()
        return job

    async def get(self, name: str) -> Job:
        """The job of this id, from memory or from its bundle. UnknownName when there is none."""
        if name in self._jobs:
            return self._jobs[name]
        if len(name) < 10 or any(c not in "0123456789abcdef" for c in name):
            raise UnknownName(f"There is no request '{name[:40]}'.")
        job = await asyncio.to_thread(self._from_disk, name)
        return self._jobs.setdefault(name, job) if job.state == "waiting" else job

    def cancel(self, job: Job) -> None:
        """Stops a job; what was finished stays finished. Refused when it is over."""
        if job.over:
            raise Refused(409, f"The request '{job.id}' is {job.state}; there is nothing to stop.")
        if job.task is not None and job.busy:
            job.task.cancel()
        else:
            self._end(job, "stopped", Refused(409, "Stopped."))

    async def go_on(self, job: Job, **decision: Any) -> None:
        """Resumes a job that waits, with a decision about its plan, or one that stopped, without."""
        if decision and job.state != "waiting":
            raise Refused(409, f"The request '{job.id}' is {job.state}; no plan waits for a decision.")
        if not decision and (job.busy or job.state in ("done", "waiting")):
            raise Refused(409, f"The request '{job.id}' is {job.state}; only what stopped or failed can be resumed.")
        last = await asyncio.to_thread(self.engine.runs.last, job.thread) if job.thread else None
        if last is None or last["id"] != job.id:
            raise Refused(409, f"The request '{job.id}' never began or was left behind; send it again.")
        first = self._jobs.get(job.id, job)
        if not job.busy and not first.busy:  # nobody came first while the disk was read
            self._run(job, decision, resumed=True)
            self._jobs[job.id] = job

    async def drain(self, grace: float) -> None:
        """Takes nothing new, sends away who waits, gives the others `grace` seconds, and then stops them."""
        self.draining = True
        for job in [j for j in self._jobs.values() if j.state == "queued" and j.task is not None]:
            job.task.cancel(SHUTTING_DOWN)  # type: ignore[union-attr]  # just looked
        running = [j.task for j in self._jobs.values() if j.task is not None and not j.task.done()]
        if running:
            _, late = await asyncio.wait(running, timeout=grace)
            for task in late:
                task.cancel(SHUTTING_DOWN)
            if late:
                await asyncio.wait(late, timeout=5.0)
        for job in self._jobs.values():
            if job.state == "waiting":  # who follows it would keep the service from ending; it still waits on disk
                job.status("stopped", error=SHUTTING_DOWN)

    def ticket(self) -> Ticket:
        """A place in the line. Refused: too many wait (429), or the service ends (503)."""
        if self.draining:
            self.metrics.refused("shutdown")
            raise Refused(503, SHUTTING_DOWN, code="shutting_down", retry=10)
        try:
            return self.line.enter()
        except Full as e:
            self.metrics.refused("queue")
            raise Refused(429, str(e), code="queue_full", retry=e.seconds) from e

    def _run(self, job: Job, decision: dict[str, Any], resumed: bool = False) -> None:
        job.ticket = ticket = self.ticket()
        job.error, job.ended = None, None
        job.status("queued", position=ticket.position)
        job.task = asyncio.create_task(self._work(job, ticket, decision, resumed))
        job.task.add_done_callback(lambda task: self._after(job, ticket, task))

    async def _work(self, job: Job, ticket: Ticket, decision: dict[str, Any], resumed: bool) -> None:
        """The whole life of a job, in its own task."""

        def emit(event: Event) -> None:
            self._heard(job, event.to_json())

        async with ticket:
            job.status("running")
            if resumed:
                job.answer = await self.engine.resume(job.thread, emit=emit, **decision)
            else:
                job.answer = await self.engine.ask(
                    job.request, thread=job.thread or None, emit=emit, run=job.id, turns=job.turns
                )

    def _heard(self, job: Job, event: dict[str, Any]) -> None:
        self.metrics.event(event)
        if event["event"] == "run_started":
            job.thread = event["thread"]
        elif event["event"] == "plan_made":
            job.plan = list(event["tasks"])
        job.say(event)

    def _after(self, job: Job, ticket: Ticket, task: asyncio.Task[None]) -> None:
        """However the task ended (also before its first step): the place in line is free, the state is true."""
        ticket.leave()
        if task.cancelled():
            self.cut += self.draining and bool(job.thread)
            reason = SHUTTING_DOWN if self.draining else "The request was stopped."
            self._end(job, "stopped", Refused(503 if self.draining else 409, reason, code="stopped"))
            return
        fault = task.exception()
        if fault is None:
            self._end(job, "done", None)
        elif isinstance(fault, NeedsApproval):
            job.thread = fault.thread
            job.plan = [dict(t) for t in fault.plan]
            job.error = Refused(409, "The plan waits for approval.", code="needs_approval")
            job.status("waiting", plan=job.plan, bridges=list(fault.bridges))
        elif isinstance(fault, PlanError) and job.plan and job.request.approve:  # an edited plan that cannot run
            job.error = refusal(fault)
            job.status("waiting", plan=job.plan, error=str(fault))
        else:
            self._end(job, "failed", refusal(fault))

    def _end(self, job: Job, state: str, error: Refused | None) -> None:
        job.error, job.ended = error, time.time()
        self.metrics.ended(job.door, state, job.ended - job.created)
        job.status(state, **({"error": error.message} if error else {}))

    def _forget(self) -> None:
        """Lets the oldest go that are over or wait for approval; their bundles stay."""
        over = [name for name, job in self._jobs.items() if not job.busy]
        for name in over[: max(0, len(over) - self.keep)]:
            del self._jobs[name]

    def _from_disk(self, name: str) -> Job:
        bundle = self.engine.runs.get(name)
        if bundle["id"] != name:
            raise UnknownName(f"There is no request '{name}'.")
        job = Job(name, "requests", Request.from_json(bundle["request"]), bundle["thread"])
        job.state = FROM_DISK.get(bundle["state"], "stopped")
        job.plan = list(bundle["plan"])
        job.events = [{k: v for k, v in e.items() if k != "at"} for e in self.engine.runs.events(name)]
        if job.state == "done":
            job.answer = Answer.from_json({**bundle, **bundle["answer"], "artifacts": _made(bundle), "run": name})
            job.events = [_whole(e, job.answer) for e in job.events]
        elif bundle["error"]:
            job.error = Refused(500, bundle["error"], code="failed")
        with contextlib.suppress(ValueError):
            job.created = time.mktime(time.strptime(bundle["started"][:19], "%Y-%m-%dT%H:%M:%S"))
        return job


def _made(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [a for r in bundle["results"] for a in r["artifacts"]]


def _whole(event: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """The bundle's last event leaves out the answer, which stands beside it."""
    return {**event, "answer": answer.to_json()} if event["event"] == "answer_done" else event
