"""What the tests of `anyloom chat` share: a conversation over fakes, and somebody who answers its questions."""

import contextlib
import io

from rich.console import Console
from rig import engine, settings, task

from anyloom.agent import Agent
from anyloom.agent.chat.loop import guarded
from anyloom.agent.chat.talk import Talk
from anyloom.controller.fakes import ScriptedController
from anyloom.tools.fakes import Fakes

DRAW = [task("text-to-image", 0, text="a cat"), task("image-to-text", 1, image="<resource>-0")]


class Person:
    """Someone at a terminal who answers questions from a list, and edits a text by a function."""

    at_terminal = True

    def __init__(self, *answers, edit=None):
        self.answers, self.edits = list(answers), edit

    async def ask(self, question):
        return self.answers.pop(0)

    async def edit(self, text):
        return self.edits(text)

    def quiet(self):
        return contextlib.nullcontext()


def begin(
    folder, plan=DRAW, *, fakes=None, person=None, thread=None, controller=None, plans=None, terminal=False,
    opens=engine,
):  # fmt: skip
    """A conversation over fakes in `folder`; `printed` gives what it showed."""
    agent = Agent(settings(folder))
    agent._engine = opens(folder, controller or ScriptedController(plan, plans=plans), fakes or Fakes())
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal, highlight=False, emoji=False)
    return Talk(agent, console, person or Person(), thread)


def printed(talk):
    """Everything that was shown so far."""
    return talk.console.file.getvalue()


async def do(talk, *lines):
    """Types lines."""
    for line in lines:
        await guarded(talk, line)
