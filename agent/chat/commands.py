"""What is typed at the prompt: a request, files, or a command that begins with a slash.

    read('/attach "my cat.png"')     # Command("attach", ("my cat.png",))
    read("/home/me/cat.png")         # Command("attach", …) when the line is nothing but files that exist
    read("describe it")              # "describe it"
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from ...core.errors import InputError, UnknownName, nearest

COMMANDS = {
    "attach": ("FILE…", "Take files or web addresses along with the next request."),
    "detach": ("", "Leave the attached files out again."),
    "mode": ("[NAME]", "Show or set how requests are answered: cascade, end2end."),
    "compare": ("REQUEST", "Answer a request in both modes, one after the other."),
    "plan": ("[on|off|REQUEST]", "Show the last plan; ask before every plan (on), or not (off); or only plan."),
    "tools": ("[NAME]", "What can be planned, or one tool with its experts."),
    "controller": ("[NAME]", "Show or set who plans: local, openai:MODEL, openai:MODEL@URL."),
    "policy": ("[NAME]", "Show or set how an expert is chosen: fastest, best, pinned, llm."),
    "open": ("N", "Open a file of this conversation by its number."),
    "retry": ("[SEED]", "Answer the last request again, with another seed."),
    "undo": ("", "Take the last exchange back, as if it had not been said."),
    "save": ("FOLDER", "Write the conversation and its files to a folder."),
    "new": ("", "Begin another conversation."),
    "threads": ("", "List the conversations."),
    "resume": ("[THREAD]", "Finish what was stopped here, or go on with another conversation."),
    "cost": ("", "What the last answer and this conversation took."),
    "help": ("", "This list."),
    "quit": ("", "Leave; the conversation is kept."),
}
ALIASES = {"exit": "quit", "q": "quit", "?": "help", "h": "help"}


@dataclass(frozen=True)
class Command:
    """A command with its words, and everything after its name as it was typed."""

    name: str
    words: tuple[str, ...] = ()
    rest: str = ""


def read(line: str) -> Command | str:
    """A command, or the request as it is. UnknownName suggests the nearest command."""
    line = line.strip()
    files = dragged(line)
    if files:
        return Command("attach", tuple(files), line)
    if not line.startswith("/"):
        return line
    name, _, rest = line[1:].partition(" ")
    name = ALIASES.get(name.lower(), name.lower())
    if name not in COMMANDS:
        raise UnknownName(f"There is no command '/{name}'{nearest(name, list(COMMANDS))}; /help lists them.")
    return Command(name, tuple(words_of(rest)), rest.strip())


def words_of(rest: str) -> list[str]:
    """Words as a shell would read them; InputError when a quote is not closed."""
    try:
        return shlex.split(rest)
    except ValueError as e:
        raise InputError(f"A quote in '{rest[:60]}' is not closed.") from e


def dragged(line: str) -> list[str]:
    """The files of a line that holds nothing else: what a terminal types when files are dropped on it."""
    if not line or "\n" in line or not line.lstrip("'\"").startswith(("/", "~", "file://", "./", "../")):
        return []
    try:
        words = [path_of(w) for w in shlex.split(line)]
    except ValueError:
        return []
    return words if words and all(Path(w).is_file() for w in words) else []


def path_of(word: str) -> str:
    """A path out of a `file://` address or one that begins with `~`; anything else as it is."""
    if word.startswith("file://"):
        return unquote(urlparse(word).path)
    return str(Path(word).expanduser()) if word.startswith("~") else word


def expand(words: tuple[str, ...]) -> list[str]:
    """Paths and addresses, with `*` and `?` spelled out. InputError for a pattern that nothing fits."""
    found: list[str] = []
    for word in map(path_of, words):
        if word.startswith(("http://", "https://")) or not any(c in word for c in "*?["):
            found.append(word)
            continue
        fitting = sorted(glob.glob(word)) or ([word] if Path(word).exists() else [])
        if not fitting:
            raise InputError(f"No file fits '{word}'.")
        found += fitting
    return found


def help_lines() -> list[tuple[str, str]]:
    """Command and what it does, for /help."""
    return [(f"/{name} {words}".rstrip(), what) for name, (words, what) in COMMANDS.items()]


def completer(names: dict[str, Any]) -> Any:
    """Completes commands, then their arguments: `names` maps a command to a callable that lists choices."""
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    paths = PathCompleter(expanduser=True)

    class Words(Completer):
        def get_completions(self, document: Any, event: Any) -> Iterator[Any]:
            text = document.text_before_cursor
            if not text.startswith("/") or "\n" in text:
                return
            name, space, rest = text[1:].partition(" ")
            if not space:
                for known, (_, what) in COMMANDS.items():
                    if known.startswith(name):
                        yield Completion(known, start_position=-len(name), display_meta=what)
            elif name in ("attach", "save"):
                word = rest.split(" ")[-1]
                yield from paths.get_completions(Document(word), event)
            elif name in names:
                for choice in names[name]():
                    if choice.startswith(rest):
                        yield Completion(choice, start_position=-len(rest))

    return Words()
