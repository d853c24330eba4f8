"""Reads a tool list from a file, in TaskBench's form, so that plans can be made over foreign tools.

    {"nodes": [{"id": "Image-to-Text", "desc": "…", "input-type": ["image"], "output-type": ["text"]}]}

Types are kept as they are written: besides text, image, audio and video there may be others (`url`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..tools.contracts import Param, Tool


def read_tools(file: Path) -> list[Tool]:
    """The tools of the file; InputError says which entry is wrong."""
    try:
        data = json.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise InputError(f"There is no tool list '{file}'.") from e
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"The tool list '{file}' cannot be read: {e}.") from e
    except json.JSONDecodeError as e:
        raise InputError(f"The tool list '{file}' is not JSON: {e.msg} in line {e.lineno}.") from e
    nodes = data.get("nodes") if isinstance(data, dict) else data
    if not isinstance(nodes, list) or not nodes:
        raise InputError(
            f"The tool list '{file}' has no 'nodes': a list of tools with id, desc, input-type, output-type."
        )
    tools = [_tool(n, node, file) for n, node in enumerate(nodes)]
    names = [t.name for t in tools]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"The tool list '{file}' has '{twice[0]}' twice.")
    return tools


def _tool(position: int, node: Any, file: Path) -> Tool:
    name = node.get("id") if isinstance(node, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"Entry {position} of the tool list '{file}' has no 'id'.")
    inputs, outputs = node.get("input-type", []), node.get("output-type", [])
    if not all(isinstance(v, list) and all(isinstance(t, str) for t in v) for v in (inputs, outputs)):
        raise InputError(f"Tool '{name}' of '{file}': input-type and output-type are lists of type names.")
    counts: dict[str, int] = {}
    params = []
    for kind in inputs:
        counts[kind] = counts.get(kind, 0) + 1
        params.append(Param(kind if counts[kind] == 1 else f"{kind}{counts[kind]}", kind))
    return Tool(name, str(node.get("desc", "")), tuple(params), outputs[0] if outputs else "none")
