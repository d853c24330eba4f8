"""Settings: flags > environment (ANYLOOM_*) > settings file > defaults. The only reader of the environment.

    settings = load_settings({"policy": "fastest"})
    origins(settings)            # {"policy": "flag", "memory": "ANYLOOM_MEMORY", ...}

The file is `config.toml` in the user's configuration folder, or the one ANYLOOM_CONFIG names. Keys
are the fields below; limits stand in a table `[limits]`, or in ANYLOOM_LIMITS_IMAGE_PIXELS and so on; what
an expert is told (steps, size, keys) in tables `[experts.NAME]` (`tools/options.py`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import SettingsError, nearest
from .media import Limits

_MOST = 2**63
HIDDEN = ("experts", "mcp", "redis")  # settings whose values may hold a key
SECRETS = ("key", "token")  # options of experts whose values are never shown
FULL_MEMORY = 24 << 30  # the budget of the full profile where none is set: its models want a large GPU
UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _default_data() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("anyloom"))


def _default_cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("anyloom"))


class Secret(str):
    """A text that is used and never shown: printed, it is three stars."""

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True)
class Settings:
    """Everything that can be set. Sizes in bytes, times in seconds."""

    profile: str = "pocket"
    controller: str = "local"
    policy: str = "best"
    pinned: Mapping[str, str] = field(default_factory=dict)
    data_dir: Path = field(default_factory=_default_data)
    cache_dir: Path = field(default_factory=_default_cache)
    memory: int = 2_684_354_560
    device: str = "auto"
    out_dir: Path | None = None
    seed: int = 0
    task_timeout: float = 600.0
    retries: int = 2
    max_tasks: int = 16
    offline: bool = False
    result_cache: bool = True
    redis: str = ""
    ray: str = ""
    otlp: str = ""
    limits: Limits = field(default_factory=Limits)
    experts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    langchain: tuple[str, ...] = ()
    mcp: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)


def _one_of(*names: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in names:
            raise ValueError(f"one of {', '.join(names)}{nearest(str(value), list(names))}")
        return str(value)

    return parse


def _whole(low: int, high: int = _MOST) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value).strip()) or not low <= int(value) <= high:
            raise ValueError(f"a whole number of at least {low}" + (f" and at most {high}" if high < _MOST else ""))
        return int(value)

    return parse


def _seconds(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise ValueError("seconds, more than 0")
    return number


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("yes or no")


def _size(value: Any) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value).strip().lower())
    size = int(float(match.group(1)) * UNITS.get(match.group(2), 0)) if match else 0
    if isinstance(value, bool) or size < 1:
        raise ValueError("a size such as 4GiB or 500MB")
    return size


def _device(value: Any) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(value)):
        raise ValueError("auto, cpu, cuda or cuda:0")
    return str(value)


def _folder(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not str(value).strip() or "\0" in str(value):
        raise ValueError("a folder")
    return Path(value).expanduser().absolute()


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        parts = [p.partition("=") for p in value.split(",") if p.strip()]
        if not all(equals and tool and expert for tool, equals, expert in parts):
            raise ValueError("tool=expert pairs, separated by commas")
        return {tool.strip(): expert.strip() for tool, _, expert in parts}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("a table of tool = expert")
    return dict(value)


def _tables(value: Any) -> dict[str, dict[str, Any]]:
    """Options of experts, by table; what is called `key` or `token` is never shown from here on."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping) or not all(isinstance(t, Mapping) for t in value.values()):
        raise ValueError("tables [experts.NAME] of option = value")
    return {n: {k: Secret(v) if k in SECRETS else v for k, v in t.items()} for n, t in value.items()}


def _names(value: Any) -> tuple[str, ...]:
    """`module:object` names, as a list or separated by commas."""
    words = [w.strip() for w in value.split(",")] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(w, str) and ":" in w for w in words if w):
        raise ValueError("a list of module:object")
    return tuple(w for w in words if w)


def _servers(value: Any) -> dict[str, dict[str, Any]]:
    """Tables of MCP servers. Their environment and headers may hold keys: they are never shown."""
    tables = _tables(value)
    if not all("command" in t or "url" in t for t in tables.values()):
        raise ValueError("tables [mcp.NAME] with command or url")
    return tables


def _redis(value: Any) -> str:
    if not isinstance(value, str) or (value and not re.match(r"(redis|rediss|unix)://\S+$", value)):
        raise ValueError("an address such as redis://localhost:6379/0")
    return Secret(value)  # it may hold a password


def _ray(value: Any) -> str:
    if not isinstance(value, str) or (value and not re.fullmatch(r"auto|(ray://)?[^\s/:]+:\d+", value)):
        raise ValueError("auto, ray://HOST:10001 or HOST:6379")
    return value


def _collector(value: Any) -> str:
    if not isinstance(value, str) or (value and not re.fullmatch(r"https?://\S+", value)):
        raise ValueError("an address such as http://localhost:4318")
    return value


