"""The typed API of `anyloom serve`: requests, their events, decisions, files, artifacts; and HuggingGPT's shapes."""

import asyncio
import contextlib
import sqlite3

import pytest
from rig import engine, task
from serve_rig import data_url, events, image, serving, until, user

from anyloom.controller.fakes import ScriptedController
from anyloom.graphs.state import Request
from anyloom.tools.fakes import Fakes, tiny_mp4, tiny_png

PLANS = {
    "aloud": [task("image-to-text", 0, image="cat.png"), task("text-to-speech", 1, text="<resource>-0")],
    "two": [task("text-to-image", 0, text="a cat"), task("text-to-speech", 1, text="hello")],
    "film": [task("text-to-video", 0, text="waves")],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve"), ScriptedController(plans=PLANS)) as it:
        yield it


@pytest.fixture
def http(served):
    with served.http() as client:
        yield client


def begin(http, text, **options):
    answer = http.post("/v1/requests", json={"text": text, **options})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def state(http, name):
    return http.get(f"/v1/requests/{name}").json()["state"]


def test_a_form_with_a_file_to_an_answer_with_addresses(http):
    answer = http.post("/v1/requests", data={"text": "read this aloud"}, files={"files": ("cat.png", tiny_png(b"aaa"))})
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["links"]["self"]
    seen = events(http, f"/v1/requests/{answer.json()['id']}/events")
    kinds = [e["event"] for n, e in seen if n is not None]
    assert kinds[:3] == ["status", "status", "run_started"]
    assert kinds[-2:] == ["answer_done", "status"]
    assert {"plan_made", "task_started", "task_done", "answer_text"} <= set(kinds)
    assert [n for n, _ in seen if n is not None] == [*range(len(kinds))]
    job = http.get(answer.headers["location"]).json()
    assert job["state"] == "done"
    assert [t["task"] for t in job["plan"]] == ["image-to-text", "text-to-speech"]
    assert http.get(job["answer"]["artifacts"][-1]["url"]).content[:4] == b"RIFF"


def test_attachments_by_data_uri_and_by_id(http):
    file = http.post("/v1/files", files={"file": ("cat.png", tiny_png(b"bbb"))}).json()
    for attachment in (file["id"], {"id": file["id"], "name": "cat.png"}, file["artifact"]["url"]):
        name = begin(http, "read this aloud", attachments=[attachment])
        events(http, f"/v1/requests/{name}/events")
        assert state(http, name) == "done"
    seen = begin(http, "hello", attachments=[data_url(tiny_png(b"ccc")), data_url(tiny_png(b"ddd"))])
    names = [a["name"] for a in http.get(f"/v1/requests/{seen}").json()["request"]["attachments"]]
    assert names == ["file.png", "file-2.png"]


def test_events_go_on_after_the_last_one_that_was_seen(http):
    name = begin(http, "two")
    whole = [e for e in events(http, f"/v1/requests/{name}/events") if e[0] is not None]
    rest = events(http, f"/v1/requests/{name}/events", headers={"Last-Event-ID": "3"})
    assert rest == whole[4:]
    assert events(http, f"/v1/requests/{name}/events?after=3") == whole[4:]
    assert events(http, f"/v1/requests/{name}/events", headers={"Last-Event-ID": "9999"}) == []


def test_a_request_goes_on_when_nobody_watches_and_heartbeats_come(tmp_path):
    with serving(tmp_path, ScriptedController(plans=PLANS), Fakes(delay=0.7)) as served, served.http() as http:
        name = begin(http, "film")
        with http.stream("GET", f"/v1/requests/{name}/events") as answer:
            next(answer.iter_lines())
        assert state(http, name) in ("queued", "running")
        until(lambda: state(http, name) == "done")


def test_heartbeats_come_while_nothing_happens(http):
    name = begin(http, "two", approve=True)
    until(lambda: state(http, name) == "waiting")
    with http.stream("GET", f"/v1/requests/{name}/events") as answer:
        assert next(line for line in answer.iter_lines() if line.startswith(":"))
    http.post(f"/v1/requests/{name}/cancel")
    assert state(http, name) == "stopped"


def test_cancel_stops_it_and_resume_goes_on(tmp_path):
    fakes = Fakes(delay={"text-to-speech": 1.0})
    with serving(tmp_path, ScriptedController(plans=PLANS), fakes) as served, served.http() as http:
        name = begin(http, "two")
        until(lambda: fakes.called("text-to-image"))
        stopped = http.post(f"/v1/requests/{name}/cancel").json()
        assert stopped["state"] == "stopped"
        assert stopped["error"]["code"] == "stopped"
        again = http.post(f"/v1/requests/{name}/cancel")
        assert again.status_code == 409
        assert "nothing to stop" in again.json()["error"]["message"]
        assert http.post(f"/v1/requests/{name}/resume").status_code == 202
        events(http, f"/v1/requests/{name}/events")
        assert state(http, name) == "done"
        assert len(fakes.called("text-to-image")) == 1, "what was finished is not run again"
        assert http.post(f"/v1/requests/{name}/resume").status_code == 409


def test_a_plan_waits_and_tasks_can_be_dropped(http):
    name = begin(http, "two", approve=True)
    until(lambda: state(http, name) == "waiting")
    job = http.get(f"/v1/requests/{name}").json()
    assert [t["task"] for t in job["plan"]] == ["text-to-image", "text-to-speech"]
    assert http.post(f"/v1/requests/{name}/approve", json={"drop": [0]}).status_code == 202
    events(http, f"/v1/requests/{name}/events")
    job = http.get(f"/v1/requests/{name}").json()
    assert [t["task"] for t in job["answer"]["plan"]] == ["text-to-speech"]
    late = http.post(f"/v1/requests/{name}/approve", json={"approve": True})
    assert late.status_code == 409


def test_a_plan_can_be_turned_down_or_edited(http):
    name = begin(http, "two", approve=True)
    until(lambda: state(http, name) == "waiting")
    http.post(f"/v1/requests/{name}/approve", json={"approve": False})
    until(lambda: state(http, name) == "done")
    assert "not approved" in http.get(f"/v1/requests/{name}").json()["answer"]["text"]
    name = begin(http, "two", approve=True)
    until(lambda: state(http, name) == "waiting")
    bad = {"plan": [{"task": "fly", "id": 0, "args": {}}]}
    assert http.post(f"/v1/requests/{name}/approve", json=bad).status_code == 202
    until(lambda: "fly" in str((http.get(f"/v1/requests/{name}").json()["error"] or {}).get("message")))
    assert state(http, name) == "waiting", "an edited plan that cannot run waits on"
    good = {"plan": [{"task": "text-to-video", "id": 0, "args": {"text": "waves"}}]}
    http.post(f"/v1/requests/{name}/approve", json=good)
    until(lambda: state(http, name) == "done")
    assert http.post("/v1/requests/zz/approve", json=good).status_code == 404


NO_DECISIONS = [{}, {"approve": "yes"}, {"drop": []}, {"drop": [True]}, {"approve": True, "drop": [1]}]


@pytest.mark.parametrize("body", NO_DECISIONS)
def test_a_decision_is_one_of_four(http, body):
    name = begin(http, "hello")
    answer = http.post(f"/v1/requests/{name}/approve", json=body)
    assert answer.status_code == 400
    assert "A decision is one of" in answer.json()["error"]["message"]


def test_a_conversation_remembers_and_is_answered_once_at_a_time(tmp_path):
    controller = ScriptedController(plans=PLANS)
    with serving(tmp_path, controller, Fakes(delay={"text-to-video": 1.0})) as served, served.http() as http:
        events(http, f"/v1/requests/{begin(http, 'hello', thread='mine')}/events")
        name = begin(http, "film", thread="mine")
        assert http.post("/v1/requests", json={"text": "and?", "thread": "mine"}).status_code == 409
        until(lambda: state(http, name) == "done")
        assert [t.request for t in controller.asked[-1].history] == ["hello"]


def test_requests_survive_the_service(tmp_path):
    controller = ScriptedController(plans=PLANS)
    with serving(tmp_path, controller) as served, served.http() as http:
        done = begin(http, "two")
        waits = begin(http, "two", approve=True)
        until(lambda: state(http, done) == "done" and state(http, waits) == "waiting")
        before = http.get(f"/v1/requests/{done}").json()
    fakes = Fakes(delay=30)
    with serving(tmp_path, controller, fakes) as served, served.http() as http:
        after = http.get(f"/v1/requests/{done}").json()
        assert after["answer"]["text"] == before["answer"]["text"]
        assert [a["sha256"] for a in after["answer"]["artifacts"]] == [
            a["sha256"] for a in before["answer"]["artifacts"]
        ]
        kinds = [e["event"] for _, e in events(http, f"/v1/requests/{done}/events")]
        assert kinds[0] == "run_started"
        assert kinds[-1] == "answer_done"
        assert http.post(f"/v1/requests/{waits}/approve", json={"approve": True}).status_code == 202
        running = begin(http, "film")
        until(lambda: state(http, running) == "running" and served.service.engine.runs.list())
        until(lambda: state(http, waits) == "done")
    with serving(tmp_path, controller) as served, served.http() as http:
        assert state(http, running) == "stopped", "the end of the service stopped it"
        assert http.post(f"/v1/requests/{running}/resume").status_code == 202
        events(http, f"/v1/requests/{running}/events")
        after = http.get(f"/v1/requests/{running}").json()
        assert after["state"] == "done", after["error"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "is empty"),
        ({"text": "x", "mode": "magic"}, 404, "no mode 'magic'"),
        ({"text": "x", "speed": 1}, 400, "no option 'speed'"),
        ({"text": "x", "seed": -1}, 400, "seed"),
        ({"text": "x", "seed": True}, 400, "seed"),
        ({"text": "x", "max_seconds": 0}, 400, "more than 0"),
        ({"text": "x", "policy": "worst"}, 400, "worst"),
        ({"text": "x", "pinned": {"a": 1}}, 400, "pinned"),
        ({"text": "x", "steps": {"0": {"expert": 1}}}, 400, "steps"),
        ({"text": "x", "thread": "a\nb"}, 400, "cannot name a conversation"),
        ({"text": "x", "attachments": ["cat.png"]}, 400, "no data: URI"),
        ({"text": "x", "attachments": "cat.png"}, 400, "list"),
        ({"text": "x", "attachments": ["f" * 64]}, 400, "No artifact"),
        ({"text": "x" * 1_000_001}, 400, "limit"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(http, body, status, said):
    answer = http.post("/v1/requests", json=body)
    assert answer.status_code == status
    message = answer.json()["error"]["message"]
    assert said in message
    assert "\n" not in message
    assert "Traceback" not in answer.text


def test_bodies_that_are_none(http):
    headers = {"content-type": "application/json"}
    assert "no valid JSON" in http.post("/v1/requests", content=b"{", headers=headers).text
    assert "JSON object" in http.post("/v1/requests", content=b"[]", headers=headers).text
    assert http.post("/v1/requests", content=b"[" * 200_000, headers=headers).status_code == 400
    assert http.post("/v1/requests", content=b"text=x", headers={"content-type": "text/plain"}).status_code == 415
    assert "no valid JSON" in http.post("/v1/chat/completions", content=b"{", headers=headers).text
    assert http.post("/v1/files", files=[]).status_code in (400, 415)
    assert http.get("/v1/requests/nobody").status_code == 404
    assert http.get("/v1/requests/" + "a" * 16).status_code == 404
    assert http.delete("/v1/requests/" + "a" * 16).status_code == 405


def test_artifacts_are_served_so_that_no_browser_runs_them(http):
    text = http.post("/v1/files", files={"file": ("<b>page.html", b"<script>alert(1)</script>")}).json()
    got = http.get(text["artifact"]["url"])
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["content-disposition"].startswith("attachment")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in got.headers["content-security-policy"]
    assert "<b>" not in str(got.headers)
    film = http.post("/v1/files", files={"file": ("film.mp4", tiny_mp4(b"abc"))}).json()["artifact"]
    whole = http.get(film["url"])
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    part = http.get(film["url"], headers={"Range": "bytes=4-11"})
    assert part.status_code == 206
    assert part.content == whole.content[4:12]
    assert http.head(film["url"]).headers["content-length"] == str(len(whole.content))
    assert http.get("/v1/artifacts/" + "0" * 64).status_code == 404
    assert http.get("/v1/artifacts/" + film["sha256"][:12]).status_code == 404, "a beginning is not enough"
    assert http.get("/v1/artifacts/..%2f..%2fetc%2fpasswd").status_code == 404


def test_tools_are_listed(http):
    tools = {t["name"]: t for t in http.get("/v1/tools").json()["data"]}
    assert tools["text-to-speech"]["signature"] == "text -> audio"
    assert tools["text-to-speech"]["experts"] == ["fake-text-to-speech"]


def test_hugginggpt(http):
    message = {"messages": [user("read this aloud", image(tiny_png(b"aaa")))], "api_key": "sk-x", "api_type": "openai"}
    message["messages"][0]["content"][1]["image_url"]["url"] = http.post(
        "/v1/files", files={"file": ("cat.png", tiny_png(b"aaa"))}
    ).json()["artifact"]["url"]
    tasks = http.post("/tasks", json=message).json()
    assert tasks == [
        {"task": "image-to-text", "id": 0, "dep": [-1], "args": {"image": "cat.png"}},
        {"task": "text-to-speech", "id": 1, "dep": [0], "args": {"text": "<GENERATED>-0"}},
    ]
    results = http.post("/results", json=message).json()
    assert results["0"]["inference result"]["generated text"].startswith("image-to-text of")
    assert results["0"]["choose model result"]["id"] == "fake-image-to-text"
    assert http.get(results["1"]["inference result"]["generated audio"]).content[:4] == b"RIFF"
    assert "/v1/artifacts/" in http.post("/hugginggpt", json=message).json()["message"]
    talk = {"messages": [{"role": "user", "content": "good morning"}]}
    assert http.post("/hugginggpt", json=talk).json() == {"message": "Hello."}
    assert http.post("/results", json=talk).json() == {"message": "Hello."}
    assert "No task is needed" in http.post("/tasks", json=talk).json()["message"]
    private = {"messages": [{"role": "user", "content": "describe http://127.0.0.1/cat.png"}]}
    assert "no public address" in http.post("/hugginggpt", json=private).json()["message"]
    assert "list of messages" in http.post("/hugginggpt", json={}).json()["message"]


async def test_an_engine_that_is_asked_twice_at_once_opens_its_files_once(tmp_path):
    shared = engine(tmp_path, ScriptedController(plans=PLANS))
    answers = await asyncio.gather(*(shared.ask(Request("two")) for _ in range(5)))
    assert all(a.ok for a in answers)
    await shared.aclose()


async def test_a_stopped_request_locks_nobody_out(tmp_path):
    file = tmp_path / "data" / "checkpoints.sqlite"
    shared = engine(tmp_path, ScriptedController(plans=PLANS), Fakes(delay=30))

    def write():
        with contextlib.closing(sqlite3.connect(file, timeout=5)) as other:
            other.execute("BEGIN IMMEDIATE")

    await shared.history("nobody")
    for n in range(12):
        work = asyncio.create_task(shared.ask(Request("film")))
        await asyncio.sleep(0.01 * n)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await asyncio.to_thread(write)
    await shared.aclose()
