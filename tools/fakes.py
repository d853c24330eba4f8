"""Fake experts for tests: one for every built-in tool, instant, needing no weights and no network.

    fakes = Fakes(delay=0.05, flaky={"text-to-image": 1}, broken={"text-to-speech"})
    registry = fakes.registry()
    residency = Residency(None, fakes.weights)
    ...
    assert [c.tool for c in fakes.calls] == ["image-to-text"]

What they make is small but whole (PNG, WAV and MP4 that open), and depends on arguments and seed
alone: the same call gives the same bytes. Text results name the tool and what went in.
"""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import time
import wave
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import ExpertError, InputError
from .builtin import TOOLS
from .contracts import Card, Expert, Output, Run, Tool
from .registry import Registry

STEP = 0.01  # seconds between two looks at the stop button during a delay


@dataclass(frozen=True)
class Call:
    """One call that a fake got: times are `time.monotonic()`, texts as they were, files as paths."""

    expert: str
    tool: str
    args: Mapping[str, Any]
    seed: int
    started: float
    ended: float
    error: str = ""


class NoWeights:
    """Stands in for `core.weights.Weights` where no expert has any."""

    def resolve(self, uri: str) -> Path:
        """Never asked for by a fake."""
        raise AssertionError(f"a fake has no weights, and '{uri}' was asked for")


@dataclass
class Fakes:
    """A set of fake experts and the log of their calls.

    `delay`: seconds a call takes (of all, or by tool). `flaky`: how often a tool fails, retryably, before it works.
    `broken`: tools whose calls always fail. `answers`: what a tool says, in place of the made-up text.
    `spares`: a second expert for each tool, of lower quality, that always works.
    """

    tools: Sequence[Tool] = TOOLS
    delay: float | Mapping[str, float] = 0.0
    flaky: Mapping[str, int] = field(default_factory=dict)
    broken: Iterable[str] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    spares: bool = False
    memory: int = 1_000_000
    calls: list[Call] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._left = dict(self.flaky)
        self.weights = NoWeights()
        self.experts: list[type[Expert]] = [fake_expert(self, t) for t in self.tools]
        if self.spares:
            self.experts += [fake_expert(self, t, spare=True) for t in self.tools]

    def registry(self, **options: Any) -> Registry:
        """A registry of these experts and nothing else."""
        return Registry.of(self.experts, self.tools, **options)

    def called(self, tool: str) -> list[Call]:
        """The calls of one tool, in the order in which they ended."""
        return [c for c in self.calls if c.tool == tool]

    def fault(self, tool: str) -> ExpertError | None:
        """The error that this call of the tool should end with, if any."""
        if tool in set(self.broken):
            return ExpertError(f"The fake '{tool}' is broken, as the test asked.")
        with self._lock:
            if self._left.get(tool, 0) > 0:
                self._left[tool] -= 1
                return ExpertError(f"The fake '{tool}' failed once more, as the test asked.", retryable=True)
        return None

    def seconds(self, tool: str) -> float:
        """How long a call of the tool takes."""
        return self.delay.get(tool, 0.0) if isinstance(self.delay, Mapping) else self.delay


class FakeExpert(Expert):
    """What all fakes have in common; `fake_expert` makes one for a tool."""

    owner: Fakes
    spare = False

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Notes that it was loaded."""
        self.owner.loads.append(self.name)

    def unload(self) -> None:
        """Notes that it was unloaded."""
        self.owner.unloads.append(self.name)

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Waits, fails if it is to fail, or makes something small."""
        started, error = time.monotonic(), ""
        try:
            _check_args(self.tool, args)
            self._wait(run)
            if not self.spare and (fault := self.owner.fault(self.tool.name)):
                raise fault
            return [make(self.tool, args, run.seed, self.owner.answers.get(self.tool.name))]
        except Exception as e:
            error = str(e)
            raise
        finally:
            call = Call(self.name, self.tool.name, dict(args), run.seed, started, time.monotonic(), error)
            self.owner.calls.append(call)

    def _wait(self, run: Run) -> None:
        total = self.owner.seconds(self.tool.name)
        end = time.monotonic() + total
        while (left := end - time.monotonic()) > 0:
            run.check()
            run.progress(total - left, total, "waiting")
            time.sleep(min(STEP, left))
        run.check()


def fake_expert(owner: Fakes, tool: Tool, spare: bool = False) -> type[Expert]:
    """A fake expert class for a tool, called `fake-TOOL`, or `spare-TOOL`."""
    name = f"{'spare' if spare else 'fake'}-{tool.name}"
    card = Card(memory=owner.memory, speed="instant", quality=0.1 if spare else 0.5)
    body = {"name": name, "tool": tool, "card": card, "owner": owner, "spare": spare}
    body |= {"__doc__": f"Pretends to do {tool.name}.", "__module__": __name__}
    return type("Fake", (FakeExpert,), body)


def make(tool: Tool, args: Mapping[str, Any], seed: int, answer: str | None = None) -> Output:
    """What a fake of this tool makes of these arguments: the same bytes for the same call."""
    digest = hashlib.sha256(repr((tool.name, seed, [(k, _content(args[k])) for k in sorted(args)])).encode()).digest()
    if tool.output == "image":
        return Output(tiny_png(digest), "image/png", tool.name)
    if tool.output == "audio":
        return Output(tiny_wav(digest), "audio/wav", tool.name)
    if tool.output == "video":
        return Output(tiny_mp4(digest), "video/mp4", tool.name)
    said = ", ".join(f"{k}={_shown(args[k])}" for k in sorted(args))
    return Output.text(answer if answer is not None else f"{tool.name} of {said}", tool.name)


def tiny_png(digest: bytes, side: int = 8) -> bytes:
    """A square of one colour, taken from the digest."""
    rows = b"".join(b"\0" + digest[:3] * side for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def tiny_wav(digest: bytes, rate: int = 8000, seconds: float = 0.25) -> bytes:
    """A short square tone whose pitch is taken from the digest; 16-bit mono."""
    half = 10 + digest[0] % 20
    samples = [(8000 if (n // half) % 2 else -8000) for n in range(int(rate * seconds))]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))
    return out.getvalue()


def tiny_mp4(digest: bytes, side: int = 32, frames: int = 4) -> bytes:
    """Four frames of one colour, taken from the digest."""
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        picture = np.full((side, side, 3), list(digest[:3]), np.uint8)
        for _ in range(frames):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return out.getvalue()


def _check_args(tool: Tool, args: Mapping[str, Any]) -> None:
    """A fake is as strict as a real expert: a wrong call must not pass in a test."""
    for param in tool.params:
        value = args.get(param.name)
        if value is None and param.required:
            raise InputError(f"'{tool.name}' was called without '{param.name}'.")
        if param.modality == "text" and value is not None and not isinstance(value, str):
            raise InputError(f"'{tool.name}' wants '{param.name}' as text and got {type(value).__name__}.")
        if param.modality != "text" and value is not None and not Path(value).is_file():
            raise InputError(f"'{tool.name}' wants '{param.name}' as a file and '{value}' is none.")
    if unknown := sorted(set(args) - {p.name for p in tool.params}):
        raise InputError(f"'{tool.name}' was called with '{unknown[0]}', which it does not take.")


def _content(value: Any) -> str:
    """What an argument is, whatever the name of its file."""
    return hashlib.sha256(value.read_bytes()).hexdigest() if isinstance(value, Path) else repr(value)


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Path) else str(value)
