"""Puts a graph of tools into words, as people would say it: orders, wishes, steps left unsaid.

    request, said = Words(phrases, rng, nodes, files).request()

`said` holds what stands in the request word for word, by node and argument.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...tools.contracts import Tool
from .idioms import LETTER, MARKED
from .phrases import SLOT, Capability, Phrases

QUOTED_BANKS = {"sentence", "passage", "writing_prompt", "link_text", "code"}
GENERIC = {
    "image": (
        "this picture|the picture|the attached image|this photo|my picture|the image|the photo I attached|this image|"
        "the pic|my photo|the attached picture|this|the uploaded image|the image I sent"
    ),
    "audio": (
        "this recording|the recording|the attached audio|this audio|my recording|the audio|the sound file|"
        "the audio I attached|this clip|this|the attached sound|the audio file|this sound file"
    ),
    "video": (
        "this video|the video|the attached clip|my video|the clip|this clip|the footage|the video I attached|this|"
        "the attached video|the uploaded video"
    ),
    "text": (
        "this text|the attached text|the text file|my text|the document I attached|the attached file|this|"
        "the file|the text I attached"
    ),
}
NAMED_FILE = {
    "image": "the image {}|the picture {}|the file {}|my photo {}|an image {}|image {}|the image file {}",
    "audio": "the recording {}|the audio {}|the file {}|an audio file {}|audio {}|the sound file {}|my recording {}",
    "video": "the video {}|the clip {}|the file {}|a video file {}|video {}|my video {}|a video {}",
    "text": "the text {}|the file {}|my notes {}|the text file {}|the document {}",
}
PRONOUNS = "it|it|it|that|the result|this|the output|what you get|the outcome"
BY_TYPE = {
    "image": "the image|the picture|the resulting image|that picture|the new image|the resulting picture",
    "audio": "the audio|the sound|the resulting audio|that recording|the audio you made",
    "video": "the video|the clip|the resulting video|that clip|the new video",
    "text": "the text|the resulting text|that text|the output text",
    "url": "the link|the url|that link",
}
WANT_THING = (
    "give me {}|I want {}|I need {}|I'd like {}|get me {}|show me {}|produce {}|please provide {}|can I have {}|"
    "let me have {}|create {}|generate {}|i want to have {}|return {}|I would like to get {}|send me {}"
)
OPENERS = (
    "please |can you |could you |could you please |hey, |hi, |hello! |I'd like you to |I want you to |help me |"
    "would you |kindly |pls |can u |ok, |I need you to |your task: |hey can you |now |so, |quick one: |"
    "I would like you to |would you be able to |I'm trying to "
)
CLOSERS = " please| thanks| pls| thank you|, thanks!| asap|, please|. Thanks!|. thank you in advance|, will you?"
LINKS = (
    ", then {}| and then {}| and {}|, and {}|, and then {}|. Then {}|. After that, {}|. Next, {}|; {}|, {}|"
    ". Then, {}|, after that {}|. Once that is done, {}|. Afterwards {}|. {}|. And {}| then {}|. Subsequently, {}"
)
ALSO = (
    " and also {}|. Also {}|, and separately {}|. Besides, {}|. Separately, {}| and {}|. Apart from that, {}|"
    ", also {}|. Additionally, {}|. Furthermore, {}| plus {}"
)
LAST = ", and finally {}|. Finally, {}|. In the end, {}|, and lastly {}|. At last {}|. Lastly, {}"
INTROS = (
    "I have {}. |I've got {}. |There's {}. |Here is {}. |I have {}, |Given {}, |Attached is {}. |i have {} - |"
    "Using {}, |With {}, "
)
PLURALS = {
    "image": "pictures|images|photos|pics",
    "audio": "recordings|voice notes|voice memos|audio files|clips",
    "video": "videos|clips",
    "text": "texts|files|text files",
}
PAIRS = (
    "do {} say the same?",
    "do {} mean the same thing? give me a score",
    "are {} saying the same thing",
    "is what {} say alike?",
    "how alike are {} in what they say?",
    "how similar is the content of {}?",
    "compare {} for what they say",
    "compare the content of {}",
    "compare {} and give me a similarity score",
    "check whether {} say the same thing",
    "tell me how close {} are in meaning",
    "tell me if {} are about the same thing",
    "rate how similar the words of {} are",
    "find out if {} carry the same message",
)


def _pick(rng: random.Random, choices: str) -> str:
    return rng.choice(choices.split("|"))


@dataclass
class Node:
    """One task of a graph that is to be worded: where each argument comes from."""

    tool: Tool
    capability: Capability
    values: list[tuple[str, Any]] = field(default_factory=list)  # (file|said|ref|missing, what)


class Words:
    """Words for one graph. File names and quoted content are held out until all styling is done."""

    def __init__(self, phrases: Phrases, rng: random.Random, nodes: list[Node], files: Mapping[str, str]):
        self.phrases = phrases
        self.rng = rng
        self.nodes = nodes
        self.files = files
        self.held: list[str] = []
        self.said_at: dict[tuple[int, int], int] = {}
        self.tails: list[str] = []
        self.mentioned: set[str] = set()
        self.by_name = rng.random() < 0.55
        self.quote = rng.choice(("", "", "'", "'", '"', "`"))
        self.last: int | None = None
        consumers: dict[int, list[int]] = {}
        for n, node in enumerate(nodes):
            for kind, what in node.values:
                if kind == "ref":
                    consumers.setdefault(int(what), []).append(n)
        nesting = rng.choice((0.0, 0.25, 0.6, 0.9))
        self.nested = {n for n, c in consumers.items() if len(c) == 1 and rng.random() < nesting}

    def request(self) -> tuple[str, dict[tuple[int, int], str]]:
        """The request, and what of it is quoted."""
        return self._styled(self._both() if self._is_twin() else self._pair() if self._is_pair() else self._sentences())

    def idiom(
        self, phrase: str, order: bool, places: Sequence[tuple[int, tuple[int, int]]]
    ) -> tuple[str, dict[tuple[int, int], str]]:
        """The same from a phrase of idioms.py. `places`: which node's argument the n-th [[ ]] is (or are)."""
        marks: list[int] = []

        def mark(match: re.Match[str]) -> str:
            inside = match.group(1)
            mark = self.rng.choice(("", "", "", "", "", "'", '"')) if inside.startswith("{~") else ""
            mark = "" if {"'", '"'} & {phrase[match.start() - 1 : match.start()]} else mark
            marks.append(len(self.held))
            return mark + self._hold(self._fill(inside, {})) + mark

        text = self._fill(MARKED.sub(mark, phrase), {})
        names = dict(zip("ABCD", self.files, strict=False))
        text = LETTER.sub(lambda m: self._file(names[m.group(1)], m.group(2) or ""), text)
        self.said_at |= {place: marks[n] for n, place in places}
        text = self._open(text, order)
        if self.rng.random() < 0.08 and not text.endswith(("?", "!", "\x02")) and "please" not in text:
            text = text.rstrip(".") + _pick(self.rng, CLOSERS)
        return self._styled(text)

    def _styled(self, text: str) -> tuple[str, dict[tuple[int, int], str]]:
        """With typos, in lower case or with a full stop at the end, and the held pieces put in."""
        rng = self.rng
        if rng.random() < 0.07:
            text = self._typo(text)
        lower = rng.random() < 0.16
        if lower:
            text = text.lower()
            self.held = [h if h in self.files else h.lower() for h in self.held]
        elif rng.random() < 0.9:
            text = text[:1].upper() + text[1:]
            text = re.sub(r"([.!?] )([a-z])", lambda m: m.group(1) + m.group(2).upper(), text)
        if not text.rstrip().endswith((".", "?", "!", "\x02")) and rng.random() < 0.55:
            text += "."
        said = {at: self.held[n] for at, n in self.said_at.items()}
        return re.sub("\x01(\\d+)\x02", lambda m: self.held[int(m.group(1))], text), said

    # -- sentences ------------------------------------------------------------------------------

    def _is_twin(self) -> bool:
        """Whether it is one tool on two files, with the same words for the rest if there is any."""
        if len(self.nodes) != 2 or self.nodes[0].tool is not self.nodes[1].tool:
            return False
        one, two = (n.values for n in self.nodes)
        return one[0][0] == two[0][0] == "file" and one[0] != two[0] and one[1:] == two[1:]

    def _is_pair(self) -> bool:
        """Whether two files are read and what is in them is compared."""
        if len(self.nodes) != 3 or self.nodes[0].tool is not self.nodes[1].tool or self.rng.random() < 0.35:
            return False
        if any(n.values[0][0] != "file" for n in self.nodes[:2]):
            return False
        return self.nodes[2].capability.key == "text_similarity" and self.nodes[2].values == [("ref", 0), ("ref", 1)]

    def _two(self) -> str:
        """Two files of a kind in words: 'both pictures', 'each of these', 'a.png and b.png'."""
        first, second = (str(n.values[0][1]) for n in self.nodes[:2])
        kind = self.nodes[0].capability.inputs[0]
        if self.rng.random() < 0.5 or sum(k == kind for k in self.files.values()) != 2:
            return f"{self._name(first)} and {self._name(second)}"
        noun = _pick(self.rng, self._nouns() or PLURALS.get(kind, "files"))
        form = "both {}|both of these {}|these two {}|the two {}|each of these {}|each of the {}|my two {}|both"
        return _pick(self.rng, form).format(noun)

    def _nouns(self) -> str:
        """What the files of the first node could be called, as plurals: 'voice notes|interviews'."""
        found = {m.group(2) for p in self.nodes[0].capability.implied for m in SLOT.finditer(p) if m.group(2)}
        return "|".join(sorted(n + "s" for n in found if not n.endswith(("s", "h", "y"))))

    def _both(self) -> str:
        c = self.nodes[0].capability
        slots = {0: self._two()}
        if len(self.nodes[0].values) > 1:
            slots[1] = self._slot(0, 1)
            self.said_at[(1, 1)] = self.said_at[(0, 1)]
        phrase = self.rng.choice((*c.do, *c.want) if self.rng.random() < 0.4 else c.do)
        text = self._fill(phrase, slots) + "".join(self.tails)
        return self._open(text, phrase in c.do)

    def _pair(self) -> str:
        phrase = self.rng.choice(PAIRS)
        return self._open(phrase.format(self._two()), not phrase.startswith(("do ", "are ", "is ", "how ")))

    def _sentences(self) -> str:
        rng = self.rng
        clauses = [n for n in range(len(self.nodes)) if n not in self.nested]
        style = rng.choices(("flow", "steps", "numbered", "terse"), (60, 28, 6, 6))[0]
        parts = [self._clause(n, i == 0, i == len(clauses) - 1) for i, n in enumerate(clauses)]
        opened = self._open(parts[0][0], parts[0][1])
        if style == "numbered" and len(parts) > 1:
            marks = rng.choice((("1. ", "2. ", "3. ", "4. ", "5. "), ("1) ", "2) ", "3) ", "4) ", "5) ")))
            return " ".join(m + p[0] for m, p in zip(marks, parts, strict=False))
        if style == "terse" and len(parts) > 1:
            return rng.choice((" -> ", "; ", ", ", " + ", " & ")).join(p[0] for p in parts)
        text = opened
        for i, n in enumerate(clauses[1:], 1):
            linked = any(k == "ref" for k, _ in self.nodes[n].values)
            links = LINKS if linked else ALSO
            if i == len(clauses) - 1 and i > 1 and linked and rng.random() < 0.4:
                links = LAST
            link = _pick(rng, links)
            sentence = parts[i][0]
            if style == "steps" or not parts[i][1] or (text.endswith("\x02") and rng.random() < 0.7):
                link = link if link.startswith(". ") else ". {}"
                link = link if rng.random() < 0.6 else ". {}"
            text = text.rstrip(".!") if link.startswith(".") and not text.endswith("?") else text
            if text.endswith("?") and link.startswith("."):
                link = link[1:]
            if link.startswith(". {") and rng.random() < 0.2 and parts[i][1]:
                sentence = _pick(rng, "please {}|I'd like you to {}|can you {}|I also want you to {}").format(sentence)
            text += link.format(sentence)
        if rng.random() < 0.1 and not text.endswith(("?", "\x02")):
            text = text.rstrip(".") + _pick(rng, CLOSERS)
        return text

    def _open(self, clause: str, imperative: bool) -> str:
        if imperative and self.rng.random() < 0.42:
            opener = _pick(self.rng, OPENERS)
            closing = "?" if opener.startswith(("can", "could", "would")) and self.rng.random() < 0.5 else ""
            alone = len(self.nodes) - len(self.nested) == 1
            return opener + clause + (closing if alone else "")
        return clause

    def _clause(self, n: int, first: bool, last: bool) -> tuple[str, bool]:
        """The words for node n and all nested below it, and whether they are an imperative."""
        rng = self.rng
        node = self.nodes[n]
        c = node.capability
        self.tails = []
        imperative = True
        intro = ""
        kind, what = node.values[0]
        if first and kind == "file" and c.have and rng.random() < 0.25:
            intro = self._intro(c, str(what))
            if len(node.values) == 1 and c.have_then and rng.random() < 0.5:
                self.last = n
                sentence = rng.choice(c.have_then)
                return intro + self._fill(sentence, {}), False
        elliptic = (
            not first
            and kind == "ref"
            and int(what) == self.last
            and len(node.values) == 1
            and int(what) not in self.nested
            and c.have_then
        )
        if elliptic and rng.random() < 0.25:
            self.last = n
            return self._fill(rng.choice(c.have_then), {}), True
        form = rng.choices(("do", "want", "thing"), (62, 14 if first or last else 4, 24))[0]
        other = bool(c.do_ref) and kind != "said"
        if c.key == "speak_text" and kind == "ref" and int(what) in self.nested and rng.random() < 0.3:
            return self._aloud(n, int(what)), True
        splits = c.do_split if kind in ("file", "ref") and len(node.values) == 2 and node.values[1][0] == "said" else ()
        asks = c.ask if self._only_file(n) else ()
        if asks and rng.random() < 0.45:
            text = self._split(n, rng.choice(asks))
            imperative = not text.startswith("\x01")
        elif splits and rng.random() < 0.5:
            text = self._split(n, rng.choice(splits))
        elif form == "thing":
            things = c.thing_ref if other and c.thing_ref else c.thing
            text = _pick(rng, WANT_THING).format(self._say(n, rng.choice(things)))
            imperative = not text.startswith(("I ", "i ", "I'", "can I"))
        else:
            form = "do" if other else form
            phrase = rng.choice(c.do_ref if other else c.do if form == "do" else c.want)
            imperative = form == "do"
            text = self._say(n, phrase)
        self.last = n
        tail = "".join(self.tails)
        if intro and imperative and rng.random() < 0.4:
            text = _pick(rng, "please {}|I want you to {}|can you {}|I'd like to {}").format(text)
        return intro + text + tail, imperative and not intro

    def _aloud(self, n: int, k: int) -> str:
        """The implicit chain: 'describe this picture out loud'."""
        node = self.nodes[k]
        self.last = n
        kind = node.values[0][0]
        phrases = node.capability.do_ref if node.capability.do_ref and kind != "said" else node.capability.do
        text = self._say(k, self.rng.choice(phrases))
        how = _pick(self.rng, " out loud| aloud| out loud| in a spoken voice|, spoken| as audio| and say it")
        return text + how + "".join(self.tails)

    def _intro(self, c: Capability, file: str) -> str:
        have = self._fill(self.rng.choice(c.have), {})
        quoted = self._name(file) if self.by_name else ""
        if not quoted:
            have = re.sub(r"\s*\{f\}", "", have)
        self.mentioned.add(file)
        intro = _pick(self.rng, INTROS).format(have.replace("{f}", quoted))
        return re.sub(r"\s+([.,])", r"\1", intro)

    def _only_file(self, n: int) -> bool:
        """Whether a question about 'this' can only mean this node's file."""
        values = self.nodes[n].values
        if values[0][0] != "file" or len(values) != 2 or values[1][0] != "said":
            return False
        kind = self.files[str(values[0][1])]
        return sum(k == kind for k in self.files.values()) == 1

    def _split(self, n: int, phrase: str) -> str:
        """A clause with the second argument inline: 'make {0} [[black and white]]', '[[when is this due?]]'."""
        nouns = {int(m.group(1)): m.group(2) for m in SLOT.finditer(phrase) if m.group(1).isdigit() and m.group(2)}
        phrase = self._fill(phrase, {0: self._slot(n, 0, nouns.get(0, ""))} if "{0" in phrase else {})
        inline = re.search(r"\[\[(.+?)\]\]", phrase)
        if inline is None:
            return phrase
        self.said_at[(n, 1)] = len(self.held)
        return phrase.replace(inline.group(0), self._hold(inline.group(1)))

    # -- slots ----------------------------------------------------------------------------------

    def _say(self, n: int, phrase: str) -> str:
        """A phrase with all of its node's arguments put in."""
        nouns = {int(m.group(1)): m.group(2) for m in SLOT.finditer(phrase) if m.group(1).isdigit() and m.group(2)}
        values = range(len(self.nodes[n].values))
        return self._fill(phrase, {slot: self._slot(n, slot, nouns.get(slot, "")) for slot in values})

    def _slot(self, n: int, slot: int, noun: str = "") -> str:
        kind, what = self.nodes[n].values[slot]
        if kind == "file":
            return self._file(str(what), noun)
        if kind == "missing":
            return _pick(self.rng, GENERIC[str(what)])
        if kind == "ref":
            return self._result(int(what))
        text, bank = what
        return self._said(n, slot, text, bank)

    def _said(self, n: int, slot: int, text: str, bank: str) -> str:
        rng = self.rng
        self.said_at[(n, slot)] = len(self.held)
        quoted = bank in QUOTED_BANKS or bank == "url"
        if bank == "passage" or (quoted and bank != "url" and rng.random() < 0.3):
            mark = rng.choice(('"', "'", "", '"'))
            self.tails.append(": " + mark + self._hold(text) + mark)
            return _pick(rng, "this|the following|the following text|this text|the text below")
        mark = rng.choice(('"', "'", '"', "'", "")) if quoted else rng.choice(("", "", "", "", "", "'", '"'))
        return mark + self._hold(text) + mark

    def _file(self, name: str, noun: str = "") -> str:
        rng = self.rng
        kind = self.files[name]
        alone = sum(k == kind for k in self.files.values()) == 1
        if noun and rng.random() < 0.7:
            if self.by_name or not alone:
                return _pick(rng, f"the {noun} {{}}|{{}}|my {noun} {{}}|the {noun} in {{}}").format(self._name(name))
            self.mentioned.add(name)
            return _pick(rng, f"this {noun}|the {noun}|my {noun}|the attached {noun}|this {noun}")
        if name in self.mentioned and rng.random() < 0.6 and alone:
            return _pick(rng, "it|" + GENERIC[kind] + "|the same " + kind)
        if alone and not self.by_name:
            self.mentioned.add(name)
            return _pick(rng, GENERIC[kind])
        if not alone and not self.by_name and rng.random() < 0.5:
            same = [f for f, k in self.files.items() if k == kind]
            if len(same) == 2:
                nouns = {"image": "picture|image|photo", "audio": "recording|audio file|clip", "video": "video|clip"}
                noun = _pick(rng, nouns.get(kind, "text|file"))
                self.mentioned.add(name)
                return f"the {('first', 'second')[same.index(name)]} {noun}"
        fresh = name not in self.mentioned
        self.mentioned.add(name)
        quoted = self._name(name)
        return _pick(rng, NAMED_FILE[kind]).format(quoted) if fresh and rng.random() < 0.4 else quoted

    def _name(self, name: str) -> str:
        self.mentioned.add(name)
        return self.quote + self._hold(name) + self.quote

    def _result(self, k: int) -> str:
        rng = self.rng
        c = self.nodes[k].capability
        if k in self.nested:
            kind = self.nodes[k].values[0][0]
            if c.implied and kind == "file" and rng.random() < 0.5:
                return self._say(k, rng.choice(c.implied))
            return self._say(k, rng.choice(c.thing_ref if c.thing_ref and kind != "said" else c.thing))
        if k == self.last and rng.random() < 0.5:
            return _pick(rng, PRONOUNS)
        same = sum(n.capability.output == c.output for n in self.nodes) == 1 and c.output not in self.files.values()
        if same and rng.random() < 0.3:
            return _pick(rng, BY_TYPE.get(c.output, PRONOUNS))
        return rng.choice(c.named)

    def _fill(self, phrase: str, slots: Mapping[int, str]) -> str:
        def filler(match: re.Match[str]) -> str:
            name = match.group(1)
            if name.isdigit():
                return slots[int(name)]
            if name == "f":
                return match.group(0)
            return self.rng.choice(self.phrases.banks[name[1:]])

        return SLOT.sub(filler, phrase)

    def _hold(self, text: str) -> str:
        self.held.append(text)
        return f"\x01{len(self.held) - 1}\x02"

    def _typo(self, text: str) -> str:
        """One or two slips of the finger, never inside a name or quoted content."""
        rng = self.rng
        letters = [
            m.start() for m in re.finditer(r"(?<=[a-z])[a-z](?=[a-z])", text) if not self._inside(text, m.start())
        ]
        for at in sorted(rng.sample(letters, min(len(letters), rng.choice((1, 1, 2)))), reverse=True):
            kind = rng.randrange(3)
            if kind == 0:
                text = text[:at] + text[at + 1 :]
            elif kind == 1:
                text = text[:at] + text[at] + text[at:]
            else:
                text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        return text

    @staticmethod
    def _inside(text: str, at: int) -> bool:
        return text.count("\x01", 0, at) != text.count("\x02", 0, at)
