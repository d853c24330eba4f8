"""Requests that are spoken: "do what this recording asks for" is planned again once the recording has been heard.

    follows("do what this recording asks for", plan)      # the plan ends at a transcript, and that is the request
    hearing("do what this recording asks for", Plan(), {"a.wav": "audio"})    # a plan that hears it
    beside(plan, files)                                   # the files that are not the recording
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..controller.plan import Plan, Task, referenced

HEARS = "automatic-speech-recognition"
_WHAT = r"(?:what|whatever|instructions?|requests?|commands?|orders?|wish(?:es)?|tasks?|questions?)"
_FOLLOW = re.compile(
    rf"\b(?:do (?:exactly |just )?(?:what|as)|(?:follow|carry out|execute|obey|fulfil+|perform|act on|answer|grant)\b"
    rf"[^.?!]*\b{_WHAT})\b",
    re.I,
)


def follows(text: str, plan: Plan) -> bool:
    """Whether a request wants done what is said in a recording, and its plan stops at what was heard."""
    return bool(_FOLLOW.search(text)) and [t.task for t in plan.tasks] == [HEARS]


def hearing(text: str, plan: Plan, files: Mapping[str, str]) -> Plan:
    """The plan; where it is empty and the request wants done what the only recording says, one that hears it.

    A controller may take such a request for small talk. `files`: their modalities by name.
    """
    recordings = [name for name, kind in files.items() if kind == "audio"]
    if plan.tasks or len(recordings) != 1 or not _FOLLOW.search(text):
        return plan
    return Plan((Task(HEARS, 0, {"audio": recordings[0]}),))


def beside(plan: Plan, files: Mapping[str, Any]) -> dict[str, Any]:
    """The files without those that the plan has heard."""
    heard = {v for t in plan.tasks if t.task == HEARS for v in t.args.values() if referenced(v) is None}
    return {name: file for name, file in files.items() if name not in heard}
