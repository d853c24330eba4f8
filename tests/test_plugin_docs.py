"""docs/plugins.md says what is so: its plugin is the one that is written, its settings are read, its commands exist."""

import re
from pathlib import Path

from anyloom.agent.cli import cli
from anyloom.agent.plugin_kit.check import check_expert
from anyloom.agent.plugin_kit.new import write_plugin
from anyloom.core.settings import load_settings
from anyloom.tools.contracts import Run

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.S).group(1)


def test_the_code_is_what_plugin_new_writes_and_it_conforms(tmp_path):
    folder = write_plugin("shout", tmp_path)
    written = (folder / "anyloom_shout" / "__init__.py").read_text()
    shown = block("python")
    assert shown.split("\n\n\n")[1].strip() in written
    space = {}
    exec(shown, space)
    assert space["Shout"]().run({"text": "good morning"}, Run())[0].data == b"GOOD MORNING"
    assert [f for f in check_expert(space["Shout"]) if not f.ok] == []


def test_the_settings_are_accepted(tmp_path):
    (tmp_path / "config.toml").write_text(block("toml"))
    settings = load_settings({}, {"ANYLOOM_CONFIG": str(tmp_path / "config.toml")})
    assert set(settings.mcp) == {"files", "remote"}
    assert settings.langchain == ("my_tools:weather",)


def test_the_commands_exist():
    for line in block("sh").splitlines():
        if line.startswith("anyloom "):
            assert line.split()[1] in cli.commands
    for name in re.findall(r"examples/plugins/([a-z-]+)", PAGE):
        assert (Path(__file__).parents[1] / "examples" / "plugins" / name / "pyproject.toml").exists()
