"""Remote experts against a server on this machine: what is sent, what comes back, and that keys stay secret."""

import base64
import http.server
import io
import json
import logging
import threading

import pytest

pytest.importorskip("openai", reason="pip install 'anyloom[openai]'")

from PIL import Image

from anyloom.core.errors import ExpertError, InputError
from anyloom.core.settings import Secret, Settings
from anyloom.tools.contracts import Run
from anyloom.tools.fakes import tiny_png, tiny_wav
from anyloom.tools.registry import Registry

KEY = "sk-very-secret-key"
PNG, WAV = tiny_png(b"\x30" * 32), tiny_wav(b"\x09" * 32)


class Server(http.server.BaseHTTPRequestHandler):
    """Both protocols; `status` of the owner makes every answer an error."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.server.status != 200:
            why = {"error": {"message": f"Trouble with {self.headers.get('Authorization')}"}}
            return self.send(self.server.status, json.dumps(why).encode(), "application/json")
        answers = {
            "/v1/images/generations": {"created": 1, "data": [{"b64_json": base64.b64encode(PNG).decode()}]},
            "/v1/audio/transcriptions": {"text": "hello there"},
            "/v1/chat/completions": {
                "id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A red box."}}
                ],
            },
            "/models/facebook/bart-large-cnn": [{"summary_text": "In short."}],
            "/models/openai/whisper-large-v3": {"text": "hello there"},
            "/models/facebook/detr-resnet-50": [
                {"label": "cat", "score": 0.9, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}}
            ],
        }  # fmt: skip
        if self.path in answers:
            return self.send(200, json.dumps(answers[self.path]).encode(), "application/json")
        if "FLUX" in self.path:
            return self.send(200, PNG, "image/png")
        return self.send(200, WAV, "audio/wav")

    def send(self, code, data, kind):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    made.asked, made.status = [], 200
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def ask(server, tmp_path):
    (tmp_path / "picture.png").write_bytes(PNG)
    (tmp_path / "sound.wav").write_bytes(WAV)
    given = {"text": "a red box", "image": tmp_path / "picture.png", "audio": tmp_path / "sound.wav"}
    url = f"http://127.0.0.1:{server.server_port}"
    tables = {
        "openai": {"key": Secret(KEY), "url": f"{url}/v1", "timeout": 5},
        "hugging-face": {"token": Secret(KEY), "url": url, "timeout": 5},
    }
    registry = Registry(Settings(profile="full", device="cpu", experts=tables))

    def call(name, **args):
        expert = registry.expert(name)
        assert registry.reason(expert) is None
        wanted = {p.name: given[p.name] for p in expert.tool.params if p.name in given}
        return expert().run(wanted | args, Run(seed=3))[0]

    return call


@pytest.mark.parametrize("name", ["openai-image", "hugging-face-image"])
def test_pictures(ask, server, name):
    output = ask(name)
    assert Image.open(io.BytesIO(output.data)).format == "PNG"
    assert output.facts == {"width": 8, "height": 8}
    path, key, body = server.asked[-1]
    assert key == f"Bearer {KEY}"
    assert b"a red box" in body
    assert b"1024x1024" in body or "FLUX" in path


def test_speech_both_ways(ask, server):
    assert ask("openai-speech").data == WAV
    assert json.loads(server.asked[-1][2])["response_format"] == "wav"
    for name in ("openai-transcription", "hugging-face-speech-recognition"):
        assert ask(name).data == b"hello there"
        assert b"RIFF" in server.asked[-1][2]


def test_texts(ask, server):
    assert ask("openai-write").data == b"A red box."
    assert ask("openai-vqa", text="What is it?").data == b"A red box."
    sent = json.loads(server.asked[-1][2])["messages"][0]["content"]
    assert sent[0]["text"] == "What is it?"
    assert sent[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert ask("hugging-face-summary").data == b"In short."
    assert ask("hugging-face-objects").data == b"cat (0.90) at 1, 2, 3, 4"


@pytest.mark.parametrize("name", ["openai-write", "hugging-face-summary"])
@pytest.mark.parametrize(
    ("status", "said", "again"), [(401, "refused the", False), (429, "429", True), (500, "500", True)]
)
def test_errors_are_told_and_keys_are_not(ask, server, caplog, name, status, said, again):
    server.status = status
    with caplog.at_level(logging.DEBUG), pytest.raises(ExpertError, match=said) as caught:
        ask(name)
    assert caught.value.retryable is again
    assert KEY not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None


def test_a_server_that_is_gone_can_be_tried_again(ask, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ExpertError) as caught:
        ask("openai-write")
    assert caught.value.retryable


def test_nothing_is_sent_for_an_empty_text(ask, server):
    with pytest.raises(InputError):
        ask("openai-image", text=" ")
    assert not server.asked


def test_without_a_key_they_are_off_and_say_why():
    registry = Registry(Settings(profile="full", device="cpu"))
    for name, table in (("openai-image", "openai"), ("hugging-face-image", "hugging-face")):
        assert f"in [experts.{table}]" in registry.reason(registry.expert(name))
