"""One conversation at a terminal: carries out what was typed. Knows nothing of keys and prompts.

    talk = Talk(agent, console, ask=lambda question: ...)      # `ask` puts a question to the user
    await talk.take(read('/attach cat.png'))
    await talk.take("describe it aloud")
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ...core.artifacts import Artifact, safe_name, write_atomic
from ...core.errors import InputError, UnknownName, nearest
from ..agent import Agent
from ..terminal import TerminalView, _escape, plan_lines
from . import commands, preview
from .commands import Command

Ask = Callable[[str], Awaitable[str]]
Edit = Callable[[str], Awaitable[str | None]]


class Quit(Exception):
    """The user wants to leave."""


class Talk:
    """The state of one conversation and the commands that change it."""

    def __init__(self, agent: Agent, console: Any, ask: Ask, edit: Edit, thread: str | None = None, pictures: str = ""):
        from ...graphs.engine import checked_thread, new_thread

        self.agent, self.console, self.ask, self.edit, self.pictures = agent, console, ask, edit, pictures
        self.thread = checked_thread(thread) if thread else new_thread()
        self.mode = "cascade"
        self.policy: str | None = None
        self.approve = False
        self.attached: list[str] = []
        self.files: list[Artifact] = []  # everything the conversation made, numbered from 1
        self.exchanges: list[dict[str, Any]] = []
        self.failed = False

    async def take(self, typed: Command | str) -> None:
        """Carries out a command or a request. Errors are AnyloomErrors; Quit ends the conversation."""
        if isinstance(typed, str):
            await self.request(typed)
            return
        await getattr(self, f"do_{typed.name}")(typed)

    # -- requests -------------------------------------------------------------------------------

    async def request(self, text: str, attachments: list[str] | None = None, **options: Any) -> None:
        """Answers a request in this conversation, with what is attached."""
        files = self.attached if attachments is None else attachments
        options = {"mode": self.mode, "policy": self.policy, "approve": self.approve, **options}
        request = self.agent.request(text, files, **options)
        self.exchanges.append({"text": text, "files": list(files), "seed": request.seed, "answer": None})
        self.attached = []
        await self._run(lambda emit: self.agent.engine.ask(request, thread=self.thread, emit=emit))

    async def _run(self, begin: Callable[[Any], Awaitable[Any]]) -> None:
        from ...graphs.engine import NeedsApproval

        while True:
            try:
                with TerminalView(self.console) as view:
                    answer = await begin(view)
                break
            except NeedsApproval as pause:
                begin = await self._approval(pause.thread, pause.plan)
        self.failed |= not answer.ok
        if self.exchanges:
            self.exchanges[-1]["answer"] = answer
        self._show(answer)

    async def _approval(self, thread: str, plan: Any) -> Callable[[Any], Awaitable[Any]]:
        """Asks until there is a decision about a plan; returns what goes on."""
        engine = self.agent.engine
        while True:
            reply = (await self.ask("Run it? [y]es, [n]o, [e]dit, or numbers of tasks to drop: ")).strip().lower()
            if reply in ("", "y", "yes"):
                return lambda emit: engine.resume(thread, approve=True, emit=emit)
            if reply in ("n", "no"):
                return lambda emit: engine.resume(thread, approve=False, emit=emit)
            if reply in ("e", "edit"):
                text = await self.edit(json.dumps([dict(t) for t in plan], indent=2, ensure_ascii=False))
                try:
                    edited = json.loads(text or "")
                except ValueError as e:
                    self.say(f"That is no JSON ({e}); the plan is as it was.")
                    continue
                return lambda emit: engine.resume(thread, plan=edited, emit=emit)
            words = reply.replace(",", " ").split()
            if words and all(w.isdigit() for w in words):
                return lambda emit: engine.resume(thread, drop=[int(w) for w in words], emit=emit)
            self.say(f"'{reply}' is neither yes, no, edit nor a list of task numbers.")

    def _show(self, answer: Any) -> None:
        """The files of an answer, numbered, with pictures drawn."""
        store = self.agent.engine.store
        for artifact in answer.artifacts:
            if artifact.modality == "text":
                continue
            self.files.append(artifact)
            path = store.path(artifact)
            if artifact.modality in ("image", "video"):
                preview.show(self.console, path, artifact.media_type, self.pictures)
            name = f"[link={path.as_uri()}]{_escape(artifact.name)}[/link]"
            facts = f"{artifact.media_type}, {artifact.size / 1000:.0f} kB"
            self.console.print(f"  [bold]{len(self.files)}[/bold]  {name}  [dim]{facts}  /open {len(self.files)}[/dim]")
        took = answer.costs.get("seconds")
        if took is not None:
            self.console.print(f"[dim]{float(took):.1f} s[/dim]")

    def say(self, text: str) -> None:
        """A line of our own."""
        self.console.print(_escape(text), soft_wrap=True)

    # -- commands: attachments and settings -------------------------------------------------------

    async def do_attach(self, c: Command) -> None:
        """Checks the files now, so that a mistake is said before the request is typed."""
        for path in commands.expand(c.words):
            artifact = self.agent.request("check", [path]).attachments[0]
            self.attached.append(path)
            self.say(f"attached {artifact.name} ({artifact.modality}, {artifact.size / 1000:.0f} kB)")
        if not c.words:
            self.say(", ".join(Path(p).name for p in self.attached) or "Nothing is attached; /attach FILE does it.")

    async def do_detach(self, c: Command) -> None:
        """Forgets the attachments."""
        self.attached = []
        self.say("Nothing is attached.")

    async def do_mode(self, c: Command) -> None:
        """Shows or sets the mode."""
        from ...graphs.engine import MODES

        if c.rest and c.rest not in MODES:
            known = ", ".join(MODES)
            raise UnknownName(f"There is no mode '{c.rest}'{nearest(c.rest, list(MODES))}; there is {known}.")
        self.mode = c.rest or self.mode
        self.say(f"mode: {self.mode}")

    async def do_compare(self, c: Command) -> None:
        """One request in every mode there is."""
        from ...graphs.engine import MODES

        if not c.rest:
            raise InputError("Say what should be compared: /compare draw a blue heart")
        if len(MODES) < 2:
            raise InputError(f"There is nothing to compare: the only mode here is {MODES[0]}.")
        files = list(self.attached)
        for mode in MODES:
            self.console.rule(mode)
            await self.request(c.rest, files, mode=mode)

    async def do_plan(self, c: Command) -> None:
        """Shows the last plan, turns approval on or off, or plans without running."""
        if c.rest in ("on", "off"):
            self.approve = c.rest == "on"
            self.say("Every plan is shown and waits for your yes." if self.approve else "Plans run at once.")
        elif c.rest:
            with TerminalView(self.console) as view:
                await self.agent.engine.plan_only(self.agent.request(c.rest, self.attached), emit=view)
        else:
            last = self.exchanges[-1]["answer"] if self.exchanges else None
            lines = plan_lines(last.plan) if last and last.plan else ["There is no plan yet."]
            for line in lines:
                self.say(line)

    async def do_policy(self, c: Command) -> None:
        """Shows or sets how experts are chosen."""
        from ...core.settings import load_settings

        if c.rest:
            load_settings({"policy": c.rest})  # raises where it is unknown
            self.policy = c.rest
        self.say(f"policy: {self.policy or self.agent.settings.policy}")

    async def do_controller(self, c: Command) -> None:
        """Shows or changes who plans; the conversation goes on."""
        if c.rest:
            from ...core.settings import PARSERS, SettingsError

            try:
                wanted = PARSERS["controller"](c.rest)
            except ValueError as e:
                raise SettingsError(f"'{c.rest}' is no controller; it is {e}.") from e
            agent = Agent(dataclasses.replace(self.agent.settings, controller=wanted))
            assert agent.engine.runtime.controller  # opened now: a wrong name is said here
            await self.agent.engine.aclose()
            self.agent = agent
        self.say(f"controller: {self.agent.settings.controller}")

    async def do_tools(self, c: Command) -> None:
        """The tools that can run here, or one with its experts."""
        registry = self.agent.engine.runtime.registry
        tools = {t.name: t for t in registry.offered()}
        if not c.rest:
            for t in tools.values():
                self.console.print(f"  [bold]{_escape(t.name)}[/bold]  [dim]{_escape(t.signature())}[/dim]")
            return
        if c.rest not in tools:
            raise UnknownName(f"There is no tool '{c.rest}'{nearest(c.rest, list(tools))}; /tools lists them.")
        self.say(f"{tools[c.rest].signature()}: {tools[c.rest].description}")
        for e in registry.experts(c.rest):
            self.say(f"  {e.name}  {e.card.licence}, {e.card.speed}, {e.card.size / 1e6:.0f} MB")

    # -- commands: the conversation ---------------------------------------------------------------

    async def do_retry(self, c: Command) -> None:
        """The last request once more, with the seed given or the next one."""
        if c.rest and not c.rest.isdigit():
            raise InputError(f"'{c.rest}' is no seed; give a whole number or nothing.")
        if not self.exchanges:
            raise InputError("Nothing was asked here yet.")
        last = self.exchanges.pop()
        if last["answer"] is not None:
            await self.agent.engine.undo(self.thread)
        seed = int(c.rest) if c.rest else (last["seed"] or 0) + 1
        self.say(f"again, with seed {seed}: {last['text']}")
        await self.request(last["text"], last["files"], seed=seed)

    async def do_undo(self, c: Command) -> None:
        """Takes the last exchange back."""
        turn = await self.agent.engine.undo(self.thread)
        if turn is None:
            raise InputError("There is nothing to take back in this conversation.")
        if self.exchanges:
            self.exchanges.pop()
        self.say(f"taken back: {turn.request[:100]}")

    async def do_new(self, c: Command) -> None:
        """Another conversation."""
        from ...graphs.engine import new_thread

        self.thread, self.files, self.exchanges, self.attached = new_thread(), [], [], []
        self.say(f"conversation {self.thread}")

    async def do_threads(self, c: Command) -> None:
        """The newest conversations."""
        rows = await self.agent.engine.threads()
        for row in rows[:20]:
            mark = "*" if row.thread == self.thread else " "
            self.say(f"{mark} {row.thread}  {row.when}  {row.state:<10}  {row.request[:60]}")
        if not rows:
            self.say("There are no conversations yet.")

    async def do_resume(self, c: Command) -> None:
        """Goes on with a conversation, and finishes its last run if that was stopped."""
        if c.rest and c.rest != self.thread:
            await self.open(c.rest)
        last = await _in_thread(self.agent.engine.runs.last, self.thread)
        if last is None:
            raise InputError("Nothing was asked here yet; /threads lists the conversations.")
        if last["state"] == "done":
            self.say(f"conversation {self.thread}; its last request is answered.")
            return
        self.say(f"going on with: {last['request']['text'][:100]}")
        if not self.exchanges:
            self.exchanges.append({"text": last["request"]["text"], "files": [], "seed": 0, "answer": None})
        await self._run(lambda emit: self.agent.engine.resume(self.thread, emit=emit))

    async def open(self, thread: str) -> None:
        """Another conversation: what was said there is shown. UnknownName when there is none."""
        rows = {row.thread for row in await self.agent.engine.threads()}
        if thread not in rows:
            near = nearest(thread, sorted(rows))
            raise UnknownName(f"There is no conversation '{thread}'{near}; /threads lists them.")
        self.thread, self.files, self.exchanges, self.attached = thread, [], [], []
        for turn in await self.agent.engine.history(thread):
            self.console.print(f"[bold cyan]>[/bold cyan] {_escape(turn.request)}", soft_wrap=True)
            self.say(turn.answer.strip())
            self.files += [a for a in turn.artifacts if a.modality != "text"]

    async def do_open(self, c: Command) -> None:
        """Opens a file with the program that the system has for it; says where it is in any case."""
        if not c.rest.isdigit() or not 1 <= int(c.rest) <= len(self.files):
            there = f"1 to {len(self.files)}" if self.files else "none yet"
            raise InputError(f"'{c.rest}' is the number of no file; there are: {there}.")
        path = self.agent.engine.store.path(self.files[int(c.rest) - 1])
        self.say(str(path) if _opened(path) else f"No program here opens it; it is {path}")

    async def do_save(self, c: Command) -> None:
        """The conversation as Markdown, with its files beside it."""
        if not c.words:
            raise InputError("Say where to: /save FOLDER")
        folder = Path(commands.path_of(c.words[0]))
        lines = [f"# Conversation {self.thread}", ""]
        for turn in await self.agent.engine.history(self.thread):
            lines += [f"**You:** {turn.request}", "", turn.answer.strip(), ""]
            for artifact in turn.artifacts:
                file = self.agent.engine.store.export(artifact, folder)
                lines += [f"{'!' if artifact.modality == 'image' else ''}[{file.name}]({safe_name(file.name)})", ""]
        write_atomic(folder / "conversation.md", "\n".join(lines).encode())
        self.say(f"saved to {folder / 'conversation.md'}")

    async def do_cost(self, c: Command) -> None:
        """Seconds, model calls, and the time of each task of the last answer."""
        answers = [x["answer"] for x in self.exchanges if x["answer"] is not None]
        if not answers:
            raise InputError("Nothing was answered here yet.")
        for key, value in answers[-1].costs.items():
            self.say(f"  {key.replace('_', ' ')}: {round(value, 2) if isinstance(value, float) else value}")
        for r in answers[-1].results:
            self.say(f"  {r.id}  {r.task}  {r.expert}  {r.seconds:.1f} s{'  from the cache' if r.cached else ''}")
        total = sum(float(a.costs.get("seconds", 0)) for a in answers)
        self.say(f"  conversation: {len(answers)} answers, {total:.1f} s")

    async def do_help(self, c: Command) -> None:
        """The commands."""
        for name, what in commands.help_lines():
            self.console.print(f"  [bold]{_escape(f'{name:<22}')}[/bold] {_escape(what)}")
        self.say("Enter sends, Alt-Enter begins a new line. Ctrl-C stops a request, Ctrl-D leaves.")
        self.say("Files dropped on the window are attached.")

    async def do_quit(self, c: Command) -> None:
        """Leaves."""
        raise Quit


async def _in_thread(work: Callable[..., Any], *args: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(work, *args)


def _opened(path: Path) -> bool:
    """Hands a file to the system's opener, silently."""
    import shutil
    import subprocess
    import sys

    if sys.platform == "win32":
        import os

        os.startfile(path)
        return True
    opener = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if opener is None:
        return False
    try:
        quiet = subprocess.DEVNULL
        return subprocess.run([opener, path], stdin=quiet, stdout=quiet, stderr=quiet, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return True  # it is the program itself that runs
