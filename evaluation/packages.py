"""Packages of the extra `eval`, asked for by name before anything runs."""

from __future__ import annotations

import importlib.util

from ..core.errors import SettingsError

MEASURING = ("jiwer", "sacrebleu", "scipy")


def need(*names: str) -> None:
    """SettingsError, in one sentence, when one of these packages is not installed."""
    if missing := [n for n in names if not _there(n)]:
        raise SettingsError(
            f"Measuring needs {', '.join(missing)}, which is not installed: pip install 'anyloom[eval]'."
        )


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # half imported, or blocked
        return False
