"""Bad input at the doors: refused in one sentence or harmless, and the same sentence at each of them.

The doors of this file are the Python Agent, `anyloom ask` and HTTP; chat and page have tests of their own.
What is bad stands in `hostile.py`.
"""

import base64
import json
import os
import socket

import pytest
from hostile import HOSTILE_ADDRESSES, HOSTILE_LIMITS, HOSTILE_NAMES, HOSTILE_PATHS, hostile_files
from rig import engine, settings
from serve_rig import data_url, serving, user

from anyloom.agent import Agent
from anyloom.agent.cli import main
from anyloom.agent.fetch import Fetch
from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import AnyloomError, InputError

SCRIPT = """
from langchain_core.language_models.fake_chat_models import FakeListChatModel

talk = FakeListChatModel(responses=["[]", "Hello to you."])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def bad(folder):
    return {b.name: b for b in hostile_files(folder / "files")}


@pytest.fixture(scope="module")
def agent(folder):
    made = Agent(settings(folder / "python", limits=HOSTILE_LIMITS))
    made._engine = engine(folder / "python", ScriptedController(), limits=HOSTILE_LIMITS)
    return made


@pytest.fixture(scope="module")
def served(folder):
    options = {"settings": {"limits": HOSTILE_LIMITS}, "max_json": 2_000_000}
    with serving(folder / "http", ScriptedController(), **options) as it:
        yield it


def by_python(agent, what):
    try:
        agent.ask("what is this", [what])
    except AnyloomError as e:
        return str(e)
    return None


def by_command(what, folder, monkeypatch, capsys):
    (folder / "scripted.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(folder))
    limits = {f"ANYLOOM_LIMITS_{k.upper()}": str(v) for k, v in vars(HOSTILE_LIMITS).items()}
    for name, value in {**limits, "ANYLOOM_CONTROLLER": "python:scripted:talk"}.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    code = main(["ask", "what is this", "--data", str(folder / "command"), "--attach", str(what)])
    said = capsys.readouterr()
    if code == 0:
        return None
    assert code == 2, said.err
    assert said.err.startswith("anyloom: ")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("anyloom: ").rstrip("\n")


def by_upload(served, name, content):
    answer = served.http().post("/v1/requests", data={"text": "what is this"}, files={"files": (name, content)})
    return message(answer)


def by_part(served, name, content):
    part = {"type": "file", "file": {"filename": name, "file_data": base64.b64encode(content).decode()}}
    body = {"model": "anyloom", "messages": [user("what is this", part)]}
    return message(served.http().post("/v1/chat/completions", json=body))


def message(answer):
    """The sentence, or None where it was taken."""
    assert answer.status_code in (200, 202, 400, 413), answer.text
    assert "Traceback" not in answer.text
    return json.loads(answer.text)["error"]["message"] if answer.status_code >= 400 else None


def check(said, expected, name):
    """One sentence with `expected` in it, or nothing said at all where nothing is expected."""
    if expected is None:
        assert said is None
        return
    assert said, f"'{name}' was taken"
    assert expected in said
    assert said.isprintable(), "one line, no control characters"
    assert len(said) < 400
    assert "<" not in said, "no markup out of a file's name"
    assert "/tmp" not in said


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_files(name, bad, agent, served, folder, monkeypatch, capsys):
    it = bad[name]
    content = it.path.read_bytes()
    python = by_python(agent, it.path)
    check(python, it.said, name)
    assert by_command(it.path, folder, monkeypatch, capsys) == python, "the command line says the same"
    assert by_upload(served, name, content) == python, "an upload is told the same"
    if content:
        assert by_part(served, name, content) == python, "and so is a part of a message"


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES, ids=repr)
def test_addresses(address, agent, served, folder, monkeypatch, capsys):
    python = by_python(agent, address)
    check(python, "", address)
    assert by_command(address, folder, monkeypatch, capsys) == python
    picture = {"type": "image_url", "image_url": {"url": address}}
    body = {"model": "anyloom", "messages": [user("what is this", picture)]}
    assert message(served.http().post("/v1/chat/completions", json=body)) == python
    body = {"text": "what is this", "attachments": [address]}
    assert message(served.http().post("/v1/requests", json=body)) == python


def test_a_server_of_this_machine_is_never_connected_to(agent, served):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.3)
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
            address = f"http://{host}:{port}/secret.png"
            assert "no public address" in by_python(agent, address)
            part = {"type": "image_url", "image_url": {"url": address}}
            answer = served.http().post(
                "/v1/chat/completions", json={"model": "anyloom", "messages": [user("what is this", part)]}
            )
            assert "no public address" in answer.text
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_redirect_to_a_private_address(tmp_path):
    """A public site that sends us inside: told apart by its second address, over HTTP too."""

    open_ends = []

    def connect(address, port, timeout):
        assert address == "93.184.216.34", "only the public one is connected to"
        ours, theirs = socket.socketpair()
        open_ends.append(theirs)
        theirs.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n")
        return ours

    def resolve(host, port):
        return ["93.184.216.34"] if host == "public.example" else [host]

    with serving(tmp_path, ScriptedController(), fetch=Fetch(resolve=resolve, connect=connect)) as served:
        body = {"text": "what is this", "attachments": ["http://public.example/cat.png"]}
        said = message(served.http().post("/v1/requests", json=body))
    assert "169.254.169.254, which is no public address" in said


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=repr)
def test_paths(path, agent, served, folder, monkeypatch, capsys):
    """Python and the command line open paths of their user; HTTP opens none, and says so."""
    if not os.path.exists(path) or path == "/dev/zero":
        python = by_python(agent, path)
        check(python, "", path)
        if "\0" not in path:
            assert by_command(path, folder, monkeypatch, capsys) == python
    said = message(served.http().post("/v1/requests", json={"text": "what is this", "attachments": [path]}))
    assert "nothing else is opened here" in said
    part = {"type": "image_url", "image_url": {"url": path}}
    said = message(served.http().post("/v1/chat/completions", json={"model": "anyloom", "messages": [user("x", part)]}))
    assert "nothing else is opened here" in said


def test_a_path_as_the_name_of_an_upload_goes_nowhere(served, bad):
    content = bad["really-a-picture.mp3"].path.read_bytes()
    for name in ("../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "a/../../b.png"):
        file = served.http().post("/v1/files", files={"file": (name, content)}).json()
        assert "/" not in file["filename"]
        assert "\\" not in file["filename"]
        assert ".." not in file["filename"]
        assert served.http().get(file["artifact"]["url"]).content == content


def test_html_in_a_name_stays_a_name(served, bad):
    content = bad["<img src=x onerror=alert(1)>.png"].path.read_bytes()
    file = served.http().post("/v1/files", files={"file": ("<img src=x onerror=alert(1)>.png", content)}).json()
    assert "<" not in json.dumps(file)
    got = served.http().get(file["artifact"]["url"])
    assert got.headers["content-type"] == "image/png"
    assert got.headers["x-content-type-options"] == "nosniff"


def test_an_answer_with_markup_is_data(tmp_path):
    words = "<script>alert(1)</script> [click](javascript:alert(1)) ![x](http://127.0.0.1/x.png)"
    with serving(tmp_path, ScriptedController(answer=words)) as served:
        reply = served.openai().chat.completions.create(model="anyloom", messages=[user("hello")])
    text = reply.choices[0].message.content
    assert "javascript:" not in text
    assert "http://127.0.0.1" not in text


def test_many_files_and_broken_base64(served):
    part = {"type": "image_url", "image_url": {"url": data_url(b"words", "image/png")}}
    body = {"model": "anyloom", "messages": [user("x", *[part] * 40)]}
    answer = served.http().post("/v1/chat/completions", json=body)
    assert answer.status_code == 400 or answer.json()["anyloom"]["ok"]
    sound = {"type": "input_audio", "input_audio": {"data": "@@@", "format": "wav"}}
    body = {"model": "anyloom", "messages": [user("x", sound)]}
    assert "no valid base64" in message(served.http().post("/v1/chat/completions", json=body))


def test_hostile_files_are_all_taken_for_what_they_are(agent, bad):
    """Nothing of what was refused is left in the store."""
    kept = [f for f in (agent.engine.data_dir / "artifacts").rglob("*") if f.is_file() and f.suffix not in (".json",)]
    assert all(f.stat().st_size <= HOSTILE_LIMITS.file_bytes for f in kept)
    assert {f.suffix for f in kept} <= {".png", ".txt"}
    with pytest.raises(InputError):
        agent.request("x", [bad["gigapixels.png"].path])
