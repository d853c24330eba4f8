"""Registry: which tools and experts there are, found through entry points, and which can be used here.

    registry = Registry(settings)
    registry.offered()                   # the tools a controller may plan with
    registry.experts("text-to-speech")   # who can be asked, for `selection.rank`
    registry.failures                    # plugins that could not be used, and why

A plugin declares `anyloom.tools` (a Tool, or a function that returns Tools) or `anyloom.experts`
(an Expert class, or a function that returns some). Anyloom's own come in by the same entry points.
An expert brings its tool along, so that a plugin with one expert needs no more than one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..core.artifacts import MODALITIES
from ..core.errors import PluginError, UnknownName, nearest
from .adapters import configured
from .contracts import SPEEDS, Card, Expert, Param, Tool
from .options import configure
from .selection import unfit

if TYPE_CHECKING:
    from ..core.settings import Settings

TOOL_GROUP = "anyloom.tools"
EXPERT_GROUP = "anyloom.experts"


class Registry:
    """All tools and experts. A plugin that breaks its contract is left out and named in `failures`."""

    def __init__(self, settings: Settings):
        from ..core.plugins import load_entry_points

        self._begin(settings.profile, settings.device, settings.memory, dict(settings.pinned or {}))
        for group, add in ((TOOL_GROUP, self._add_tool), (EXPERT_GROUP, self._add_expert)):
            loaded = load_entry_points(group)
            self._failures += loaded.failures
            for source, found in loaded.objects.items():
                self._take(source, found, add)
        for found in configured(settings):
            if isinstance(found, PluginError):
                self._failures.append(found)
            else:
                self._take("the settings", found, self._add_expert)
        if settings.experts:
            self._experts |= configure(self._experts.values(), settings.experts)

    @classmethod
    def of(
        cls,
        experts: Iterable[type[Expert]],
        tools: Iterable[Tool] = (),
        *,
        profile: str = "pocket",
        device: str = "cpu",
        memory: int | None = None,
    ) -> Registry:
        """A registry of exactly these; they are checked like a plugin's."""
        registry = cls.__new__(cls)
        registry._begin(profile, device, memory, {})
        for tool in tools:
            registry._take("a list", tool, registry._add_tool)
        for expert in experts:
            registry._take("a list", expert, registry._add_expert)
        return registry

    @property
    def failures(self) -> tuple[PluginError, ...]:
        """What could not be used, one error each; nothing of it is in the registry."""
        return tuple(self._failures)

    def tools(self) -> tuple[Tool, ...]:
        """All tools that are known, whether or not an expert serves them."""
        return tuple(self._tools.values())

    def offered(self) -> tuple[Tool, ...]:
        """The tools that some expert can serve now, with this profile, device and memory."""
        served = {e.tool.name for e in self._of_profile() if self.reason(e) is None}
        return tuple(t for t in self._tools.values() if t.name in served)

    def too_small(self) -> dict[str, str]:
        """Tools that are not offered for want of memory alone, the most modest first: what their experts say."""
        if self.memory is None:
            return {}
        offered = {t.name for t in self.offered()}
        found: dict[str, str] = {}
        for expert in sorted(self._of_profile(), key=lambda e: e.card.memory):
            lacks = expert.tool.name not in offered and expert.card.memory > self.memory
            if lacks and unfit(expert, self.device) is None:
                found.setdefault(expert.tool.name, f"'{expert.name}' {self.reason(expert)}")
        return found

    def tool(self, name: str) -> Tool:
        """The tool of that name; UnknownName when there is none."""
        if name not in self._tools:
            raise UnknownName(f"There is no tool '{name}'{nearest(name, tuple(self._tools))}.")
        return self._tools[name]

    def all_experts(self) -> tuple[type[Expert], ...]:
        """Every expert, of every profile."""
        return tuple(self._experts.values())

    def experts(self, tool: str) -> tuple[type[Expert], ...]:
        """The profile's experts for this tool, usable or not: `rank` sorts that out. UnknownName: no such tool."""
        name = self.tool(tool).name
        return tuple(e for e in self._of_profile() if e.tool.name == name)

    def expert(self, name: str) -> type[Expert]:
        """The expert of that name, of any profile; UnknownName when there is none."""
        if name not in self._experts:
            raise UnknownName(f"There is no expert '{name}'{nearest(name, tuple(self._experts))}.")
        return self._experts[name]

    def reason(self, expert: type[Expert]) -> str | None:
        """None when the expert can be used here and now, else one sentence why not."""
        if self.profile not in expert.card.profiles:
            return f"belongs to the profile {' and '.join(expert.card.profiles)}; this is {self.profile}"
        pinned = self._pinned.get(expert.tool.name) == expert.name
        return unfit(expert, self.device, self.memory, pinned=pinned)

    def _begin(self, profile: str, device: str, memory: int | None, pinned: dict[str, str]) -> None:
        self.profile, self.device, self.memory = profile, device, memory
        self._pinned = pinned
        self._tools: dict[str, Tool] = {}
        self._experts: dict[str, type[Expert]] = {}
        self._failures: list[PluginError] = []

    def _of_profile(self) -> Iterator[type[Expert]]:
        return (e for e in self._experts.values() if self.profile in e.card.profiles)

    def _take(self, source: str, found: Any, add: Callable[[Any], None]) -> None:
        """Adds an entry point's object or objects, turning each fault into a failure."""
        for one in self._unfold(source, found):
            try:
                add(one)
            except PluginError as e:
                self._failures.append(PluginError(f"Of '{source}': {e}"))

    def _unfold(self, source: str, found: Any) -> list[Any]:
        if isinstance(found, Tool | type):
            return [found]
        if not callable(found):
            return [found]  # the check that follows says what it should have been
        try:
            made = found()
            return [made] if isinstance(made, Tool | type) else list(made)
        except Exception as e:  # a plugin's code: whatever it raises is the plugin's fault
            self._failures.append(PluginError(f"'{source}' did not say what it offers ({type(e).__name__}: {e})."))
            return []

    def _add_tool(self, tool: Any) -> None:
        check_tool(tool)
        known = self._tools.get(tool.name)
        if known is not None and known != tool:
            raise PluginError(
                f"The tool '{tool.name}' ({tool.signature()}) is not the known one ({known.signature()}); rename it."
            )
        self._tools[tool.name] = tool

    def _add_expert(self, expert: Any) -> None:
        check_expert(expert)
        known = self._experts.get(expert.name)
        if known is expert:
            return
        if known is not None:
            owner = f"{known.__module__}.{known.__qualname__}"
            raise PluginError(f"The expert name '{expert.name}' is taken by {owner}; rename one.")
        self._add_tool(expert.tool)
        self._experts[expert.name] = expert


