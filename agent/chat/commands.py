"""What is typed at the prompt: a request, files, or a command that begins with a slash.

    read('/attach "my cat.png"')          # Command("attach", ("my cat.png",), '"my cat.png"')
    read("/home/me/cat.png")              # Command("attach", …) when the line is nothing but files that exist
    read("describe it")                   # "describe it"
    lift("describe '/home/me/cat.png'")   # ("describe cat.png", ["/home/me/cat.png"])
"""

from __future__ import annotations

import glob
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from ...core.artifacts import safe_name
from ...core.errors import InputError, UnknownName, nearest

COMMANDS = {
    "attach": ("FILE…", "Take files, web addresses or file numbers along with the next request."),
    "detach": ("", "Leave the attached files out again."),
    "mode": ("[NAME]", "Show or set how requests are answered: {modes}."),
    "compare": ("[REQUEST]", "Answer a request, or the last one again, in every mode."),
    "plan": ("[on|off|REQUEST]", "Show the last plan; ask before every plan (on), or not (off); or only plan."),
    "tools": ("[NAME]", "What can be planned, or one tool with its experts."),
    "controller": ("[NAME]", "Show or set who plans: local, openai:MODEL, openai:MODEL@URL."),
    "policy": ("[NAME]", "Show or set how experts are chosen: fastest, best, pinned, llm; or TOOL=EXPERT, to pin one."),
    "open": ("N", "Open a file of this conversation by its number."),
    "retry": ("[SEED]", "Answer the last request again, with another seed."),
    "undo": ("", "Take the last exchange back, as if it had not been said."),
    "save": ("FILE|FOLDER", "Write the conversation as Markdown, with its files beside it."),
    "new": ("", "Begin another conversation."),
    "threads": ("", "List the conversations."),
    "resume": ("[THREAD]", "Finish what was stopped here, or go on with another conversation."),
    "cost": ("", "What the last answer and this conversation took."),
    "help": ("", "This list."),
    "quit": ("", "Leave; the conversation is kept."),
}
ALIASES = {"exit": "quit", "q": "quit", "?": "help", "h": "help"}

# A path as terminals write it when a file is dropped on them: quoted, with escaped blanks, or as an address.
_DROPPED = re.compile(r"""(?<!\S)(?:'((?:/|~/|file://)[^']+)'|"((?:/|~/|file://)[^"]+)"|((?:/|~/|file://)(?:\\.|\S)+))""")


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
        near = nearest(f"/{name}", [f"/{c}" for c in COMMANDS])
        raise UnknownName(f"There is no command '/{name[:40]}'{near}; /help lists them.")
    return Command(name, tuple(words_of(rest)), rest.strip())


def words_of(rest: str) -> list[str]:
    """Words as a shell would read them; where a quote is not closed (it may be an apostrophe), as they stand."""
    try:
        return shlex.split(rest)
    except ValueError:
        return rest.split()


def dragged(line: str) -> list[str]:
    """The files of a line that holds nothing else: what a terminal types when files are dropped on it."""
    if not line or "\n" in line or not line.lstrip("'\"").startswith(("/", "~", "file://", "./", "../")):
        return []
    for words in (_split(line), [line.replace("\\ ", " ")]):  # some terminals neither quote nor escape
        paths = [path_of(w) for w in words]
        if paths and all(_is_file(p) for p in paths):
            return paths
    return []


def lift(text: str) -> tuple[str, list[str]]:
    """The files that a request names by full path, and the request with their names alone in place of them."""
    found: list[str] = []

    def name(match: re.Match[str]) -> str:
        word = match[1] or match[2] or re.sub(r"\\(.)", r"\1", match[3])
        tail = word[len(word.rstrip(".,;:!?")) :] if match[3] and not _is_file(path_of(word)) else ""
        path = path_of(word[: len(word) - len(tail)])
        if not _is_file(path):
            return match[0]
        found.append(path)
        return safe_name(Path(path).name) + tail

    return _DROPPED.sub(name, text), found


def path_of(word: str) -> str:
    """A path out of a `file://` address or one that begins with `~`; anything else as it is."""
    if word.startswith("file://"):
        return unquote(urlparse(word).path)
    if word.startswith("~"):
        try:
            return str(Path(word).expanduser())
        except RuntimeError:  # there is no such user
            return word
    return word


def expand(words: tuple[str, ...]) -> list[str]:
    """Paths and addresses, with `*` and `?` spelled out. InputError for a pattern that nothing fits."""
    found: list[str] = []
    for word in map(path_of, words):
        if "://" in word or not any(c in word for c in "*?[") or _is_file(word):
            found.append(word)
            continue
        fitting = sorted(p for p in glob.glob(word, recursive=True) if _is_file(p))
        if not fitting:
            raise InputError(f"No file fits '{word}'.")
        found += fitting
    return found


def help_lines(modes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Command and what it does, for /help."""
    every = ", ".join(modes)
    return [(f"/{name} {words}".rstrip(), what.format(modes=every)) for name, (words, what) in COMMANDS.items()]


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long, or with a null byte
        return False
