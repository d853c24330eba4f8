"""What the local controller says of itself, to a greeting and to thanks: a model of its size would make it up.

small_talk("what can you do?", tools)      # a few sentences, with requests that these tools can answer
small_talk("draw a cat", tools)            # None: no small talk
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..tools.contracts import Tool

_NAME = r"(?:[ ,]+(?:there|anyloom|again|everyone))?"
_GREETING = rf"(?:hi|hello|hey|hiya|good (?:morning|day|afternoon|evening)|greetings){_NAME}"
_ABOUT = (
    r"(?:who|what) are you|what(?:'s| is) (?:your name|anyloom)|(?:please )?help(?: me)?(?: please)?"
    r"|what (?:else )?(?:can|could|do) you do(?: here| for me)?|(?:how )?can you help(?: me)?|how do you work"
    r"|what (?:tools|skills|abilities) (?:do you have|are there)|how (?:do|can) i use (?:you|anyloom)"
    r"|tell me (?:about yourself|what you can do)|introduce yourself"
)
_THANKS = rf"(?:many )?(?:thanks|thank you|thx|cheers)(?: (?:a lot|so much|very much|again))?{_NAME}"
_LEAVE = rf"(?:good ?bye|bye(?: bye)?|see you(?: later| soon)?|good ?night){_NAME}"
_KINDS = {
    kind: re.compile(pattern, re.I)
    for kind, pattern in {
        "greeting": _GREETING,
        "about": rf"(?:{_GREETING}[,.!]* )?(?:{_ABOUT})",
        "thanks": rf"(?:(?:ok|okay|great|nice|perfect|good|wonderful|cool)[,.!]* )?{_THANKS}",
        "leave": rf"(?:{_THANKS}[,.!]* (?:and )?)?{_LEAVE}",
    }.items()
}
_LONG = 100  # characters beyond which nothing is small talk
_EXAMPLES = (  # tools that are needed, a request that they answer
    (("text-to-image",), "draw a red cat"),
    (("text-to-audio",), "play a violin"),
    (("text-to-video",), "make a clip of a rocket"),
    (("text-to-speech",), "say good morning aloud"),
    (("image-to-text",), "what is in this picture? (with a picture attached)"),
    (("optical-character-recognition", "text-to-speech"), "read this note aloud (with a picture of one attached)"),
    (("automatic-speech-recognition", "summarization"), "write down and sum up this recording (with one attached)"),
)


def small_talk(text: str, tools: Sequence[Tool]) -> str | None:
    """The answer to a greeting, thanks, a goodbye, or a question about anyloom itself; None for all else."""
    core = text.strip().rstrip(".!? ") if len(text) <= _LONG else ""
    kind = next((k for k, pattern in _KINDS.items() if pattern.fullmatch(core)), None)
    if kind == "thanks":
        return "You are welcome.\n"
    if kind == "leave":
        return "Goodbye.\n"
    if kind is None:
        return None
    names = {t.name for t in tools}
    some = [said for wanted, said in _EXAMPLES if names.issuperset(wanted)]
    hello = "Hello. " if kind == "greeting" else ""
    first = f"{hello}I am anyloom: I plan what you ask for and have expert tools do it"
    if not some:
        return f"{first}. `anyloom tools` lists what is ready here.\n"
    listed = "\n".join(f"- {said}" for said in some)
    return (
        f"{first}. Try one of these:\n\n{listed}\n\n`anyloom tools` lists everything that is ready here. The model "
        "that plans and talks is a small one: what it says without a tool may be wrong.\n"
    )
