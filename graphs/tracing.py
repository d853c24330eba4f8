"""Tracing: a run as OpenTelemetry spans, made of its events. Extra `observe`; off without `--otlp`.

    tracer = open_tracer(settings)                 # None without an address
    spans = tracer.run(controller)                 # one run
    spans(event)                                   # each of its events, in order
    spans.end(error)

    run                    anyloom.run, anyloom.thread, anyloom.mode
    ├── plan               a model call: controller, tokens, number of tasks
    ├── text-to-image      a task: from its start to its end; bytes made, whether it came from the cache
    │   └── fake-expert    a model call: the seconds in which the expert ran
    └── answer             a model call: controller, tokens

Texts and file names are not in the spans.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import UserError
from ..core.events import AnswerDone, AnswerText, Event, PlanMade, RunStarted, TaskDone, TaskFailed, TaskStarted

if TYPE_CHECKING:
    from ..controller.base import Controller
    from ..core.settings import Settings

SERVICE = "anyloom"


class Tracer:
    """Where spans go. `exporter` stands in for a collector."""

    def __init__(self, url: str = "", exporter: Any = None):
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as e:
            raise UserError("Traces need more packages; pip install 'anyloom[observe]'.") from e
        self._provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
        if exporter is None:
            processor: Any = BatchSpanProcessor(OTLPSpanExporter(endpoint=url.rstrip("/") + "/v1/traces"))
        else:
            processor = SimpleSpanProcessor(exporter)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE)

    def run(self, controller: Controller) -> RunSpans:
        """The spans of one run."""
        return RunSpans(self._tracer, controller)

    def flush(self) -> None:
        """Sends what is left."""
        self._provider.force_flush(5000)


class RunSpans:
    """Listens to one run."""

    def __init__(self, tracer: Any, controller: Controller):
        self._tracer = tracer
        self._controller = controller
        self._used = _tokens(controller)
        self._run: Any = None
        self._tasks: dict[int, Any] = {}
        self._answering = 0

    def __call__(self, event: Event) -> None:
        """An event of the run."""
        now = time.time_ns()
        if isinstance(event, RunStarted):
            self._run = self._begin(
                "run", None, now, {"anyloom.run": event.run, "anyloom.thread": event.thread, "anyloom.mode": event.mode}
            )
        elif self._run is None:
            return
        elif isinstance(event, PlanMade):
            facts = {"anyloom.controller": event.controller, "anyloom.tasks": len(event.tasks), **self._spent()}
            self._begin("plan", self._run, now - int(event.seconds * 1e9), facts).end(now)
        elif isinstance(event, TaskStarted):
            facts = {"anyloom.task": event.id, "anyloom.tool": event.task, "anyloom.expert": event.expert}
            self._tasks[event.id] = self._begin(event.task, self._run, now, facts)
        elif isinstance(event, TaskDone):
            self._done(event, now)
        elif isinstance(event, TaskFailed):
            facts = {"anyloom.task": event.id, "anyloom.tool": event.task}
            span = self._tasks.pop(event.id, None) or self._begin(event.task, self._run, now, facts)
            self._fail(span, "skipped" if event.skipped else event.error)
            span.end(now)
        elif isinstance(event, AnswerText):
            self._answering = self._answering or now
        elif isinstance(event, AnswerDone) and self._answering:
            facts = {"anyloom.controller": self._controller.name, **self._spent()}
            self._begin("answer", self._run, self._answering, facts).end(now)

    def end(self, error: BaseException | None = None) -> None:
        """The run is over."""
        for span in (*self._tasks.values(), *((self._run,) if self._run is not None else ())):
            if error is not None:
                self._fail(span, type(error).__name__)
            span.end()
        self._tasks.clear()
        self._run = None

    def _done(self, event: TaskDone, now: int) -> None:
        made = sum(int(a.get("size", 0)) for a in event.artifacts)
        facts = {"anyloom.task": event.id, "anyloom.tool": event.task, "anyloom.expert": event.expert}
        span = self._tasks.pop(event.id, None) or self._begin(event.task, self._run, now, facts)
        span.set_attributes({"anyloom.cached": event.cached, "anyloom.bytes": made})
        if not event.cached:
            call = {"anyloom.expert": event.expert, "anyloom.bytes": made}
            self._begin(event.expert, span, now - int(event.seconds * 1e9), call).end(now)
        span.end(now)

    def _begin(self, name: str, parent: Any, start: int, facts: Mapping[str, Any]) -> Any:
        from opentelemetry import context, trace

        where = context.Context() if parent is None else trace.set_span_in_context(parent, context.Context())
        return self._tracer.start_span(name, context=where, start_time=start, attributes=dict(facts))

    def _fail(self, span: Any, text: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_status(Status(StatusCode.ERROR, text))

    def _spent(self) -> dict[str, int]:
        """Tokens since the last model call of the controller; other runs of this process may be among them."""
        before, self._used = self._used, _tokens(self._controller)
        return {f"gen_ai.usage.{k}": n - before.get(k, 0) for k, n in self._used.items()}


def _tokens(controller: Controller) -> dict[str, int]:
    usage = controller.usage() if callable(getattr(controller, "usage", None)) else {}
    return {k: int(n) for k, n in usage.items() if k in ("input_tokens", "output_tokens")}


def open_tracer(settings: Settings) -> Tracer | None:
    """None without an address. UserError: the extra is not installed."""
    return Tracer(settings.otlp) if settings.otlp else None
