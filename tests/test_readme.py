"""What the README says is true: its commands and options exist, its code runs, its folders are there."""

import re
from pathlib import Path

import click
import pytest

from anyloom.agent.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def commands():
    """(words after `anyloom`, whole line) of every command in a code block."""
    for block in re.findall(r"```sh\n(.*?)```", README, re.S):
        for line in block.splitlines():
            if match := re.search(r"(?:^|\| )anyloom (.*)", line):
                yield match.group(1).split("#")[0]


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_and_option_exists(line):
    words = line.split()
    command = cli.commands[words[0]]
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", re.sub(r'"[^"]*"', "", line)):
        assert option in known, f"{option} of: anyloom {line}"


def test_the_table_of_commands_is_whole():
    table = README.split("| command |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z]+)", table)) | {"eval"}
    assert set(cli.commands) <= named
    for group in ("runs", "weights"):
        assert isinstance(cli.commands[group], click.Group)
        assert all(f"`{name}`" in table for name in cli.commands[group].commands)


def test_the_plugin_in_the_readme_runs():
    from anyloom.tools.contracts import Run
    from anyloom.tools.registry import Registry

    code = next(b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "class Shout" in b)
    space = {}
    exec(code, space)
    registry = Registry.of([space["Shout"]])
    assert not registry.failures
    assert [t.name for t in registry.offered()] == ["shout-text"]
    (output,) = space["Shout"]().run({"text": "quiet"}, Run())
    assert output.data == b"QUIET"


def test_folders_and_files_that_are_named_exist():
    for name in re.findall(r"\| `([a-z]+)/`", README):
        assert (ROOT / name).is_dir(), name
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", prose):
        assert (ROOT / target).exists(), target
    assert (ROOT / "examples" / "note.png").exists()
    for target in ("run", "test"):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
