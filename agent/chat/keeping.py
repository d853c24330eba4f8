"""Commands about what was said and made: retry, undo, new, threads, resume, open, save, cost, quit.

Each `do_NAME(talk, command)` carries out the command of that name in `commands.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from ...core.errors import InputError
from ..terminal import escaped, short
from . import transcript
from .commands import Command, path_of
from .gallery import open_with_system
from .talk import Quit, Talk

LISTED = 20  # conversations


async def do_retry(talk: Talk, c: Command) -> None:
    """The last request once more, with the seed given or the next one; it takes the place of what was answered."""
    from ...core.settings import PARSERS

    if not talk.exchanges:
        raise InputError("Nothing was asked here yet.")
    last = talk.exchanges[-1]
    try:
        seed = PARSERS["seed"](c.rest or (last.request.seed or 0) + 1)
    except ValueError as e:
        raise InputError(f"'{c.rest}' is no seed; it is {e}.") from e
    changed = {"seed": seed, "mode": talk.mode, "approve": talk.approve, "policy": talk.policy, "pinned": talk.pins}
    request = dataclasses.replace(last.request, **changed)
    if last.thread == talk.thread and last.begun:
        await talk.agent.engine.undo(talk.thread)
    if not last.begun:  # its files are still attached
        talk.attached = [a for a in talk.attached if a not in request.attachments]
    talk.exchanges.pop()
    talk.say(f"again, with seed {seed}: {short(request.text, 100)}")
    await talk.again(request)


async def do_undo(talk: Talk, c: Command) -> None:
    """Takes the last exchange back."""
    last = talk.exchanges[-1] if talk.exchanges else None
    if last and (last.thread != talk.thread or not last.begun):  # a comparison, or refused: it is not remembered
        text = last.request.text
    else:
        turn = await talk.agent.engine.undo(talk.thread)
        if turn is None:
            raise InputError("There is nothing to take back in this conversation.")
        text = turn.request
    if talk.exchanges:
        gone = talk.exchanges.pop()
        talk.gallery.forget(gone.answer.artifacts if gone.answer else ())
    talk.say(f"taken back: {short(text, 100)}")


async def do_new(talk: Talk, c: Command) -> None:
    """Another conversation."""
    from ...graphs.engine import new_thread

    talk.begin(new_thread())
    talk.say(f"conversation {talk.thread}")


async def do_threads(talk: Talk, c: Command) -> None:
    """The newest conversations."""
    from ...graphs.runs import GONE, RunRow

    rows: dict[str, RunRow] = {}
    for row in await asyncio.to_thread(talk.agent.engine.runs.list):
        if row.state not in GONE:
            rows.setdefault(row.thread, row)
    width = max((len(name) for name in rows), default=0)
    for row in [*rows.values()][:LISTED]:
        mark = "*" if row.thread == talk.thread else " "
        line = f"{mark} {row.thread:<{width}}  {row.when}  {row.state:<10}  {short(row.request, 200)}"
        talk.console.print(escaped(line), no_wrap=True, overflow="ellipsis")
    if len(rows) > LISTED:
        talk.say(f"  and {len(rows) - LISTED} older ones")
    talk.say("/resume THREAD opens one." if rows else "There are no conversations yet.")


async def do_resume(talk: Talk, c: Command) -> None:
    """Opens a conversation, and finishes its last run if that was stopped; lists what could be opened otherwise."""
    engine = talk.agent.engine
    if c.rest and c.rest != talk.thread:
        await talk.open(c.rest)
    bundles = await asyncio.to_thread(engine.runs.of, talk.thread)
    if not bundles or bundles[-1]["state"] == "done":
        if c.rest:
            talk.say(f"conversation {talk.thread}")
        else:
            talk.say("Nothing was stopped here.")
            await do_threads(talk, c)
        return
    last = bundles[-1]
    talk.say(f"going on with: {short(last['request']['text'], 100)}")
    if not talk.unfinished:
        await talk.open(talk.thread)
    exchange = talk.exchanges[-1]
    await talk.run(exchange, lambda emit: engine.resume(talk.thread, emit=emit), last["plan"])


async def do_open(talk: Talk, c: Command) -> None:
    """Opens a file with the program that the system has for it; says where it is in any case."""
    artifact = talk.gallery.artifact(c.rest)
    path = talk.agent.engine.store.path(artifact)
    opened = await asyncio.to_thread(open_with_system, path)
    talk.say(str(path) if opened else f"No program here opens {artifact.name}; it is {path}")


async def do_save(talk: Talk, c: Command) -> None:
    """The conversation as Markdown, with its files beside it."""
    if len(c.words) != 1:
        raise InputError("Say where to: /save talk.md, or /save FOLDER (in quotes where there are blanks in its name).")
    if not talk.exchanges:
        raise InputError("Nothing was said here yet, so there is nothing to save.")
    target = Path(path_of(c.words[0]))
    store = talk.agent.engine.store
    talk.say(f"saved to {await asyncio.to_thread(transcript.write, talk.exchanges, talk.thread, store, target)}")


async def do_cost(talk: Talk, c: Command) -> None:
    """Seconds, model calls, and the time of each task of the last answer."""
    answers = [x.answer for x in talk.exchanges if x.answer is not None]
    if not answers:
        raise InputError("Nothing was answered here yet.")
    last = answers[-1]
    width = max((len(r.task) for r in last.results), default=0)
    for r in last.results:
        how = "from the cache" if r.cached else f"{r.seconds:.1f} s" if r.ok else r.status
        talk.say(f"  {r.id}  {r.task:<{width}}  {r.expert}  {how}")
    spent = {k: round(v, 1) if isinstance(v, float) else v for k, v in last.costs.items()}
    words = [f"{k.replace('_', ' ')} {v}" for k, v in spent.items() if v]
    talk.console.print(escaped(f"  last answer: {', '.join(words)}"))  # wrapped between words: nobody copies it
    total = sum(float(a.costs.get("seconds", 0)) for a in answers)
    talk.say(f"  conversation: {len(answers)} answer{'s' * (len(answers) > 1)}, {total:.1f} s")


async def do_quit(talk: Talk, c: Command) -> None:
    """Leaves."""
    raise Quit
