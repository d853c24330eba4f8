"""A run as OpenTelemetry spans, and the Grafana dashboard against the metrics that are really there."""

import json
import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from rig import engine, parts, settings, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import PlanError, SettingsError
from anyloom.core.settings import load_settings
from anyloom.graphs.engine import Engine
from anyloom.graphs.state import Request
from anyloom.graphs.tracing import Tracer
from anyloom.tools.fakes import Fakes

ROOT = Path(__file__).parents[1]
PLAN = [task("text-to-image", 0, text="a cat"), task("image-to-text", 1, image="<resource>-0")]


def traced(folder, fakes, plan=PLAN):
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    made = Engine(settings(folder), tracer=Tracer(exporter=memory), **parts(fakes, ScriptedController(plan)))
    return made, memory


async def test_a_span_a_task_and_a_span_a_model_call(tmp_path):
    made, memory = traced(tmp_path, Fakes(delay=0.05))
    answer = await made.ask(Request("go"), thread="t")
    await made.aclose()
    spans = {s.name: s for s in memory.get_finished_spans()}
    assert set(spans) == {
        "run", "plan", "answer", "text-to-image", "fake-text-to-image", "image-to-text", "fake-image-to-text",
    }  # fmt: skip
    run = spans["run"]
    assert run.attributes["anyloom.run"] == answer.run
    for name in ("plan", "answer", "text-to-image", "image-to-text"):
        assert spans[name].parent.span_id == run.context.span_id
    for tool in ("text-to-image", "image-to-text"):
        call = spans[f"fake-{tool}"]
        assert call.parent.span_id == spans[tool].context.span_id
        assert 0.04e9 < call.end_time - call.start_time <= spans[tool].end_time - spans[tool].start_time + 5e6
        assert spans[tool].attributes["anyloom.bytes"] == sum(
            a.size for r in answer.results if r.task == tool for a in r.artifacts
        )
    assert spans["text-to-image"].end_time <= spans["image-to-text"].start_time + 5e6
    assert "a cat" not in str([dict(s.attributes) for s in spans.values()])


async def test_what_comes_from_the_cache_is_no_model_call(tmp_path):
    made, memory = traced(tmp_path, Fakes())
    await made.ask(Request("go"))
    memory.clear()
    await made.ask(Request("go"))
    await made.aclose()
    names = [s.name for s in memory.get_finished_spans()]
    assert "text-to-image" in names
    assert "fake-text-to-image" not in names


async def test_failures_are_errors(tmp_path):
    made, memory = traced(tmp_path, Fakes(broken={"text-to-image"}))
    await made.ask(Request("go"))
    spans = {s.name: s for s in memory.get_finished_spans()}
    assert not spans["text-to-image"].status.is_ok
    assert spans["image-to-text"].status.description == "skipped"
    made, memory = traced(tmp_path / "b", Fakes(), [task("no-such-tool", 0, text="x")])
    with pytest.raises(PlanError):
        await made.ask(Request("go"))
    await made.aclose()
    (run,) = memory.get_finished_spans()
    assert (run.name, run.status.description) == ("run", "PlanError")


async def test_spans_reach_a_collector(tmp_path):
    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    Thread(target=server.serve_forever, daemon=True).start()
    made = engine(tmp_path, ScriptedController(PLAN), otlp=f"http://127.0.0.1:{server.server_port}")
    await made.ask(Request("go"))
    await made.aclose()
    server.shutdown()
    assert {path for path, _ in got} == {"/v1/traces"}
    assert b"text-to-image" in b"".join(body for _, body in got)


def test_the_address_is_checked():
    assert load_settings({"otlp": "http://localhost:4318"}, {}).otlp
    with pytest.raises(SettingsError, match="http://localhost:4318"):
        load_settings({"otlp": "localhost"}, {})
    for good in ("auto", "ray://head:10001", "127.0.0.1:6379", ""):
        assert load_settings({"ray": good}, {}).ray == good
    with pytest.raises(SettingsError, match="auto, ray://"):
        load_settings({"ray": "head"}, {})


def test_the_dashboard_asks_for_metrics_that_exist():
    pytest.importorskip("prometheus_client")
    from anyloom.agent.http.metrics import Metrics

    class Line:
        running = waiting = 0

    page = Metrics(Line()).page().decode()
    there = set(re.findall(r"^# TYPE (\w+) ", page, re.M))
    there |= {f"{n}_bucket" for n in there}
    panels = json.loads((ROOT / "docker" / "grafana.json").read_text())["panels"]
    asked = [t["expr"] for p in panels for t in p.get("targets", [])]
    assert len(asked) >= 8
    for expression in asked:
        names = set(re.findall(r"anyloom_\w+", expression))
        assert names
        assert names <= there, expression
    assert len({p["id"] for p in panels}) == len(panels)
