"""Follow-ups said as requests of their own: after "draw a red cat", "now in blue" is "draw a blue cat".

    alone("now in blue", {"picture.png": "image"}, history)     # PlanRequest("draw a blue cat"), no files
    again("another one, please")                                # True: the same request, to be answered otherwise

For controllers that plan a request without what was said before. What is changed may be a colour, a style, a
language, what is added ("with a hat") or the thing itself ("a dog instead"). Rules of English, and careful ones: what
is no such follow-up, or follows something that was about a file, is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from .base import PlanRequest, Turn

COLOURS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray", "golden",
    "gold", "silver", "violet", "turquoise", "cyan", "magenta", "beige",
)  # fmt: skip
LANGUAGES = (
    "english", "german", "french", "spanish", "italian", "portuguese", "dutch", "swedish", "danish", "norwegian",
    "finnish", "polish", "czech", "russian", "ukrainian", "greek", "turkish", "arabic", "hebrew", "hindi", "chinese",
    "japanese", "korean", "latin", "romanian", "hungarian",
)  # fmt: skip
_COLOUR = rf"(?:(?:light|dark|bright|pale|deep) )?(?:{'|'.join(COLOURS)})"
_LANGUAGE = rf"(?:{'|'.join(LANGUAGES)})"
_ART = r"(?:style|drawing|painting|sketch|art|cartoon|emoji|watercolou?r|render(?:ing)?|icon|logo|photo(?:graph)?)"
_STYLE = rf"(?:(?:an? |the )?(?:[\w-]+ ){{0,3}}{_ART}|3d|pixels|watercolou?rs?|oil)"
_COUNT = r"(?:an?|the|some|one|two|three|four|five|six|seven|eight|nine|ten|\d+)"
_MEDIA = (
    r"(?:pictures?|images?|drawings?|photos?|clips?|videos?|films?|animations?|gifs?|paintings?|sounds?|recordings?)"
)
_VERB = (
    r"(?:draw|paint|make|do|show|render|sketch|colou?r|turn|create|generate|design|try|play|film|animate|say|compose|"
    r"repeat|have|give me|show me|let me (?:see|hear|have))"
)
_SAME = rf"(?:it|this|that|them|one|the same(?: (?:thing|{_MEDIA}))?|the (?:last one|thing|{_MEDIA}))"
_BEFORE = re.compile(
    r"^(?:(?:now|please|ok(?:ay)?|and|but|then|so|actually|no|hm+|great|nice|good|thanks|thank you|(?:can|could|would|"
    r"will) you|i (?:want|would like)(?: to (?:see|hear|have))?|i'd like(?: to (?:see|hear|have))?)[,.!:]*\s+)+",
    re.I,
)
_BEHIND = re.compile(r"(?:,?\s+(?:please|this time|now|too|as well|for me|then|thanks|thank you))+$", re.I)
_AGAIN = re.compile(
    rf"(?:{_VERB} )?(?:(?:{_SAME} )?(?:again|once more|one more time|differently|(?:in )?another way)"
    rf"|(?:another|one more|a different)(?: one| {_MEDIA}| version)?)",
    re.I,
)
_LEAD = rf"(?:(?:what|how) about |(?:{_VERB} )?(?:{_SAME} )?(?:again )?,?(?:but |only |just )?)"
_END = r"(?: (?:instead|again|once more))?"
_TINTED = re.compile(rf"{_LEAD}(?:(?:in|to|into|as) |(?:an?|the) (?=[\w ]+ one\b))?({_COLOUR})(?: one)?{_END}", re.I)
_STYLED = re.compile(rf"{_LEAD}((?:in|as|like|with|into) {_STYLE}){_END}", re.I)
_SPOKEN = re.compile(rf"{_LEAD}(?:(?:in|to|into) )?({_LANGUAGE}){_END}", re.I)
_ADDED = re.compile(rf"{_LEAD}((?:with|without) (?:{_COUNT} )?[\w' -]{{2,40}}?){_END}", re.I)
_OTHER = re.compile(
    rf"(?:(?:what|how) about |the same (?:thing )?(?:but |only )?(?:with|for|of) )({_COUNT} [\w' -]{{2,40}}?){_END}"
    rf"|(?:{_VERB} )?({_COUNT} [\w' -]{{2,40}}?) instead",
    re.I,
)
_THING = re.compile(rf"\b{_COUNT}\s+(?!(?:[\w-]+\s+){{0,2}}{_MEDIA}\b)", re.I)
_FILES = re.compile(rf"\b(?:{_MEDIA}|other|first|second|last|previous|files?|words?|captions?)\b", re.I)
_OF_A_FILE = re.compile(r"\b(?:it|this|that|these|those|them|attach\w*|upload\w*)\b|\.\w{2,4}\b", re.I)


def alone(text: str, files: Mapping[str, str], history: Sequence[Turn]) -> PlanRequest:
    """The request as it reads without what was said before; `files` are what a plan of it may use."""
    said, meant = _meant([*history, Turn(text, "")], files)
    return PlanRequest(said, files if meant in ("", "language") else {}, tuple(history))


def again(text: str) -> bool:
    """Whether this asks for nothing but the last answer anew."""
    return bool(_AGAIN.fullmatch(_core(text)))


def _meant(turns: Sequence[Turn], files: Mapping[str, str]) -> tuple[str, str]:
    """The last request alone, and what kind of follow-up it was; `files` those at hand for it."""
    text = turns[-1].request
    if len(turns) == 1:
        return text, ""
    last = turns[-2]
    before, kind = _meant(turns[:-1], {})
    if not kind and len(turns) > 2:
        before = _named(before, _meant(turns[:-2], {})[0])
    core = _core(text)
    if (found := _SPOKEN.fullmatch(core)) and last.artifacts:
        return _swapped(before, found[1], _LANGUAGE, f" in {found[1]}"), "language"
    made = {a.name for a in last.artifacts}
    media = any(a.modality != "text" for a in last.artifacts)
    if not media or not made.issuperset(files) or _OF_A_FILE.search(before):
        return text, ""
    for kind, changed in _CHANGES.items():
        if said := changed(core, before):
            return said, kind
    return text, ""


def _named(text: str, before: str) -> str:
    """What stands for a thing replaced by the thing: "make a clip of it" after "draw a cat"."""
    thing = _THING.search(before)
    if not thing or _OF_A_FILE.search(before):
        return text
    what = before[thing.start() :].rstrip(".!? ")
    return re.sub(r"\b(?:of|from) (?:it|this|that|them)\b", f"of {what}", text, count=1)


def _core(text: str) -> str:
    """Without what is only said for politeness, before and behind."""
    core = re.sub(r"[.!?]+$", "", text.strip())
    while (less := _BEHIND.sub("", _BEFORE.sub("", core, 1), 1)) != core:
        core = less
    return core


def _repeated(core: str, before: str) -> str:
    return before if _AGAIN.fullmatch(core) else ""


def _tinted(core: str, before: str) -> str:
    found = _TINTED.fullmatch(core)
    if not found:
        return ""
    colour = found[1].lower()
    if re.search(rf"\b{_COLOUR}\b", before, re.I):
        return _swapped(before, colour, _COLOUR, "")
    thing = _THING.search(before)
    if not thing:
        return f"{before} in {colour}"
    return _articles(f"{before[: thing.end()]}{colour} {before[thing.end() :]}", thing.start())


def _styled(core: str, before: str) -> str:
    found = _STYLED.fullmatch(core)
    return f"{re.sub(rf',? (?:in|as|like) {_STYLE}$', '', before, flags=re.I)} {found[1]}" if found else ""


def _added(core: str, before: str) -> str:
    found = _ADDED.fullmatch(core)
    return f"{before} {found[1]}" if found and not _FILES.search(found[1]) else ""


def _other(core: str, before: str) -> str:
    found, thing = _OTHER.fullmatch(core), _THING.search(before)
    new = (found[1] or found[2]) if found else ""
    return before[: thing.start()] + new if thing and new and not _FILES.search(new) else ""


_CHANGES = {"again": _repeated, "colour": _tinted, "style": _styled, "more": _added, "thing": _other}


def _swapped(before: str, word: str, kind: str, otherwise: str) -> str:
    """The first word of a kind replaced; with none there, `otherwise` behind."""
    found = re.search(rf"\b{kind}\b", before, re.I)
    if not found:
        return re.sub(r"[.!?]+$", "", before) + otherwise
    start = before.rfind(" ", 0, max(0, found.start() - 1)) + 1
    return _articles(before[: found.start()] + word + before[found.end() :], start)


def _articles(text: str, start: int) -> str:
    """`a` or `an` at `start` as the word behind it wants."""
    found = re.match(r"an?(?= (\w))", text[start:], re.I)
    if not found:
        return text
    right = found[0][0] + ("n" if found[1].lower() in "aeio" else "")
    return text[:start] + right + text[start + found.end() :]
