"""Who may use `anyloom serve`, how much of it, and how it ends."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from rig import task
from serve_rig import events, serving, until, user

from anyloom.agent.cli import main
from anyloom.agent.http.options import ServeOptions
from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import InputError
from anyloom.core.media import Limits
from anyloom.tools.fakes import Fakes, tiny_png

DRAW = ScriptedController([task("text-to-image", 0, text="a cat")])
TOKEN = "correct-horse-battery"


def ask(served, text="draw", key=TOKEN, **options):
    return served.openai(key).chat.completions.create(model="anyloom", messages=[user(text)], **options)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("serve"), DRAW, tokens=(TOKEN, "another-token")) as it:
        yield it


def test_a_token_is_asked_for(locked):
    assert ask(locked).anyloom["ok"]
    assert ask(locked, key="another-token").anyloom["ok"]
    for key in ("wrong-token", TOKEN + "x", TOKEN[:-1], "ünï"):
        answer = locked.http().get("/v1/models", headers={"Authorization": f"Bearer {key}".encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    with pytest.raises(openai.AuthenticationError, match="token is wrong"):
        ask(locked, key="wrong-token")
    for path in ("/v1/models", "/v1/tools", "/metrics", "/v1/requests/" + "a" * 16, "/nowhere"):
        assert locked.http().get(path).status_code == 401, path
    for path in ("/hugginggpt", "/tasks", "/results", "/v1/requests", "/v1/files"):
        assert locked.http().post(path, json={}).status_code == 401, path
    for path in ("/health", "/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert locked.http().get(path).status_code == 200, path


def test_an_address_opens_its_own_artifact_and_nothing_else(locked):
    (made,) = ask(locked).anyloom["artifacts"]
    http = locked.http()
    assert http.get(made["url"]).status_code == 200
    bare, key = made["url"].split("?key=")
    assert http.get(bare).status_code == 401
    assert http.get(f"{locked.url}/v1/artifacts/{'0' * 64}?key={key}").status_code == 401
    assert http.get(f"{locked.url}/v1/models?key={key}").status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_this_machine_a_token_is_needed(host, capsys):
    with pytest.raises(InputError, match="a token is needed: give --token"):
        ServeOptions(host=host).checked()
    assert ServeOptions(host=host, tokens=(TOKEN,)).checked()
    assert main(["serve", "--host", host]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--token", "short"], "at least 8"),
        (["--token-file", "gone.txt"], "cannot be read"),
        (["--max-concurrent", "0"], "--max-concurrent is 0"),
        (["--queue", "-1"], "--queue is -1"),
        (["--rate", "often"], "not like 30/min"),
        (["--host", "203.0.113.9", "--token", TOKEN], "choose another --port or --host"),
    ],
)
def test_options_that_make_no_sense(arguments, said, tmp_path, capsys):
    assert main(["serve", "--data", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_web_pages_of_others_may_not_ask(tmp_path):
    with serving(tmp_path, DRAW, cors=("https://ours.example",)) as served:
        http = served.http()
        for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
            answer = http.post("/v1/requests", json={"text": "draw"}, headers=headers)
            assert answer.status_code == 403, headers
            assert "access-control-allow-origin" not in answer.headers
        assert http.post("/v1/requests", json={"text": "draw"}, headers={"Origin": served.url}).status_code == 202
        ours = {"Origin": "https://ours.example", "Access-Control-Request-Method": "POST"}
        assert http.options("/v1/requests", headers=ours).headers["access-control-allow-origin"] == ours["Origin"]
    with serving(tmp_path, DRAW, tokens=(TOKEN,)) as served:
        answer = served.http().get("/health", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers, "CORS is off unless asked for"


def test_bodies_are_bounded_while_they_are_read(tmp_path):
    limits = {"limits": Limits(file_bytes=1000)}
    with serving(tmp_path, DRAW, settings=limits, max_json=20_000) as served:
        http = served.http()
        big = http.post("/v1/requests", json={"text": "x" * 30_000})
        assert big.status_code == 413
        assert "0 MB" in big.json()["error"]["message"] or "limit" in big.json()["error"]["message"]

        def trickle():
            for _ in range(50):
                yield b"x" * 1000

        for path in ("/v1/requests", "/v1/chat/completions", "/hugginggpt"):
            unannounced = http.post(path, content=trickle(), headers={"content-type": "application/json"})
            assert unannounced.status_code == 413
            assert "which is the limit" in unannounced.json()["error"]["message"]
        form = http.post("/v1/files", files={"file": ("a.txt", b"x" * 2_000_000)})
        assert form.status_code == 413
        small = http.post("/v1/files", files={"file": ("a.txt", b"x" * 2000)})
        assert small.status_code == 400
        assert "the limit is" in small.json()["error"]["message"]
        assert http.get("/health").status_code == 200


def test_the_rate_is_limited_for_each_client(tmp_path):
    with serving(tmp_path, DRAW, rate=3, tokens=(TOKEN, "another-token")) as served:
        for _ in range(3):
            ask(served)
        with pytest.raises(openai.RateLimitError, match="More than 3 requests a minute") as found:
            ask(served)
        assert 1 <= int(found.value.response.headers["retry-after"]) <= 20
        assert ask(served, key="another-token").anyloom["ok"]
        assert served.openai(TOKEN).models.list().data, "looking costs nothing"


def test_a_full_line_turns_away_and_says_when_to_come_back(tmp_path):
    with serving(tmp_path, DRAW, Fakes(delay=0.6), max_concurrent=1, queue=1) as served:
        http = served.http()
        first, second = (http.post("/v1/requests", json={"text": f"draw {n}"}).json() for n in range(2))
        third = http.post("/v1/requests", json={"text": "draw 3"})
        assert third.status_code == 429
        assert third.json()["error"]["code"] == "queue_full"
        assert int(third.headers["retry-after"]) >= 1
        assert second["position"] == 1
        with pytest.raises(openai.RateLimitError, match="wait already"):
            ask(served)
        assert http.post("/tasks", json={"messages": [{"role": "user", "content": "draw"}]}).status_code == 429
        http.post(f"/v1/requests/{second['id']}/cancel")
        assert http.post("/v1/requests", json={"text": "draw 4"}).status_code == 202, "a place became free"
        events(http, f"/v1/requests/{first['id']}/events")


def test_who_comes_first_is_served_first(tmp_path):
    controller = ScriptedController([task("text-to-image", 0, text="a cat")])
    with serving(tmp_path, controller, Fakes(delay=0.02), max_concurrent=1) as served:
        http = served.http()
        names = [http.post("/v1/requests", json={"text": f"draw {n}"}).json()["id"] for n in range(20)]
        events(http, f"/v1/requests/{names[-1]}/events")
    assert [a.text for a in controller.asked] == [f"draw {n}" for n in range(20)]


def test_two_hundred_at_once_are_all_accounted_for(tmp_path):
    controller = ScriptedController([task("text-to-image", 0, text="a cat")])

    async def flood(url):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
            body = {"model": "anyloom", "messages": [{"role": "user", "content": "draw"}]}
            return await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(200)))

    with serving(tmp_path, controller, max_concurrent=4, queue=50) as served:
        answers = asyncio.run(flood(served.url))
        codes = Counter(a.status_code for a in answers)
        assert set(codes) == {200, 429}, codes
        assert codes[200] >= 54
        assert sum(codes.values()) == 200
        for answer in answers:
            if answer.status_code == 200:
                assert answer.json()["anyloom"]["ok"]
            else:
                assert int(answer.headers["retry-after"]) >= 1
                assert "wait already" in answer.json()["error"]["message"]
        assert len(controller.asked) == codes[200]
        figures = served.http().get("/metrics").text
        assert f'anyloom_requests_total{{door="chat",state="done"}} {codes[200]}.0' in figures
        assert f'anyloom_refused_total{{reason="queue"}} {codes[429]}.0' in figures
        assert "anyloom_running 0.0" in figures
        assert "anyloom_queued 0.0" in figures
        assert served.http().get("/health").json() == {"status": "ready", "running": 0, "queued": 0}


def test_metrics_count_experts(tmp_path):
    with serving(tmp_path, DRAW, Fakes(delay=0.1)) as served:
        ask(served)
        ask(served)
        text = served.http().get("/metrics").text
    assert 'anyloom_tasks_total{expert="fake-text-to-image",state="done",tool="text-to-image"} 1.0' in text
    assert 'anyloom_tasks_total{expert="fake-text-to-image",state="cached",tool="text-to-image"} 1.0' in text
    assert float(re.search(r'expert_seconds_total{expert="fake-text-to-image"} (\S+)', text)[1]) >= 0.1
    assert 'anyloom_http_requests_total{method="POST",route="/v1/chat/completions",status="200"} 2.0' in text
    assert 'anyloom_request_seconds_count{door="chat"} 2.0' in text


def test_the_page_of_docs_loads_nothing_from_elsewhere(locked):
    answer = locked.http().get("/docs")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert not re.search(r"""(?:src|href)=["']https?://""", answer.text)
    schema = locked.http().get("/openapi.json").json()
    for path in ("/v1/chat/completions", "/v1/requests/{name}/events", "/hugginggpt", "/v1/artifacts/{sha256}"):
        assert path in answer.text
        assert path in schema["paths"]
    assert schema["security"] == [{"token": []}]


