"""Request, Result, Answer, and the state that the cascade keeps between its nodes.

Everything in the state is plain JSON (text, numbers, lists, mappings): it goes through strict
msgpack into SQLite, and content is named by its hash, never carried along. The dataclasses here are
what crosses a boundary; `to_json` and `from_json` lead into the state and back.

    request = Request("Read this aloud", (note,), seed=7)
    State(request=request.to_json())
    Answer.from_json(state["answer"])
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypedDict

from ..core.artifacts import Artifact
from ..core.errors import InputError

Status = Literal["ok", "failed", "skipped"]
SHORT = 500  # characters of a text result that travel with it; all of it is in the store


@dataclass(frozen=True)
class Request:
    """What a user wants, with everything that decides how it is carried out.

    `policy` and `pinned` (tool -> expert) override the settings; `approve` asks before the plan
    runs; `max_seconds` bounds the time for all tasks; `fresh` runs every task even where its result
    is known; `steps` overrides expert or seed of single tasks (`{"2": {"expert": …, "seed": …}}`).
    """

    text: str
    attachments: tuple[Artifact, ...] = ()
    mode: str = "cascade"
    seed: int | None = 0
    approve: bool = False
    policy: str | None = None
    pinned: Mapping[str, str] = field(default_factory=dict)
    max_seconds: float | None = None
    fresh: bool = False
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "text": self.text,
            "attachments": [a.to_json() for a in self.attachments],
            "mode": self.mode,
            "seed": self.seed,
            "approve": self.approve,
            "policy": self.policy,
            "pinned": dict(self.pinned),
            "max_seconds": self.max_seconds,
            "fresh": self.fresh,
            "steps": {k: dict(v) for k, v in self.steps.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str | Request) -> Request:
        """Inverse of `to_json`; a bare string is a request without attachments."""
        if isinstance(data, Request):
            return data
        if isinstance(data, str):
            return cls(data)
        if not isinstance(data, Mapping) or not isinstance(data.get("text"), str):
            raise InputError(f"A request is a text or a mapping with 'text', and this is {str(data)[:80]!r}.")
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        known["attachments"] = tuple(Artifact.from_json(a) for a in data.get("attachments") or ())
        return cls(**known)


@dataclass(frozen=True)
class Result:
    """What one task came to. `text` is the beginning of a text result; `seconds` what it took."""

    id: int
    task: str
    status: Status
    artifacts: tuple[Artifact, ...] = ()
    text: str = ""
    error: str = ""
    expert: str = ""
    seed: int = 0
    seconds: float = 0.0
    cached: bool = False

    @property
    def ok(self) -> bool:
        """Whether the task was done."""
        return self.status == "ok"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return {**plain, "artifacts": [a.to_json() for a in self.artifacts]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Inverse of `to_json`."""
        known = {k: v for k, v in data.items() if k in cls.__dataclass_fields__}
        return cls(**{**known, "artifacts": tuple(Artifact.from_json(a) for a in data.get("artifacts") or ())})


@dataclass(frozen=True)
class Answer:
    """What a user gets. `artifacts` is everything that was made, in plan order; `plan` HuggingGPT's form."""

    text: str
    artifacts: tuple[Artifact, ...] = ()
    plan: tuple[Mapping[str, Any], ...] = ()
    results: tuple[Result, ...] = ()
    bridges: tuple[str, ...] = ()
    costs: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    thread: str = ""

    @property
    def ok(self) -> bool:
        """Whether no task failed or was skipped."""
        return all(r.ok for r in self.results)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "text": self.text,
            "ok": self.ok,
            "artifacts": [a.to_json() for a in self.artifacts],
            "plan": [dict(t) for t in self.plan],
            "results": [r.to_json() for r in self.results],
            "bridges": list(self.bridges),
            "costs": dict(self.costs),
            "run": self.run,
            "thread": self.thread,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Answer:
        """Inverse of `to_json`."""
        return cls(
            text=data["text"],
            artifacts=tuple(Artifact.from_json(a) for a in data.get("artifacts", ())),
            plan=tuple(data.get("plan", ())),
            results=tuple(Result.from_json(r) for r in data.get("results", ())),
            bridges=tuple(data.get("bridges", ())),
            costs=dict(data.get("costs", {})),
            run=data.get("run", ""),
            thread=data.get("thread", ""),
        )

    @classmethod
    def of_run(cls, bundle: Mapping[str, Any]) -> Answer:
        """The answer that the bundle of a finished run holds (`runs.py`)."""
        made = [a for r in bundle["results"] for a in r["artifacts"]]
        known = {k: bundle[k] for k in ("plan", "results", "bridges", "costs", "thread")}
        return cls.from_json({**known, "text": bundle["answer"]["text"], "artifacts": made, "run": bundle["id"]})


class State(TypedDict, total=False):
    """What the cascade's nodes share. Give `request`; take `answer`.

    `request` may be a string, a Request or its JSON. `given` holds a plan and results that a replay
    starts from. `turns` are the earlier exchanges of the conversation, the newest last.
    """

    request: Any
    run: str
    given: dict[str, Any] | None
    plan: list[dict[str, Any]]
    bridges: list[str]
    results: list[dict[str, Any]]
    round: int
    rejected: bool
    costs: dict[str, Any]
    answer: dict[str, Any] | None
    turns: list[dict[str, Any]]


def derive_seed(seed: int | None, task_id: int) -> int:
    """The seed of one task, 31 bits: the same for the same request seed and task, whatever ran before."""
    digest = hashlib.sha256(f"{seed or 0}:{task_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def without_provenance(artifact: Artifact) -> Artifact:
    """For places that are copied often: the store keeps the provenance."""
    return replace(artifact, provenance=None)
