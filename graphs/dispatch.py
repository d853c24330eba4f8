"""Dispatch: runs a checked plan as dataflow. A task begins as soon as its inputs are there; no waves.

    results = await Dispatch(runtime, request, plan, files, emit=emit).run(durable)

Every task is called at once, in plan order, under a name of its own, and waits inside for the
futures of the tasks it reads from. `durable` makes each of them a LangGraph `@task`, whose result
is kept by the checkpointer: after a kill the finished ones are replayed, not run. (Replay goes by
position and name, so calling them in the order in which they become ready would mix results up.)
`plain` runs them as asyncio tasks, without LangGraph.

A task that fails returns a failed Result and raises nothing: its dependents return `skipped`, its
siblings go on. A disk that is full is no task's failure: StorageError ends the run, and it can be resumed.
The last write before a kill may be lost; then the task is called again and finds its result in the cache,
since artifacts and cache entry are written before it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ..controller.plan import Plan, Task, referenced
from ..core.artifacts import Artifact, Provenance
from ..core.errors import AnyloomError, Cancelled, ExpertError, InputError, PluginError, StorageError, WeightsError
from ..core.events import Emit, Notice, TaskDone, TaskFailed, TaskProgress, TaskStarted, ignore
from ..tools.contracts import Expert, Output, Run, Tool
from ..tools.selection import cards, fitting, pick_device, rank
from .cache import key_of
from .executor import Job, one_line
from .runtime import Runtime
from .state import SHORT, Request, Result, derive_seed

if TYPE_CHECKING:
    Work = Callable[[], Awaitable[dict[str, Any]]]
    Call = Callable[[str, Work], asyncio.Future[dict[str, Any]]]

CLAIM_EVERY = 0.2  # seconds between looks at what another front end is making
BACKOFF = 0.2  # seconds before the first retry; each further one waits twice as long
PROGRESS_EVERY = 0.05  # seconds between two TaskProgress events of one task
OTHER_EXPERT_MAY = (ExpertError, WeightsError, PluginError)


def durable(name: str, work: Work) -> asyncio.Future[dict[str, Any]]:
    """Calls `work` as a LangGraph task. Inside a node only."""
    from langgraph.func import task

    called: Any = task(work, name=name)  # type: ignore[call-overload]  # its types leave no room for a name here
    return called()  # type: ignore[no-any-return]  # an asyncio future, as we are in a loop


def plain(name: str, work: Work) -> asyncio.Future[dict[str, Any]]:
    """Calls `work` as an asyncio task."""
    return asyncio.create_task(work(), name=name)  # type: ignore[arg-type]  # every Work is a coroutine function


@dataclass(frozen=True)
class Inputs:
    """A task's arguments: as the expert gets them, as content, and as provenance."""

    args: Mapping[str, Any]
    content: Mapping[str, str]
    hashes: tuple[str, ...]
    params: Mapping[str, str]


@dataclass(frozen=True)
class Made:
    """What an expert made, in the store, under the names that the expert gave; `text` is the beginning of its texts."""

    artifacts: tuple[Artifact, ...]
    text: str
    seconds: float


class Names:
    """File names within a conversation: the second `speech.wav` becomes `speech-2.wav`."""

    def __init__(self, taken: Iterable[str]):
        self._taken = set(taken)

    def take(self, name: str) -> str:
        """The name itself, or with a number."""
        path = PurePosixPath(name)
        free, n = name, 1
        while free in self._taken:
            n += 1
            free = f"{path.stem}-{n}{path.suffix}"
        self._taken.add(free)
        return free

    def keep(self, artifacts: Iterable[Artifact]) -> None:
        """Marks names that a finished task already gave."""
        self._taken.update(a.name for a in artifacts)


