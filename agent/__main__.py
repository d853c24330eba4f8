"""`python -m anyloom.agent` is the `anyloom` command."""

from .cli import entry

entry()
