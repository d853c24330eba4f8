"""The local controller: SmolLM2-135M with anyloom's planner adapter. No key, no network, CPU.

Plans are decoded line by line in the plan language (`language.py`): the tool by the likelihood of its
whole name, its arguments under a grammar that knows what there is by then, so that plans always parse
and always type-check. Answers are put together from the
results by a template, since a model of this size cannot be trusted not to invent; small talk is
answered by the model itself.
"""

from __future__ import annotations

import asyncio
import queue
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import PlanError
from ..prompts import load
from ..tools.contracts import Tool
from . import language
from .base import Controller, Outcome, PlanRequest
from .followups import alone
from .nearness import LONG, Nearness
from .plan import WORDY, Plan, Task
from .smalltalk import small_talk

PLANNER = "pkg:anyloom.weights/planner"
MAX_LINE_TOKENS = 400
ONWARD = 0.5  # in nats: what a further line is favoured by over an ending; it ends too early rather than too late
LEANING = 0.6  # in nats per cosine and tool of the list: how much the sentence encoder's view of a tool counts
LACKING = 4.0  # in nats: what a tool is disfavoured by that wants something which is not there
MARGIN = 5.0  # in nats: a first token this much less likely is not worth reading on

MEDIA = re.compile(  # what a request calls a file that it is about
    r"\b(?:pictures?|photos?|images?|pics?|screenshots?|scans?|drawings?|paintings?|pages?|letters?|notes?|receipts?|bills?"
    r"|videos?|clips?|films?|movies?|footage|recordings?|audios?|voice\w*|memos?|messages?|sounds?|songs?|tracks?|files?"
    r"|attach\w*|upload\w*|sent|written|printed|shown|see|hear|heard|this|these|those|here)\b",
    re.I,
)

Near = Callable[[str, Sequence[Tool]], Sequence[float]]  # leanings towards tools: nearness.py


