"""Requests that are spoken: "do what this recording asks for" is planned again once the recording has been heard.

    follows("do what this recording asks for", plan)      # the plan ends at a transcript, and that is the request
    beside(plan, files)                                   # the files that are not the recording
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..controller.plan import Plan, referenced

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


def beside(plan: Plan, files: Mapping[str, Any]) -> dict[str, Any]:
    """The files without those that the plan has heard."""
    heard = {v for t in plan.tasks if t.task == HEARS for v in t.args.values() if referenced(v) is None}
    return {name: file for name, file in files.items() if name not in heard}
