"""Citations: an answer may name only files that exist in its run. What else looks like one is marked.

    guard = Citations(names={"speech.wav"}, quotable=[request.text, *texts_of_results])
    shown = guard.feed(piece) ...; shown += guard.flush()

Models like to write "[cat.png](/path/to/cat.png)" whether or not there is a cat. Works on a stream:
`feed` gives out what is certain and holds back what may still become a name. A file name or link
that stands in the request or in a result's text may be repeated as text, but not as a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..controller.files import KINDS

MARK = "(no such file)"
LINK_MARK = "(link removed)"
HOLD = 400  # characters that an unfinished link may have before it is taken for plain text
NAMED = re.compile(r"!?\[([^\[\]\n]+)\]\(\1\)")  # a file that an answer names as a link: [a.png](a.png)
_MEDIA = " ".join(KINDS[k] for k in ("image", "audio", "video")).split()
_TEXTS = ["txt", "md", "json", "csv", "srt"]
_PLACEHOLDER = re.compile(r"\[\s*(?:[\w ]+ )?(?:path|file ?name|file|url|link)(?: [\w ]+)?\s*\]", re.I)


def unlinked(text: str) -> str:
    """The answer with files named by their names alone. Links that lead elsewhere stay as they are."""
    return NAMED.sub(r"\1", text)


class Citations:
    """Guards one answer. `names` may be cited and linked; `texts` says whether text files are guarded too."""

    def __init__(self, names: Iterable[str], quotable: Iterable[str] = (), texts: bool = True):
        self.names = frozenset(names)
        self.quotable = "\n".join(quotable)
        self._held = ""
        endings = "|".join(sorted(_MEDIA + (_TEXTS if texts else []), key=len, reverse=True))
        known = "|".join(re.escape(n) for n in sorted(self.names, key=len, reverse=True))
        parts = [
            r"!?\[(?P<label>[^\[\]\n]*)\]\((?P<target>(?:[^()\n]|\([^()\n]*\))*)\)",
            r"(?P<stray>\]\()",  # no link of the form above: must not become one when it is shown
            rf"(?P<known>(?<![\w./\\-])(?:{known})(?![\w/\\]))" if known else r"(?P<known>(?!))",
            _PLACEHOLDER.pattern.replace(r"\[\s*", r"(?P<holder>\[\s*", 1) + ")",
            r"(?P<url>(?:(?:https?|ftp|file|data|sandbox):|www\.)[^\s<>()\[\]\"'`]+)",
            rf"(?P<file>\[?(?:[~\w.\\/:-]*[\w-])\.(?:{endings})\b\]?)",
        ]
        self._pattern = re.compile("|".join(parts), re.I)
        self._spaced = [n for n in self.names if " " in n]

    def feed(self, piece: str) -> str:
        """Takes the next piece; returns what can be shown."""
        self._held += piece
        cut = self._certain(self._held)
        ready, self._held = self._held[:cut], self._held[cut:]
        return self.clean(ready)

    def flush(self) -> str:
        """The rest, at the end of the answer."""
        ready, self._held = self._held, ""
        return self.clean(ready)

    def clean(self, text: str) -> str:
        """A whole text, guarded."""
        return self._pattern.sub(self._judge, text)

    def _judge(self, match: re.Match[str]) -> str:
        if match["target"] is not None:
            target = match["target"].strip().strip("<>").split(' "')[0]
            if target in self.names:
                return match[0]
            label = self.clean(match["label"])
            return label if label.strip() else MARK
        if match["known"] is not None:
            return match[0]
        if match["stray"] is not None:
            return "] ("
        if match["url"] is not None:
            bare = match["url"].rstrip(".,;:!?")
            return match[0] if bare in self.quotable else LINK_MARK + match["url"][len(bare) :]
        if match["file"] is not None and match["file"].strip("[]") in self.names | {""}:
            return match[0]
        return match[0] if match[0].strip("[]") in self.quotable else MARK

    def _certain(self, text: str) -> int:
        """How much of the text cannot be part of a name or link that goes on: it ends after a blank."""
        cut = self._open_bracket(text)
        for name in self._spaced:
            for length in range(min(len(name), len(text)), 0, -1):
                if text.endswith(name[:length]):
                    cut = min(cut, len(text) - length)
                    break
        while True:
            cut = max(text.rfind(blank, 0, cut) for blank in " \n\t") + 1
            split = next((m.start() for m in self._pattern.finditer(text) if m.start() < cut < m.end()), None)
            if split is None:
                return cut
            cut = split

    @staticmethod
    def _open_bracket(text: str) -> int:
        """Where the first bracket begins that may still become a link, or the text's length.

        A link's target may hold brackets and links itself, so the last bracket alone does not tell.
        """
        for found in re.finditer(r"!?\[", text):
            if len(text) - found.start() <= HOLD and _unfinished(text[found.end() :]):
                return found.start()
        return len(text)


def _unfinished(rest: str) -> bool:
    """Whether what follows an opening bracket is the beginning of a link, and not yet a whole one."""
    label = re.match(r"[^\[\]\n]*", rest)
    after = rest[label.end() if label else 0 :]
    if after in ("", "]"):
        return True
    if not after.startswith("]("):
        return False
    depth = 1
    for sign in after[2:]:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "\n" or depth in (0, 3):  # cut short, whole, or nested deeper than links are read
            return False
    return True
