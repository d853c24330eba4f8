"""Bench: an engine to be measured, and what measures it: judges, a sentence encoder, a recogniser for what is spoken.

    bench = Bench(engine, judges=open_judges(settings), encoder=open_encoder(settings))
    bench = open_bench(settings, folder)             # all of it; runs and artifacts are kept in that folder
    files = await bench.attached(item, suite.folder)
    await bench.read(artifact, "speech")             # what an artifact says, in words; None when nobody can tell

What measures is the same for both modes and outside of what is timed. Spoken answers are written down by the
`automatic-speech-recognition` tool, which the cascade uses as well.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.artifacts import Artifact
from ..core.errors import AnyloomError, WeightsError
from ..core.memory import trim
from ..graphs.state import Request, Result
from .judges import Judge, Saying, in_words, open_judges
from .media import made
from .reach import missing

if TYPE_CHECKING:
    from ..core.settings import Settings
    from ..graphs.engine import Engine
    from .items import Item

MODES = ("cascade", "end2end")


class Encoder(Protocol):
    """Texts to unit vectors."""

    def encode(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One vector a text."""


class Bench:
    """Everything that an evaluation needs. `cannot` says of a mode, beforehand, why it cannot be measured."""

    def __init__(
        self,
        engine: Engine,
        judges: Mapping[str, Judge] | None = None,
        encoder: Callable[[], Encoder | None] | None = None,
        cannot: Mapping[str, str] | None = None,
    ):
        self.engine = engine
        self.judges = dict(judges or {})
        self.cannot = dict(cannot or {})
        self._open_encoder = encoder or (lambda: None)
        self._encoder: Encoder | None = None
        self._asked_encoder = False
        self._vectors: dict[str, Sequence[float]] = {}
        self._read: dict[tuple[str, str], str | None] = {}
        self._said: dict[str, Saying] = {}

    @property
    def store(self) -> Any:
        """Where artifacts are."""
        return self.engine.store

    def describe(self) -> dict[str, Any]:
        """What decides about the numbers, besides the suite: settings, judges, encoder."""
        s = self.engine.settings
        return {
            "profile": s.profile, "controller": s.controller, "policy": s.policy, "device": s.device,
            "pinned": dict(s.pinned or {}), "judges": {k: j.fingerprint for k, j in sorted(self.judges.items())},
        }  # fmt: skip

    def why_not(self, mode: str, source: str, target: str, words: bool = False) -> str:
        """Why a mode cannot serve a conversion here, in a sentence; empty where it might."""
        if mode in self.cannot or mode == "end2end":
            return self.cannot.get(mode, "")
        return missing(self.engine.runtime.registry.offered(), source, target, words)

    async def attached(self, item: Item, folder: Path) -> tuple[Artifact, ...]:
        """An item's attachments in the store, made where they are recipes."""
        return tuple([await self._attach(one, folder) for one in item.attach])

    async def _attach(self, one: Mapping[str, Any], folder: Path) -> Artifact:
        if "file" in one:
            added: Artifact = self.store.add_file(folder / one["file"])
            return added
        if one["make"] == "speech":
            return await self.spoken(one["text"])
        data, media_type, name = made(one)
        stored: Artifact = self.store.add_bytes(data, media_type, name)
        return stored

    async def spoken(self, text: str) -> Artifact:
        """A text spoken by the text-to-speech tool, as a recording of its own (AnyloomError when it cannot be)."""
        result = await self.perform("text-to-speech", {"text": text})
        if not result.ok:
            raise WeightsError(f"The recording '{text[:60]}' could not be made: {result.error}")
        artifact: Artifact = dataclasses.replace(result.artifacts[0], name="recording.wav", provenance=None)
        return artifact

    def offers(self, tool: str) -> bool:
        """Whether a tool can be used here."""
        return any(t.name == tool for t in self.engine.runtime.registry.offered())

    async def perform(self, tool: str, args: Mapping[str, str | Artifact], seed: int = 0) -> Result:
        """One tool, outside any conversation; a failed Result when it cannot be used."""
        from ..controller.plan import Plan
        from ..graphs.dispatch import Dispatch

        if not self.offers(tool):
            return Result(0, tool, "failed", error=f"Nobody performs '{tool}' here.")
        files = {a.name: a for a in args.values() if isinstance(a, Artifact)}
        task = {"task": tool, "id": 0, "args": {k: v.name if isinstance(v, Artifact) else v for k, v in args.items()}}
        work = Dispatch(self.engine.runtime, Request(tool, seed=seed), Plan.parse([task]), files)
        return (await work.run())[0]

    async def read(self, artifact: Artifact, kind: str) -> str | None:
        """What an artifact of a kind (text, image, audio, video, speech) says, in words; None when nobody can tell."""
        key = (artifact.sha256, kind)
        if key not in self._read:
            self._read[key] = await self._words(artifact, kind)
        return self._read[key]

    async def _words(self, artifact: Artifact, kind: str) -> str | None:
        if kind == "text":
            text: str = self.store.text(artifact)
            return text
        if kind == "speech":
            result = await self.perform("automatic-speech-recognition", {"audio": artifact})
            return self.store.text(result.artifacts[0]) if result.ok and result.artifacts else None
        saying = self.says(artifact)
        return in_words(saying) if saying else None

    def says(self, artifact: Artifact) -> Saying | None:
        """What the judge of its modality names; None without one, or when the file cannot be opened."""
        judge = self.judges.get(artifact.modality)
        if judge is None:
            return None
        if artifact.sha256 not in self._said:
            try:
                self._said[artifact.sha256] = judge.says(self.store.path(artifact))
            except AnyloomError:
                self._said[artifact.sha256] = {}
        return self._said[artifact.sha256] or None

    def features(self, artifact: Artifact) -> list[float] | None:
        """The judge's numbers for it."""
        judge = self.judges.get(artifact.modality)
        try:
            return judge.features(self.store.path(artifact)) if judge else None
        except AnyloomError:
            return None

    def near(self, one: str, two: str) -> float | None:
        """Cosine of two texts' embeddings, 0…1; None without the encoder or without words."""
        if not one.strip() or not two.strip() or self.encoder is None:
            return None
        new = [t for t in dict.fromkeys((one, two)) if t not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, self.encoder.encode(new), strict=True))
        dot = sum(a * b for a, b in zip(self._vectors[one], self._vectors[two], strict=True))
        return min(1.0, max(0.0, float(dot)))

    @property
    def encoder(self) -> Encoder | None:
        """The sentence encoder, opened when first asked for; None when its weights cannot be had."""
        if not self._asked_encoder:
            self._asked_encoder = True
            self._encoder = self._open_encoder()
        return self._encoder

    def rest(self) -> None:
        """Unloads the experts, so that the memory of one mode is not counted with the next."""
        if self.engine.runtime.residency is not None:
            self.engine.runtime.residency.unload_all()
            gc.collect()
            trim()

    async def aclose(self) -> None:
        """Closes the engine."""
        await self.engine.aclose()


