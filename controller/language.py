"""The plan language: how the local planner reads tools and requests, and writes plans.

JSON would spend most of a small model's tokens on brackets. This is the same plan in few tokens:

    0: optical-character-recognition(A)
    1: text-to-speech(0)
    end

A letter is a file, a number an earlier task's output, quotes hold words of the request, `?` stands
for an input the user did not give. `none` alone means that no tool is needed, `unable` that none of
the list can do it. A line begins with one of the list's tools; `arguments_grammar` gives the grammar
of its rest, so that what is decoded always parses, connects only modalities that fit, and quotes
only what the user said.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence

from ..core.errors import PlanError
from ..tools.contracts import Tool
from .plan import MISSING, WORDY, Plan, Task, reference, referenced

END, NONE, UNABLE = "end", "none", "unable"
LETTERS = string.ascii_uppercase

_LINE = re.compile(r"(\d+): (.+?)\((.*)\)$", re.S)
_ARGUMENT = re.compile(r'\s*(?:"((?:[^"])*)"|([A-Z]|\d+|\?))\s*(?:,|$)', re.S)


def prefix(tools: Sequence[Tool]) -> str:
    """What stands before every request over this tool list: read once, its keys and values kept."""
    lines = [f"{t.name} ({t.signature()}): {t.description.rstrip('.')}" for t in tools]
    return "<|im_start|>system\nTools:\n" + "\n".join(lines) + "<|im_end|>\n"


def question(text: str, files: Mapping[str, str]) -> str:
    """The request with its files, up to where the plan begins."""
    listed = "".join(f"{LETTERS[n]} = {name} ({kind})\n" for n, (name, kind) in enumerate(files.items()))
    return f"<|im_start|>user\n{listed}{speakable(text)}<|im_end|>\n<|im_start|>assistant\n"


def speakable(text: str) -> str:
    """The request as the planner sees it: one line, no control tokens, plain double quotes."""
    text = text.replace("<|", "< |").replace("“", '"').replace("”", '"')
    return re.sub(r"\s+", " ", text).strip()


def write(plan: Plan, tools: Mapping[str, Tool], files: Mapping[str, str]) -> str:
    """A plan in the plan language. Ids are renumbered from 0 in plan order."""
    if not plan:
        return f"{NONE}\n"
    letters = {name: LETTERS[n] for n, name in enumerate(files)}
    number = {t.id: n for n, t in enumerate(plan.tasks)}
    lines = []
    for task in plan.tasks:
        values = [_value(task.args.get(p.name, MISSING), letters, number) for p in tools[task.task].params]
        lines.append(f"{number[task.id]}: {task.task}({', '.join(values)})")
    return "\n".join([*lines, END]) + "\n"


def _value(value: str, letters: Mapping[str, str], number: Mapping[int, int]) -> str:
    ref = referenced(value)
    if ref is not None:
        return str(number[ref])
    if value == MISSING:
        return MISSING
    return letters.get(value) or '"' + _said(value) + '"'


def _said(text: str) -> str:
    """A text as it stands between quotes."""
    return speakable(text).replace('"', "'")


def read(text: str, tools: Mapping[str, Tool], files: Mapping[str, str]) -> Plan:
    """Inverse of `write`; PlanError when `text` is not in the language."""
    names = list(files)
    tasks = []
    for line in text.strip().splitlines():
        if line in (END, NONE):
            break
        if line == UNABLE:
            raise PlanError("No tool that can run here does what was asked; `anyloom tools` lists them.")
        match = _LINE.match(line)
        tool = tools.get(match.group(2)) if match else None
        if match is None or tool is None:
            raise PlanError(f"'{line[:80]}' is no line of a plan.")
        values = [_read_value(m, names) for m in _ARGUMENT.finditer(match.group(3))]
        args = {p.name: v for p, v in zip(tool.params, values, strict=False)}
        tasks.append(Task(tool.name, int(match.group(1)), args))
    return Plan(tuple(tasks))


def _read_value(match: re.Match[str], names: Sequence[str]) -> str:
    quoted, short = match.group(1), match.group(2)
    if quoted is not None:
        return quoted.strip()
    if short == MISSING:
        return MISSING
    if short.isdigit():
        return reference(int(short))
    position = LETTERS.index(short)
    if position >= len(names):
        raise PlanError(f"The plan names file {short}, and there are {len(names)}.")
    return names[position]


def endings(outputs: Sequence[str]) -> tuple[str, ...]:
    """What may stand in place of a further line: the end, or at the start that there is nothing to do."""
    return (END,) if outputs else (NONE, UNABLE)


def arguments_grammar(tool: Tool, text: str, files: Mapping[str, str], outputs: Sequence[str]) -> str:
    """Lark grammar (llguidance) of a line after the tool's name: `(A, "a red apple")` and its end.

    `outputs` are the types of the lines before. A value that the model may write is a file of the
    right type, an earlier output of the right type, a contiguous run of the request's words (text and
    addresses), or `?` where there is neither file nor output.
    """
    kinds = [p.modality for p in tool.params]
    arguments = ' ", " '.join(f"v_{_rule(kind)}" for kind in kinds)
    grammar = [f'start: "(" {arguments} ")\\n"']
    grammar += [f"v_{_rule(kind)}: {_choices(kind, files, outputs)}" for kind in dict.fromkeys(kinds)]
    if any(kind in WORDY for kind in kinds):
        whole = [rf"(?<!\w){re.escape(_said(name))}(?!\w)" for name in sorted(files, key=len, reverse=True)]
        chunks = re.findall("|".join([*whole, r"\w+|\s+|[^\w\s]"]), _said(text))  # half a file's name says nothing
        grammar.append('said: "\\"" SAID "\\""')
        grammar.append(f"SAID: %regex {json.dumps({'substring_chunks': chunks or ['-']})}")
    return "\n".join(grammar) + "\n"


def _choices(kind: str, files: Mapping[str, str], outputs: Sequence[str]) -> str:
    fitting = [LETTERS[n] for n, k in enumerate(files.values()) if k == kind]
    fitting += [str(n) for n, k in enumerate(outputs) if k == kind]
    choices = [_quoted(c) for c in fitting]
    if kind in WORDY:
        choices.append("said")
    if not fitting:
        choices.append(_quoted(MISSING))
    return " | ".join(choices)


def _rule(kind: str) -> str:
    return "".join(f"{ord(c):x}_" if not c.isalnum() or c.isupper() else c for c in kind)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