def test_running_requests_get_some_seconds_at_the_end(tmp_path):
    with serving(tmp_path, DRAW, Fakes(delay=1.0), grace=5, max_concurrent=1) as served:
        http = served.http()
        runs, waits = (http.post("/v1/requests", json={"text": f"draw {n}"}).json()["id"] for n in range(2))
        with ThreadPoolExecutor() as pool:
            watched = pool.submit(events, http, f"/v1/requests/{runs}/events")
            until(lambda: served.service.line.running == 1 and served.server.server_state.tasks)
            served.server.should_exit = True
            assert watched.result(15)[-1][1] == {"event": "status", "state": "done"}
    jobs = served.service.jobs
    assert asyncio.run(jobs.get(runs)).state == "done"
    stopped = asyncio.run(jobs.get(waits))
    assert stopped.state == "stopped"
    assert "shutting down" in stopped.error.message


def start(folder, *arguments):
    """The real command in a process of its own, and the address that it says."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("ANYLOOM_")}
    own = {"ANYLOOM_DATA": str(folder / "data"), "ANYLOOM_CACHE": str(folder / "cache"), "HOME": str(folder)}
    command = [sys.executable, "-m", "anyloom.agent", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder, env=keep | own)
    return process, re.search(r"http://\S+?:\d+", process.stderr.readline())[0]


def test_the_command_serves_and_ends_in_order(tmp_path):
    (tmp_path / "tokens").write_text(f"# for the tests\n{TOKEN}\n")
    process, url = start(tmp_path, "--token-file", "tokens", "--rate", "100/min", "--grace", "1")
    until(lambda: reached(url), 30)
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN).models.list().data[0].id == "anyloom"
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(20) == 0
    assert time.monotonic() - began < 10
    assert "Traceback" not in process.stderr.read()


def reached(url):
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path):
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(\"No module named 'fastapi'\", name='fastapi')")
    done = subprocess.run(
        [sys.executable, "-m", "anyloom.agent", "serve", "--data", str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "anyloom: Serving over HTTP needs more packages: pip install 'anyloom[serve]'\n"


def test_a_picture_of_a_stranger_is_not_shown(locked):
    file = locked.http(headers={"Authorization": f"Bearer {TOKEN}"}).post(
        "/v1/files", files={"file": ("cat.png", tiny_png(b"abc"))}
    )
    assert locked.http().get(f"/v1/files/{file.json()['id']}").status_code == 401


def test_behind_a_proxy_and_offline(tmp_path):
    with serving(tmp_path, DRAW, settings={"offline": True}, public_url="https://any.example/loom/") as served:
        http = served.http()
        reply = ask(served)
        (made,) = reply.anyloom["artifacts"]
        assert made["url"].startswith("https://any.example/loom/v1/artifacts/")
        again = http.post("/v1/requests", json={"text": "draw it again", "attachments": [made["url"]]})
        assert again.status_code == 202, "our own addresses are not fetched, but known"
        away = http.post("/v1/requests", json={"text": "x", "attachments": ["https://example.org/cat.png"]})
        assert "none are fetched here" in away.json()["error"]["message"]
    with pytest.raises(InputError, match="must be like https"):
        ServeOptions(public_url="any.example").checked()
