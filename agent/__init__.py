"""The front door: the Python Agent and the command line. Nothing else prints or serves.

from anyloom.agent import Agent

answer = Agent().ask("Read this note aloud", attachments=["note.png"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> Any:
    """Imports the Agent when it is first asked for, so that importing the package costs nothing."""
    if name == "Agent":
        from .agent import Agent

        return Agent
    raise AttributeError(f"module 'anyloom.agent' has no attribute '{name}'")
