"""Settings from flags, environment and file: what wins, what is refused, and where a value came from."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from anyloom.core.errors import SettingsError
from anyloom.core.media import Limits
from anyloom.core.settings import Settings, load_settings, origins


def load(flags=None, environ=None, file=None, folder=None):
    environ = dict(environ or {})
    if file is not None:
        (folder / "config.toml").write_text(file)
        environ["ANYLOOM_CONFIG"] = str(folder / "config.toml")
    return load_settings(flags or {}, environ)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def test_the_defaults():
    s = load()
    assert (s.profile, s.controller, s.device, s.seed, s.retries, s.max_tasks) == ("pocket", "local", "auto", 0, 2, 16)
    assert (s.memory, s.task_timeout, s.limits) == (int(2.5 * 2**30), 600, Limits())
    assert (s.out_dir, s.offline, s.result_cache) == (None, False, True)
    assert set(origins(s).values()) == {"default"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        s.seed = 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 * 2**30), ("500MB", 500_000_000), ("1.5 gib", 3 * 2**29), ("1048576", 2**20), (2**20, 2**20)],
)
def test_sizes(text, size):
    assert load({"memory": text}).memory == size


def test_the_users_settings_file_is_read_and_named(tmp_path, monkeypatch):
    (tmp_path / "anyloom").mkdir()
    (tmp_path / "anyloom" / "config.toml").write_text(
        'profile = "full"\nout_dir = "~/made"\n[pinned]\ntext-to-image = "sd15"\n[limits]\nimage_pixels = 1000\n'
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    s = load()
    assert (s.profile, s.pinned, s.limits.image_pixels) == ("full", {"text-to-image": "sd15"}, 1000)
    assert s.out_dir == Path("~/made").expanduser()
    assert origins(s)["profile"].endswith("config.toml")
    assert origins(s)["limits.image_pixels"].endswith("config.toml")


def test_the_environment():
    s = load(
        environ={
            "ANYLOOM_DATA": "/d", "ANYLOOM_CACHE_DIR": "/c", "ANYLOOM_OFFLINE": "yes", "ANYLOOM_RESULT_CACHE": "0",
            "ANYLOOM_PINNED": "text-to-image=sd15, text-to-speech=joe", "ANYLOOM_LIMITS_AUDIO_SECONDS": "5",
            "OTHER": "x",
        }
    )  # fmt: skip
    assert (s.data_dir, s.cache_dir, s.offline, s.result_cache) == (Path("/d"), Path("/c"), True, False)
    assert s.pinned == {"text-to-image": "sd15", "text-to-speech": "joe"}
    assert s.limits == Limits(audio_seconds=5)
    assert origins(s)["data_dir"] == "ANYLOOM_DATA"


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("profile", "poket", "one of pocket, full, did you mean 'pocket'"),
        ("controller", "gpt", "openai:MODEL"),
        ("controller", ":x", "openai:MODEL"),
        ("controller", 5, "openai:MODEL"),
        ("memory", "4 Gigs", "a size such as 4GiB"),
        ("memory", "0.1b", "a size such as 4GiB"),
        ("memory", True, "a size such as 4GiB"),
        ("data_dir", 5, "a folder"),
        ("data_dir", "", "a folder"),
        ("seed", "1.5", "whole number of at least 0 and at most"),
        ("seed", 2**31, "and at most 2147483647"),
        ("max_tasks", 0, "at least 1"),
        ("task_timeout", "inf", "more than 0"),
        ("pinned", ["a"], "tool = expert"),
        ("pinned", "a", "tool=expert pairs"),
        ("device", "cuda:x", "auto, cpu, cuda or cuda:0"),
        ("limits.text_characters", 0, "at least 1"),
        ("policy", ["best"], "one of fastest"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(key, value, accepted):
    with pytest.raises(SettingsError, match=accepted) as caught:
        load({key: value})
    assert repr(value) in str(caught.value)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("data_dir = 5", "config.toml: 'data_dir' is 5, and must be a folder"),
        ("polcy = 1", "no setting 'polcy', did you mean 'policy'"),
        ("[limits]\nimage_pixel = 5", "no setting 'limits.image_pixel', did you mean 'limits.image_pixels'"),
        ("limits = 5", "no setting 'limits'"),
        ("seed = ", "cannot be read"),
        ('seed = "\x00"', "cannot be read"),
    ],
)
def test_a_wrong_file_is_said_in_one_sentence(tmp_path, file, said):
    with pytest.raises(SettingsError, match=said):
        load(file=file, folder=tmp_path)


def test_an_unknown_variable_is_refused():
    with pytest.raises(SettingsError, match="ANYLOOM_POLIZY: there is no setting 'polizy'"):
        load(environ={"ANYLOOM_POLIZY": "best"})


def test_every_field_can_be_set_and_has_an_origin():
    fields = {f.name for f in dataclasses.fields(Settings)} - {"limits", "sources"}
    assert fields == set(origins(load()))


def test_importing_is_cheap():
    heavy = {"pydantic", "PIL", "av", "numpy", "torch"}
    code = f"import sys; from anyloom.core.settings import *; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