class Dispatch:
    """One run of one plan. `files` are the artifacts that arguments may name; `done` results that stand."""

    def __init__(
        self,
        runtime: Runtime,
        request: Request,
        plan: Plan,
        files: Mapping[str, Artifact],
        done: Mapping[int, Result] | None = None,
        emit: Emit = ignore,
    ):
        self.runtime = runtime
        self.request = request
        self.plan = plan
        self.files = files
        self.done = dict(done or {})
        self.emit = emit
        self.names = Names(files)
        self.deadline: float | None = None
        self._futures: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def run(self, call: Call = plain) -> list[Result]:
        """One Result for each task, in plan order. Cancelling it stops every expert at its next check."""
        loop = asyncio.get_running_loop()
        if self.request.max_seconds is not None:
            self.deadline = loop.time() + self.request.max_seconds
        for task in self.plan.tasks:
            if task.id in self.done:
                self.names.keep(self.done[task.id].artifacts)
                self._futures[task.id] = loop.create_future()
                self._futures[task.id].set_result(self.done[task.id].to_json())
            else:
                self._futures[task.id] = call(f"{task.id}-{task.task}", self._work(task))
        try:
            made = await asyncio.gather(*self._futures.values())
        except BaseException:
            for future in self._futures.values():
                future.cancel()
            raise
        return _distinct([Result.from_json(r) for r in made], self.files)

    def _work(self, task: Task) -> Work:
        async def work() -> dict[str, Any]:
            before = {d: await self._result(d) for d in task.dep}
            result = await self._outcome(task, before)
            if not result.ok:
                self.emit(TaskFailed(task.id, task.task, result.error, result.status == "skipped"))
            return result.to_json()

        return work

    async def _result(self, task_id: int) -> Result:
        """Waits for a task. Shielded: cancelling one reader must not cancel what others read too."""
        result = Result.from_json(await asyncio.shield(self._futures[task_id]))
        self.names.keep(result.artifacts)
        return result

    async def _outcome(self, task: Task, before: Mapping[int, Result]) -> Result:
        bad = [r for r in before.values() if not r.ok]
        if bad:
            why = " and ".join(f"task {r.id} ({r.task})" for r in bad)
            return Result(task.id, task.task, "skipped", error=f"It needs {why}, which did not succeed.")
        started = time.perf_counter()
        try:
            return await self._attempt(task, before)
        except StorageError:  # no task's fault: the request stops, and `resume` goes on when there is room again
            raise
        except Cancelled as e:  # an expert that stops of itself; a real stop arrives as CancelledError
            error: AnyloomError = e
        except AnyloomError as e:
            error = e
        said = self._plainly(str(error), before)
        return Result(task.id, task.task, "failed", error=said, seconds=time.perf_counter() - started)

    def _plainly(self, text: str, before: Mapping[int, Result]) -> str:
        """Files by the names that the user knows: experts see those of the store."""
        for artifact in (*self.files.values(), *(a for r in before.values() for a in r.artifacts)):
            if artifact.sha256[2:] in text:  # what was not used need not be here
                text = text.replace(self.runtime.store.path(artifact).name, artifact.name)
        return text

    async def _attempt(self, task: Task, before: Mapping[int, Result]) -> Result:
        """The first expert that succeeds, in the order of selection."""
        seed = self._seed(task)
        tool = self.runtime.registry.tool(task.task)
        experts = await self._experts(task)
        for position, expert in enumerate(experts):
            try:
                return await self._retrying(task, tool, before, expert, seed)
            except OTHER_EXPERT_MAY as e:
                if position + 1 == len(experts) or self._out_of_time():
                    raise
                following = experts[position + 1].name
                self.emit(Notice(f"Task {task.id} ({task.task}): {_sentence(e)} Going on with '{following}'."))
        raise ExpertError(f"No expert performs '{task.task}'.")

    def _seed(self, task: Task) -> int:
        given = self.request.steps.get(str(task.id), {}).get("seed")
        return int(given) if given is not None else derive_seed(self.request.seed, task.id)

    async def _experts(self, task: Task) -> list[type[Expert]]:
        """Who is asked, in order. The controller chooses under the policy `llm`."""
        settings, request = self.runtime.settings, self.request
        pinned = {**(settings.pinned or {}), **request.pinned}
        if named := request.steps.get(str(task.id), {}).get("expert"):
            pinned[task.task] = named
        policy = request.policy or settings.policy
        experts = self.runtime.registry.experts(task.task)
        fit: dict[str, Any] = {"device": settings.device, "memory": settings.memory}
        choose = None
        if policy == "llm" and task.task not in pinned:
            candidates = fitting(experts, **fit)
            if len(candidates) > 1:
                choose = await self._chooser(task, candidates)
        cache = self.runtime.cache
        seconds = await asyncio.to_thread(cache.seconds) if cache is not None and policy == "fastest" else None
        say: list[str] = []
        order = rank(
            task.task, experts, policy, pinned=pinned, choose=choose, seconds=seconds, say=say.append, **fit
        )
        for text in say:
            self.emit(Notice(text))
        return order[:1] if named else order

    async def _chooser(self, task: Task, candidates: list[type[Expert]]) -> Any:
        """The controller's choice, in the form that `rank` takes; None when it gave none."""
        try:
            name = await self.runtime.controller.choose(task.task, cards(candidates))
        except Exception as e:  # a model on the network may fail in any way; the choice has a default
            self.emit(Notice(f"The controller could not choose an expert for '{task.task}': {one_line(e)}"))
            return None
        return lambda tool, words: name

    def _inputs(self, task: Task, tool: Tool, before: Mapping[int, Result]) -> Inputs:
        """Arguments as the expert gets them: texts as strings, everything else as files. Reads the store."""
        store = self.runtime.store
        args: dict[str, Any] = {}
        content: dict[str, str] = {}
        hashes: list[str] = []
        params: dict[str, str] = {}
        for name, value in task.args.items():
            param = tool.param(name)
            modality = param.modality if param else "text"
            found = self._named(value, modality, before)
            if not found:
                if modality != "text":
                    raise InputError(f"'{task.task}' needs {modality}, and '{value[:60]}' is not attached.")
                args[name], content[name], params[name] = value, _content_of(value), value
                continue
            hashes += [a.sha256 for a in found]
            if modality == "text":
                args[name] = "\n".join(store.text(a) for a in found)
                content[name] = _content_of(args[name])
            else:
                args[name], content[name] = store.path(found[0]), found[0].sha256
        return Inputs(args, content, tuple(hashes), params)

    def _named(self, value: str, modality: str, before: Mapping[int, Result]) -> list[Artifact]:
        """The artifacts that an argument names: those of the wanted modality, all of them for text."""
        ref = referenced(value)
        if ref is None:
            return [self.files[value]] if value in self.files else []
        fitting_ones = [a for a in before[ref].artifacts if a.modality == modality]
        if not fitting_ones:
            raise InputError(f"Task {ref} ({before[ref].task}) made no {modality}, which is wanted here.")
        return fitting_ones if modality == "text" else fitting_ones[:1]

    async def _retrying(
        self, task: Task, tool: Tool, before: Mapping[int, Result], expert: type[Expert], seed: int
    ) -> Result:
        """Runs the expert, again after a pause where its error says that this can help."""
        for attempt in range(self.runtime.settings.retries + 1):
            try:
                return await self._run(task, tool, before, expert, seed)
            except ExpertError as e:
                if not e.retryable or attempt == self.runtime.settings.retries or self._out_of_time():
                    raise
                pause = BACKOFF * 2**attempt
                self.emit(Notice(f"Task {task.id} ({task.task}): {_sentence(e)} Trying again in {pause:.1f} s."))
                await asyncio.sleep(pause)
        raise AssertionError("the loop above returns or raises")

    async def _run(
        self, task: Task, tool: Tool, before: Mapping[int, Result], expert: type[Expert], seed: int
    ) -> Result:
        """One attempt: the result from the cache, or from the expert."""
        started = time.perf_counter()
        progress = Progress(task.id, self.emit)
        run = Run(seed=seed, device=pick_device(expert, self.runtime.settings.device), progress=progress)
        inputs = known = None
        claim = contextlib.ExitStack()  # nobody else makes the same thing at the same time

        def prepare() -> Mapping[str, Any] | None:
            nonlocal inputs, known
            inputs = self._inputs(task, tool, before)
            while (known := self._known(expert, inputs, seed)) is None:
                if self._claimed(expert, inputs, seed, claim):
                    known = self._known(expert, inputs, seed)  # it may have been made just before the claim
                    break
                run.check()
                time.sleep(CLAIM_EVERY)
            return inputs.args if known is None else None

        def keep(outputs: list[Output], seconds: float) -> Made:
            assert inputs is not None  # prepared before it ran
            return self._keep(expert, inputs, seed, outputs, seconds)

        job = Job(
            expert, run, prepare, keep, self._timeout(),
            on_start=lambda: self.emit(TaskStarted(task.id, task.task, expert.name)),
            on_load=lambda: progress(0, 0, f"loading {expert.name}"),
            say=lambda text: self.emit(Notice(f"Task {task.id} ({task.task}): {text}")),
            key=lambda: self._key(expert, inputs, seed),
        )  # fmt: skip
        try:
            made = await self.runtime.executor.perform(job)
        finally:
            progress.close()
            claim.close()
        if known is not None:
            made = replace(known, seconds=time.perf_counter() - started)
        return self._finish(task, expert, made, seed, cached=known is not None)

    def _key(self, expert: type[Expert], inputs: Inputs | None, seed: int) -> str:
        """What this work is by its content, for an executor that may be asked twice for it; "" where it must run."""
        return "" if inputs is None or self.request.fresh else key_of(expert, inputs.content, seed)

    def _known(self, expert: type[Expert], inputs: Inputs, seed: int) -> Made | None:
        """What the cache has, if it may be used."""
        cache, store = self.runtime.cache, self.runtime.store
        if cache is None or self.request.fresh:
            return None
        hit = cache.get(key_of(expert, inputs.content, seed), store)
        if hit is None:
            return None
        texts = [store.text(a) for a in hit.artifacts if a.modality == "text"]
        return Made(hit.artifacts, "\n".join(texts)[:SHORT], hit.seconds)

    def _claimed(self, expert: type[Expert], inputs: Inputs, seed: int, claim: contextlib.ExitStack) -> bool:
        """Whether this task is ours to run; not so while another front end is making the same thing."""
        cache = self.runtime.cache
        if cache is None or self.request.fresh:
            return True
        return cache.claim(key_of(expert, inputs.content, seed), claim)

    def _timeout(self) -> float | None:
        limit = self.runtime.settings.task_timeout
        if self.deadline is None:
            return limit
        left = self.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise ExpertError(f"The time for this request ({self.request.max_seconds:g} s) is over.")
        return left if limit is None else min(limit, left)

    def _out_of_time(self) -> bool:
        return self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline

    def _keep(self, expert: type[Expert], inputs: Inputs, seed: int, outputs: list[Output], seconds: float) -> Made:
        """Stores what was made, then remembers it: in this order, so that a known result is a whole one."""
        store = self.runtime.store
        artifacts, texts = [], []
        for output in outputs:
            params: dict[str, Any] = dict(inputs.params)
            if output.facts:
                params["facts"] = dict(output.facts)
            provenance = Provenance(
                expert.tool.name, expert.name, tuple(expert.card.weights), inputs.hashes, params, seed
            )
            if output.modality == "text":
                texts.append(output.data.decode("utf-8", errors="replace"))
            if output.media_type == "text/plain":  # it may be empty: a picture without words
                artifacts.append(store.add_text(texts[-1], output.file_name, provenance))
            else:
                artifacts.append(store.add_bytes(output.data, output.media_type, output.file_name, provenance))
        if self.runtime.cache is not None:
            self.runtime.cache.put(key_of(expert, inputs.content, seed), expert.name, artifacts, seconds)
        return Made(tuple(artifacts), "\n".join(texts)[:SHORT], seconds)

    def _finish(self, task: Task, expert: type[Expert], made: Made, seed: int, cached: bool) -> Result:
        """Names the artifacts within this conversation, says that the task is done, and gives its Result."""
        artifacts = tuple(replace(a, name=self.names.take(a.name)) for a in made.artifacts)
        shown = tuple(a.to_json() | ({"text": made.text} if a.modality == "text" else {}) for a in artifacts)
        self.emit(TaskDone(task.id, task.task, expert.name, made.seconds, cached, shown))
        return Result(task.id, task.task, "ok", artifacts, made.text, "", expert.name, seed, made.seconds, cached)


class Progress:
    """`Run.progress` for one task: thins the reports out, and falls silent when the task is over."""

    def __init__(self, task_id: int, emit: Emit):
        self.task_id = task_id
        self.emit = emit
        self._last = 0.0
        self._open = True

    def __call__(self, done: float, total: float, note: str) -> None:
        """Called by an expert, in its thread."""
        now = time.monotonic()
        if not self._open or (now - self._last < PROGRESS_EVERY and done < total):
            return
        self._last = now
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self.emit(TaskProgress(self.task_id, float(done), float(total), note))

    def close(self) -> None:
        """Nothing is reported from now on."""
        self._open = False


def _sentence(error: BaseException) -> str:
    text = str(error).strip()
    return text if text.endswith((".", "!", "?")) else text + "."


def _content_of(text: str) -> str:
    """A text by its hash, told apart from a file with the same bytes."""
    return "text:" + hashlib.sha256(text.encode()).hexdigest()


def _distinct(results: list[Result], files: Iterable[str]) -> list[Result]:
    """The results with no file name twice: replayed ones took their names before this process knew of them."""
    names = Names(files)
    return [replace(r, artifacts=tuple(replace(a, name=names.take(a.name)) for a in r.artifacts)) for r in results]
