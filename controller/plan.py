"""Task and Plan, and the check every plan passes before an expert runs.

A plan is a DAG in HuggingGPT's form: `{"task", "id", "dep", "args"}`. An argument is a file's name
(an attachment), `<resource>-ID` (the output of task ID), or plain text. `dep` follows from the
references and is never trusted; a task that depends on nothing has `dep: [-1]`.

    plan = Plan.parse(raw)                       # from a model: lenient in form, strict in content
    checked = check(plan, tools, attachments)    # PlanError with every problem, or a runnable plan
    checked.plan, checked.bridges
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.errors import PlanError, nearest
from ..tools.contracts import Param, Tool
from .files import without_names

REFERENCE = re.compile(r"^<(?:resource|GENERATED|node)>?-(\d+)>?$")
MISSING = "?"
WORDY = ("text", "url")  # types whose value a user can write into the request

# What turns one modality into another when a plan connects two that do not fit. Text is the hub:
# what has no direct bridge goes over it.
BRIDGES: dict[tuple[str, str], str] = {
    ("audio", "text"): "automatic-speech-recognition",
    ("image", "text"): "image-to-text",
    ("video", "text"): "video-to-text",
    ("text", "audio"): "text-to-speech",
    ("text", "image"): "text-to-image",
    ("text", "video"): "text-to-video",
}


def reference(task_id: int) -> str:
    """How an argument names the output of a task."""
    return f"<resource>-{task_id}"


def referenced(value: str) -> int | None:
    """The task id that an argument names, or None when it is a file name or plain text."""
    match = REFERENCE.match(value.strip())
    return int(match.group(1)) if match else None


@dataclass(frozen=True)
class Task:
    """One step of a plan. `args` maps parameter names to file names, references or plain text."""

    task: str
    id: int
    args: Mapping[str, str] = field(default_factory=dict)

    @property
    def dep(self) -> tuple[int, ...]:
        """Ids of the tasks whose outputs this one reads, in order, without repetition."""
        ids = (referenced(v) for v in self.args.values())
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    def to_json(self) -> dict[str, Any]:
        """HuggingGPT's form."""
        return {"task": self.task, "id": self.id, "dep": list(self.dep) or [-1], "args": dict(self.args)}


@dataclass(frozen=True)
class Plan:
    """Tasks forming a DAG. An empty plan means: answer directly."""

    tasks: tuple[Task, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks)

    def __getitem__(self, task_id: int) -> Task:
        return next(t for t in self.tasks if t.id == task_id)

    def to_json(self) -> list[dict[str, Any]]:
        """HuggingGPT's form, in plan order."""
        return [t.to_json() for t in self.tasks]

    def sinks(self) -> tuple[int, ...]:
        """Ids of the tasks whose output no other task reads."""
        used = {d for t in self.tasks for d in t.dep}
        return tuple(t.id for t in self.tasks if t.id not in used)

    @classmethod
    def parse(cls, raw: Any) -> Plan:
        """From JSON text (bare, fenced or with words around it), or from parsed JSON.

        PlanError says what is wrong. Nothing is guessed about tools here: that is `check`.
        """
        if isinstance(raw, str):
            raw = _load_json(raw)
        if isinstance(raw, Mapping):
            raw = raw.get("plan", raw.get("tasks"))
        if not isinstance(raw, list):
            raise PlanError("The plan is not a list of tasks.")
        tasks = tuple(_parse_task(n, item) for n, item in enumerate(raw))
        ids = [t.id for t in tasks]
        if len(set(ids)) != len(ids):
            raise PlanError(f"Two tasks of the plan have the same id: {sorted(ids)}.")
        return cls(tasks)


