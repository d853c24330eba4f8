"""LangChain tools and MCP servers, named in the settings, become tools that are planned and run."""

import sys
from pathlib import Path

import pytest
from langchain_core.tools import tool as lc_tool
from rig import engine, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.errors import ExpertError, PluginError, SettingsError
from anyloom.core.settings import Settings, load_settings
from anyloom.graphs.engine import Engine
from anyloom.graphs.state import Request
from anyloom.tools.adapters.langchain import expert_of
from anyloom.tools.contracts import Run
from anyloom.tools.fakes import tiny_png
from anyloom.tools.registry import Registry


@lc_tool
def word_count(text: str) -> str:
    """Counts the words of a text. It is good at it."""
    return str(len(text.split()))


@lc_tool(response_format="content_and_artifact")
def grey_square(size: int):
    """Paints a grey square."""
    return "done", {"data": tiny_png(b"\x80\x80\x80"), "media_type": "image/png"}


grey_square.metadata = {"anyloom": {"output": "image"}}


@lc_tool
def fails(text: str) -> str:
    """Fails."""
    raise RuntimeError("the moon is full")


@lc_tool
def needs_list(things: list[str]) -> str:
    """Takes a list."""
    return ""


ALL = [word_count, grey_square, fails]


def test_a_langchain_tool_is_an_expert():
    expert = expert_of(word_count)
    assert (expert.name, expert.tool.name) == ("langchain-word-count", "word-count")
    assert expert.tool.description == "Counts the words of a text."
    assert expert.tool.signature() == "text -> text"
    assert expert().run({"text": "one two"}, Run())[0].data == b"2"
    picture = expert_of(grey_square)().run({"size": "8"}, Run())[0]
    assert (picture.modality, picture.data[:4]) == ("image", b"\x89PNG")
    with pytest.raises(ExpertError, match="the moon is full"):
        expert_of(fails)().run({"text": "x"}, Run())
    with pytest.raises(PluginError, match="'things' is no text or number"):
        expert_of(needs_list)


async def test_langchain_tools_of_the_settings_are_run_in_a_plan(tmp_path):
    settings = Settings(data_dir=tmp_path / "d", cache_dir=tmp_path / "c", langchain=(f"{__name__}:ALL",))
    plan = [task("grey-square", 0, size="4"), task("word-count", 1, text="a b c")]
    mine = Engine(settings, controller=ScriptedController(plan))
    answer = await mine.ask(Request("go"))
    assert answer.ok, answer.results
    assert [a.modality for a in answer.artifacts] == ["image", "text"]
    await mine.aclose()


def test_what_cannot_be_imported_is_a_failure_and_no_more(tmp_path):
    for spec in ("no_such_module:x", f"{__name__}:tiny_png"):
        registry = Registry(Settings(data_dir=tmp_path, cache_dir=tmp_path, langchain=(spec,)))
        assert [f for f in registry.failures if spec in str(f)]
        assert registry.offered()


def test_settings_name_servers_and_tools(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('langchain = ["a:b"]\n[mcp.files]\ncommand = "x"\nenv = {KEY = "hush"}\n')
    settings = load_settings({}, {"ANYLOOM_CONFIG": str(file)})
    assert settings.langchain == ("a:b",)
    assert "hush" not in repr(settings)
    file.write_text('[mcp.files]\nenv = {KEY = "hush"}\n')
    with pytest.raises(SettingsError, match="command or url") as refused:
        load_settings({}, {"ANYLOOM_CONFIG": str(file)})
    assert "hush" not in str(refused.value)


class TestMCP:
    @pytest.fixture
    def experts(self, tmp_path):
        pytest.importorskip("mcp")
        from anyloom.tools.adapters.mcp import server_experts

        script = str(Path(__file__).with_name("mcp_tools.py"))
        table = {"command": sys.executable, "args": [script], "env": {"MARK": "!"}}
        return {e.tool.name: e for e in server_experts("tests", table, tmp_path)}

    def test_its_tools_take_and_give_every_kind(self, experts, tmp_path):
        assert set(experts) == {"shout-text", "paint-dot", "weigh-picture", "ring-bell", "die-now"}
        assert experts["weigh-picture"].tool.signature() == "image -> text"
        assert experts["shout-text"].tool.description == "Writes a text in capital letters."
        assert experts["shout-text"]().run({"text": "hi"}, Run())[0].data == b"HI!"
        assert experts["paint-dot"]().run({"colour": "red"}, Run())[0].media_type == "image/png"
        assert experts["ring-bell"]().run({"text": "now"}, Run())[0].media_type == "audio/wav"
        (tmp_path / "x.png").write_bytes(tiny_png(b"abc"))
        size = (tmp_path / "x.png").stat().st_size
        assert experts["weigh-picture"]().run({"picture": tmp_path / "x.png"}, Run())[0].data == str(size).encode()

    def test_a_server_that_dies_can_be_asked_again(self, experts):
        with pytest.raises(ExpertError, match="MCP server 'tests' failed") as died:
            experts["die-now"]().run({"text": "x"}, Run())
        assert died.value.retryable
        assert experts["shout-text"]().run({"text": "back"}, Run())[0].data == b"BACK!"

    def test_one_that_does_not_start_is_one_sentence(self, tmp_path):
        from anyloom.tools.adapters.mcp import server_experts

        with pytest.raises(PluginError, match=r"\[mcp.none\]: the server does not answer"):
            server_experts("none", {"command": "/no/such/program"}, tmp_path)


def test_nothing_is_started_without_settings(tmp_path):
    assert engine(tmp_path).runtime.registry.failures == ()
