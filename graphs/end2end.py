"""The end-to-end mode as a LangGraph graph: hear → speak. One model reads everything and asks for its own media.

    graph = build_end2end(runtime, speaker_source(settings), checkpointer)
    state = await graph.ainvoke({"request": request.to_json()}, {"configurable": {"thread_id": "t"}})

State, events, artifacts, cache, checkpoints and conversations are the cascade's; a conversation can change
between the modes from turn to turn. There is no plan: what appears as one in the answer are the
outputs that the model asked for, in the order in which it did. Each is made as soon as its signal
tokens are complete, beside the words, and remembered in the result cache: after a kill the words
are said again (they take a moment, and the same seed says the same) and what was made is found there.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.artifacts import EXTENSIONS, Artifact, Provenance
from ..core.errors import AnyloomError, Cancelled, ExpertError, InputError, WeightsError
from ..core.events import AnswerText, Emit, TaskDone, TaskFailed, TaskStarted
from ..mmllm.contracts import SENSES
from ..mmllm.dialogue import Made, Piece, Seen, Turn
from ..tools.contracts import Card, Expert, Output, Run, Tool
from ..tools.selection import pick_device
from .cache import key_of
from .cascade import _remember, _thread, all_files, check_named, stream_emitter
from .dispatch import Names, Progress
from .executor import Job, ThreadExecutor, one_line
from .runtime import Runtime
from .state import Answer, Request, Result, State, derive_seed

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

    from ..core.settings import Settings
    from ..mmllm.inference import Reply, Speaker, Wanted

SHIPPED = "pkg:anyloom.weights/mmllm"
MEMORY = 900_000_000  # bytes that the pocket model holds once it is loaded
MOST_TOKENS = 160
MOST_TEXT = 4000  # characters of an attached text
SILENCE = "I have no answer to this."


@dataclass(frozen=True)
class Source:
    """Where the model comes from: its name, what tells its weights, and how it is opened on a device."""

    name: str
    weights: tuple[str, ...]
    open: Callable[[str], Speaker]
    memory: int = MEMORY

    @cached_property
    def expert(self) -> type[EndToEnd]:
        """The model's class, made once for all event loops and their graphs: the seats in memory go by it."""
        card = Card(weights=self.weights, memory=self.memory, devices=("cpu", "cuda"), speed="fast")
        body = {"name": self.name, "card": card, "source": self, "__doc__": EndToEnd.__doc__}
        return type("EndToEnd", (EndToEnd,), body)


def speaker_source(settings: Settings) -> Source:
    """The trained model: the user's own in DATA/mmllm, else the one that ships. WeightsError when there is none."""
    from ..core.weights import Weights

    weights = Weights(settings.cache_dir, offline=settings.offline)
    own = Path(settings.data_dir) / "mmllm"
    folder = own if (own / "manifest.json").exists() else None
    if folder is None:
        try:
            folder = weights.resolve(SHIPPED)
        except WeightsError as e:
            raise WeightsError(
                "The end-to-end mode has no trained weights here; train them with `anyloom train mmllm` and put the "
                f"checkpoint into '{own}', or use --mode cascade."
            ) from e
    manifest = (folder / "manifest.json").read_bytes()
    mark = "sha256:" + hashlib.sha256(manifest).hexdigest()

    def open_speaker(device: str) -> Speaker:
        from ..mmllm.checkpoint import open_trained
        from ..mmllm.contracts import Setting
        from ..mmllm.inference import Speaker
        from ..mmllm.registry import Parts

        setting = Setting(weights, device, "float32" if device == "cpu" else "bfloat16")
        return Speaker(open_trained(folder, Parts.installed(), setting, Path(settings.cache_dir)))

    return Source(f"mmllm-{json.loads(manifest)['recipe']['name']}", (mark,), open_speaker)


