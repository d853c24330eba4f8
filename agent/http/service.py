"""Service: what all doors of one app share, and what they do alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.artifacts import Artifact
from ...core.errors import InputError, UnknownName, nearest
from ...graphs import engine as engines
from ...graphs.state import Answer, Request
from ..intake import checked_text
from .errors import Refused
from .files import Files
from .jobs import Job, Jobs
from .line import Line
from .metrics import Metrics
from .options import ServeOptions

if TYPE_CHECKING:
    from fastapi import Request as HttpRequest

    from ...graphs.engine import Engine

# Options of a Request that a client may set, and what each must be.
REQUEST_OPTIONS: dict[str, tuple[type, ...]] = {
    "mode": (str,), "seed": (int,), "approve": (bool,), "policy": (str, type(None)), "pinned": (dict,),
    "max_seconds": (int, float, type(None)), "fresh": (bool,), "steps": (dict,),
}  # fmt: skip
POLICIES = ("fastest", "best", "pinned", "llm")


@dataclass
class Service:
    """One engine with its line, jobs, files and metrics."""

    engine: Engine
    options: ServeOptions
    line: Line
    metrics: Metrics
    jobs: Jobs
    files: Files

    @classmethod
    def over(cls, engine: Engine, options: ServeOptions) -> Service:
        """A service over an engine."""
        line = Line(options.max_concurrent, options.queue)
        metrics = Metrics(line)
        jobs = Jobs(engine, line, metrics, options.keep)
        files = Files(engine.store, options, allow_urls=not engine.settings.offline)
        return cls(engine, options, line, metrics, jobs, files)

    def base(self, request: HttpRequest) -> str:
        """How the addresses in an answer begin, with a slash at the end."""
        return f"{(self.options.public_url or str(request.base_url)).rstrip('/')}/"

    def request(self, text: str, attachments: tuple[Artifact, ...], given: Mapping[str, Any]) -> Request:
        """A checked Request; InputError says which option cannot be used."""
        for name, value in given.items():
            if name not in REQUEST_OPTIONS:
                raise InputError(f"A request has no option '{name[:40]}'{nearest(name, list(REQUEST_OPTIONS))}.")
            wrong_bool = isinstance(value, bool) and bool not in REQUEST_OPTIONS[name]
            if wrong_bool or not isinstance(value, REQUEST_OPTIONS[name]):
                raise InputError(f"The option '{name}' is {str(value)[:40]!r}, which it cannot be.")
        _within(given)
        seed = given.get("seed", self.engine.settings.seed)
        text = checked_text(text, self.engine.settings.limits)
        if len(attachments) > self.options.max_files:
            raise InputError(f"There are more than {self.options.max_files} files, which is the limit.")
        return Request(text, attachments, **{**given, "seed": seed})

    def shown(self, artifact: Artifact, base: str) -> dict[str, Any]:
        """An artifact as JSON, with its address."""
        return {**artifact.to_json(), "url": self.files.url(artifact, base)}

    def answered(self, answer: Answer, base: str) -> dict[str, Any]:
        """An answer as JSON, its artifacts with addresses."""
        results = [{**r.to_json(), "artifacts": [self.shown(a, base) for a in r.artifacts]} for r in answer.results]
        return {**answer.to_json(), "artifacts": [self.shown(a, base) for a in answer.artifacts], "results": results}

    def job(self, job: Job, base: str) -> dict[str, Any]:
        """A job as JSON."""
        position = job.ticket.position if job.ticket is not None and job.state == "queued" else 0
        request = {**job.request.to_json(), "attachments": [self.shown(a, base) for a in job.request.attachments]}
        return {
            "id": job.id,
            "object": "anyloom.request",
            "state": job.state,
            "position": position,
            "thread": job.thread,
            "created": int(job.created),
            "ended": None if job.ended is None else int(job.ended),
            "request": request,
            "plan": job.plan,
            "answer": self.answered(job.answer, base) if job.answer is not None else None,
            "error": job.error.body["error"] if job.error is not None else None,
            "links": {name: f"{base.rstrip('/')}/v1/requests/{job.id}{path}" for name, path in _LINKS.items()},
        }

    def model(self, name: str) -> str:
        """The mode behind a model's name."""
        found = self.models().get(name)
        if found is None:
            raise Refused(
                404, f"The model '{name[:80]}' does not exist; there is {', '.join(self.models())}.",
                param="model", code="model_not_found",
            )  # fmt: skip
        return found

    @staticmethod
    def models() -> dict[str, str]:
        """Model name -> mode: `anyloom` is the cascade."""
        return {("anyloom" if m == "cascade" else f"anyloom-{m}"): m for m in engines.MODES}


_LINKS = {"self": "", "events": "/events", "cancel": "/cancel", "approve": "/approve", "resume": "/resume"}


def _within(given: Mapping[str, Any]) -> None:
    """Values of the right type that are wrong all the same."""
    if (mode := given.get("mode", "cascade")) not in engines.MODES:
        known = ", ".join(engines.MODES)
        raise UnknownName(f"There is no mode '{mode[:40]}'{nearest(mode, engines.MODES)}; there is {known}.")
    if (policy := given.get("policy")) is not None and policy not in POLICIES:
        raise InputError(f"The policy '{policy[:40]}' does not exist; there is {', '.join(POLICIES)}.")
    if not 0 <= given.get("seed", 0) < 2**31:
        raise InputError(f"The seed is {given['seed']}, and must be from 0 to {2**31 - 1}.")
    seconds = given.get("max_seconds")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"'max_seconds' is {seconds}, and must be more than 0.")
    if not all(isinstance(v, str) for v in given.get("pinned", {}).values()):
        raise InputError("'pinned' must be a table of tool: expert.")
    for step, how in given.get("steps", {}).items():
        fields = {"expert": str, "seed": int}
        if not isinstance(how, dict) or not all(k in fields and isinstance(v, fields[k]) for k, v in how.items()):
            raise InputError(f"'steps' of task '{step[:20]}' must be a table with 'expert' or 'seed'.")
