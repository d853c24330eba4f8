"""Finds plugins by entry point. One that cannot be imported is reported and breaks nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from .errors import PluginError


class PluginFailure(PluginError):
    """A plugin that could not be loaded: its entry point's name and group, and who ships it."""

    def __init__(self, name: str, group: str, distribution: str, error: str):
        super().__init__(f"The plugin '{name}' of {distribution} ({group}) cannot be loaded: {error}.")
        self.name = name
        self.group = group
        self.distribution = distribution
        self.error = error


@dataclass
class Loaded:
    """What a group's entry points gave: objects by name, and the failures."""

    objects: dict[str, Any] = field(default_factory=dict)
    failures: list[PluginFailure] = field(default_factory=list)


def load_entry_points(group: str) -> Loaded:
    """Loads every entry point of a group, whatever some of them do."""
    loaded = Loaded()
    for point in entry_points(group=group):
        distribution = point.dist.name if point.dist else "an unknown package"
        try:
            found = point.load()
        except (Exception, SystemExit) as e:  # a stranger's import may raise anything
            reason = " ".join(f"{type(e).__name__}: {e}".split())[:200].rstrip(".")
            loaded.failures.append(PluginFailure(point.name, group, distribution, reason))
            continue
        if point.name in loaded.objects and loaded.objects[point.name] is not found:
            loaded.failures.append(PluginFailure(point.name, group, distribution, "another plugin has this name"))
            continue
        loaded.objects[point.name] = found
    return loaded