class EndToEnd(Expert):
    """The model as an expert, so that it has a seat in memory, a device, progress and a stop like the others."""

    name = "mmllm"
    tool = Tool("any-to-any", "Answers words and media with words and media.", (), "text")
    source: Source

    @classmethod
    def fetch(cls, weights: Any) -> Mapping[str, Path]:
        """Nothing beforehand: the source finds its own files when it opens."""
        return {}

    def load(self, device: str, weights: Mapping[str, Path]) -> None:
        """Opens the model."""
        self.speaker = self.source.open(device)

    def unload(self) -> None:
        """Lets go of it."""
        del self.speaker

    def run(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """Speaks, and has each output made beside the words. `args` is a Telling."""
        telling: Telling = args["telling"]
        with ThreadPoolExecutor(1, thread_name_prefix="anyloom-media") as beside:
            made: list[Future[None]] = []

            def wanted(one: Wanted) -> None:
                made.append(beside.submit(telling.make, self.speaker, one))

            try:
                telling.reply = self.speaker.speak(
                    telling.talk, telling.files, on_text=telling.say, on_media=wanted, check=run.check,
                    max_tokens=MOST_TOKENS, seed=run.seed,
                )  # fmt: skip
                for future in made:
                    future.result()
            except BaseException:
                run.stop.set()
                raise
        return [Output.text(telling.reply.text)]


def build_end2end(runtime: Runtime, source: Callable[[], Source], checkpointer: Any = None) -> CompiledStateGraph:
    """The compiled graph. `source` is asked when a request comes; it may raise WeightsError."""
    from langgraph.graph import END, START, StateGraph

    nodes = EndToEndGraph(runtime, source)
    graph = StateGraph(State)
    graph.add_node("hear", nodes.hear)
    graph.add_node("speak", nodes.speak)
    graph.add_edge(START, "hear")
    graph.add_edge("hear", "speak")
    graph.add_edge("speak", END)
    return graph.compile(checkpointer=checkpointer, name="end2end")


class EndToEndGraph:
    """The nodes, over one runtime. State in, update out."""

    def __init__(self, runtime: Runtime, source: Callable[[], Source]):
        self.runtime = runtime
        self._source = source
        executor = runtime.executor
        if not isinstance(executor, ThreadExecutor) and runtime.residency is not None:
            executor = ThreadExecutor(runtime.residency)  # its words come through callbacks: it runs in this process
        self._executor = executor

    @property
    def expert(self) -> type[EndToEnd]:
        """The model's class."""
        return self._source().expert

    async def hear(self, state: State) -> dict[str, Any]:
        """Takes the request in."""
        request = Request.from_json(state["request"])
        check_named(request, state)
        return {
            "request": request.to_json(), "run": state.get("run") or secrets.token_hex(5), "given": None, "plan": [],
            "bridges": [], "results": [], "round": 0, "rejected": False, "answer": None, "costs": {},
        }  # fmt: skip

    async def speak(self, state: State) -> dict[str, Any]:
        """Lets the model answer; streams its words, makes its media, remembers the exchange."""
        started = time.perf_counter()
        request = Request.from_json(state["request"])
        expert = self.expert
        seed = derive_seed(request.seed, 0)
        run = Run(seed=seed, device=pick_device(expert, self.runtime.settings.device))
        telling = Telling(self.runtime, expert, request, state, run, stream_emitter())
        job = Job(expert, run, telling.prepare, lambda outputs, seconds: True, self._timeout(request),
                  on_load=lambda: telling.note(f"loading {expert.name}"))  # fmt: skip
        telling.note("answering")
        await self._executor.perform(job)
        reply = telling.reply
        results = telling.results()
        text = reply.text.strip()
        if not text and not results:
            text = SILENCE
            stream_emitter()(AnswerText(text))
        costs = {
            "seconds": round(time.perf_counter() - started, 4), "expert_seconds": sum(r.seconds for r in results),
            "cached": sum(r.cached for r in results), "prompt_tokens": reply.prompt_tokens,
            "cached_tokens": reply.cached_tokens, "completion_tokens": len(reply.ids), "calls": 1,
        }  # fmt: skip
        plan = tuple({"task": r.task, "id": r.id, "dep": [-1], "args": {}} for r in results)
        made = tuple(a for r in results for a in r.artifacts)
        answer = Answer(text, made, plan, results, (), costs, state["run"], _thread())
        return {
            "plan": list(plan), "results": [r.to_json() for r in results], "answer": answer.to_json(), "costs": costs,
            "turns": _remember(state, request, answer), "run": "",
        }  # fmt: skip

    def _timeout(self, request: Request) -> float | None:
        times = [t for t in (self.runtime.settings.task_timeout, request.max_seconds) if t is not None]
        return min(times, default=None)


class Telling:
    """One answer while it is given: what the model is told, and what becomes of what it asks for."""

    def __init__(
        self, runtime: Runtime, expert: type[EndToEnd], request: Request, state: State, run: Run, emit: Emit
    ):
        self.runtime, self.expert, self.request, self.state = runtime, expert, request, state
        self.run, self.emit = run, emit
        known = all_files(request, state)
        self.names = Names(known)
        self.talk, shown = dialogue(request, state.get("turns") or [], known, self._text)
        self.shown = shown
        self.files: dict[str, Path] = {}
        self.reply: Reply
        self._made: dict[int, Result] = {}

    def prepare(self) -> Mapping[str, Any]:
        """The expert's arguments; reads the store."""
        self.files = {a.sha256: self.runtime.store.path(a) for a in self.shown}
        return {"telling": self}

    def say(self, text: str) -> None:
        """A piece of the words."""
        self.emit(AnswerText(text))

    def note(self, text: str) -> None:
        """Something that takes a while before the first word."""
        from ..core.events import TaskProgress

        self.emit(TaskProgress(0, 0.0, 0.0, text))

    def results(self) -> tuple[Result, ...]:
        """What was asked for, in its order."""
        return tuple(self._made[i] for i in sorted(self._made))

    def make(self, speaker: Speaker, wanted: Wanted) -> None:
        """Makes one output, or finds it; a failure is a failed result and leaves the words as they are."""
        started = time.perf_counter()
        task, step = f"make-{wanted.modality}", self.request.steps.get(str(wanted.index), {})
        given = step.get("seed")
        seed = int(given) if given is not None else derive_seed(self.request.seed, wanted.index + 1)
        try:
            artifacts, cached = self._artifacts(speaker, wanted, seed)
        except Cancelled:
            raise
        except Exception as e:  # a generator is a plugin and may raise anything
            why = str(e) if isinstance(e, AnyloomError) else f"{self.expert.name} failed: {one_line(e)}"
            seconds = time.perf_counter() - started
            self._made[wanted.index] = Result(wanted.index, task, "failed", error=why, seconds=seconds)
            self.emit(TaskFailed(wanted.index, task, why, False))
            return
        seconds = time.perf_counter() - started
        named = tuple(replace(a, name=self.names.take(a.name)) for a in artifacts)
        self._made[wanted.index] = Result(
            wanted.index, task, "ok", named, "", "", self.expert.name, seed, seconds, cached
        )
        shown = tuple(a.to_json() for a in named)
        self.emit(TaskDone(wanted.index, task, self.expert.name, seconds, cached, shown))

    def _artifacts(self, speaker: Speaker, wanted: Wanted, seed: int) -> tuple[tuple[Artifact, ...], bool]:
        """From the cache, or made now and stored: artifact first, then the cache, so that a known result is whole."""
        cache, store = self.runtime.cache, self.runtime.store
        key = key_of(self.expert, {**self._content(), "output": f"{wanted.index}:{wanted.modality}"}, seed)
        if cache is not None and not self.request.fresh and (hit := cache.get(key, store)) is not None:
            return hit.artifacts, True
        started = time.perf_counter()
        self.emit(TaskStarted(wanted.index, f"make-{wanted.modality}", self.expert.name))
        progress = Progress(wanted.index, self.emit)
        try:
            made = speaker.generate(
                wanted.modality, wanted.condition, seed=seed, progress=progress, check=self.run.check
            )
        finally:
            progress.close()
        if made.media_type not in EXTENSIONS:
            raise ExpertError(f"The generator for {wanted.modality} made '{made.media_type}', which is not known here.")
        provenance = Provenance(
            "any-to-any", self.expert.name, self.expert.card.weights, tuple(a.sha256 for a in self.shown),
            {"text": self.request.text[:500], "output": wanted.index}, seed,
        )  # fmt: skip
        name = f"{made.modality}{EXTENSIONS[made.media_type]}"
        artifact = store.add_bytes(made.data, made.media_type, name, provenance)
        if cache is not None:
            cache.put(key, self.expert.name, [artifact], time.perf_counter() - started)
        return (artifact,), False

    def _content(self) -> dict[str, str]:
        """What decides about an output: the whole conversation as the model reads it, and the seed of its words."""
        talk = json.dumps([t.to_json() for t in self.talk], ensure_ascii=False)
        return {"talk": hashlib.sha256(talk.encode()).hexdigest(), "words": str(self.run.seed)}

    def _text(self, artifact: Artifact) -> str:
        return self.runtime.store.text(artifact)[:MOST_TEXT]


def dialogue(
    request: Request,
    turns: Sequence[Mapping[str, Any]],
    known: Mapping[str, Artifact],
    text_of: Callable[[Artifact], str],
) -> tuple[list[Turn], list[Artifact]]:
    """The conversation as the model reads it, and every file in it; contents are named by hash.

    A file stands where the request names it ("compare cat.png with dog.png"), the others before the words.
    """
    talk: list[Turn] = []
    shown: dict[str, Artifact] = {}
    for turn in turns:
        attached = [Artifact.from_json(a) for a in turn["attachments"]]
        made = [a for a in map(Artifact.from_json, turn["artifacts"]) if a.modality in SENSES]
        talk.append(Turn("user", _heard(turn["request"], attached, {}, text_of, shown)))
        shown |= {a.sha256: a for a in made}
        answer: tuple[Piece, ...] = (turn["answer"],) if turn["answer"] else ()
        talk.append(Turn("assistant", (*answer, *(Made(a.modality, "", a.sha256) for a in made))))
    earlier = {n: a for n, a in known.items() if n not in {x.name for x in request.attachments}}
    talk.append(Turn("user", _heard(request.text, request.attachments, earlier, text_of, shown)))
    return talk, list(shown.values())


def _heard(
    text: str, attached: Sequence[Artifact], earlier: Mapping[str, Artifact], text_of: Callable[[Artifact], str],
    shown: dict[str, Artifact],
) -> tuple[Piece, ...]:  # fmt: skip
    """A user's words with files in their places."""
    files = {**earlier, **{a.name: a for a in attached}}
    named = sorted((n for n in files if n in text), key=len, reverse=True)
    pieces: list[Piece] = []
    for part in re.split("(" + "|".join(map(re.escape, named)) + ")", text) if named else [text]:
        piece = _piece(files[part], text_of, shown) if part in named else part
        if piece:
            pieces.append(piece)
    front = [_piece(a, text_of, shown) for a in attached if a.name not in named]
    return (*front, *pieces)


def _piece(artifact: Artifact, text_of: Callable[[Artifact], str], shown: dict[str, Artifact]) -> Piece:
    if artifact.modality == "text":
        return f"{text_of(artifact)}\n"
    if artifact.modality not in SENSES:
        raise InputError(f"'{artifact.name}' is {artifact.modality}, which the end-to-end model does not take.")
    shown[artifact.sha256] = artifact
    return Seen(artifact.modality, artifact.sha256)
