# ruff: noqa: E501, SIM905  # a pattern is easier to follow in one line
"""What an instruction to change a picture means: free wording in, operations out.

    parse("make it black and white, then turn it 90 degrees to the left")
    [Operation("grayscale"), Operation("rotate", degrees=-90.0)]

Operations come in the order in which they are said. A clause that is not understood is an error, and
so is one that would change a part of the picture only ("blur the background"): doing something else
than what was asked is worse than doing nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import ExpertError

CAN = (
    "grayscale, blur (a little, a lot), find edges, rotate (90 degrees left), flip or mirror, invert colours, "
    "crop (the top half, to a square, to 200x100), resize (to 200x100, half the size, 3 times bigger)"
)
THUMBNAIL = 128


@dataclass(frozen=True)
class Operation:
    """One change: `name` is a function of `classic.OPERATIONS`, `values` its keyword arguments."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


Build = Callable[[re.Match[str]], Operation]

_NUMBER_WORDS = {
    "a quarter": "25%", "one quarter": "25%", "a third": "33.333%", "one third": "33.333%", "two thirds": "66.667%",
    "three quarters": "75%", "one hundred and eighty": "180", "one hundred eighty": "180", "two hundred seventy": "270",
    "forty-five": "45", "forty five": "45", "ninety": "90", "thirty": "30", "sixty": "60", "fifty": "50",
    "hundred": "100", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "ten": "10", "twenty": "20",
}  # fmt: skip
_N = r"(\d+(?:\.\d+)?)"
_COLOUR = r"colou?rs?"
_LEFT = r"(?:to (?:the )?|towards? the )?(?:left|counter[- ]?clockwise|anti[- ]?clockwise|ccw)"
_RIGHT = r"(?:to (?:the )?|towards? the )?(?:right|clockwise|cw)"
_IT = r"(?:\s+(?:it|this|that|the|my|your|its|picture|image|photo|photograph|pic|drawing|screenshot|whole|by|around))*"
_AREA = r"((?:top|upper|bottom|lower)[- ](?:left|right)|top|upper|bottom|lower|left|right|cent(?:re|er)|middle)"
_PART = r"(half|third|quarter|\d+(?:\.\d+)? ?(?:%|percent|per cent|pixels|px))"
_BIGGER = r"(?:bigger|larger|as (?:big|large)|the size|its size|size|up|in size|enlarged)"
_STRENGTHS = (
    (r"\b(?:a lot|very|heavily|strongly|strong|heavy|really|extremely|completely|much)\b", 3.0),
    (r"\b(?:a (?:little|bit)|slightly|slight|lightly|light|gently|gentle|softly|somewhat)\b", 0.4),
)
_FILLER = frozenset(
    "a all an and again also as at be by can colour color could do first finally for from give have hello hi i i'd image in "
    "into is it its just kindly like look make me my next now of on once one out photo photograph pic picture please "
    "result save second see show so that the then this to turn use want with set small tiny some would you your attached file png jpg jpeg "
    "after afterwards apply effect filter version new want thanks thank very much need lastly transform change convert edit".split()
)
_PICTURE = re.compile(r"\b(?:picture|image|photo|photograph|pic|drawing|screenshot|scan|portrait|selfie)s?\b")
_PART_OF_PICTURE = re.compile(
    r"\b(?:background|foreground|faces?|eyes?|sky|person|people|man|woman|text|words?|logo|plates?|object|except|style)\b"
)
_BREAK = re.compile(r"\s*(?:,|;|\.(?=\s|$)|!|\n|&|\band then\b|\bthen\b|\band\b|\bafter that\b|\bafterwards\b|\balso\b)\s*")


def parse(text: str) -> list[Operation]:
    """The operations of an instruction; ExpertError says which words were not understood and what can be done."""
    said = _plain(text)
    found = _matches(said)
    if odd := _not_understood(said, found):
        raise ExpertError(f"'{odd}' is nothing that can be done to a picture here; possible are {CAN}.")
    if not found:
        raise ExpertError(f"'{text.strip()[:80]}' names no change to a picture; possible are {CAN}.")
    return [operation for _, _, operation in found]


