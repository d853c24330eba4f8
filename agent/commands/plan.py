"""`anyloom plan`: plans alone, for one request or a whole file of them; nothing is run.

Attachments may be names only, and files that a request names are taken as attached.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from ...core.errors import InputError, PlanError
from .options import settings_from, shared


@click.command()
@click.argument("request", required=False)
@click.option("--attach", "-a", "attach", multiple=True, metavar="NAME", help="A file's name; it need not exist.")
@click.option(
    "--tools", "tools_file", type=click.Path(path_type=Path), help="Plan over exactly these tools (TaskBench's form)."
)
@click.option(
    "--requests", type=click.Path(path_type=Path), help="JSON lines with id, request, attach: plan all of them."
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the plans of --requests go, as JSON lines.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--timings", is_flag=True, help="With --requests: say how long planning took.")
@shared
def plan(
    request: str | None, attach: tuple[str, ...], tools_file: Path | None, requests: Path | None,
    out: Path | None, as_json: bool, timings: bool, **flags: Any,
) -> int:  # fmt: skip
    """Show the plan for REQUEST, or for each line of --requests."""
    if (request is None) == (requests is None):
        raise click.UsageError("Give either a REQUEST or --requests FILE.")
    planner = Planner(settings_from(flags), tools_file)
    if requests is not None:
        return asyncio.run(_batch(planner, requests, out, timings))
    made = asyncio.run(planner.plan(str(request), attach))
    if as_json:
        click.echo(json.dumps({"plan": made.plan.to_json(), "bridges": list(made.bridges)}, ensure_ascii=False))
    else:
        from ..terminal import plan_lines

        click.echo("\n".join(plan_lines(made.plan.to_json())) or "No tool is needed.")
        for bridge in made.bridges:
            click.echo(f"note: {bridge}")
    return 0


class Planner:
    """A controller and a tool list, and nothing else of the engine."""

    def __init__(self, settings: Any, tools_file: Path | None):
        from ...controller.chat import open_controller
        from ...controller.toollist import read_tools
        from ...core.weights import Weights

        self.settings = settings
        if tools_file is not None:
            self.tools = tuple(read_tools(tools_file))
        else:
            from ...tools.builtin import TOOLS
            from ...tools.registry import Registry

            known = {t.name: t for t in (*TOOLS, *Registry(settings).offered())}
            self.tools = tuple(known.values())
        self.controller = open_controller(
            settings.controller,
            Weights(settings.cache_dir, offline=settings.offline),
            settings.cache_dir,
            settings.max_tasks,
        )

    async def plan(self, text: str, attach: tuple[str, ...] | list[str]) -> Any:
        """A checked plan. PlanError when none can be made."""
        from ...controller.base import PlanRequest
        from ...controller.files import named_files
        from ...controller.plan import check

        if not text.strip():
            raise InputError("The request is empty; say what should be done.")
        request = PlanRequest(text, named_files(text, attach))
        made = await self.controller.plan(request, self.tools)
        try:
            return check(made, self.tools, request.files, max_tasks=self.settings.max_tasks)
        except PlanError as e:
            again = await self.controller.repair(request, self.tools, made, e.problems)
            return check(again, self.tools, request.files, max_tasks=self.settings.max_tasks)


async def _batch(planner: Planner, requests: Path, out: Path | None, timings: bool) -> int:
    """One output line for each input line, in order; what cannot be planned gets an empty plan and its error."""
    items = _read(requests)
    spent: list[float] = []
    sink = out.open("w", encoding="utf-8") if out else sys.stdout
    try:
        for item in items:
            started = time.perf_counter()
            line: dict[str, Any] = {"id": item["id"]}
            try:
                line["plan"] = (await planner.plan(item["request"], item["attach"])).plan.to_json()
            except (PlanError, InputError) as e:
                line |= {"plan": [], "error": str(e)}
            spent.append(time.perf_counter() - started)
            sink.write(json.dumps(line, ensure_ascii=False) + "\n")
            sink.flush()
    finally:
        if out:
            sink.close()
    if timings and spent:
        spent.sort()
        click.echo(f"{len(spent)} plans, median {spent[len(spent) // 2]:.2f} s, slowest {spent[-1]:.2f} s", err=True)
    return 0


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"The requests '{file}' cannot be read: {e}.") from e
    items = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            items.append({"id": raw["id"], "request": str(raw["request"]), "attach": list(raw.get("attach") or [])})
        except (json.JSONDecodeError, KeyError, TypeError) as e:
            raise InputError(f"Line {number} of '{file}' is no JSON object with id and request ({e}).") from e
    return items


COMMANDS = (plan,)
