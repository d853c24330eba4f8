"""What a user sets for an expert: tables `[experts.NAME]` of the settings file, checked and handed to the expert.

    [experts.text-to-image]            # a tool: all of its experts that know the option
    steps = 30
    [experts.diffusers]                # a family: see `family` of an expert's class
    offload = "model"
    [experts.stable-diffusion-1-5]     # one expert
    guidance = 6.0

An expert says in `defaults` which options it has; the narrower table wins. What comes out is a subclass
of the expert with `options` set, which takes the expert's place in the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.errors import SettingsError, nearest
from .contracts import Expert

ExpertClass = type[Expert]


def configure(experts: Iterable[ExpertClass], tables: Mapping[str, Mapping[str, Any]]) -> dict[str, ExpertClass]:
    """The experts by name, each with what the tables set for it. SettingsError names the table and the option."""
    found = {e.name: e for e in experts}
    for name, table in tables.items():
        _known(name, table, found.values())
    return {name: _configured(expert, tables) for name, expert in found.items()}


def _names(expert: ExpertClass) -> tuple[str, ...]:
    """What a table for this expert may be called, the widest first."""
    return tuple(n for n in (expert.tool.name, expert.family, expert.name) if n)


def _known(name: str, table: Mapping[str, Any], experts: Iterable[ExpertClass]) -> None:
    experts = list(experts)
    meant = [e for e in experts if name in _names(e)]
    if not meant:
        names = sorted({n for e in experts for n in _names(e)})
        raise SettingsError(f"[experts.{name}]: there is no expert, tool or family '{name}'{nearest(name, names)}.")
    options = sorted({o for e in meant for o in e.defaults})
    for option in table:
        if option not in options:
            known = f"; it has {', '.join(options)}" if options else "; it has none"
            raise SettingsError(f"[experts.{name}]: there is no option '{option}'{nearest(option, options)}{known}.")


def _configured(expert: ExpertClass, tables: Mapping[str, Mapping[str, Any]]) -> ExpertClass:
    options: dict[str, Any] = {}
    for name in _names(expert):
        for option, value in tables.get(name, {}).items():
            if option in expert.defaults:
                options[option] = checked(f"[experts.{name}]: '{option}'", value, expert.defaults[option])
    return expert.configured(options) if options else expert


def checked(where: str, value: Any, like: Any) -> Any:
    """The value, if it is of the default's kind (a whole number will do for a fraction); else SettingsError."""
    if isinstance(like, bool) or isinstance(value, bool):
        good = isinstance(like, bool) and isinstance(value, bool)
    elif isinstance(like, int | float):
        good = isinstance(value, int) or (isinstance(like, float) and isinstance(value, float))
        good = good and value >= 0
    else:
        good = isinstance(value, str)
    if not good:
        kind = (
            "true or false"
            if isinstance(like, bool)
            else "a text"
            if isinstance(like, str)
            else ("a whole number of at least 0" if isinstance(like, int) else "a number of at least 0")
        )
        raise SettingsError(f"{where} is {value!r}, and must be {kind}.")
    return type(like)(value) if isinstance(like, int | float) else value
