"""Metrics for Prometheus: requests, their time, the line, and what every expert did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .line import Line

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One registry per app, so that two apps in one process do not count each other's requests."""

    def __init__(self, line: Line):
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        more: dict[str, Any] = {"registry": self.registry}
        self._http = Counter(
            "anyloom_http_requests_total", "HTTP requests by route and status.", ["method", "route", "status"], **more
        )
        self._requests = Counter(
            "anyloom_requests_total", "Requests to the agent by door and outcome.", ["door", "state"], **more
        )
        self._seconds = Histogram(
            "anyloom_request_seconds", "Time of requests, waiting included.", ["door"], buckets=SECONDS, **more
        )
        self._refused = Counter("anyloom_refused_total", "Requests turned away, by reason.", ["reason"], **more)
        self._tasks = Counter(
            "anyloom_tasks_total", "Tasks by tool, expert and outcome.", ["tool", "expert", "state"], **more
        )
        self._task_seconds = Counter("anyloom_expert_seconds_total", "Seconds experts worked.", ["expert"], **more)
        Gauge("anyloom_running", "Requests that run.", **more).set_function(lambda: line.running)
        Gauge("anyloom_queued", "Requests that wait.", **more).set_function(lambda: line.waiting)

    def http(self, method: str, route: str, status: int) -> None:
        """One HTTP request was answered."""
        self._http.labels(method, route, str(status)).inc()

    def refused(self, reason: str) -> None:
        """One was turned away: queue, rate, token, size or origin."""
        self._refused.labels(reason).inc()

    def ended(self, door: str, state: str, seconds: float) -> None:
        """One request to the agent is over."""
        self._requests.labels(door, state).inc()
        self._seconds.labels(door).observe(seconds)

    def event(self, event: Mapping[str, Any]) -> None:
        """Counts what tasks came to."""
        if event["event"] == "task_done":
            state = "cached" if event["cached"] else "done"
            self._tasks.labels(event["task"], event["expert"], state).inc()
            if not event["cached"]:
                self._task_seconds.labels(event["expert"]).inc(event["seconds"])
        elif event["event"] == "task_failed":
            self._tasks.labels(event["task"], "", "skipped" if event["skipped"] else "failed").inc()

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
