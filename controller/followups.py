"""Follow-ups said as requests of their own: after "draw a red cat", "now in blue" is "draw a blue cat".

    alone(PlanRequest("now in blue", files, history), tools)     # PlanRequest("draw a blue cat"), no files
    again("another one, please")                                 # True: the same request, to be answered otherwise

For controllers that plan a request without what was said before. What is changed may be a colour, a style, a
language, what is added ("with a hat"), the thing itself ("a dog instead"), or what is made of it ("let me hear it").
What was asked for in words is taken from there, not from a reading of what was made of it, which may err again.
Rules of English, and careful ones: what is no such follow-up, or follows something that was about a file, is left
as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

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

# Looser signs, of requests that no pattern above fits.
_QUESTION = re.compile(
    r"^(?:is|are|was|were|does|did|has|have you|why|who|when|where|which|how (?:many|much|old|big|long)|can you tell)"
    r"\b",
    re.I,
)
_TELLING = re.compile(
    r"\b(?:describ\w+|in words|caption|explain|tell (?:me|us)|translate|summar\w+|read|write|text|say (?:what|it|that)|"
    r"save|call(?:ed)?|file|compare|count|spell|joke|poem|story|recipe|essay|e-?mail)\b",
    re.I,
)
_NEW = re.compile(
    rf"\b(?:an?|some|two|three|four|five|six|\d+) (?!(?:[\w-]+ ){{0,2}}(?:{_MEDIA}|audio|music|movie|pic|pics|noise|"
    r"one|bit|little|moment|few|lot|version|go|still|colou?r|second|sec|minute|way|time|song|name|question|list|idea|fact|"
    r"word|sentence|summary|letter|answer|number|reason|example|title)\b)[\w'-]+",
    re.I,
)
_MADE = re.compile(
    r"\b(?:draw|paint|sketch|play|make (?:me )?(?:the sound|an? (?:\w+ )?(?:picture|drawing|image|clip|video|sound)) "
    rf"of) (?:(?:me|us) )?{_COUNT}\b",
    re.I,
)
_INSTEAD = re.compile(
    r"^(?:and|now|ok|okay|no|not|actually|or|but|hm+|cool|nice|great|haha|thanks?)\b|\b(?:instead|next|now|replace\w*|"
    r"swap\w*|rather|prefer|meant|mean|chang\w+|go with|switch\w*|want\w*|(?:would|i'?d) like|show|"
    r"can (?:i|we) (?:have|see|hear|get)|should be|let(?:'?s| me| us)|try|after that|another|different|forget|"
    r"how about|what about|turn it into)\b",
    re.I,
)
_FITTED = re.compile(
    rf"\b(?:add|put|give (?:it|him|her|them)) ({_COUNT} [\w' -]+?)(?: on(?: (?:it|top|his|her|its)\b.*)?)?$", re.I
)
_REST = re.compile(
    r"(?:[, ]+(?:instead|next|now|please|pls|plz|for (?:me|us)(?: now)?|after that|too|this time|sounds? like|"
    r"looks? like|thanks?|thank you|if you can|lol|haha|maybe|i think|would be (?:nice|better|cool|great)))+$",
    re.I,
)
_HUED = re.compile(
    rf"\b({_COLOUR})\b(?=$|[^\w\s-]| (?:one|ones|version|colou?r|please|pls|plz|instead|would|will|is|looks?|might|may|"
    r"this|now|i|maybe|if|thanks?|too|for|all)\b)",
    re.I,
)
_DOING = re.compile(r"\b(?!see|hear|hav|draw)\w+ing $", re.I)
_AFTER = re.compile(
    r".*?\b(?:sounds? of|(?:picture|image|drawing|clip|video) of|draw|paint|play)\s+(?:(?:me|us)\s+)?(?=\w)", re.I
)
_MEANS = {
    "video": r"clips?|video|vid|movies?|film|gif|animat\w*|motion|mov(?:e|es|ing)|to life|alive|watch|dance|cartoon",
    "audio": r"sounds?|hear|noises?|audio|listen|loud|sing",
    "image": r"pics?|pictures?|image|drawing|draw|paint\w*|sketch|photo|see|looks? like|look|illustrat\w*|visual\w*",
}
_MEANS_OF = {kind: re.compile(rf"\b(?:{words})\b", re.I) for kind, words in _MEANS.items()}
_NOUNS_OF = {
    "image": re.compile(r"\b(?:the|that|this|your|my) (?:pics?|pictures?|images?|drawings?|photos?)\b", re.I),
    "video": re.compile(r"\b(?:the|that|this|your|my) (?:clips?|videos?|films?|movies?|animations?|gifs?)\b", re.I),
    "audio": re.compile(r"\b(?:the|that|this|your|my) (?:sounds?|recordings?|audio|noises?|music)\b", re.I),
}
_EDIT = re.compile(
    r"\b(?:black (?:and|&) white|gr[ae]y ?scale|monochrome|blur\w*|sharpen\w*|rotat\w+|crop\w*|resiz\w+|flip\w*|"
    r"mirror\w*|invert\w*|upside down|(?:make|scale) it (?:bigger|smaller|larger)|half (?:the|its|as) (?:size|big)|"
    r"only (?:the )?edges|edges only)\b",
    re.I,
)
_SAID = {"video": "make a video of", "audio": "make the sound of", "image": "draw"}
_LONGEST = 24  # words of a follow-up
_LONG = 300  # characters beyond which nothing is one, nor changed by one


def alone(request: PlanRequest, tools: Collection[str] = ()) -> PlanRequest:
    """The request as it reads without what was said before, with the files that a plan of it may use.

    `tools`: the names of those there are; where one makes clips of pictures, a picture is moved and not made anew.
    What comes with a file of its own is about that.
    """
    if request.attached:
        return request
    said, meant = _meant([*request.history, Turn(request.text, "")], request.files, tools)
    return replace(request, text=said, files=request.files if meant in ("", "language", "file") else {})


def again(text: str) -> bool:
    """Whether this asks for nothing but the last answer anew."""
    return len(text) <= _LONG and bool(_AGAIN.fullmatch(_core(text)))


def spoken_of(text: str) -> set[str]:
    """The kinds of media that a request speaks of: "blur it" is about a picture, "slow the clip down" about a video."""
    found = {kind for kind, words in _NOUNS_OF.items() if words.search(text)}
    return found or ({"image"} if _EDIT.search(text) else set())


def _meant(turns: Sequence[Turn], files: Mapping[str, str], tools: Collection[str]) -> tuple[str, str]:
    """The last request alone, and what kind of follow-up it was; `files` those at hand for it."""
    text = turns[-1].request
    if len(turns) == 1 or len(text) > _LONG:
        return text, ""
    last = turns[-2]
    before, kind = _meant(turns[:-1], {}, tools)
    if len(before) > _LONG:
        return text, ""
    if not kind and len(turns) > 2:
        before = _named(before, _meant(turns[:-2], {}, tools)[0])
    core = _core(text)
    if _AGAIN.fullmatch(core):
        return before, "file" if _about_a_file(before) else "again"
    if (found := _SPOKEN.fullmatch(core)) and last.artifacts:
        return _swapped(before, found[1], _LANGUAGE, f" in {found[1]}"), "language"
    made = {a.name for a in last.artifacts}
    media = [str(a.modality) for a in last.artifacts if a.modality != "text"]
    if not media or not made.issuperset(files) or _OF_A_FILE.search(before):
        return text, ""
    for kind, changed in _CHANGES.items():
        if (media[-1] != "audio" or kind not in ("colour", "style")) and (said := changed(core, before)):
            return said, kind
    if _QUESTION.search(core) or _TELLING.search(core) or len(core.split()) > _LONGEST:
        return text, ""
    return _loosely(text, core, before, media[-1], tools)


def _loosely(text: str, core: str, before: str, made: str, tools: Collection[str]) -> tuple[str, str]:
    """By looser signs: something new, a colour alone, or another kind of thing made of the same."""
    if fitted := _FITTED.search(core):
        return (f"{before} with {fitted[1]}", "more") if made != "audio" else (text, "")
    if new := _NEW.search(core):
        return _anew(text, core, before, new.start())
    hues = _HUED.findall(core)
    if len(hues) == 1 and len(re.findall(rf"\b{_COLOUR}\b", core, re.I)) == 1 and made != "audio":
        return _hued(before, hues[0].lower()), "colour"
    return _another_kind(text, core, before, made, tools)


def _anew(text: str, core: str, before: str, start: int) -> tuple[str, str]:
    """Something new, named from `start` on, in place of what the request before was about."""
    said = _REST.sub("", re.split(r"[.!?;]", core[start:])[0])
    thing, whole = _thing(before), _MADE.search(core)
    if _FILES.search(said) or _OF_A_FILE.search(said) or _DOING.search(core[:start]):
        return text, ""
    if whole:
        return core[whole.start() :], "own"
    return (before[:thing] + said, "thing") if thing and _INSTEAD.search(text.strip()) else (text, "")


def _another_kind(text: str, core: str, before: str, made: str, tools: Collection[str]) -> tuple[str, str]:
    """A clip, the sound or a picture of what the request before was about."""
    thing = _thing(before)
    others = [k for k, words in _MEANS_OF.items() if words.search(core) and k != made]
    if not thing or not others:
        return text, ""
    kind = others[0]
    if kind == "video" and made == "image" and "image-to-video" in tools:
        return text, ""
    what = _BEHIND.sub("", before[thing:].rstrip(".!? "))
    if made == "audio":
        what = re.split(r" (?:playing|making|ringing)\b", what)[0]
    return f"{_SAID[kind]} {what}", kind


def _about_a_file(before: str) -> bool:
    """Whether a request was about something that was there; "draw a cat and describe it" makes what it speaks of."""
    found, thing = _OF_A_FILE.search(before), _thing(before)
    return found is not None and not 0 < thing < found.start()


def _thing(before: str) -> int:
    """Where in a request the thing begins that it is about; 0 where that is not to be seen."""
    found = _THING.search(before)
    if found and not _DOING.search(before[: found.start()]):
        return found.start()
    found = _AFTER.match(before)
    return found.end() if found else 0


def _named(text: str, before: str) -> str:
    """What stands for a thing replaced by the thing: "make a clip of it" after "draw a cat"."""
    thing = _thing(before)
    if not thing or _OF_A_FILE.search(before):
        return text
    what = before[thing:].rstrip(".!? ")
    return re.sub(r"\b(?:of|from) (?:it|this|that|them)\b", f"of {what}", text, count=1)


def _core(text: str) -> str:
    """Without what is only said for politeness, before and behind."""
    core = re.sub(r"[.!?]+$", "", text.strip())
    while (less := _BEHIND.sub("", _BEFORE.sub("", core, 1), 1)) != core:
        core = less
    return core


def _tinted(core: str, before: str) -> str:
    found = _TINTED.fullmatch(core)
    return _hued(before, found[1].lower()) if found else ""


def _hued(before: str, colour: str) -> str:
    """The first thing in another colour."""
    if re.search(rf"\b{_COLOUR}\b", before, re.I):
        return _swapped(before, colour, _COLOUR, "")
    start = _thing(before)
    if not start:
        return f"{before} in {colour}"
    counted = re.match(rf"{_COUNT}\s+", before[start:], re.I)
    end = start + (counted.end() if counted else 0)
    return _articles(f"{before[:end]}{colour} {before[end:]}", start)


def _styled(core: str, before: str) -> str:
    found = _STYLED.fullmatch(core)
    return f"{re.sub(rf',? (?:in|as|like) {_STYLE}$', '', before, flags=re.I)} {found[1]}" if found else ""


def _added(core: str, before: str) -> str:
    found = _ADDED.fullmatch(core)
    return f"{before} {found[1]}" if found and not _FILES.search(found[1]) else ""


def _other(core: str, before: str) -> str:
    found, thing = _OTHER.fullmatch(core), _thing(before)
    new = (found[1] or found[2]) if found else ""
    return before[:thing] + new if thing and new and not _FILES.search(new) else ""


_CHANGES = {"colour": _tinted, "style": _styled, "more": _added, "thing": _other}


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