def _not_understood(said: str, found: list[tuple[int, int, Operation]]) -> str | None:
    """The first clause with words left over that no operation explains."""
    rest = list(said)
    for start, end, _ in found:
        rest[start:end] = ["\0"] + [" "] * (end - start - 1)
    begin = 0
    for gap in [*_BREAK.finditer("".join(rest)), None]:
        end = gap.start() if gap else len(said)
        clause, words = "".join(rest[begin:end]), re.findall(r"[^\s\0'\"()?:-]+", "".join(rest[begin:end]))
        left = [w for w in words if w not in _FILLER]
        whole = "\0" in clause and _PICTURE.search(clause) and not _PART_OF_PICTURE.search(clause)
        if left and not whole:
            return said[begin:end].strip()
        begin = gap.end() if gap else end
    return None


def _plain(text: str) -> str:
    text = re.sub(r"\S+\.(?:png|jpe?g|webp|gif|bmp|tiff?)\b", "picture", text, flags=re.I)
    said = " ".join(text.lower().replace("×", "x").replace("°", " degrees ").replace("’", "'").split())
    for words, digits in _NUMBER_WORDS.items():
        said = re.sub(rf"\b{words}\b(?! (?:turn|rotation))", digits, said)
    return re.sub(r"(?<=\d)%", " percent", said).replace("per cent", "percent")


def _matches(said: str) -> list[tuple[int, int, Operation]]:
    """Every operation with its place, from left to right; of two that overlap the earlier, then the longer."""
    hits = [(m.start(), -m.end(), n, b(m)) for n, (p, b) in enumerate(_PATTERNS) for m in p.finditer(said)]
    chosen: list[tuple[int, int, Operation]] = []
    for start, minus_end, _, operation in sorted(hits, key=lambda h: h[:3]):
        if not chosen or start >= chosen[-1][1]:
            before = chosen[-1] if chosen else None
            if before and before[2].name == operation.name and not _BREAK.search(said[before[1] : start]):
                start = chosen.pop()[0]  # "rotate the cat picture 90 degrees": the second says what the first left open
            chosen.append((start, -minus_end, operation))
    return chosen


def _clause(m: re.Match[str]) -> str:
    """The clause around a match."""
    before = [b.end() for b in _BREAK.finditer(m.string, 0, m.start())]
    after = _BREAK.search(m.string, m.end())
    return m.string[before[-1] if before else 0 : after.start() if after else len(m.string)]


def _fixed(name: str, **values: Any) -> Build:
    return lambda m: Operation(name, values)


def _strength(m: re.Match[str]) -> Operation:
    """Blur: how much is said anywhere in the clause; a number is the radius in pixels."""
    if number := re.search(rf"(?:radius(?: of)?|by) {_N}|{_N} ?(?:px|pixels?)", m.group(0)):
        return Operation("blur", {"radius": float(number.group(1) or number.group(2))})
    for pattern, amount in _STRENGTHS:
        if re.search(pattern, _clause(m)):
            return Operation("blur", {"amount": amount})
    return Operation("blur", {"amount": 1.0})


def _rotation(m: re.Match[str]) -> Operation:
    """Clockwise in degrees. Without a number a quarter turn, without a direction clockwise."""
    said = m.group(0)
    number = re.search(rf"-?{_N}", said)
    degrees = float(number.group(0)) if number else 180.0 if "half" in said else 90.0
    left = re.search(r"\b(?:left|counter[- ]?clockwise|anti[- ]?clockwise|ccw)\b", _clause(m))
    return Operation("rotate", {"degrees": -degrees if left else degrees})


def _crop_area(m: re.Match[str]) -> Operation:
    """Keeps an area, or with "cut off", "remove" and the like what is left without it."""
    off = bool(re.match(r"cut(?! out)|trim|remove|chop|crop (?:off|out|away)|take (?:off|away)", m.group(0)))
    area, part = m.group("area"), m.group("part")
    area = area.replace("upper", "top").replace("lower", "bottom").replace("-", " ").replace("middle", "centre")
    return Operation("crop", {"area": area.replace("center", "centre"), "off": off, **_share(part)})