class LocalController(Controller):
    """SmolLM2-135M as planner, chooser and small-talker. `open_lm(adapter)` returns a loaded SmolLM."""

    name = "local"

    def __init__(self, open_lm: Callable[[str | None], Any], max_tasks: int = 16, near: Near | None = None):
        self._open = open_lm
        self._near = near
        self.max_tasks = max_tasks
        self._tools: Sequence[Tool] = ()  # those of the last plan
        self._calls = 0
        self._seconds = 0.0
        self._tokens = 0

    async def plan(self, request: PlanRequest, tools: Sequence[Tool]) -> Plan:
        """Decodes a plan over exactly these tools."""
        return await asyncio.to_thread(self.plan_now, request, tools)

    def plan_now(self, request: PlanRequest, tools: Sequence[Tool]) -> Plan:
        """`plan` in this thread."""
        self._tools = tools
        if small_talk(request.text, tools):
            return Plan()
        started = time.perf_counter()
        request = alone(request, {t.name for t in tools})
        text = self.decode(request, tools)
        self._calls += 1
        self._seconds += time.perf_counter() - started
        return language.read(text, {t.name: t for t in tools}, request.files)

    def decode(self, request: PlanRequest, tools: Sequence[Tool]) -> str:
        """The plan in the plan language."""
        from ..core.smollm import Grammar

        session = self._open(PLANNER).session(language.prefix(tools))
        session.feed(language.question(request.text, request.files))
        lean = self._leanings(request.text, tools)
        outputs: list[str] = []
        lines: list[str] = []
        made: list[Tool] = []
        while len(lines) < self.max_tasks:
            ended = self._ended(session, outputs)
            if ended:
                return "".join([*lines, ended + "\n"])
            session.feed(f"{len(lines)}:")
            start = session.fork()
            choice = able(tools, request.files, outputs)
            poor = unread(choice, request.files, made, lacking(choice, request, outputs, lean))
            tool = likeliest(session, choice, poor)
            session.feed(f" {tool.name}")
            grammar = language.arguments_grammar(tool, request.text, request.files, outputs)
            rest = session.sample(Grammar.lark(grammar), max_tokens=MAX_LINE_TOKENS)
            if not rest.endswith("\n"):
                raise PlanError("The local planner did not finish its plan; say the request in fewer words.")
            step = first_step(start, tool, rest, tools, request.files, lines, poor, request.text, outputs)
            if step is not None:
                session = start
                tool, rest = step
                session.feed(f" {tool.name}{rest}")
            lines.append(f"{len(lines)}: {tool.name}{rest}")
            outputs.append(tool.output)
            made.append(tool)
            self._tokens += len(lines[-1]) // 4
        return "".join([*lines, language.END + "\n"])

    def _leanings(self, text: str, tools: Sequence[Tool]) -> Mapping[str, float]:
        """What is added to the likelihood of each tool's name; nothing for short lists."""
        if self._near is None or len(tools) < LONG:
            return {}
        return {t.name: LEANING * len(tools) * n for t, n in zip(tools, self._near(text, tools), strict=True)}

    @staticmethod
    def _ended(session: Any, outputs: Sequence[str]) -> str:
        """The ending, when one is likelier than a further line."""
        ways = [f"{len(outputs)}:", *language.endings(outputs)]
        scores = session.score(ways)
        scores[0] += ONWARD
        best = max(range(len(ways)), key=scores.__getitem__)
        return ways[best] if best else ""

    async def repair(self, request: PlanRequest, tools: Sequence[Tool], plan: Plan, problems: Sequence[str]) -> Plan:
        """Where there was nothing to read, what the file holds is described; else the problems stand.

        The local model cannot use an explanation. But "describe this picture aloud" and "read this picture aloud" lie
        near each other, and when a reader of writing or speech has failed the other is meant, or is the next best.
        """
        named = {t.name: t for t in tools}
        tasks = list(plan.tasks)
        for n, task in enumerate(tasks):
            if any(p.startswith(f"task {task.id} ({task.task}) failed") for p in problems) and task.task in named:
                other = describing(named[task.task], tools)
                if other is not None:
                    args = zip(other.params, named[task.task].params, strict=True)
                    tasks[n] = Task(other.name, task.id, {p.name: task.args[q.name] for p, q in args})
        if tasks == list(plan.tasks):
            raise PlanError(f"This cannot be done as asked: {'; '.join(problems)}.", tuple(problems))
        return Plan(tuple(tasks))

    async def choose(self, task: str, cards: Mapping[str, str]) -> str:
        """The expert whose name the model finds likeliest after its cards."""
        prompt = load("choose").render(task=task, cards="\n".join(f"{n}: {c}" for n, c in cards.items()))

        def pick() -> str:
            session = self._open(None).session("")
            session.feed(f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
            scores = session.score(list(cards))
            return max(zip(scores, cards, strict=True))[1]

        self._calls += 1
        return await asyncio.to_thread(pick)

    async def answer(self, request: PlanRequest, plan: Plan, outcomes: Sequence[Outcome]) -> AsyncIterator[str]:
        """The results in words, or a reply by the model when there was nothing to run."""
        if plan:
            for piece in summary(plan, outcomes):
                yield piece
            return
        if said := small_talk(request.text, self._tools):
            yield said
            return
        async for piece in self._reply(request):
            yield piece

    async def _reply(self, request: PlanRequest) -> AsyncIterator[str]:
        turns = "".join(
            f"<|im_start|>user\n{language.speakable(t.request)}<|im_end|>\n<|im_start|>assistant\n"
            f"{language.speakable(t.answer)}<|im_end|>\n"
            for t in [t for t in request.history if not t.artifacts][-3:]  # of files made it would invent more
        )
        prompt = f"{turns}<|im_start|>user\n{language.speakable(request.text)}<|im_end|>\n<|im_start|>assistant\n"
        system = f"<|im_start|>system\n{load('reply').render()}<|im_end|>\n"
        self._calls += 1
        async for piece in _stream(lambda put, stop: self._say(system, prompt, put, stop)):
            yield piece

    def _say(self, system: str, prompt: str, put: Callable[[str], None], stop: threading.Event) -> None:
        session = self._open(None).session(system)
        session.feed(prompt)
        session.sample(None, max_tokens=160, stop=("<|im_end|>",), on_token=put, should_stop=stop.is_set)

    def usage(self) -> dict[str, Any]:
        """Model calls, seconds spent planning, and about how many tokens were written."""
        return {"model_calls": self._calls, "plan_seconds": round(self._seconds, 3), "plan_tokens": self._tokens}


def describing(reader: Tool, tools: Sequence[Tool]) -> Tool | None:
    """The tool that says what a file shows where `reader` says what is written or spoken in it; None without one."""
    kinds = [p.modality for p in reader.params]
    fits = [t for t in tools if not t.reads and t.output == reader.output and [p.modality for p in t.params] == kinds]
    return fits[0] if reader.reads and fits else None


def likeliest(session: Any, tools: Sequence[Tool], lean: Mapping[str, float] | None = None) -> Tool:
    """The tool whose whole name is likeliest next. `lean` adds to the likelihood of some, in nats.

    Token by token, five names that begin alike (`text-to-…`) would outvote a likelier one that
    begins alone. Names whose first token is far from the best are not read further.
    """
    lean = lean or {}
    heads = session.next_scores([f" {t.name}" for t in tools])
    heads = [h + lean.get(t.name, 0.0) for h, t in zip(heads, tools, strict=True)]
    near = [t for t, s in zip(tools, heads, strict=True) if s > max(heads) - MARGIN]
    if len(near) == 1:
        return near[0]
    scores = session.score([f" {t.name}" for t in near])
    for n, tool in enumerate(near):
        if any(other.name.startswith(tool.name) and other is not tool for other in near):
            scores[n] = max(session.score([f" {tool.name}(", f' {tool.name}("']))
        scores[n] += lean.get(tool.name, 0.0)
    return near[max(range(len(near)), key=scores.__getitem__)]


def able(tools: Sequence[Tool], files: Mapping[str, str], outputs: Sequence[str]) -> Sequence[Tool]:
    """The tools that can get their inputs from what there is, or from one step before.

    All of them where there is nothing at all: then the input that lacks is asked for by its kind.
    """
    there = {*files.values(), *outputs}
    if not there:
        return tools
    near = there | {t.output for t in tools if len(t.params) == 1 and t.params[0].modality in there}
    fitting = [t for t in tools if all(p.modality in (*WORDY, *near) for p in t.params)]
    return fitting or tools


def lacking(
    tools: Sequence[Tool], request: PlanRequest, outputs: Sequence[str], lean: Mapping[str, float]
) -> Mapping[str, float]:
    """The leanings, less LACKING for tools that want a kind of thing that is not there.

    Over a long list always; over a short one where the request speaks of nothing but words, so that a file that was
    forgotten is asked for. Not where the request holds an address: what it leads to may be what they want.
    """
    there = {*request.files.values(), *outputs, *WORDY}
    if _addresses(request.text) or not (lean or (there == {*WORDY} and not MEDIA.search(request.text))):
        return lean
    poor = {t.name for t in tools if any(p.modality not in there for p in t.params)}
    return {**lean, **{name: lean.get(name, 0.0) - LACKING for name in poor}}


def unread(
    tools: Sequence[Tool], files: Mapping[str, str], made: Sequence[Tool], lean: Mapping[str, float]
) -> Mapping[str, float]:
    """The leanings, less LACKING for tools that read what only a file from outside could hold.

    A picture that this plan drew has no writing on it, and a sound that it made up no speech: asked to tell what
    was drawn, describe it.
    """
    found = dict(lean)
    for tool in tools:
        kinds = {p.modality for p in tool.params} - {"text"}
        own = [m for m in made if m.output in kinds]
        if tool.reads and own and not kinds & set(files.values()) and all(m.holds != tool.reads for m in own):
            found[tool.name] = found.get(tool.name, 0.0) - LACKING
    return found


def first_step(
    session: Any,
    tool: Tool,
    rest: str,
    tools: Sequence[Tool],
    files: Mapping[str, str],
    lines: Sequence[str],
    lean: Mapping[str, float] | None = None,
    text: str = "",
    outputs: Sequence[str] = (),
) -> tuple[Tool, str] | None:
    """What must come first when a line lacks an input that can be had: "read this note aloud".

    From a file that is still unused, an address in the request, or the newest output, by a tool that
    takes just that. None when the line lacks nothing, or there is no such tool. `session` stands at the
    beginning of the line.
    """
    values = [v.strip() for v in rest.strip().strip("()").split(",")]
    lacks = [n for n, v in enumerate(values) if v in (language.MISSING, '""')]
    if not lacks or len(values) != len(tool.params):
        return None
    wanted = tool.params[lacks[0]].modality
    sources = [*_unused(files, lines), *_addresses(text), *_last(outputs)]
    for kind, value in sources:
        ways = [t for t in tools if t.output == wanted and [p.modality for p in t.params] == [kind]]
        if ways:
            return likeliest(session, ways, lean), f"({value})\n"
    return None


def _unused(files: Mapping[str, str], lines: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and letter of each file that no line names yet."""
    used = "".join("(" + line.split("(", 1)[1] for line in lines)
    letters = zip(language.LETTERS, files.values(), strict=False)
    return [(k, n) for n, k in letters if f"({n}" not in used and f" {n})" not in used and f" {n}," not in used]


def _addresses(text: str) -> list[tuple[str, str]]:
    """Web addresses of the request, as quoted values."""
    return [("url", f'"{a}"') for a in re.findall(r"https?://[^\s'\"<>]+[^\s'\"<>.,;:!?)]", language.speakable(text))]


def _last(outputs: Sequence[str]) -> list[tuple[str, str]]:
    """Kind and number of the newest output."""
    return [(outputs[-1], str(len(outputs) - 1))] if outputs else []


async def _stream(work: Callable[[Callable[[str], None], threading.Event], None]) -> AsyncIterator[str]:
    """Runs `work(put, stop)` in a thread and yields what it puts; stops it when the reader goes away."""
    pieces: queue.Queue[str | BaseException | None] = queue.Queue()
    stop = threading.Event()

    def run() -> None:
        try:
            work(pieces.put, stop)
            pieces.put(None)
        except BaseException as e:  # handed to the reader, whatever it is
            pieces.put(e)

    threading.Thread(target=run, daemon=True).start()
    try:
        while (piece := await asyncio.to_thread(pieces.get)) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stop.set()


def summary(plan: Plan, outcomes: Sequence[Outcome]) -> list[str]:
    """What the results are, in plan order: every file that was made, and each text nobody read further.

    Says nothing that no result shows; names files exactly as they are stored.
    """
    sinks = set(plan.sinks())
    parts = []
    for o in outcomes:
        made = [a for a in o.artifacts if a.modality != "text"]
        if o.error:
            parts.append(f"{o.task} failed: {o.error}")
        elif made:
            parts += [f"{o.task} made [{a.name}]({a.name})." for a in made]
        elif o.id in sinks:
            parts.append(o.text.strip() or f"{o.task} found nothing.")
    return ["\n\n".join(parts) + "\n"] if parts else ["Nothing came of it.\n"]


def open_local(weights: Any, cache_dir: Path, max_tasks: int = 16) -> LocalController:
    """The local controller on weights that are fetched when first needed."""

    def open_lm(adapter: str | None) -> Any:
        from ..core.smollm import open_smollm

        return open_smollm(weights, adapter=adapter, cache_dir=cache_dir)

    return LocalController(open_lm, max_tasks, Nearness.open(weights))