def check_tool(tool: Any) -> None:
    """PluginError says how `tool` breaks the contract of Tool."""
    if not isinstance(tool, Tool):
        raise PluginError(f"{tool!r} is no Tool; offer a Tool or a function that returns Tools.")
    if not isinstance(tool.name, str) or not tool.name.strip():
        raise PluginError(f"A tool has no name ({tool!r}).")
    if tool.output not in MODALITIES:
        raise PluginError(f"The tool '{tool.name}' makes '{tool.output}'; it must be one of {', '.join(MODALITIES)}.")
    seen: set[str] = set()
    for param in tool.params:
        if not isinstance(param, Param) or param.modality not in MODALITIES:
            kind = getattr(param, "modality", param)
            raise PluginError(f"The tool '{tool.name}' takes '{kind}'; arguments are {', '.join(MODALITIES)}.")
        if param.name in seen:
            raise PluginError(f"The tool '{tool.name}' has the argument '{param.name}' twice.")
        seen.add(param.name)


def check_expert(expert: Any) -> None:
    """PluginError says how `expert` breaks the contract of Expert."""
    if not (isinstance(expert, type) and issubclass(expert, Expert)):
        raise PluginError(f"{expert!r} is no Expert class; offer a subclass of Expert or a function that returns some.")
    where = f"{expert.__module__}.{expert.__qualname__}"
    if not isinstance(getattr(expert, "name", None), str) or not expert.name.strip():
        raise PluginError(f"The expert {where} has no name; set `name = \"…\"`.")
    if inspect.isabstract(expert):
        raise PluginError(f"The expert '{expert.name}' does not write `run`.")
    if not isinstance(getattr(expert, "tool", None), Tool):
        raise PluginError(f"The expert '{expert.name}' has no tool; set `tool = Tool(…)`.")
    check_tool(expert.tool)
    if fault := _card_fault(expert.card):
        raise PluginError(f"The card of the expert '{expert.name}' is wrong: {fault}.")


def _card_fault(card: Any) -> str | None:
    if not isinstance(card, Card):
        return f"it is a {type(card).__name__}, not a Card"
    if card.speed not in SPEEDS:
        return f"speed '{card.speed}' is none of {', '.join(SPEEDS)}"
    if not 0 <= card.quality <= 1:
        return f"quality {card.quality} is not between 0 and 1"
    if not card.devices or not card.profiles:
        return "it names no device or no profile"
    if card.memory < 0 or card.size < 0:
        return "a size is negative"
    return None