def _controller(value: Any) -> str:
    kind, colon, rest = str(value).strip().partition(":")
    if not isinstance(value, str) or not ((kind == "local" and not colon) or (kind and rest)):
        raise ValueError("local, openai:MODEL, openai:MODEL@URL or python:module:object")
    return value.strip()


PARSERS: dict[str, Callable[[Any], Any]] = {
    "profile": _one_of("pocket", "full"),
    "controller": _controller,
    "policy": _one_of("fastest", "best", "pinned", "llm"),
    "pinned": _pairs,
    "data_dir": _folder,
    "cache_dir": _folder,
    "memory": _size,
    "out_dir": _folder,
    "device": _device,
    "seed": _whole(0, 2**31 - 1),
    "task_timeout": _seconds,
    "retries": _whole(0, 100),
    "max_tasks": _whole(1, 1000),
    "offline": _switch,
    "result_cache": _switch,
    "redis": _redis,
    "ray": _ray,
    "otlp": _collector,
    "experts": _tables,
    "langchain": _names,
    "mcp": _servers,
}
LIMITS = tuple(f.name for f in dataclasses.fields(Limits))


def load_settings(flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force. SettingsError names the source, the key, the value, and what is accepted."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    limits: dict[str, int] = {}
    sources: dict[str, str] = {}
    for source, key, value in (*_from_file(environ), *_from_environment(environ), *_from_flags(flags or {})):
        if key.startswith("limits."):
            limits[key[7:]] = _parse(source, key, value, _whole(1))
        else:
            values[key] = _parse(source, key, value, PARSERS[key])
        sources[key] = source
    if values.get("profile") == "full":
        values.setdefault("memory", FULL_MEMORY)
    if limits:
        values["limits"] = dataclasses.replace(values.get("limits", Limits()), **limits)
    return Settings(**values, sources=sources)


def origins(settings: Settings) -> dict[str, str]:
    """Where each value comes from: flag, a variable, a file, or default."""
    found = {key: settings.sources.get(key, "default") for key in PARSERS}
    return found | {k: v for k, v in settings.sources.items() if k.startswith("limits.")}


def _parse(source: str, key: str, value: Any, parser: Callable[[Any], Any]) -> Any:
    try:
        return parser(value)
    except ValueError as e:
        shown = "***" if key in HIDDEN else repr(value)  # it may hold a key
        cause = None if key in ("experts", "redis") else e
        raise SettingsError(f"{source}: '{key}' is {shown}, and must be {e}.") from cause


def _known(source: str, key: str) -> str:
    keys = [*PARSERS, *(f"limits.{k}" for k in LIMITS)]
    if key not in keys:
        raise SettingsError(f"{source}: there is no setting '{key}'{nearest(key, keys)}.")
    return key


def _from_flags(flags: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    for key, value in flags.items():
        if value is None:
            continue
        if key == "limits" and isinstance(value, Limits):
            found += [("flag", f"limits.{k}", getattr(value, k)) for k in LIMITS]
        else:
            found.append(("flag", _known("flag", key), value))
    return found


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    found = []
    for name, value in environ.items():
        if not name.startswith("ANYLOOM_") or name == "ANYLOOM_CONFIG":
            continue
        key = name[8:].lower()
        key = {"data": "data_dir", "cache": "cache_dir", "out": "out_dir"}.get(key, key)
        key = f"limits.{key[7:]}" if key.startswith("limits_") else key
        found.append((name, _known(name, key), value))
    return found


def _from_file(environ: Mapping[str, str]) -> list[tuple[str, str, Any]]:
    named = environ.get("ANYLOOM_CONFIG")
    if named:
        file = Path(named).expanduser()
        if not os.path.exists(file):
            raise SettingsError(f"ANYLOOM_CONFIG names '{named}', and there is no such file.")
    else:
        import platformdirs

        file = Path(platformdirs.user_config_dir("anyloom")) / "config.toml"
        if not os.path.exists(file):  # unlike Path.exists, no error where the folder may not be read
            return []
    import tomllib

    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise SettingsError(f"The settings file '{file}' cannot be read: {e}.") from e
    found: list[tuple[str, str, Any]] = []
    for key, value in table.items():
        if key == "limits" and isinstance(value, dict):
            found += [(str(file), _known(str(file), f"limits.{k}"), v) for k, v in value.items()]
        else:
            found.append((str(file), _known(str(file), key), value))
    return found


def terminal_pictures(environ: Mapping[str, str] | None = None) -> str:
    """How this terminal draws pictures: kitty, iterm, sixel, or nothing when only characters are known of."""
    environ = os.environ if environ is None else environ
    program, term = environ.get("TERM_PROGRAM", ""), environ.get("TERM", "")
    if environ.get("TMUX") or term.startswith(("screen", "tmux")):
        return ""  # they pass none of it through
    if environ.get("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty") or program in ("ghostty", "WezTerm"):
        return "kitty"
    if program in ("iTerm.app", "mintty"):
        return "iterm"
    return "sixel" if "sixel" in term or term in ("foot", "foot-extra", "mlterm") else ""