def _crop_sides(m: re.Match[str]) -> Operation:
    side = m.group("side").split()[-1].rstrip("s")
    area = {"edge": "all", "border": "all", "side": "all", "around": "all", "upper": "top", "lower": "bottom"}.get(side, side)
    return Operation("crop", {"area": area, "off": True, **_share(m.group("part"))})


def _share(part: str | None) -> dict[str, float]:
    """A share of the picture, or a count of pixels."""
    number = re.match(_N, part or "half")
    if number is None:
        return {"share": {"half": 1 / 2, "third": 1 / 3, "quarter": 1 / 4}[part or "half"]}
    if part and "p" in part and "percent" not in part:  # px, pixels
        return {"pixels": float(number.group(1))}
    return {"share": float(number.group(1)) / 100}


def _size(name: str) -> Build:
    return lambda m: Operation(name, {"width": int(m.group(1)), "height": int(m.group(2))})


def _factor(m: re.Match[str]) -> Operation:
    return Operation("resize", {"factor": float(m.group(1))})


def _percent_more(m: re.Match[str]) -> Operation:
    less = m.group(2) in ("smaller", "less")
    return Operation("resize", {"factor": 1 + (-1 if less else 1) * float(m.group(1)) / 100})


def _one_side(m: re.Match[str]) -> Operation:
    number = next(g for g in m.groups() if g)
    tall = re.search(r"\b(?:high|tall|height)\b", m.group(0))
    return Operation("resize", {"height" if tall else "width": int(float(number))})


def _longest(m: re.Match[str]) -> Operation:
    return Operation("resize", {"longest": int(float(m.group(1)))})