def _load_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    for opening, closing in ("[]", "{}"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            try:
                return json.loads(text[start : end + 1])
            except json.JSONDecodeError:
                continue
    raise PlanError(f"The plan is not JSON: '{text.strip()[:80]}'.")


def _parse_task(position: int, item: Any) -> Task:
    if not isinstance(item, Mapping) or not isinstance(item.get("task"), str):
        raise PlanError(f"Entry {position} of the plan is no task with a name: {str(item)[:80]}.")
    raw_id = item.get("id", position)
    if isinstance(raw_id, str) and raw_id.isdigit():
        raw_id = int(raw_id)
    if not isinstance(raw_id, int) or isinstance(raw_id, bool) or raw_id < 0:
        raise PlanError(f"Task '{item['task']}' has the id {raw_id!r}; ids are whole numbers from 0.")
    args = item.get("args") or {}
    if not isinstance(args, Mapping):
        raise PlanError(f"The arguments of task {raw_id} ('{item['task']}') are no mapping of names to values.")
    return Task(item["task"].strip(), raw_id, {str(k): _argument(v) for k, v in args.items() if v is not None})


def _argument(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, (list, Mapping)):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    ref = referenced(text)
    return text if ref is None else reference(ref)


@dataclass(frozen=True)
class Checked:
    """A plan that can run: in topological order, with the bridges that were put in, in words."""

    plan: Plan
    bridges: tuple[str, ...] = ()


def check(
    plan: Plan,
    tools: Iterable[Tool],
    attachments: Mapping[str, str],
    *,
    max_tasks: int = 16,
    bridge: bool = True,
) -> Checked:
    """Type check over modalities, before any expert runs.

    `attachments` maps file names to modalities. Mends what a known bridge mends; raises PlanError
    with all `problems` otherwise: unknown tool, missing or unknown argument, modality mismatch,
    dangling or cyclic reference, too many tasks.
    """
    by_name = {t.name: t for t in tools}
    problems = _structure(plan, by_name, max_tasks)
    if problems:
        raise _plan_error(problems)
    work = _Checker(by_name, attachments, bridge, max((t.id for t in plan.tasks), default=-1) + 1)
    for task in _topological(plan):
        work.add(task)
    if work.problems:
        raise _plan_error(work.problems)
    if len(work.done) > max_tasks:
        raise _plan_error([f"it has {len(work.done)} tasks, more than the {max_tasks} allowed"])
    return Checked(Plan(tuple(work.done)), tuple(work.bridges))


def _plan_error(problems: Sequence[str]) -> PlanError:
    return PlanError(f"The plan cannot run: {'; '.join(problems)}.", tuple(problems))


def _structure(plan: Plan, tools: Mapping[str, Tool], max_tasks: int) -> list[str]:
    problems = []
    if len(plan.tasks) > max_tasks:
        problems.append(f"it has {len(plan.tasks)} tasks, more than the {max_tasks} allowed")
    ids = {t.id for t in plan.tasks}
    for task in plan.tasks:
        if task.task not in tools:
            problems.append(f"there is no tool '{task.task}'{nearest(task.task, list(tools))} that can run here")
        problems += [f"task {task.id} reads from task {d}, which does not exist" for d in task.dep if d not in ids]
    if not problems:
        loop = _cycle(plan)
        if loop:
            problems.append(f"tasks {', '.join(map(str, loop))} wait for each other")
    return problems


def _cycle(plan: Plan) -> list[int]:
    waiting = {t.id: set(t.dep) for t in plan.tasks}
    while ready := [i for i, deps in waiting.items() if not deps & waiting.keys()]:
        for i in ready:
            del waiting[i]
    return sorted(waiting)


def _topological(plan: Plan) -> list[Task]:
    """Plan order where it is already valid; otherwise the earliest possible place."""
    placed: set[int] = set()
    rest = list(plan.tasks)
    ordered = []
    while rest:
        task = next(t for t in rest if set(t.dep) <= placed)
        rest.remove(task)
        placed.add(task.id)
        ordered.append(task)
    return ordered


class _Checker:
    """Walks a plan in topological order, checking and bridging each argument."""

    def __init__(self, tools: Mapping[str, Tool], attachments: Mapping[str, str], bridge: bool, next_id: int):
        self.tools = tools
        self.attachments = attachments
        self.bridge = bridge
        self.next_id = next_id
        self.done: list[Task] = []
        self.outputs: dict[int, str] = {}
        self.bridges: list[str] = []
        self.problems: list[str] = []
        self.made: dict[tuple[str, str], str] = {}

    def add(self, task: Task) -> None:
        tool = self.tools[task.task]
        args = dict(task.args)
        for name in args:
            if tool.param(name) is None:
                known = [p.name for p in tool.params]
                self.problems.append(
                    f"'{tool.name}' has no argument '{name}'{nearest(name, known)} (it takes {', '.join(known)})"
                )
        given_files = any(p.modality not in WORDY for p in tool.params)
        for param in tool.params:
            if param.name in args:
                args[param.name] = self._fit(task, param, self._worded(param, args[param.name], given_files))
            elif param.required:
                self.problems.append(f"'{tool.name}' (task {task.id}) lacks its {param.modality} '{param.name}'")
        self.done.append(replace(task, args=args))
        self.outputs[task.id] = tool.output

    def _worded(self, param: Param, value: str, inside: bool) -> str:
        """A text without the names of attachments: experts get the files, and read an instruction literally."""
        if param.modality != "text" or value in self.attachments or referenced(value) is not None:
            return value
        return without_names(value, self.attachments, inside)

    def _fit(self, task: Task, param: Param, value: str) -> str:
        """The value itself when its modality fits, a bridge's output when one mends it."""
        have, what = self._modality(value)
        if value.strip() in ("", MISSING) or have is None:
            kind = {"image": "a picture", "audio": "a sound file", "video": "a video", "text": "a text"}.get(
                param.modality, f"a {param.modality}"
            )
            if value.strip() in ("", MISSING):
                self.problems.append(f"'{task.task}' needs {kind}; attach or name one")
                return value
            if param.modality in ("text", "url"):
                return value
            self.problems.append(f"'{task.task}' needs {kind}, and '{value[:60]}' is not attached")
            return value
        if have == param.modality:
            return value
        return self._bridge(task, param, value, have, what)

    def _modality(self, value: str) -> tuple[str | None, str]:
        ref = referenced(value)
        if ref is not None:
            return self.outputs.get(ref), f"the {self.outputs.get(ref)} of task {ref}"
        if value in self.attachments:
            return self.attachments[value], f"'{value}'"
        return None, value

    def _bridge(self, task: Task, param: Param, value: str, have: str, what: str) -> str:
        path = self._path(have, param.modality) if self.bridge else None
        if path is None:
            self.problems.append(f"'{task.task}' wants {param.modality} for '{param.name}' but {what} is {have}")
            return value
        for tool in path:
            key = (value, tool.name)
            if key not in self.made:
                step = Task(tool.name, self.next_id, {tool.params[0].name: value})
                self.next_id += 1
                self.done.append(step)
                self.outputs[step.id] = tool.output
                self.made[key] = reference(step.id)
            value = self.made[key]
        names = " and ".join(f"'{t.name}'" for t in path)
        self.bridges.append(f"{what} is {have} and '{task.task}' wants {param.modality}: put {names} between")
        return value

    def _path(self, have: str, want: str) -> list[Tool] | None:
        for hops in (((have, want),), ((have, "text"), ("text", want))):
            found = [self.tools.get(BRIDGES.get(hop, "")) for hop in hops]
            if all(found):
                return [t for t in found if t is not None]
        return None
