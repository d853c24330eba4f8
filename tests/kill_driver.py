"""Kills a run at every event and resumes it. Run by test_resume.py: `python kill_driver.py FOLDER`.

Each run is a child of its own, forked from here so that nothing has to be imported again. Prints one
JSON line for each event index: what the run came to, and which experts ran to their end.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import langgraph.checkpoint.sqlite.aio
import langgraph.func
import langgraph.graph  # noqa: F401 imported here once, and not in every child
from rig import engine, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.events import TaskStarted
from anyloom.graphs.state import Request
from anyloom.tools.fakes import Fakes

# 0 and 1 side by side, 2 reads from both; 0 is done long before 1
PLAN = [
    task("text-to-image", 0, text="a cat"),
    task("text-generation", 1, text="a question"),
    task("visual-question-answering", 2, image="<resource>-0", text="<resource>-1"),
]
DELAYS = {"text-to-image": 0.01, "text-generation": 0.08, "visual-question-answering": 0.01}


class Log(list):
    """The calls of the fakes, kept in a file, since the process will be killed."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def append(self, call):
        """Notes a call that came to its end."""
        with self.file.open("a") as out:
            out.write(call.tool + "\n")


def child(work):
    """Runs `work` in a child process; how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def agent(folder, cache):
    """An engine whose experts note in a file that they ran."""
    fakes = Fakes(delay=DELAYS, calls=Log(folder / "calls.log"))
    return engine(folder, ScriptedController(PLAN, pieces=100), fakes, result_cache=cache)


def ask(folder, moment, cache):
    """Asks, and is killed when `moment(number, event)` is true."""
    numbers = itertools.count()

    def emit(event):
        if moment(next(numbers), event):
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(agent(folder, cache).ask(Request("go"), thread="t", emit=emit))


def resume(folder, cache):
    """Resumes; writes down what came of it."""

    async def go():
        mine = agent(folder, cache)
        answer = await mine.resume("t")
        rows = mine.runs.list()
        report = {
            "results": [[r.id, r.task, r.status] for r in answer.results],
            "whole": all(mine.store.verify(a) for a in answer.artifacts),
            "states": [r.state for r in rows],
            "text": answer.text,
        }
        (folder / "report.json").write_text(json.dumps(report))
        await mine.aclose()

    asyncio.run(go())


def report(folder, moment, cache=True):
    """Kills one run, resumes it, and tells."""
    folder.mkdir()
    line = {"killed": child(lambda: ask(folder, moment, cache)) == -signal.SIGKILL}
    line["resumed"] = child(lambda: resume(folder, cache))
    if line["resumed"] == 0:
        line |= json.loads((folder / "report.json").read_text())
    line["ran"] = sorted((folder / "calls.log").read_text().split()) if (folder / "calls.log").exists() else []
    print(json.dumps(line), flush=True)
    return line


def main(root):
    """First without a cache, when the last task begins; then at every event."""
    report(root / "bare", lambda n, e: isinstance(e, TaskStarted) and e.id == 2, cache=False)
    for index in itertools.count():
        if not report(root / str(index), lambda n, e, index=index: n == index)["killed"]:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
