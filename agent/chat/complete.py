"""What Tab offers: commands, their arguments, files; in a request, files and (when asked for) tools and experts.

    completer({"mode": lambda: ["cascade"]}, lambda: ["text-to-image"])
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .commands import COMMANDS

FILES = ("attach", "save")  # commands whose arguments are paths
Names = Callable[[], Iterable[str]]


def completer(arguments: Mapping[str, Names], words: Names) -> Any:
    """A completer for prompt_toolkit. `arguments`: what may follow a command; `words`: names for a request."""
    from prompt_toolkit.completion import Completer, Completion

    class Words(Completer):
        def get_completions(self, document: Any, event: Any) -> Iterator[Any]:
            text = document.text_before_cursor
            name, space, rest = text[1:].partition(" ")
            if text.startswith("/") and "\n" not in text and not space and "/" not in name:
                for known, (_, what) in COMMANDS.items():
                    if known.startswith(name):
                        yield Completion(known, -len(name), display=f"/{known}", display_meta=what.split("{")[0])
            elif text.startswith("/") and name in COMMANDS:
                yield from self._argument(name, rest)
            else:
                yield from self._word(text, bool(event and event.completion_requested))

        def _argument(self, name: str, rest: str) -> Iterator[Any]:
            if name in FILES:
                yield from paths(_last_word(rest), everything=True)
            for choice in arguments.get(name, tuple)():
                if choice.startswith(rest) and choice != rest:
                    yield Completion(choice, -len(rest))

        def _word(self, text: str, asked: bool) -> Iterator[Any]:
            word = _last_word(text)
            if word.startswith(("/", "~", "./", "../", "'/")):
                yield from paths(word)
            elif asked and len(word) > 1:
                for choice in words():
                    if word.lower() in choice.lower():
                        yield Completion(choice, -len(word))

    return Words()


def paths(word: str, everything: bool = False) -> Iterator[Any]:
    """Files and folders that a path begun in `word` may become, quoted where they need it."""
    from prompt_toolkit.completion import Completion, PathCompleter
    from prompt_toolkit.document import Document

    bare = re.sub(r"\\(.)", r"\1", word.lstrip("'\""))
    if not bare and not everything:
        return
    for found in PathCompleter(expanduser=True).get_completions(Document(bare), None):  # type: ignore[arg-type]
        folder = found.display_text.endswith("/")
        whole = bare + found.text + "/" * folder
        home = whole.startswith("~")  # quoted, it would be no home folder
        shown = re.sub(r"([\s'\"\\])", r"\\\1", whole) if home else shlex.quote(whole)
        yield Completion(shown.rstrip("'") if folder else shown, -len(word), display=found.display)


def _last_word(text: str) -> str:
    """The word that is being typed; one with an open quote, or an escaped blank, goes on."""
    for quote in "'\"":
        before, mark, inside = text.rpartition(quote)
        if mark and text.count(quote) % 2 and (not before or before.endswith(" ")):
            return quote + inside
    found = re.search(r"(?:\\ |\S)*$", text)
    return found[0] if found else ""
