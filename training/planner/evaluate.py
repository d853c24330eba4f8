"""Measures the planner on requests it never saw: exact plans, TaskBench's node and edge F1, seconds.

Test files are JSON lines. With `plan`: over the pocket tools; the plan must be the same graph, with
the same files in the same places (wording of text arguments is scored apart); `also` lists further
plans that a sensible person would accept. With `nodes` and
`links`: over the tool list beside the file (`NAME.tools.json`), scored as TaskBench does: micro-F1
over the sets of tool names, and over the set of (source name, target name) links, per request, pooled.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...controller.base import PlanRequest
from ...controller.files import named_files
from ...controller.local import LocalController
from ...controller.nearness import Nearness
from ...controller.plan import Plan, Task, check
from ...controller.toollist import read_tools
from ...core.errors import PlanError
from ...tools.contracts import Tool


def default_sets() -> list[Path]:
    """The test sets of the repository this package was installed from."""
    return sorted((Path(__file__).parents[2] / "tests" / "data" / "planner").glob("*.jsonl"))


def evaluate(
    settings: Any, adapter: Path | None, files: Sequence[Path], *, show: bool = False, say: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Runs every set, says a line for each, and returns the figures by set."""
    from ...core.smollm import open_smollm
    from ...core.weights import Weights

    weights = Weights(settings.cache_dir, offline=settings.offline)

    def open_lm(wanted: str | None) -> Any:
        uri = f"file:{adapter.resolve()}" if adapter and wanted else wanted
        return open_smollm(weights, adapter=uri, cache_dir=settings.cache_dir)

    controller = LocalController(open_lm, near=Nearness.open(weights))
    return {f.stem: run_set(controller, f, show=show, say=say) for f in (files or default_sets())}


def run_set(controller: LocalController, file: Path, *, show: bool, say: Callable[[str], None]) -> dict[str, float]:
    """One test set through a controller."""
    items = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    listed = file.with_name(file.stem + ".tools.json")
    tools: Sequence[Tool]
    if listed.exists():
        tools = read_tools(listed)
    else:
        from ...tools.builtin import TOOLS as tools  # type: ignore[no-redef]
    score: Score | PlanScore = Score() if listed.exists() else PlanScore()
    seconds = []
    asyncio.run(controller.plan(PlanRequest("hello", {}), tools))  # reads the tool list: not timed
    for item in items:
        request = PlanRequest(item["request"], named_files(item["request"], item.get("attach", ())))
        started = time.perf_counter()
        try:
            plan = check(asyncio.run(controller.plan(request, tools)), tools, request.files).plan
        except PlanError as e:
            plan = Plan()
            score.invalid.append((item["id"], str(e)))
        seconds.append(time.perf_counter() - started)
        right = score.add(item, plan, {t.name: t for t in tools})
        if show and not right:
            say(f"{item['id']}: {item['request']}\n    made {score.shown_made}\n    want {score.shown_want}")
    seconds.sort()
    figures = score.figures() | {"median_seconds": round(seconds[len(seconds) // 2], 3), "requests": len(items)}
    say(f"{file.stem}: " + ", ".join(f"{k} {v}" for k, v in figures.items()))
    return figures


class Score:
    """TaskBench's node F1 and edge F1 over all requests."""

    def __init__(self) -> None:
        self.counts = {"nodes": [0, 0, 0], "links": [0, 0, 0]}  # hits, made, wanted
        self.invalid: list[tuple[str, str]] = []
        self.exact = 0
        self.total = 0
        self.shown_made = self.shown_want = ""

    def add(self, item: dict[str, Any], plan: Plan, tools: dict[str, Tool]) -> bool:
        """Counts one request; true when nodes and links are exactly right."""
        name = {t.id: t.task for t in plan.tasks}
        made: dict[str, set[Any]] = {
            "nodes": set(name.values()),
            "links": {(name[d], t.task) for t in plan.tasks for d in t.dep},
        }
        want: dict[str, set[Any]] = {"nodes": set(item["nodes"]), "links": {tuple(link) for link in item["links"]}}
        for key, count in self.counts.items():
            count[0] += len(made[key] & want[key])
            count[1] += len(made[key])
            count[2] += len(want[key])
        self.shown_made, self.shown_want = (f"{sorted(x['nodes'])} {sorted(x['links'])}" for x in (made, want))
        self.exact += made == want
        self.total += 1
        return made == want

    def figures(self) -> dict[str, float]:
        """Node F1, edge F1, share of exact graphs, in percent."""
        f1 = {k: 200 * hits / max(1, made + want) for k, (hits, made, want) in self.counts.items()}
        return {
            "node_f1": round(f1["nodes"], 1), "edge_f1": round(f1["links"], 1),
            "exact": round(100 * self.exact / max(1, self.total), 1), "invalid": len(self.invalid),
        }  # fmt: skip


class PlanScore:
    """Exact task graphs: same tasks, same references, same files; wording of texts apart."""

    def __init__(self) -> None:
        self.invalid: list[tuple[str, str]] = []
        self.exact = self.worded = self.total = 0
        self.shown_made = self.shown_want = ""

    def add(self, item: dict[str, Any], plan: Plan, tools: dict[str, Tool]) -> bool:
        """Counts one request; true when the graph is exactly right."""
        wanted = [Plan(tuple(Task(t["task"], t["id"], t["args"]) for t in p)) for p in accepted(item)]
        same = any(shape(plan, tools, False) == shape(want, tools, False) for want in wanted)
        self.exact += same
        self.worded += any(shape(plan, tools, True) == shape(want, tools, True) for want in wanted)
        self.total += 1
        self.shown_made, self.shown_want = (json.dumps(p.to_json(), ensure_ascii=False) for p in (plan, wanted[0]))
        return same

    def figures(self) -> dict[str, float]:
        """Percent of exact graphs, and of those with texts word for word."""
        n = max(1, self.total)
        return {
            "exact_graph": round(100 * self.exact / n, 1),
            "exact_with_texts": round(100 * self.worded / n, 1),
            "invalid": len(self.invalid),
        }


def accepted(item: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The plans that count as right for a request of a test set: the one wanted, and any others that will do."""
    return [item["plan"], *item.get("also", ())]


def shape(plan: Plan, tools: dict[str, Tool], words: bool) -> Any:
    """A plan without its numbering: each task as the tree of what it reads, sorted."""

    def tree(task: Task) -> tuple[Any, ...]:
        read: list[Any] = []
        for name, value in sorted(task.args.items()):
            deps = Task("", 0, {"v": value}).dep
            if deps:
                read.append((name, tree(plan[deps[0]])))
            elif ("." in value and len(value) < 80 and " " not in value.strip("'\"")) or _is_file(value):
                read.append((name, value))
            else:
                read.append((name, " ".join(value.lower().split()).strip(" .?!'\"") if words else "text"))
        return (task.task, tuple(read))

    return sorted((tree(t) for t in plan.tasks), key=str)


def _is_file(value: str) -> bool:
    return list(named_files(f"'{value}'")) == [value]
