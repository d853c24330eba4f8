"""What an answer made, as it is shown: numbered over the conversation, pictures drawn, texts in full.

    gallery = Gallery(console, store, pictures="kitty")
    gallery.show(answer.artifacts); gallery.artifact("2"); gallery.path("2")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...core.artifacts import Artifact, ArtifactStore
from ...core.errors import InputError
from ..board import TEXT_LINES
from ..terminal import escaped, harmless
from . import preview

LINES = 24  # of a text that are shown; `/open` shows the rest
READ = 20_000  # characters that are looked at for them
KINDS = {"text": "text", "image": "picture", "audio": "sound", "video": "video"}


class Gallery:
    """The artifacts of one conversation, from number 1."""

    def __init__(self, console: Any, pictures: str = ""):
        self.console, self.pictures = console, pictures
        self.items: list[Artifact] = []

    def show(
        self, store: ArtifactStore, artifacts: Iterable[Artifact], draw: bool = True, quiet: bool = False
    ) -> None:
        """Numbers artifacts and shows each as well as this terminal can; only their names without `draw`."""
        for artifact in artifacts:
            self.items.append(artifact)
            if quiet:
                continue
            try:
                self._show(store, artifact, len(self.items), draw)
            except InputError as e:  # somebody emptied the store
                self.console.print(f"  {escaped(str(e))}", soft_wrap=True)

    def _show(self, store: ArtifactStore, artifact: Artifact, number: int, draw: bool) -> None:
        path = store.path(artifact)
        if draw and artifact.modality in ("image", "video"):
            preview.show(self.console, path, artifact.media_type, self.pictures)
        elif draw and artifact.modality == "text":
            self._text(path)
        facts = ", ".join([KINDS[artifact.modality], *self._facts(store, artifact, path), _size(artifact.size)])
        name = escaped(artifact.name)
        if self.console.is_terminal:
            name = f"[link={path.as_uri()}]{name}[/link]"
            facts += f"  /open {number}"
        else:
            facts += f"  {escaped(str(path))}"
        self.console.print(f"  [bold]{number}[/bold]  {name}  [dim]{facts}[/dim]", soft_wrap=True)

    def _text(self, path: Path) -> None:
        """A text that did not fit below its task."""
        from rich.text import Text

        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(READ)
        lines = Text(harmless(start.strip())).wrap(self.console, max(self.console.width - 6, 20))
        if len(lines) <= TEXT_LINES:
            return
        for line in lines[:LINES]:
            self.console.print(Text("     ") + line, soft_wrap=True)
        if len(lines) > LINES or len(start) == READ:
            self.console.print("     …", style="dim")

    @staticmethod
    def _facts(store: ArtifactStore, artifact: Artifact, path: Path) -> list[str]:
        """What a person wants to know of it before opening it."""
        from ...core.media import inspect_file

        if artifact.modality == "text":
            return []
        try:
            facts = inspect_file(path, store.limits).facts
        except InputError:  # an expert may make what would not be accepted from outside
            return []
        found = [f"{facts['width']} × {facts['height']}"] if "width" in facts else []
        return [*found, *([f"{facts['seconds']:.1f} s"] if facts.get("seconds") is not None else [])]

    def artifact(self, number: str) -> Artifact:
        """The one with this number; InputError says which there are."""
        if not (number.isascii() and number.isdigit()) or not 1 <= int(number) <= len(self.items):
            there = f"1 to {len(self.items)}" if self.items else "none yet"
            raise InputError(f"'{number}' is the number of no file; there are: {there}.")
        return self.items[int(number) - 1]

    def forget(self, artifacts: Iterable[Artifact]) -> None:
        """Takes the newest ones out again, if they are these."""
        gone = list(artifacts)
        if gone and self.items[-len(gone) :] == gone:
            del self.items[-len(gone) :]


def _size(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.0f} kB" if size < 1_000_000 else f"{size / 1e6:.1f} MB"


def open_with_system(path: Path) -> bool:
    """Hands a file to the system's opener, silently; False where there is none, or it knows no program."""
    import shutil
    import subprocess
    import sys

    if sys.platform == "win32":
        import os

        try:
            os.startfile(path)
        except OSError:
            return False
        return True
    opener = shutil.which("open" if sys.platform == "darwin" else "xdg-open")
    if opener is None:
        return False
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([opener, path], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        return process.wait(3) == 0
    except subprocess.TimeoutExpired:
        return True  # it is the program itself that runs
