"""Dispatch against LangGraph's supersteps: wall time over the critical path, on an uneven plan.

    python benchmarks/dispatch.py [--nodes 50] [--seed 1] [--plans 3] [--json]

Each plan of tasks that sleep 10 to 200 ms is run three times in the same process: by anyloom's
dispatch (with artifact store, result cache and SQLite checkpoints, all written as in use), as a
LangGraph StateGraph with a node a task and an edge a dependency, and as `Send` waves of ready tasks.
The last two only sleep: they store nothing and have no checkpointer. A ratio of 1.00 is the least
that is possible. TMPDIR chooses the disk; on a busy machine waking up late is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import random
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from anyloom.controller.fakes import ScriptedController
from anyloom.core.settings import Settings
from anyloom.graphs.cascade import build_cascade
from anyloom.graphs.checkpoints import open_checkpoints
from anyloom.graphs.runtime import open_runtime
from anyloom.graphs.state import Request
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool
from anyloom.tools.registry import Registry

SHORTEST, LONGEST = 0.010, 0.200
PARAMS = tuple(Param(f"p{k}", "text", required=False) for k in range(3))


def plan_of(nodes: int, seed: int) -> tuple[list[list[int]], list[float]]:
    """What each task reads from (up to three of the eight before it), and how long it sleeps."""
    dice = random.Random(seed)
    edges = []
    for n in range(nodes):
        before = range(max(0, n - 8), n)
        edges.append(sorted(dice.sample(before, min(len(before), dice.choice((0, 1, 1, 2, 3))))))
    return edges, [dice.uniform(SHORTEST, LONGEST) for _ in range(nodes)]


def critical_path(edges: list[list[int]], sleeps: list[float]) -> float:
    """Seconds along the longest way through the plan."""
    ends: list[float] = []
    for deps, sleep in zip(edges, sleeps, strict=True):
        ends.append(sleep + max((ends[d] for d in deps), default=0.0))
    return max(ends)


def sleeper(number: int, seconds: float) -> type[Expert]:
    """An expert that sleeps; each task has one of its own, as an expert runs one call at a time."""

    class Sleeper(Expert):
        name = f"sleeper-{number}"
        tool = Tool(f"sleep-{number}", "Sleeps.", PARAMS, "text")
        card = Card(memory=1, speed="instant")

        def run(self, args: Any, run: Any) -> list[Output]:
            time.sleep(seconds)
            return [Output.text(f"slept {number}")]

    return Sleeper


async def by_dispatch(edges: list[list[int]], sleeps: list[float]) -> float:
    """Seconds that the whole cascade takes, without planning."""
    tasks = [
        {"task": f"sleep-{n}", "id": n, "args": {f"p{k}": f"<resource>-{d}" for k, d in enumerate(deps)}}
        for n, deps in enumerate(edges)
    ]
    registry = Registry.of([sleeper(n, s) for n, s in enumerate(sleeps)])
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), cache_dir=Path(folder), device="cpu", max_tasks=len(edges))
        runtime = open_runtime(settings, registry=registry, controller=ScriptedController(tasks), weights=object())
        async with open_checkpoints(Path(folder) / "checkpoints.sqlite") as saver:
            graph = build_cascade(runtime, saver)
            values = {"request": Request("sleep").to_json()}
            config: Any = {"configurable": {"thread_id": "t"}}
            spent = 0.0
            async for step in graph.astream(values, config, stream_mode="updates", durability="sync"):
                if "make_plan" in step:
                    started = time.perf_counter()
                elif "dispatch" in step:
                    spent = time.perf_counter() - started
                    assert all(r["status"] == "ok" for r in step["dispatch"]["results"])
        runtime.cache.close()
    return spent


class Done(TypedDict):
    """What the plain graphs keep: which tasks are done."""

    done: Annotated[list[int], operator.add]


async def by_edges(edges: list[list[int]], sleeps: list[float]) -> float:
    """Seconds of a StateGraph with a node for each task and an edge for each dependency."""
    from langgraph.graph import START, StateGraph

    graph = StateGraph(Done)
    for n, deps in enumerate(edges):
        graph.add_node(f"n{n}", _node(n, sleeps[n]))
        graph.add_edge([f"n{d}" for d in deps] if deps else START, f"n{n}")
    started = time.perf_counter()
    state = await graph.compile().ainvoke({"done": []}, {"recursion_limit": 1000})
    assert len(state["done"]) == len(edges)
    return time.perf_counter() - started


def _node(number: int, seconds: float) -> Any:
    async def node(state: Done) -> dict[str, list[int]]:
        await asyncio.sleep(seconds)
        return {"done": [number]}

    return node


async def by_waves(edges: list[list[int]], sleeps: list[float]) -> float:
    """Seconds of a StateGraph that sends out, again and again, every task whose inputs are there."""
    from langgraph.graph import START, StateGraph
    from langgraph.types import Send

    async def work(state: dict[str, int]) -> dict[str, list[int]]:
        await asyncio.sleep(sleeps[state["number"]])
        return {"done": [state["number"]]}

    def ready(state: Done) -> Any:
        done = set(state["done"])
        return [Send("work", {"number": n}) for n, deps in enumerate(edges) if n not in done and done >= set(deps)]

    graph = StateGraph(Done)
    graph.add_node("work", work)
    graph.add_node("wave", lambda state: {"done": []})
    graph.add_edge(START, "wave")
    graph.add_conditional_edges("wave", ready, ["work"])
    graph.add_edge("work", "wave")
    started = time.perf_counter()
    state = await graph.compile().ainvoke({"done": []}, {"recursion_limit": 1000})
    assert sorted(state["done"]) == list(range(len(edges)))
    return time.perf_counter() - started


async def measure(nodes: int, seed: int, plans: int) -> dict[str, Any]:
    """Sums over several plans; each is run in all three ways in turn, so that a busy moment meets them alike."""
    ways = {"anyloom dispatch": by_dispatch, "LangGraph edges": by_edges, "LangGraph Send waves": by_waves}
    taken = dict.fromkeys(ways, 0.0)
    least = 0.0
    await by_dispatch(*plan_of(3, seed))  # imports and first connections are not what is measured
    for n in range(plans):
        edges, sleeps = plan_of(nodes, seed + n)
        least += critical_path(edges, sleeps)
        for name, way in ways.items():
            taken[name] += await way(edges, sleeps)
    rows = [{"way": name, "seconds": round(t, 3), "ratio": round(t / least, 3)} for name, t in taken.items()]
    return {"nodes": nodes, "seed": seed, "plans": plans, "critical_path": round(least, 3), "rows": rows}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plans", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(measure(options.nodes, options.seed, options.plans))
    if options.json:
        print(json.dumps(found))
        return
    plans = f"{found['plans']} plans of {found['nodes']} tasks of 10 to 200 ms"
    print(f"{plans}, critical paths {found['critical_path']:.3f} s\n")
    print(f"{'':<22} {'seconds':>8} {'ratio':>7}")
    for row in found["rows"]:
        print(f"{row['way']:<22} {row['seconds']:>8.3f} {row['ratio']:>7.3f}")


if __name__ == "__main__":
    main()
