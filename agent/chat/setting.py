"""Commands that set something or show what there is: files, mode, plan, tools, controller, policy, help.

Each `do_NAME(talk, command)` carries out the command of that name in `commands.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

from ...core.errors import AnyloomError, InputError, SettingsError, UnknownName, nearest
from ..agent import Agent
from ..modes import COMPARE, modes
from ..terminal import TerminalView, escaped, plan_lines
from . import commands
from .commands import Command
from .talk import Talk

if TYPE_CHECKING:
    from ...graphs.state import Request


async def do_attach(talk: Talk, c: Command) -> None:
    """Checks the files now, so that a mistake is said before the request is typed."""
    await talk.attach(commands.expand(c.words))
    if not c.words:
        talk.say(", ".join(a.name for a in talk.attached) or "Nothing is attached; /attach FILE does it.")


async def do_detach(talk: Talk, c: Command) -> None:
    """Forgets the attachments."""
    talk.attached = []
    talk.say("Nothing is attached.")


async def do_mode(talk: Talk, c: Command) -> None:
    """Shows or sets the mode."""
    known = modes()
    if c.rest and c.rest not in known:
        raise UnknownName(f"There is no mode '{c.rest}'{nearest(c.rest, known)}; there is {', '.join(known)}.")
    talk.mode = c.rest or talk.mode
    talk.say(f"mode: {talk.mode}")


async def do_compare(talk: Talk, c: Command) -> None:
    """A request, or the last one again, in every mode there is."""
    if c.rest:
        request = await talk.request(c.rest, approve=False)
        talk.attached = []
    elif talk.exchanges:
        request = talk.exchanges[-1].request
    else:
        raise InputError("Say what should be compared: /compare draw a blue heart")
    await compare(talk, request)


async def compare(talk: Talk, request: Request) -> None:
    """A request in every mode, and what each took. The conversation goes on from the first answer."""
    from ...evaluation.pair import beside, meaning_of, watched
    from ...graphs.engine import MODES, new_thread
    from ..commands.compare import print_table

    turns = [_turn(x) for x in talk.exchanges if x.answer]

    async def answered(asked: Any, thread: str) -> Any:
        try:
            await talk.answer(asked, thread, () if thread == talk.thread else turns)
        except AnyloomError as e:  # the other mode may still answer
            talk.complain(e)
            raise
        return talk.exchanges[-1].answer

    bench = beside(talk.agent.engine)
    sides: list[dict[str, Any]] = []
    about = await meaning_of(bench, request.text, request.attachments)
    for mode in MODES:
        talk.console.rule(mode)
        thread = talk.thread if mode == MODES[0] else new_thread()
        asked = dataclasses.replace(request, mode=mode, approve=False)
        sides.append(await watched(bench, mode, answered(asked, thread), request.attachments, about))
    talk.console.rule("compared")
    print_table(talk.console, sides)


def _turn(exchange: Any) -> dict[str, Any]:
    """An exchange as the graphs remember it."""
    kept = {"artifacts": exchange.answer.artifacts, "attachments": exchange.request.attachments}
    plain = {k: [a.to_json() | {"provenance": None} for a in v] for k, v in kept.items()}
    return {"request": exchange.request.text, "answer": exchange.answer.text, **plain}


async def do_plan(talk: Talk, c: Command) -> None:
    """Shows the last plan, turns approval on or off, or plans without running."""
    if c.rest in ("on", "off"):
        talk.approve = c.rest == "on"
        talk.say("Every plan is shown and waits for your yes." if talk.approve else "Plans run at once.")
    elif c.rest:
        request = await talk.request(c.rest, **({"mode": "cascade"} if talk.mode == COMPARE else {}))
        with talk.person.quiet(), TerminalView(talk.console) as view:
            made = await talk.agent.engine.plan_only(request, emit=view)
        if not made.plan:
            talk.say("No tool is needed.")
    else:
        answer = next((x.answer for x in reversed(talk.exchanges) if x.answer), None)
        if answer is None:
            talk.say("There is no plan yet.")
            return
        done = {r.id: f"  [{r.status}{f', {r.expert}' if r.expert else ''}]" for r in answer.results}
        for task, line in zip(answer.plan, plan_lines(answer.plan), strict=True):
            talk.say(line + done.get(task["id"], ""))
        if not answer.plan:
            talk.say("The last request needed no tool.")


async def do_policy(talk: Talk, c: Command) -> None:
    """Shows or sets how experts are chosen, or pins one to its tool."""
    from ...core.settings import load_settings

    tool, pin, expert = c.rest.partition("=")
    if pin:
        names = [e.name for e in talk.agent.engine.runtime.registry.experts(tool)]
        if expert not in names:
            known = f"there is {', '.join(names)}" if names else "nobody performs it here"
            raise UnknownName(f"No expert '{expert}' performs '{tool}'{nearest(expert, names)}; {known}.")
        talk.pins[tool] = expert
        talk.policy = "pinned"
    elif c.rest:
        try:
            load_settings({"policy": c.rest})  # raises where it is unknown
        except SettingsError as e:
            raise SettingsError(str(e).removeprefix("flag: ")) from e
        talk.policy = c.rest
    pins = "".join(f", {tool}={expert}" for tool, expert in talk.pins.items())
    talk.say(f"policy: {talk.policy or talk.agent.settings.policy}{pins}")


async def do_controller(talk: Talk, c: Command) -> None:
    """Shows or changes who plans; the conversation goes on."""
    if c.rest:
        from ...core.settings import PARSERS

        try:
            wanted = PARSERS["controller"](c.rest)
        except ValueError as e:
            raise SettingsError(f"'{c.rest}' is no controller; it is {e}.") from e
        agent = Agent(dataclasses.replace(talk.agent.settings, controller=wanted))
        await asyncio.to_thread(lambda: agent.engine.runtime.controller)  # a wrong name is said now
        await talk.agent.engine.aclose()
        talk.agent = agent
    talk.say(f"controller: {talk.agent.settings.controller}")


async def do_tools(talk: Talk, c: Command) -> None:
    """The tools that can run here, or one with its experts."""
    registry = await asyncio.to_thread(lambda: talk.agent.engine.runtime.registry)
    tools = {t.name: t for t in registry.offered()}
    if not c.rest:
        width = max(map(len, tools), default=0)
        for t in tools.values():
            talk.console.print(
                f"  [bold]{escaped(f'{t.name:<{width}}')}[/bold]  [dim]{escaped(t.signature())}[/dim]",
                no_wrap=True, overflow="ellipsis",
            )  # fmt: skip
        return
    if c.rest not in tools:
        raise UnknownName(f"There is no tool '{c.rest}'{nearest(c.rest, list(tools))}; /tools lists them.")
    talk.say(f"{tools[c.rest].signature()}: {tools[c.rest].description}")
    for e in registry.experts(c.rest):
        size = f"{e.card.size / 1e6:.0f} MB" if e.card.size else "no weights"
        talk.say(f"  {e.name}  {e.card.licence}, {e.card.speed}, {size}")


async def do_help(talk: Talk, c: Command) -> None:
    """The commands."""
    from rich.table import Table

    listed = Table.grid(padding=(0, 2, 0, 2), pad_edge=True)
    listed.add_column(no_wrap=True, style="bold")
    listed.add_column(overflow="fold")
    for name, what in commands.help_lines(modes()):
        listed.add_row(escaped(name), escaped(what))
    talk.console.print(listed)
    talk.say("Anything else is a request. Enter sends it; Alt-Enter, or a backslash before Enter, begins a new line.")
    talk.say("Files dropped on the window, or named by their full path in a request, are attached.")
    talk.say("Tab completes. Ctrl-C stops a request, Ctrl-D leaves.")
