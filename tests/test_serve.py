"""`anyloom serve` as OpenAI's clients meet it: the official client against a real server."""

import base64
import re
from pathlib import Path

import openai
import pytest
from rig import task
from serve_rig import data_url, image, serving, until, user

from anyloom.agent.cli import cli
from anyloom.controller.fakes import ScriptedController
from anyloom.tools.fakes import Fakes, tiny_mp4, tiny_png, tiny_wav

BAD = openai.BadRequestError
PLANS = {
    "this aloud": [task("image-to-text", 0, image="image.png"), task("text-to-speech", 1, text="<resource>-0")],
    "note aloud": [task("text-to-speech", 0, text="hello")],
    "draw": [task("text-to-image", 0, text="a red cat")],
    "hear": [task("automatic-speech-recognition", 0, audio="audio.wav")],
    "watch": [task("video-to-text", 0, video="video.mp4")],
    "second": [task("image-to-text", 0, image="image-2.png")],
    "sum up": [task("summarization", 0, text="notes.txt")],
    "flip": [task("image-to-image", 0, image="text-to-image.png", text="upside down")],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    controller = ScriptedController(plans=PLANS)
    with serving(tmp_path_factory.mktemp("serve"), controller) as it:
        it.controller = controller
        yield it


def ask(served, *messages, **options):
    return served.openai().chat.completions.create(model="anyloom", messages=list(messages), **options)


def test_text_alone(served):
    reply = ask(served, {"role": "user", "content": "good morning"})
    assert reply.choices[0].message.content == "Hello."
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.anyloom["plan"] == []
    assert reply.anyloom["run"] == reply.id.removeprefix("chatcmpl-")


def test_a_picture_in_and_a_sound_out_by_address(served):
    reply = ask(served, user("read this aloud", image(tiny_png(b"abc"))))
    text = reply.choices[0].message.content
    sound = next(a for a in reply.anyloom["artifacts"] if a["modality"] == "audio")
    assert f"[text-to-speech.wav]({sound['url']})" in text
    assert text.count(sound["url"]) == 1
    got = served.http().get(sound["url"])
    assert got.headers["content-type"] == "audio/wav"
    assert got.content[:4] == b"RIFF"
    assert [t["task"] for t in reply.anyloom["plan"]] == ["image-to-text", "text-to-speech"]


def test_a_picture_that_was_made_is_shown(served):
    reply = ask(served, user("draw a cat"))
    (made,) = reply.anyloom["artifacts"]
    assert f"![text-to-image.png]({made['url']})" in reply.choices[0].message.content


@pytest.mark.parametrize(
    ("words", "part", "tool"),
    [
        ("hear this", {"type": "input_audio", "input_audio": {
            "data": base64.b64encode(tiny_wav(b"abc")).decode(), "format": "wav"}}, "automatic-speech-recognition"),
        ("watch this", {"type": "video_url", "video_url": {
            "url": data_url(tiny_mp4(b"abc"), "video/mp4")}}, "video-to-text"),
        ("sum up", {"type": "file", "file": {
            "filename": "notes.txt", "file_data": data_url(b"It rained all day.", "text/plain")}}, "summarization"),
    ],
)  # fmt: skip
def test_sound_video_and_files_in(served, words, part, tool):
    reply = ask(served, user(words, part))
    assert [r["status"] for r in reply.anyloom["results"]] == ["ok"]
    assert reply.anyloom["plan"][0]["task"] == tool


def test_an_uploaded_file_is_named_by_its_id(served):
    file = served.openai().files.create(file=("notes.txt", b"It rained all day."), purpose="user_data")
    assert file.filename == "notes.txt"
    reply = ask(served, user("sum up", {"type": "file", "file": {"file_id": file.id, "filename": "notes.txt"}}))
    assert reply.anyloom["ok"]


def test_streaming_gives_the_same_text_and_the_extension_at_the_end(served):
    message = user("read this aloud", image(tiny_png(b"abc")))
    whole = ask(served, message).choices[0].message.content
    chunks = list(ask(served, message, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text.replace(served.url, "") == whole.replace(served.url, "")
    assert sum(bool(c.choices and c.choices[0].delta.content) for c in chunks) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    last, usage = chunks[-2:]
    assert last.choices[0].finish_reason == "stop"
    assert {"plan", "artifacts", "run"} <= set(last.anyloom)
    assert usage.choices == []
    assert usage.usage.total_tokens >= 0
    assert all(c.usage is None for c in chunks[:-1])


def test_typed_events_in_a_stream_where_they_are_wanted(served):
    chunks = ask(served, user("draw a dog"), stream=True, extra_body={"anyloom": {"events": True, "fresh": True}})
    kinds = [c.anyloom["event"]["event"] for c in chunks if "event" in (c.model_extra or {}).get("anyloom", {})]
    assert {"run_started", "plan_made", "task_started", "task_done"} <= set(kinds)


def test_earlier_messages_are_the_conversation(served):
    first = ask(served, user("draw a cat"))
    drawn = first.choices[0].message.content
    served.controller.asked.clear()
    reply = ask(
        served,
        {"role": "system", "content": "Be brief."},
        user("draw a cat"),
        {"role": "assistant", "content": drawn},
        user("flip it"),
    )
    (asked,) = served.controller.asked
    assert asked.text == "flip it"
    assert [t.request for t in asked.history] == ["Be brief.", "draw a cat"]
    assert "http" not in asked.history[-1].answer, "an answer's links are names again"
    assert asked.files == {"text-to-image.png": "image"}, "what was made before can be used"
    assert reply.anyloom["ok"]


def test_another_one_is_another_one_in_a_long_conversation_too(served):
    made = []
    for count in (9, 10, 11):
        served.controller.asked.clear()
        turns = ["draw a cat", *["draw another one"] * count]
        said = [m for t in turns for m in (user(t), {"role": "assistant", "content": "Here it is."})][:-1]
        made.append(ask(served, *said).anyloom["artifacts"][0]["sha256"])
        (asked,) = served.controller.asked
        assert len(asked.history) == 8
    assert len(set(made)) == 3


def test_pictures_of_earlier_messages_keep_their_names(served):
    served.controller.asked.clear()
    ask(
        served,
        user("what is this", image(tiny_png(b"abc"))),
        {"role": "assistant", "content": "A square."},
        user("and the second", image(tiny_png(b"xyz"))),
    )
    (asked,) = served.controller.asked
    assert asked.files == {"image-2.png": "image"}
    assert [t.request for t in asked.history] == ["what is this"]


def test_the_seed_and_options_of_the_request_are_used(served):
    one, two, again = (ask(served, user("draw a bird"), seed=s).anyloom["artifacts"][0]["sha256"] for s in (1, 2, 1))
    assert one == again != two
    reply = ask(served, user("draw"), temperature=0.2, max_tokens=5, extra_body={"anyloom": {"policy": "fastest"}})
    assert reply.anyloom["ok"]


def test_models(served):
    client = served.openai()
    names = [m.id for m in client.models.list()]
    assert names[0] == "anyloom"
    assert client.models.retrieve("anyloom").owned_by == "anyloom"
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.models.retrieve("gpt-9")


@pytest.mark.parametrize(
    ("change", "error", "param", "said"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model", "does not exist; there is anyloom"),
        ({"messages": []}, BAD, "messages", "at least one"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, BAD, "messages", "last message"),
        ({"messages": [{"role": "user", "content": "  "}]}, BAD, "messages", "is empty"),
        ({"messages": [{"role": "tool", "content": "x"}]}, BAD, "messages.0.role", "'tool'"),
        ({"messages": [user("x", {"type": "hologram"})]}, BAD, "messages.0.content.1", "hologram"),
        ({"messages": [user("x", image(tiny_png(b"a")[:40]))]}, BAD, "messages.0.content.1", "broken"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, BAD, "tools", "not supported"),
        ({"n": 2}, BAD, "n", "not supported"),
        ({"extra_body": {"tempo": 1}}, BAD, "tempo", "Unrecognized request argument"),
        ({"extra_body": {"anyloom": {"polcy": "best"}}}, BAD, None, "did you mean 'policy'"),
        ({"extra_body": {"anyloom": {"approve": True}}}, BAD, "anyloom", "/v1/requests"),
        ({"extra_body": {"seed": "x"}}, BAD, "seed", "int"),
    ],
)  # fmt: skip
def test_errors_are_openais(served, change, error, param, said):
    with pytest.raises(error) as found:
        served.openai().chat.completions.create(**{"model": "anyloom", "messages": [user("hello")], **change})
    assert said in found.value.message
    assert found.value.param == param
    assert found.value.body["type"] in ("invalid_request_error", "not_found_error")


def test_what_cannot_be_planned_is_an_error_of_its_own(tmp_path):
    with serving(tmp_path, ScriptedController([task("no-such-tool", 0)])) as served:
        with pytest.raises(openai.UnprocessableEntityError) as found:
            ask(served, user("do it"))
        assert found.value.code == "no_plan"
        with pytest.raises(openai.APIError, match="no-such-tool"):
            list(ask(served, user("do it"), stream=True))


def test_a_client_that_goes_away_stops_its_completion(tmp_path):
    fakes = Fakes(delay=20)
    with serving(tmp_path, ScriptedController(plans=PLANS), fakes) as served:
        with pytest.raises(openai.APITimeoutError):
            ask(served, user("draw a cat"), timeout=1.5)
        until(lambda: served.service.line.running == 0)
        stream = ask(served, user("draw a dog"), stream=True, extra_body={"anyloom": {"events": True}})
        for chunk in stream:
            if (chunk.model_extra or {}).get("anyloom", {}).get("event", {}).get("event") == "task_started":
                break
        assert served.service.line.running == 1
        stream.close()
        until(lambda: served.service.line.running == 0)
        assert [r.state for r in served.service.engine.runs.list()] == ["stopped", "stopped"]


DOCS = (Path(__file__).parents[1] / "docs" / "http.md").read_text()


def test_the_code_of_the_docs_runs(served, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.png").write_bytes(tiny_png(b"abc"))
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    exec(code.replace("http://127.0.0.1:8000", served.url), {})
    shown = capsys.readouterr().out
    assert f"{served.url}/v1/artifacts/" in shown


def test_routes_and_options_of_the_docs_exist(served):
    routes = {re.sub(r"{\w+}", "{}", path) for path in served.http().get("/openapi.json").json()["paths"]}
    named = {re.sub(r"{\w+}", "{}", path) for path in re.findall(r"`(?:GET|POST) (/\S+?)`", DOCS)}
    assert named <= routes
    known = {o for p in cli.commands["serve"].params for o in p.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"`anyloom ask[^`]*`", "", DOCS))) <= known
