"""Which expert performs a task: those that can run here, in the order in which they are tried.

    rank("text-to-image", registry.experts("text-to-image"), "best", device="cpu", memory=4 << 30)

The policy `llm` lets the controller choose from the cards in words; its `choose` is asynchronous,
so a graph asks it first (`cards(fitting(...))`) and hands the name on: `choose=lambda tool, cards: name`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from ..core.errors import ExpertError, SettingsError, UnknownName, nearest
from .contracts import SPEEDS, Expert

Policy = Literal["fastest", "best", "pinned", "llm"]
Choose = Callable[[str, Mapping[str, str]], str]
ExpertClass = type[Expert]

_TAKES = {"instant": "at once", "fast": "seconds", "medium": "a minute or so", "slow": "minutes"}


def rank(
    tool: str,
    experts: Iterable[ExpertClass],
    policy: str = "best",
    *,
    pinned: Mapping[str, str] | None = None,
    device: str = "cpu",
    memory: int | None = None,
    choose: Choose | None = None,
    seconds: Mapping[str, float] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[ExpertClass]:
    """The experts to try for `tool`, in order; never empty.

    `pinned` maps tools to expert names and holds under every policy (`pinned` orders the rest by
    quality); `seconds` are measured run times by expert name, for `fastest`; `choose(tool, cards)`
    answers with a name, for `llm`; `say` is told when a choice could not be followed.
    UnknownName: the pinned expert does not exist. ExpertError: no expert can run here.
    """
    if policy not in get_args(Policy):
        known = get_args(Policy)
        raise SettingsError(f"'{policy}' is no policy{nearest(policy, known)}; choose from {', '.join(known)}.")
    candidates, pin = list(experts), (pinned or {}).get(tool)
    if pin is not None:
        _check_pin(tool, pin, candidates, device, memory)
    fit = fitting(candidates, device=device, memory=memory, pinned=pin)
    if not fit:
        raise ExpertError(_nothing(tool, candidates, device, memory))
    order = sorted(fit, key=_faster(seconds or {}) if policy == "fastest" else _better)
    first = pin
    if pin is None and policy == "llm":
        first = _chosen(tool, order, choose, say)
    return sorted(order, key=lambda e: e.name != first)


def fitting(
    experts: Iterable[ExpertClass], *, device: str = "cpu", memory: int | None = None, pinned: str | None = None
) -> list[ExpertClass]:
    """Those that can run here, in the order given."""
    return [e for e in experts if unfit(e, device, memory, pinned=e.name == pinned) is None]


def unfit(expert: ExpertClass, device: str = "cpu", memory: int | None = None, *, pinned: bool = False) -> str | None:
    """None when the expert can run here, else why not and what to do.

    `device` may be `auto`. `pinned`: the user named this expert, which accepts the terms of gated weights.
    """
    card = expert.card
    if not _has_device(card.devices, device):
        return f"needs {' or '.join(card.devices)} and the device is {device}"
    if memory is not None and card.memory > memory:
        return f"needs {_bytes(card.memory)} of memory and the budget is {_bytes(memory)}; raise --memory"
    if card.gated and not pinned:
        pin = f"--pin {expert.tool.name}={expert.name}"
        return f"its weights ask for acceptance of their licence ({card.licence}); accept it, then {pin}"
    try:
        return expert.available()
    except Exception as e:  # a plugin's code: whatever it raises means that it cannot be used
        return f"its own check failed ({type(e).__name__}: {e})"


def pick_device(expert: ExpertClass, device: str) -> str:
    """The device an expert is loaded on: a GPU where there is one, or one was named, and the expert can use it."""
    if device == "any":
        return "cuda" if "cuda" in expert.card.devices else "cpu"
    if device != "auto":
        return device if device.split(":")[0] in expert.card.devices else "cpu"
    return "cuda" if "cuda" in expert.card.devices and _cuda() else "cpu"


def cards(experts: Iterable[ExpertClass]) -> dict[str, str]:
    """Each expert's card in words, by name: what a controller chooses from."""
    return {e.name: describe(e) for e in experts}


def describe(expert: ExpertClass) -> str:
    """A card in one line."""
    card = expert.card
    first = ((expert.__doc__ or "").strip().splitlines() or [""])[0].strip().rstrip(".")
    size = _bytes(card.memory)
    facts = f"takes {_TAKES[card.speed]}, quality {card.quality:.1f} of 1, {size} of memory, {card.licence}"
    return f"{first}; {facts}" if first else facts


def _check_pin(tool: str, pin: str, candidates: list[ExpertClass], device: str, memory: int | None) -> None:
    names = [e.name for e in candidates]
    if pin not in names:
        known = f"; there are {', '.join(names)}" if names else ""
        raise UnknownName(f"No expert '{pin}' performs '{tool}'{nearest(pin, names)}{known}.")
    if reason := unfit(candidates[names.index(pin)], device, memory, pinned=True):
        raise SettingsError(f"The expert '{pin}' is pinned for '{tool}' and cannot run here: {reason}.")


def _nothing(tool: str, candidates: list[ExpertClass], device: str, memory: int | None) -> str:
    if not candidates:
        return f"No expert of this profile performs '{tool}'; try --profile full or install a plugin for it."
    reasons = "; ".join(f"{e.name}: {unfit(e, device, memory)}" for e in candidates)
    return f"No expert can perform '{tool}' here ({reasons})."


def _chosen(tool: str, order: list[ExpertClass], choose: Choose | None, say: Callable[[str], None]) -> str:
    if len(order) == 1:
        return order[0].name
    words = cards(order)
    name = choose(tool, words) if choose else ""
    if name in words:
        return name
    why = f"the controller chose '{name}', which is none of them" if choose else "nobody was there to choose"
    say(f"The expert for '{tool}' was chosen by quality: {why}.")
    return order[0].name


def _better(expert: ExpertClass) -> tuple[float, int, str]:
    return -expert.card.quality, SPEEDS.index(expert.card.speed), expert.name


def _faster(seconds: Mapping[str, float]) -> Callable[[ExpertClass], tuple[int, float, float, str]]:
    def key(expert: ExpertClass) -> tuple[int, float, float, str]:
        card = expert.card
        return SPEEDS.index(card.speed), seconds.get(expert.name, float("inf")), -card.quality, expert.name

    return key


def _has_device(devices: tuple[str, ...], device: str) -> bool:
    if device == "any":  # other machines have both
        return True
    if device == "auto":
        return "cpu" in devices or ("cuda" in devices and _cuda())
    return "cpu" in devices or device.split(":")[0] in devices  # with a GPU, who knows the CPU only has that


def _cuda() -> bool:
    """Whether torch finds an accelerator; torch is imported only when an expert's choice hangs on it."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