class MiniLMEncoder:
    """all-MiniLM-L6-v2, as the controller has it."""

    def __init__(self, folder: Path):
        from ..tools.experts.minilm import MiniLM

        self._model = MiniLM(folder, "cpu")

    def encode(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """See Encoder."""
        from ..tools.contracts import Run

        vectors: Sequence[Sequence[float]] = self._model.encode(texts, Run()).tolist()
        return vectors


def open_encoder(settings: Settings) -> Callable[[], Encoder | None]:
    """A function that opens MiniLM, or gives None when it cannot be fetched."""

    def opened() -> Encoder | None:
        from ..core.packaged import MINILM
        from ..core.weights import Weights

        try:
            return MiniLMEncoder(Weights(settings.cache_dir, offline=settings.offline).resolve(MINILM))
        except WeightsError:
            return None

    return opened


def open_bench(settings: Settings, folder: Path | None = None) -> Bench:
    """A bench over the settings. With `folder` its runs and artifacts are kept there, apart from the user's."""
    from ..graphs.end2end import speaker_source
    from ..graphs.engine import Engine

    cannot: dict[str, str] = {}
    parts: dict[str, Any] = {}
    try:
        parts["end2end"] = speaker_source(settings)
    except WeightsError as e:
        cannot["end2end"] = str(e).replace(str(settings.data_dir), "DATA")  # results name no folder of a user's
    own = dataclasses.replace(settings, result_cache=False)  # nothing is taken from an earlier item
    if folder is not None:
        own = dataclasses.replace(own, data_dir=Path(folder), redis="")
    return Bench(Engine(own, **parts), open_judges(settings), open_encoder(settings), cannot)
