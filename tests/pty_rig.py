"""A terminal for tests: runs a program behind a pseudo-terminal, types, and waits for what it shows.

    with Terminal([sys.executable, "-m", "anyloom.agent", "chat"], env, folder) as term:
        term.wait("> "); term.type("/help\\r"); term.wait("/attach")
        code = term.ended()
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

CONTROL = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;?<>=!]*[a-zA-Z]|\x1b[()][A-Z0-9]|\x1b[=>78]")
SECONDS = 60  # at most; a busy machine takes long to import what a first request needs


class Terminal:
    """Answers what a terminal is asked: where its cursor is, and what it can."""

    def __init__(self, command, env, cwd, columns=120, rows=40, attributes="62;22"):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        self.attributes = attributes
        self.raw = ""
        self.seen = 0  # characters of the text that earlier waits have used up
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    @property
    def text(self):
        """Everything that was shown, without control sequences."""
        return CONTROL.sub("", self.raw)

    def resize(self, columns, rows):
        """As when a window is dragged."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if hasattr(self, "process"):
            os.killpg(self.process.pid, signal.SIGWINCH)

    def type(self, text):
        """Presses keys."""
        os.write(self.master, text.encode())

    def wait(self, text, seconds=SECONDS):
        """Until this is shown, after what was waited for before."""
        until = time.monotonic() + seconds
        while (at := self.text.find(text, self.seen)) < 0:
            if not self._read(until):
                raise AssertionError(f"{text!r} was not shown after:\n{self.text[self.seen :]}\n---\n{self.text}")
        self.seen = at + len(text)

    def ended(self, seconds=SECONDS):
        """The exit code, when the program is over."""
        until = time.monotonic() + seconds
        while self._read(until):
            pass
        return self.process.wait(max(until - time.monotonic(), 1))

    def _read(self, until):
        """Takes what is there; False at the end, or when the time is over."""
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.master], [], [], left)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other side is closed
            return False
        new = data.decode(errors="replace")
        self.raw += new
        if "\x1b[6n" in new:
            self.type("\x1b[1;1R")
        if "\x1b[c" in new:
            self.type(f"\x1b[?{self.attributes}c")
        return bool(data)
