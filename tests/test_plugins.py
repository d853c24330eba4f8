"""Plugins by entry point: what breaks is a line in a list, what works is there."""

import sys

import pytest

from anyloom.core.errors import PluginError
from anyloom.core.plugins import load_entry_points


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a package with entry points of the group `anyloom.test` on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def make(package, module, points):
        made.append(module)
        (tmp_path / f"{module}.py").write_text(points.pop("code"))
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "".join(f"{name} = {module}:{target}\n" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[anyloom.test]\n{lines}")

    yield make
    for module in made:
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("def broken(:", "SyntaxError"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_plugin_is_one_line_and_the_others_load(install, code, reason):
    install("broken-kit", "broken_kit_module", {"bad": "thing", "code": code})
    install("good-kit", "good_kit_module", {"good": "thing", "code": "thing = 1"})
    loaded = load_entry_points("anyloom.test")
    assert loaded.objects == {"good": 1}
    (failure,) = loaded.failures
    assert (failure.name, failure.group, failure.distribution) == ("bad", "anyloom.test", "broken-kit")
    assert reason in failure.error
    assert "\n" not in str(failure)
    assert isinstance(failure, PluginError)


def test_two_plugins_of_one_name(install):
    install("a-kit", "a_kit_module", {"same": "thing", "code": "thing = 'a'"})
    install("b-kit", "b_kit_module", {"same": "thing", "code": "thing = 'b'"})
    loaded = load_entry_points("anyloom.test")
    assert len(loaded.objects) == 1
    assert "another plugin has this name" in str(loaded.failures[0])
