"""Parts: finds encoders, projectors, backbones, output projectors and generators by name.

    parts = Parts.installed()                              # by entry points, group `anyloom.mmllm`
    parts = parts.adding({"encoder.mine": my_factory})     # and some more, as tests do
    encoder = parts.make("encoder", "pocket-image", {}, Setting(weights))

Listing loads nothing: a factory is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..core.errors import AnyloomError, PluginError, UnknownName, nearest
from .contracts import KINDS, Encoder, Factory, Generator, Kind, Setting

GROUP = "anyloom.mmllm"
_PROMISED: dict[str, Any] = {"encoder": Encoder, "generator": Generator}


class Parts:
    """Factories by `KIND.NAME`. Immutable; `adding` gives a larger one."""

    def __init__(self, known: Mapping[str, Factory | EntryPoint]):
        self._known = dict(known)
        for name in self._known:
            kind, dot, rest = name.partition(".")
            if kind not in KINDS or not dot or not rest:
                raise PluginError(f"The part '{name}' has no name of the form KIND.NAME; kinds are {', '.join(KINDS)}.")

    @classmethod
    def installed(cls) -> Parts:
        """Everything that an installed package offers."""
        return cls({point.name: point for point in entry_points(group=GROUP)})

    def adding(self, more: Mapping[str, Factory]) -> Parts:
        """These and more; a name that is taken is given anew."""
        return Parts({**self._known, **more})

    def names(self, kind: Kind) -> list[str]:
        """The names of one kind, sorted."""
        return sorted(n.partition(".")[2] for n in self._known if n.startswith(f"{kind}."))

    def require(self, kind: Kind, name: str) -> None:
        """UnknownName when there is no such part."""
        if f"{kind}.{name}" not in self._known:
            names = self.names(kind)
            known = ", ".join(names) or "none"
            raise UnknownName(f"There is no {_words(kind)} '{name}'{nearest(name, names)}; there is {known}.")

    def make(self, kind: Kind, name: str, options: Mapping[str, Any], setting: Setting) -> Any:
        """The part itself. PluginError when its factory fails or what it gives lacks something of the contract."""
        self.require(kind, name)
        found = self._known[f"{kind}.{name}"]
        try:
            factory: Factory = found.load() if isinstance(found, EntryPoint) else found
            part = factory(options, setting)
        except AnyloomError:
            raise
        except (TypeError, KeyError, ImportError, AttributeError) as e:
            raise PluginError(
                f"The {_words(kind)} '{name}' cannot be made of {dict(options)} ({type(e).__name__}: {e})."
            ) from e
        promised = _PROMISED.get(kind)
        if promised is not None and not isinstance(part, promised):
            lacks = [m for m in sorted(promised.__protocol_attrs__) if not hasattr(part, m)]
            raise PluginError(f"The {_words(kind)} '{name}' lacks {', '.join(lacks)}; its plugin is broken.")
        return part


def _words(kind: str) -> str:
    return kind.replace("_", " ")
