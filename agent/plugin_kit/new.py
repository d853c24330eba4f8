"""Writes a plugin package: ten lines that matter, an entry point, a test.

    write_plugin("shout", Path("."))                     # a tool of its own
    write_plugin("my-voice", Path("."), "text-to-speech")  # another expert for a tool that exists
"""

from __future__ import annotations

import re
from pathlib import Path

from ...core.artifacts import write_atomic
from ...core.errors import InputError, UnknownName, nearest
from ...tools.contracts import Tool

RESULTS = {
    "text": 'Output.text("…")',
    "image": 'Output(png_bytes, "image/png", "picture")',
    "audio": 'Output(wav_bytes, "audio/wav", "sound")',
    "video": 'Output(mp4_bytes, "video/mp4", "film")',
}
PROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{dist}"
version = "0.1.0"
description = "{tool} for anyloom."
requires-python = ">=3.11"
dependencies = ["anyloom"]

[project.entry-points."anyloom.experts"]
{name} = "{module}:{cls}"

[tool.setuptools]
packages = ["{module}"]
"""
EXPERT_NEW = '''\
"""{cls}: an anyloom expert."""

from anyloom.tools.contracts import Card, Expert, Output, Param, Tool


class {cls}(Expert):
    """Say here what it is good at."""

    name = "{name}"
    tool = Tool("{tool}", "writes a text in capital letters", (Param("text", "text"),), "text")
    card = Card(licence="Apache-2.0", speed="instant")

    def run(self, args, run):
        """`args`: texts as str, everything else as a Path. Call `run.check()` between steps."""
        run.check()
        return [Output.text(args["text"].upper())]
'''
EXPERT_OLD = '''\
"""{cls}: another expert for {tool}."""

from anyloom.core.errors import ExpertError
from anyloom.tools.builtin import tool
from anyloom.tools.contracts import Card, Expert, Output


class {cls}(Expert):
    """Say here what it is good at."""

    name = "{name}"
    tool = tool("{tool}")  # {signature}
    card = Card(licence="Apache-2.0", quality=0.5, speed="fast")

    def load(self, device, weights):
        """Open your model here; `weights` maps each URI of `card.weights` to a path."""

    def run(self, args, run):
        """`args` holds {params}: texts as str, everything else as a Path."""
        run.check()
        raise ExpertError("{name} does nothing yet; write its run().")  # return [{result}]
'''
TEST = '''\
"""The plugin behaves as anyloom expects of every expert."""

from anyloom.agent.plugin_kit.check import check_expert
from {module} import {cls}


def test_it_conforms():
    problems = [f for f in check_expert({cls}) if not f.ok]
    assert not problems, problems
'''
README = """\
# {dist}

`{tool}` for [anyloom](https://pypi.org/project/anyloom/).

    pip install -e .
    anyloom plugin check {name}
    anyloom tools
"""


def write_plugin(name: str, out: Path, for_tool: str | None = None) -> Path:
    """Writes the package and returns its folder. InputError: the name will not do, or the folder exists."""
    from ...tools.builtin import TOOLS

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"'{name}' will not do as a name; use small letters, digits and hyphens, such as 'my-voice'.")
    if for_tool is not None and for_tool not in (known := {t.name: t for t in TOOLS}):
        raise UnknownName(f"There is no tool '{for_tool}'{nearest(for_tool, list(known))}; `anyloom tools` lists them.")
    tool = next((t for t in TOOLS if t.name == for_tool), None)
    folder = Path(out) / f"anyloom-{name}"
    if folder.exists():
        raise InputError(f"'{folder}' exists; choose another name or folder.")
    words = _words(name, tool)
    files = {
        "pyproject.toml": PROJECT,
        f"{words['module']}/__init__.py": EXPERT_OLD if tool else EXPERT_NEW,
        f"tests/test_{words['module']}.py": TEST,
        "README.md": README,
    }
    for path, text in files.items():
        write_atomic(folder / path, text.format(**words).encode())
    return folder


def _words(name: str, tool: Tool | None) -> dict[str, str]:
    return {
        "name": name,
        "dist": f"anyloom-{name}",
        "module": f"anyloom_{name.replace('-', '_')}",
        "cls": "".join(w.capitalize() for w in name.split("-")),
        "tool": tool.name if tool else name,
        "signature": tool.signature() if tool else "",
        "params": ", ".join(f"'{p.name}'" for p in tool.params) if tool else "'text'",
        "result": RESULTS[tool.output] if tool else "",
    }
