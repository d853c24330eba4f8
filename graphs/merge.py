"""Changing a plan that has partly run: dropping tasks, and joining a second plan to finished results.

Two tasks are the same when they do the same with the same inputs, whatever their ids: the tool, and
each argument, where a reference counts as the task behind it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..controller.plan import Plan, Task, reference, referenced
from ..core.errors import InputError
from .state import Result


def drop_tasks(plan: Plan, ids: Iterable[Any]) -> Plan:
    """The plan without these tasks and without all that reads from them. InputError for an unknown id."""
    gone = set(ids)
    known = {t.id for t in plan.tasks}
    if unknown := sorted(map(str, gone - known)):
        raise InputError(f"The plan has no task {unknown[0]}; its tasks are {', '.join(map(str, sorted(known)))}.")
    kept = []
    for task in plan.tasks:  # in topological order, so one pass is enough
        if task.id in gone or gone & set(task.dep):
            gone.add(task.id)
        else:
            kept.append(task)
    return Plan(tuple(kept))


def descendants(plan: Plan, task_id: int) -> set[int]:
    """The task and everything that reads from it, directly or not."""
    found = {task_id}
    for task in plan.tasks:
        if found & set(task.dep):
            found.add(task.id)
    return found


def missing_kept(new: Plan, old: Plan, done: Mapping[int, Result]) -> Plan:
    """The new plan with those finished tasks added that it reads from without listing them."""
    listed = {t.id for t in new.tasks}
    wanted = [d for t in new.tasks for d in t.dep if d not in listed and d in done]
    added: dict[int, Task] = {}
    while wanted:
        task = old[wanted.pop()]
        if task.id not in added and task.id not in listed:
            added[task.id] = task
            wanted += [d for d in task.dep if d in done]
    return Plan((*added.values(), *new.tasks))


def merge(old: Plan, new: Plan, done: Mapping[int, Result]) -> tuple[Plan, dict[int, Result]]:
    """Finished tasks of the old plan, then what the new one adds, under ids that do not clash.

    Both plans are in topological order; so is what is returned, with the results that stand.
    """
    kept = [t for t in old.tasks if t.id in done]
    ids_by_work = {work: i for i, work in _works(old).items() if i in done}
    next_id = max((t.id for t in (*old.tasks, *new.tasks)), default=-1) + 1
    works = _works(new)
    renamed: dict[int, int] = {}
    added = []
    for task in new.tasks:
        if works[task.id] in ids_by_work:
            renamed[task.id] = ids_by_work[works[task.id]]
            continue
        renamed[task.id] = next_id
        args = {k: v if (r := referenced(v)) is None else reference(renamed[r]) for k, v in task.args.items()}
        added.append(replace(task, id=next_id, args=args))
        next_id += 1
    return Plan((*kept, *added)), {t.id: done[t.id] for t in kept}


def _works(plan: Plan) -> dict[int, str]:
    """Task id -> a digest of what it does, with references replaced by the digests of what they stand for."""
    works: dict[int, str] = {}
    for task in plan.tasks:
        args = sorted(
            (name, f"={value}" if (r := referenced(value)) is None else works[r]) for name, value in task.args.items()
        )
        works[task.id] = hashlib.sha256(json.dumps([task.task, args]).encode()).hexdigest()
    return works
