"""A Redis server of the tests' own: Debian's `redis-server` on a free port, its data in a folder."""

import shutil
import signal
import socket
import subprocess
import time

import pytest


class Server:
    """A server that can be killed, started again with its data, and frozen."""

    def __init__(self, folder):
        self.binary = shutil.which("redis-server")
        if self.binary is None:
            pytest.skip("redis-server is not installed (apt-get install redis-server)")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = None

    def start(self):
        """Starts it and waits until it answers."""
        options = f"--port {self.port} --dir {self.folder} --appendonly yes --appendfsync always --save".split()
        self.process = subprocess.Popen([self.binary, *options, ""], stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as s:
                    s.sendall(b"PING\r\n")
                    if s.recv(16).startswith(b"+PONG"):
                        return self
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("redis-server did not start")

    def kill(self):
        """As a crash would end it."""
        self.process.kill()
        self.process.wait()

    def freeze(self, on=True):
        """A server that takes connections and does not answer."""
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)


@pytest.fixture
def redis_server(tmp_path):
    """A running server for one test."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = Server(folder).start()
    yield server
    server.freeze(False)
    server.kill()
