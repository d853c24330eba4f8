"""Writing, installing and checking plugins, as a stranger would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from anyloom.agent.commands.plugin import plugin
from anyloom.agent.plugin_kit.check import check_expert
from anyloom.agent.plugin_kit.new import write_plugin
from anyloom.core.errors import ExpertError, InputError, PluginError, UnknownName
from anyloom.tools.contracts import Expert, Output, Param, Tool
from anyloom.tools.registry import Registry

EXAMPLES = Path(__file__).parents[1] / "examples" / "plugins"


class Good(Expert):
    """Does what it says."""

    name = "good"
    tool = Tool("shout-text", "writes in capitals", (Param("text", "text"),), "text")

    def run(self, args, run):
        run.check()
        return [Output.text(args["text"].upper())]


def faults(expert):
    return {f.what: f.problem for f in check_expert(expert) if not f.ok}


def variant(**changes):
    return type("Variant", (Good,), changes)


def test_an_expert_that_keeps_the_contract_has_no_fault():
    findings = check_expert(Good)
    assert {f.what for f in findings} == {"contract", "load", "outputs", "seed", "quiet", "stop", "errors", "unload"}
    assert faults(Good) == {}


def test_the_check_of_a_plugin_that_cannot_be_imported_says_why(monkeypatch):
    failure = PluginError("'shout' cannot be imported (ImportError: no such thing).")
    monkeypatch.setattr(Registry, "failures", (failure,))
    with pytest.raises(PluginError, match="There is no expert 'shout', and 'shout' cannot be imported"):
        CliRunner().invoke(plugin, ["check", "shout"], catch_exceptions=False)


def test_a_batch_is_looked_at_where_there_is_one():
    def one_short(self, calls):
        return [self.run(args, run) for args, run in calls[1:]]

    def whole(self, calls):
        return [self.run(args, run) for args, run in calls]

    assert "gave 1 results" in faults(variant(batch=2, run_batch=one_short))["batch"]
    assert "NotImplementedError" in faults(variant(batch=2))["batch"]
    assert faults(variant(batch=2, run_batch=whole)) == {}


def test_each_fault_is_found_and_said():
    import random
    import time

    def prints(self, args, run):
        print("hello")
        return [Output.text("x")]

    def deaf(self, args, run):
        time.sleep(0.7)
        return [Output.text("x")]

    def fails(self, args, run):
        raise ValueError("no such thing")

    assert "report with `run.progress`" in faults(variant(run=prints))["quiet"]
    assert "run.check()" in faults(variant(run=deaf))["stop"]
    assert "ValueError: no such thing" in faults(variant(run=fails))["outputs"]
    chance = variant(run=lambda self, args, run: [Output.text(str(random.random()))])
    assert "run.seed" in faults(chance)["seed"]
    wrong = variant(run=lambda self, args, run: [Output(b"not a png", "image/png")])
    assert "makes text" in faults(wrong)["outputs"]
    assert "contract" in faults(variant(name=""))
    assert "cannot run here: no GPU" in faults(variant(available=classmethod(lambda cls: "no GPU")))["available"]


def test_bytes_that_do_not_decode_are_found():
    class Painter(Good):
        tool = Tool("paint-it", "paints", (Param("text", "text"),), "image")

        def run(self, args, run):
            return [Output(b"\x89PNG\r\n\x1a\nnothing", "image/png")]

    assert "cannot be read" in faults(Painter)["outputs"]


def test_a_broken_file_must_be_refused_with_a_sentence():
    class Reader(Good):
        tool = Tool("look-at", "looks", (Param("image", "image"),), "text")

        def run(self, args, run):
            if args["image"].suffix != ".png":
                raise KeyError("x")
            return [Output.text("seen")]

    assert "raise InputError or ExpertError" in faults(Reader)["errors"]

    class Polite(Reader):
        def run(self, args, run):
            if args["image"].suffix != ".png":
                raise ExpertError("This is no picture.")
            return [Output.text("seen")]

    assert faults(Polite) == {}


def test_a_name_that_will_not_do_is_refused(tmp_path):
    for name in ("My Plugin", "../evil", "x--y", ""):
        with pytest.raises(InputError, match="will not do as a name"):
            write_plugin(name, tmp_path)
    with pytest.raises(UnknownName, match="text-to-speech"):
        write_plugin("voice", tmp_path, "text-to-speach")
    write_plugin("voice", tmp_path)
    with pytest.raises(InputError, match="exists"):
        write_plugin("voice", tmp_path)


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **more)


def install(folders, target):
    """Through pip, without the network; into a folder that goes before everything else on the path."""
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q"]
    done = run(sys.executable, "-m", "pip", "install", *flags, "--target", str(target), *map(str, folders))
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new plugin, one for a tool that exists, and the two examples, all installed; the environment to use them."""
    import os

    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("plugins")
    shout = write_plugin("shout", folder)
    voice = write_plugin("my-voice", folder, "text-to-speech")
    install((shout, voice, EXAMPLES / "anyloom-qr", EXAMPLES / "anyloom-mood"), folder / "site")
    env = {**os.environ, "PYTHONPATH": str(folder / "site")}
    env |= {"ANYLOOM_DATA_DIR": str(folder / "data"), "ANYLOOM_CACHE_DIR": str(folder / "cache")}
    env |= {"ANYLOOM_OFFLINE": "1"}
    return env, folder


def anyloom(env, *words):
    return run(sys.executable, "-m", "anyloom.agent", *words, env=env)


def test_what_was_written_installs_is_listed_and_conforms(installed):
    env, _ = installed
    tools = {t["name"]: t for t in json.loads(anyloom(env, "tools", "--json").stdout)["tools"]}
    assert {"shout", "qr-code-generation", "qr-code-reading"} <= set(tools)
    checked = anyloom(env, "plugin", "check", "shout")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    todo = anyloom(env, "plugin", "check", "my-voice")  # nobody wrote its run() yet
    assert todo.returncode == 1
    assert "write its run()" in todo.stdout


def test_the_examples_pass_their_own_tests_and_the_check(installed):
    pytest.importorskip("segno")
    env, _ = installed
    for name in ("anyloom-qr", "anyloom-mood"):
        tests = EXAMPLES / name / "tests"
        done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), env=env)
        assert done.returncode == 0, done.stdout
    assert anyloom(env, "plugin", "check", "segno-qr").returncode == 0
    gone = anyloom(env, "plugin", "check", "segno-qrs")
    assert gone.returncode == 2
    assert "segno-qr" in gone.stderr
