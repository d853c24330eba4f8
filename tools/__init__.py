"""Tool and Expert contracts, the registry that finds them, and the built-in experts.

A plugin imports everything it needs from here:

    from anyloom.tools import Card, Expert, Param, Tool
"""

from .contracts import Card, Expert, Output, Param, Run, Tool

__all__ = ["Card", "Expert", "Output", "Param", "Run", "Tool"]
