"""What the tests of `anyloom serve` share: a real server on a free port, over fake experts, in a thread."""

import asyncio
import base64
import contextlib
import json
import threading
import time
from dataclasses import dataclass

import httpx
import openai
from rig import engine

from anyloom.agent.http.options import ServeOptions
from anyloom.agent.http.server import Server, address, listen


@dataclass
class Served:
    """A running server."""

    url: str
    server: Server

    @property
    def service(self):
        return self.server.service

    def http(self, **options):
        """A client for everything."""
        return httpx.Client(base_url=self.url, timeout=30, **options)

    def openai(self, key="none", **options):
        """The official client."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30, **options)


@contextlib.contextmanager
def serving(folder, controller=None, fakes=None, settings=None, **options):
    """Serves for the length of a block."""
    options = ServeOptions(**{"port": 0, "grace": 0.3, "heartbeat": 0.2, **options})
    sock = listen(options)
    server = Server(engine(folder, controller, fakes, **(settings or {})), options, "critical")
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])), daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Served(address(sock), server)
    finally:
        server.should_exit = True
        thread.join(20)
        sock.close()
    assert not thread.is_alive(), "the server did not end"


def until(true, seconds=10.0):
    """Waits until something is the case."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def data_url(data, kind="image/png"):
    """Bytes as a data: URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def user(*parts):
    """A user's message out of texts and parts."""
    return {"role": "user", "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def image(data):
    """An image_url part."""
    return {"type": "image_url", "image_url": {"url": data_url(data)}}


def events(client, path, **options):
    """(id, event) of a stream of server-sent events, to its end; heartbeats as (None, None)."""
    found = []
    with client.stream("GET", path, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        number = None
        for line in answer.iter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                found.append((number, json.loads(line[6:])))
            elif line.startswith(":"):
                found.append((None, None))
    return found
