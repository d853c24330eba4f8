"""Experts for tests on a Ray cluster: importable on its machines, noting in a file what they did there.

What a call is to do stands in its text, as JSON: `log` (a file), `name`, `seconds`, `once` (a file: where
it is not there yet it is written and the process killed), `dies`, `fails`, `deaf` (does not look at the stop button).
"""

import io
import json
import os
import signal
import threading
import time
import wave
from pathlib import Path
from typing import ClassVar

from anyloom.core.errors import ExpertError, InputError
from anyloom.tools.contracts import Card, Expert, Output, Param, Run, Tool

FAULTS = {"input": InputError, "expert": ExpertError, "other": ValueError, "exit": SystemExit}
INPUTS = tuple(Param(f"p{n}", "text", required=False) for n in range(4))


def note(file, *words):
    """One line, written at once: many processes write to the same file."""
    with open(file, "a") as out:
        out.write(" ".join(str(w) for w in words) + "\n")


class Step(Expert):
    """Does what its text says."""

    name = "step-a"
    tool = Tool("step-a", "A step.", (Param("text", "text"), *INPUTS, Param("file", "audio", required=False)), "text")
    card = Card(memory=10_000_000, speed="instant")

    def load(self, device, weights):
        self.device = device

    def run(self, args, run):
        todo = json.loads(args["text"])
        log, name = todo["log"], todo["name"]
        note(log, "begin", name, os.getpid())
        if todo.get("once") and not Path(todo["once"]).exists():
            Path(todo["once"]).write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
        if todo.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if todo.get("fails"):
            raise FAULTS[todo["fails"]]("no")
        begun, total = time.monotonic(), todo.get("seconds", 0)
        while (left := begun + total - time.monotonic()) > 0:
            if not todo.get("deaf"):
                run.check()
            run.progress(total - left, total, "stepping")
            time.sleep(min(0.02, left))
        size = len(Path(args["file"]).read_bytes()) if "file" in args else 0
        note(log, "end", name, os.getpid())
        return [Output.text(f"{name} on {self.device} size {size} seed {run.seed}", "step")]


class StepB(Step):
    """Another, with a process of its own."""

    name = "step-b"
    tool = Tool("step-b", "A step.", Step.tool.params, "text")


class StepC(Step):
    """A third."""

    name = "step-c"
    tool = Tool("step-c", "A step.", Step.tool.params, "text")


class Noise(Expert):
    """Five megabytes of sound."""

    name = "noise"
    tool = Tool("noise", "Sound.", (Param("text", "text"),), "audio")
    card = Card(memory=10_000_000, speed="instant")

    def run(self, args, run):
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(range(256)) * 20_000)
        return [Output(out.getvalue(), "audio/wav", "noise")]


class Huge(Step):
    """Wants more memory than any machine has."""

    name = "huge"
    tool = Tool("huge", "A step.", Step.tool.params, "text")
    card = Card(memory=10**15)


class WideA(Step):
    """Takes more than half of a test machine's memory."""

    name = "wide-a"
    tool = Tool("wide-a", "A step.", Step.tool.params, "text")
    card = Card(memory=300_000_000, speed="instant")


class WideB(WideA):
    """Another."""

    name = "wide-b"
    tool = Tool("wide-b", "A step.", Step.tool.params, "text")


class WideC(WideA):
    """A third."""

    name = "wide-c"
    tool = Tool("wide-c", "A step.", Step.tool.params, "text")


EXPERTS = [Step, StepB, StepC, Noise, Huge, WideA, WideB, WideC]


class Crowd(Expert):
    """Writes capitals, up to four calls at once; waits for `gate`, from the second batch on for `second`."""

    name = "crowd"
    tool = Tool("crowd", "Capitals.", (Param("text", "text"),), "text")
    batch = 4
    gate, second = threading.Event(), threading.Event()
    sizes: ClassVar[list] = []
    stopped: ClassVar[list] = []

    @classmethod
    def reset(cls):
        cls.gate.clear()
        cls.second.set()
        cls.sizes.clear()
        cls.stopped.clear()

    def run(self, args, run):
        (made,) = self.run_batch([(args, run)])
        if isinstance(made, Exception):
            raise made
        return made

    def run_batch(self, calls):
        self.sizes.append(len(calls))
        Run.of_all([run for _, run in calls]).progress(0, 1, f"of {len(calls)}")
        (self.gate if len(self.sizes) == 1 else self.second).wait(20)
        if any(args["text"] == "worse" for args, _ in calls):
            raise InputError("worse")
        self.stopped += [args["text"] for args, run in calls if run.stop.is_set()]
        return [InputError("no") if a["text"] == "bad" else [Output.text(a["text"].upper())] for a, _ in calls]
