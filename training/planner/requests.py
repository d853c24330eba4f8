"""Writes requests: samples a graph of tools and words it as people would, out of the phrase banks.

    writer = RequestWriter(phrases, rng)
    item = writer.sample(toolbox)        # Item(request, files, plan) over the tools of a Toolbox

The plan follows from the graph, the words from the plan: what comes out is right by construction.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...controller.language import speakable
from ...controller.plan import MISSING, Plan, Task, reference
from ...tools.contracts import Tool
from .phrases import FILE_BANKS, SLOT, Capability, Phrases

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


def _pick(rng: random.Random, choices: str) -> str:
    return rng.choice(choices.split("|"))


@dataclass(frozen=True)
class Toolbox:
    """A tool list, and which capabilities each tool is asked for (mostly one)."""

    tools: tuple[Tool, ...]
    capabilities: Mapping[str, tuple[Capability, ...]]  # by tool name


@dataclass(frozen=True)
class Item:
    """A request, its files (name -> modality, in order), and its plan. `unable`: nothing fits."""

    request: str
    files: Mapping[str, str]
    plan: Plan
    unable: bool = False


@dataclass
class _Node:
    tool: Tool
    capability: Capability
    values: list[tuple[str, Any]] = field(default_factory=list)  # (file|said|ref|missing, what)


class RequestWriter:
    """Samples requests over a toolbox. One `random.Random` decides everything."""

    def __init__(self, phrases: Phrases, rng: random.Random):
        self.phrases = phrases
        self.rng = rng

    def sample(self, box: Toolbox) -> Item:
        """One request; tries again when the graph cannot be worded."""
        roll = self.rng.random()
        if roll < 0.06:
            return self._chat(box)
        if roll < 0.09 and (item := self._impossible(box)):
            return item
        for _ in range(50):
            missing = self.rng.random() < 0.03
            nodes, files = self._graph(box, missing)
            item = self._word(nodes, files, missing)
            if item is not None:
                return item
        return self._chat(box)

    # -- graphs ---------------------------------------------------------------------------------

    def _graph(self, box: Toolbox, missing: bool) -> tuple[list[_Node], dict[str, str]]:
        rng = self.rng
        size = 1 if missing else rng.choices((1, 2, 3, 4, 5), (36, 34, 18, 8, 4))[0]
        files: dict[str, str] = {}
        nodes: list[_Node] = []
        tools = list(box.tools)
        if missing:
            tools = [t for t in tools if t.params[0].modality in GENERIC and t.params[0].modality != "text"] or tools
        first = rng.choice(tools)
        self._place(box, first, nodes, files, {})
        if missing:
            node = nodes[0]
            node.values = [
                ("missing", node.capability.inputs[n]) if v[0] == "file" else v for n, v in enumerate(node.values)
            ]
            files.clear()
        if size == 2 and rng.random() < 0.12 and self._twin(box, nodes, files):
            return nodes, files
        while len(nodes) < size and self._grow(box, nodes, files):
            pass
        if rng.random() < 0.12 and not missing:
            self._file(rng.choice(("image", "audio", "video", "text")), files)
        order = list(files.items())
        rng.shuffle(order)
        return nodes, dict(order)

    def _twin(self, box: Toolbox, nodes: list[_Node], files: dict[str, str]) -> bool:
        """The same tool again on another file, for 'transcribe a.wav and b.wav'."""
        node = nodes[0]
        if len(node.values) != 1 or node.values[0][0] != "file":
            return False
        other = self._file(node.capability.inputs[0], files)
        nodes.append(_Node(node.tool, node.capability, [("file", other)]))
        return True

    def _grow(self, box: Toolbox, nodes: list[_Node], files: dict[str, str]) -> bool:
        rng = self.rng
        way = rng.choices(("chain", "branch", "join", "apart"), (68, 14, 8, 10))[0]
        used = {n.tool.name for n in nodes}
        fresh = [t for t in box.tools if t.name not in used]
        rng.shuffle(fresh)
        if way == "apart":
            if not fresh:
                return False
            self._place(box, fresh[0], nodes, files, {})
            return True
        if way == "join" and len(nodes) > 1:
            for tool in fresh:
                sources = self._sources(tool, nodes)
                if sources:
                    self._place(box, tool, nodes, files, sources)
                    return True
        source = len(nodes) - 1 if way == "chain" else rng.randrange(len(nodes))
        kind = nodes[source].capability.output
        for tool in fresh:
            slots = [n for n, p in enumerate(tool.params) if p.modality == kind and self._feeds(box, tool, n)]
            if slots:
                self._place(box, tool, nodes, files, {rng.choice(slots): source})
                return True
        return False

    @staticmethod
    def _feeds(box: Toolbox, tool: Tool, slot: int) -> bool:
        """Whether a result may go in here: not into 'how' arguments such as an instruction or a question."""
        bank = box.capabilities[tool.name][0].banks.get(slot, "")
        return not (slot > 0 and bank and bank not in ("sentence", "passage", "context_question"))

    @staticmethod
    def _sources(tool: Tool, nodes: Sequence[_Node]) -> dict[int, int]:
        if len(tool.params) < 2:
            return {}
        free = list(range(len(nodes)))
        chosen: dict[int, int] = {}
        for slot, param in enumerate(tool.params):
            match = [n for n in free if nodes[n].capability.output == param.modality]
            if not match:
                return {}
            chosen[slot] = match[-1] if slot else match[0]
            free.remove(chosen[slot])
        return chosen

    def _place(
        self, box: Toolbox, tool: Tool, nodes: list[_Node], files: dict[str, str], refs: Mapping[int, int]
    ) -> None:
        capability = self.rng.choice(box.capabilities[tool.name])
        values: list[tuple[str, Any]] = []
        for slot, param in enumerate(tool.params):
            if slot in refs:
                values.append(("ref", refs[slot]))
            elif param.modality == "url":
                values.append(("said", (self.rng.choice(self.phrases.banks["url"]), "url")))
            elif param.modality == "text" and (slot in capability.banks or self.rng.random() < 0.75):
                bank = capability.banks.get(slot) or self.rng.choice(
                    ("sentence", "sentence", "sentence", "sentence", "passage")
                )
                values.append(("said", (self.rng.choice(self.phrases.banks[bank]), bank)))
            elif param.modality in FILE_BANKS:
                same = [f for f, k in files.items() if k == param.modality]
                taken = {v for k, v in values if k == "file"}
                again = [f for f in same if f not in taken]
                if again and self.rng.random() < 0.6:
                    values.append(("file", self.rng.choice(again)))
                else:
                    values.append(("file", self._file(param.modality, files)))
            else:
                values.append(("said", (self.rng.choice(self.phrases.banks["sentence"]), "sentence")))
        nodes.append(_Node(tool, capability, values))

    def _file(self, kind: str, files: dict[str, str]) -> str:
        for _ in range(100):
            name = self.rng.choice(self.phrases.banks[FILE_BANKS[kind]])
            if name not in files:
                files[name] = kind
                return name
        raise ValueError(f"the bank of {kind} files is too small")

    # -- requests without tools -----------------------------------------------------------------

    def _chat(self, box: Toolbox) -> Item:
        files: dict[str, str] = {}
        if self.rng.random() < 0.15:
            self._file(self.rng.choice(("image", "audio", "text")), files)
        return Item(self.rng.choice(self.phrases.banks["small_talk"]), files, Plan())

    def _impossible(self, box: Toolbox) -> Item | None:
        """A request for an output that nothing in the list makes."""
        made = {t.output for t in box.tools}
        others = [c for c in self.phrases.capabilities.values() if c.output not in made and c.output != "url"]
        if not others:
            return None
        c = self.rng.choice(others)
        params = tuple(t for t in c.inputs)
        from ...tools.contracts import Param

        tool = Tool("x", "", tuple(Param(f"p{n}", p) for n, p in enumerate(params)), c.output)
        nodes: list[_Node] = []
        files: dict[str, str] = {}
        self._place(Toolbox((tool,), {"x": (c,)}), tool, nodes, files, {})
        item = self._word(nodes, files, False)
        return Item(item.request, item.files, Plan(), unable=True) if item else None

    # -- words ----------------------------------------------------------------------------------

    def _word(self, nodes: list[_Node], files: Mapping[str, str], missing: bool) -> Item | None:
        words = _Words(self.phrases, self.rng, nodes, files)
        request, said = words.request()
        tasks = []
        for n, node in enumerate(nodes):
            args = {}
            for slot, (kind, what) in enumerate(node.values):
                if kind == "ref":
                    value = reference(int(what))
                elif kind == "missing":
                    value = MISSING
                elif kind == "said":
                    value = said[(n, slot)]
                    if speakable(value).replace('"', "'") not in speakable(request).replace('"', "'"):
                        return None
                else:
                    value = str(what)
                args[node.tool.params[slot].name] = value
            tasks.append(Task(node.tool.name, n, args))
        if len(request) > 900 or "{" in request:
            return None
        return Item(request, dict(files), Plan(tuple(tasks)))


class _Words:
    """Words for one graph. File names and quoted content are held out until all styling is done."""

    def __init__(self, phrases: Phrases, rng: random.Random, nodes: list[_Node], files: Mapping[str, str]):
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
        rng = self.rng
        text = self._both() if self._is_twin() else self._sentences()
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
        return len(self.nodes) == 2 and self.nodes[0].tool is self.nodes[1].tool

    def _both(self) -> str:
        first, second = (str(n.values[0][1]) for n in self.nodes)
        kind = self.nodes[0].capability.inputs[0]
        both = {"image": "both pictures", "audio": "both recordings", "video": "both videos", "text": "both texts"}
        names = f"{self._name(first)} and {self._name(second)}"
        filler = names if self.rng.random() < 0.75 or len(self.files) > 2 else both.get(kind, names)
        phrase = self.rng.choice(self.nodes[0].capability.do)
        return self._open(self._fill(phrase, {0: filler}), True)

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
        if c.key == "speak_text" and kind == "ref" and int(what) in self.nested and rng.random() < 0.35:
            return self._aloud(n, int(what)), True
        if c.do_split and kind == "file" and node.values[1][0] == "said" and rng.random() < 0.5:
            text = self._split(n)
        elif form == "thing":
            things = c.thing_ref if other and c.thing_ref else c.thing
            text = _pick(rng, WANT_THING).format(self._fill(rng.choice(things), self._slots(n)))
            imperative = not text.startswith(("I ", "i ", "I'", "can I"))
        else:
            form = "do" if other else form
            phrase = rng.choice(c.do_ref if other else c.do if form == "do" else c.want)
            imperative = form == "do"
            text = self._fill(phrase, self._slots(n))
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
        text = self._fill(self.rng.choice(phrases), self._slots(k))
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

    def _split(self, n: int) -> str:
        """A clause with the instruction inline: 'make {0} [[black and white]]'."""
        node = self.nodes[n]
        phrase = self._fill(self.rng.choice(node.capability.do_split), {0: self._slot(n, 0)})
        inline = re.search(r"\[\[(.+?)\]\]", phrase)
        if inline is None:
            return phrase
        self.said_at[(n, 1)] = len(self.held)
        return phrase.replace(inline.group(0), self._hold(inline.group(1)))

    # -- slots ----------------------------------------------------------------------------------

    def _slots(self, n: int) -> dict[int, str]:
        return {slot: self._slot(n, slot) for slot in range(len(self.nodes[n].values))}

    def _slot(self, n: int, slot: int) -> str:
        kind, what = self.nodes[n].values[slot]
        if kind == "file":
            return self._file(str(what))
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

    def _file(self, name: str) -> str:
        rng = self.rng
        kind = self.files[name]
        alone = sum(k == kind for k in self.files.values()) == 1
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
            things = c.thing_ref if c.thing_ref and self.nodes[k].values[0][0] != "said" else c.thing
            return self._fill(rng.choice(things), self._slots(k))
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