_PIXELS = r"(?: ?(?:px|pixels?))?"
_RESIZE = rf"(?:re[- ]?size|re[- ]?scale|scale|shrink|enlarge|reduce|blow|increase|decrease|grow|magnify|zoom)(?:d|s)?{_IT}(?: down| up)?{_IT}"
_PATTERNS: list[tuple[re.Pattern[str], Build]] = [
    (re.compile(pattern), build)
    for pattern, build in (
        # grayscale
        (r"\bblack[- ](?:and|&|n)[- ]white\b|\bb ?& ?w\b|\bb/w\b|\bgr[ae]y[- ]?(?:scale|tones?)\b|(?<!the )\bgr[ae]y\b", _fixed("grayscale")),
        (rf"\bmonochrom\w*|\bdesaturat\w*|\b(?:remove|without|drop|take out|no)(?: all| any)?(?: the| its)? {_COLOUR}\b", _fixed("grayscale")),
        (r"\bcolou?rless\b|\bshades of gr[ae]y\b", _fixed("grayscale")),
        # invert
        (rf"\brevers\w*{_IT} {_COLOUR}\b|\b(?:invert\w*|invers\w*|negate){_IT}(?: {_COLOUR})?\b|\b(?:a )?(?:photo(?:graphic)? |film )?negative\b", _fixed("invert")),
        (rf"\bopposite {_COLOUR}\b", _fixed("invert")),
        # blur: what says how much may stand before or after
        (
            r"(?:\b(?:slight(?:ly)?|heav(?:y|ily)|strong(?:ly)?|really|very|a (?:bit|little)|light(?:ly)?|gentl[ey]|extremely|much|more) )*"
            rf"\b(?:blur\w*|out of focus|soften\w*|defocus\w*|gaussian blur)\b{_IT}"
            r"(?: (?:a (?:lot|bit|little)|very much|slightly|heavily|strongly|lightly|gently|completely|somewhat|"
            rf"(?:with )?(?:a )?radius(?: of)? {_N}|by {_N}|{_N} ?(?:px|pixels?)))?",
            _strength,
        ),
        # edges
        (r"\b(?:find|detect|show|extract|trace|highlight|draw|only|keep|see)?(?: only| just)?(?: the| its| all)*\s*\b(?:edges?|outlines?|contours?)\b(?: detect\w+| map| filter| only)?", _fixed("edges")),
        (r"\bcanny\b|\bline drawing\b", _fixed("edges")),
        # flips and rotations
        (rf"\b(?:flip|mirror)\w*{_IT} (?:vertical(?:ly)?|upside[- ]down|top to bottom|on its head)\b|\bvertical (?:flip|mirror\w*)\b|\bvertically\b", _fixed("flip", vertical=True)),
        (rf"\b(?:flip|mirror)\w*{_IT}(?: (?:image|horizontal(?:ly)?|left to right|sideways|left and right))?|\bhorizontal (?:flip|mirror\w*)\b|\bhorizontally\b", _fixed("flip", vertical=False)),
        (rf"(?:\b(?:turn|rotate|put|stand)\w*{_IT}\s+)?\b(?:upside[- ]down|on its head|bottom up)\b", _fixed("rotate", degrees=180.0)),
        (
            rf"\b(?:rotat(?:e[ds]?|ing|ion)|turn(?:ed|ing)?|spin|tilt)\b{_IT}(?: (?:{_LEFT}|{_RIGHT}))?{_IT}(?: of)? "
            rf"-?{_N}(?: ?(?:degrees?|deg))?(?: (?:{_LEFT}|{_RIGHT}))?",
            _rotation,
        ),
        (rf"-?{_N} ?(?:degrees?|deg)\b(?: (?:{_LEFT}|{_RIGHT}))?(?: rotation| turn)?(?: (?:{_LEFT}|{_RIGHT}))?", _rotation),
        (rf"\b(?:rotat(?:e[ds]?|ing|ion)|turn(?:ed|ing)?|spin|tilt)\b{_IT} (?:{_LEFT}|{_RIGHT}|sideways|on its side)\b", _rotation),
        (rf"\b(?:a )?(?:quarter|half)[- ](?:turn|rotation)(?: (?:{_LEFT}|{_RIGHT}))?|\brotate\b{_IT}", _rotation),
        # crops
        (r"\bcrop\w*(?: (?:it|this|the|my|picture|image|photo|down|out))*(?: (?:to|into|as|in))?(?: a| the)?(?: (?:cent(?:re|er|ral|red|ered)|middle))?[- ]?square\b|\b(?:a|into|to a) (?:cent(?:red|ered|re|er|ral) )?square\b|\bsquare crop\b|\bmake it square\b", _fixed("crop", square=True)),
        (rf"\bcrop\w*{_IT}(?: (?:to|into|down to))?(?: the)?(?: (?:cent(?:re|er|ral)|middle))? {_N} ?(?:x|by) ?{_N}{_PIXELS}", _size("crop")),
        (rf"\b(?:crop|cut|trim|remove|chop|take)\w*(?: off| away| out)? (?P<part>{_PART[1:-1]}) (?:from|off|of)(?: the)? (?P<side>(?:each |all |every )?(?:sides?|edges?|borders?|around)|top|upper|bottom|lower|left|right)(?: side| edge)?", _crop_sides),
        (
            rf"\b(?:crop\w*(?: (?!and\b|then\b)[\w']+){{0,4}}?|(?:cut|trim|remove|chop|keep|take|extract)\w*)(?: (?:it|this|picture|image|photo|off|out|away|only|just|down|to|the|a|into|my))*"
            rf" (?P<area>{_AREA[1:-1]})(?:[- ](?:side|part|portion|area|edge|corner))?(?: (?P<part>{_PART[1:-1]}))?(?: of (?:it|the (?:picture|image|photo)))?",
            _crop_area,
        ),
        # sizes
        (rf"(?:\b{_RESIZE}\s*(?:to|into)?(?: (?:a|the))?(?: size of)? |\bto |\bin |\bmake it )?\b{_N} ?(?:x|by|times|\*) ?{_N}{_PIXELS}(?!\.?\d)", _size("resize")),
        (rf"(?:\b{_RESIZE} )?(?:\bto )?(?:be )?(?:\ba )?{_N}{_PIXELS} (?:wide|in width|width|high|tall|in height|height)\b", _one_side),
        (rf"(?:\b{_RESIZE} )?(?:\b(?:to|with) )?(?:\b(?:a|the|its) )?\b(?:width|height)(?: of| to| is| =)? {_N}{_PIXELS}", _one_side),
        (rf"\b{_RESIZE}\s*(?:to|down to|up to) {_N} ?percent(?: of (?:its|the)(?: original)? size)?|\b{_N} ?percent (?:of )?(?:its|the)(?: original)? size\b", lambda m: Operation("resize", {"factor": float(m.group(1) or m.group(2)) / 100})),
        (rf"\b(?:{_RESIZE}\s*(?:by )?)?{_N} ?percent (bigger|larger|smaller|less)\b", _percent_more),
        (rf"\b(?:shrink|reduce|decrease|scale{_IT} down){_IT}(?: in size)?(?: by)? {_N} ?percent\b", lambda m: Operation("resize", {"factor": 1 - float(m.group(1)) / 100})),
        (rf"\b(?:enlarge|increase|grow|scale{_IT} up|magnify){_IT}(?: in size)?(?: by)? {_N} ?percent\b", lambda m: Operation("resize", {"factor": 1 + float(m.group(1)) / 100})),
        (rf"(?:\b{_RESIZE} )?\b{_N} ?(?:x|times) (?:smaller|less)\b|\b(?:shrink|reduce){_IT} (?:by )?(?:a factor of )?{_N}(?: ?x| times)?(?! ?(?:percent|px|pixels|x|by|\d))\b", lambda m: Operation("resize", {"factor": 1 / max(float(m.group(1) or m.group(2)), 1e-9)})),
        (rf"(?:\b{_RESIZE} )?(?:by )?\b{_N} ?(?:x|times)(?: {_BIGGER}\b| (?:its|the)(?: original)? size)?(?! ?\d)", _factor),
        (rf"\b(?:re[- ]?scale|scale|resize|enlarge|magnify|zoom)\w*{_IT}(?: up| down| in)?{_IT} (?:by )?(?:a factor of )?(\d+(?:\.\d+)?)(?! ?(?:percent|px|pixels|x|by|\d))\b", _factor),
        (rf"\b(?:twice|double\w*)(?: {_BIGGER}| (?:its|the)(?: original)? size)?{_IT}(?: size)?\b", _fixed("resize", factor=2.0)),
        (rf"\b(?:triple\w*){_IT}(?: size)?\b", _fixed("resize", factor=3.0)),
        (rf"(?:\b{_RESIZE}\s*(?:to |by |in )?(?:the )?)?\bhalf(?:[- ](?:of )?(?:(?:its|the)(?: original)? )?(?:size|as (?:big|large)|scale))|\b{_RESIZE}\s*(?:to |by |in )?half\b|\bhalve\w*{_IT}(?: size)?\b", _fixed("resize", factor=0.5)),
        (rf"\b{_RESIZE}\s*(?:to|so that it fits)(?: in| into)? {_N}{_PIXELS}(?! ?(?:percent|x|by|wide|high|tall|\d))\b", _longest),
        (r"\b(?:a )?thumb(?:nail|-nail)?s?\b|\bicon\b", _fixed("resize", longest=THUMBNAIL, shrink_only=True)),
        (r"\b(?:shrink|smaller|reduce|scale (?:it |this )?down|downsize|downscale)\w*\b(?: (?:it|this|the (?:picture|image|photo|size)))*", _fixed("resize", factor=0.5)),
        (r"\b(?:enlarge|bigger|larger|magnify|blow up|scale (?:it |this )?up|upscale|zoom in)\w*\b(?: (?:it|this|the (?:picture|image|photo|size)))*", _fixed("resize", factor=2.0)),
    )
]  # fmt: skip
