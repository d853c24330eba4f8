"""Writes requests: samples a graph of tools and has it worded (`words.py`).

    writer = RequestWriter(phrases, rng)
    item = writer.sample(toolbox)        # Item(request, files, plan) over the tools of a Toolbox

The plan follows from the graph, the words from the plan: what comes out is right by construction.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...controller.language import speakable
from ...controller.plan import MISSING, Plan, Task, reference
from ...tools.contracts import Tool
from .idioms import Idiom, fitting, load
from .phrases import FILE_BANKS, Capability, Phrases
from .words import GENERIC, Node, Words

SIZES = (27, 32, 22, 12, 7)  # how many of a hundred graphs drawn at random have one task, two, ... five
IDIOMS = 0.3  # share of requests that are idioms, over lists that have any
# What people put behind something else, and how often it is looked for first when a graph grows.
FINISHERS = frozenset(
    ["speak_text", "translate", "summarise", "draw_image", "caption_image", "make_video", "sound_effect"]
)
FINISHING = 0.3


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
        if self.rng.random() < IDIOMS and (item := self.idiom(box)):
            return item
        for _ in range(50):
            missing = self.rng.random() < 0.03
            nodes, files = self._graph(box, missing)
            item = self._word(nodes, files)
            if item is not None:
                return item
        return self._chat(box)

    # -- idioms ---------------------------------------------------------------------------------

    def idiom(self, box: Toolbox) -> Item | None:
        """A whole request out of whole_requests/*.yaml; None when the list has no tools for any."""
        able = fitting(load(), box.capabilities)
        if not able:
            return None
        (idiom,) = self.rng.choices(able, [i.weight for i in able])
        files = self._letters(idiom)
        letters = dict(zip("ABCD", files, strict=False))
        nodes, places = [], []
        for n, step in enumerate(idiom.steps):
            tool, capability = self._tool(box, step.capability)
            node = Node(tool, capability)
            for slot, value in enumerate(step.values):
                if value.startswith("*"):
                    places.append((int(value[1:]) - 1, (n, slot)))
                    node.values.append(("said", ("", "")))
                elif value.isdigit():
                    node.values.append(("ref", int(value)))
                else:
                    node.values.append(("file", letters[value]))
            nodes.append(node)
        phrase, order = idiom.phrase(self.rng)
        request, said = Words(self.phrases, self.rng, nodes, files).idiom(phrase, order, places)
        return self._item(nodes, files, request, said)

    def _letters(self, idiom: Idiom) -> dict[str, str]:
        """Files for A, B, ... in that order; at times one more that nobody asked about."""
        kinds = {}
        for step in idiom.steps:
            inputs = self.phrases.capabilities[step.capability].inputs
            kinds.update({v: k for v, k in zip(step.values, inputs, strict=True) if v.isalpha()})
        files: dict[str, str] = {}
        for letter in sorted(kinds):
            self._file(kinds[letter], files)
        others = [k for k in FILE_BANKS if k not in kinds.values()]
        if self.rng.random() < 0.06:
            self._file(self.rng.choice(others), files)
        return files

    def _tool(self, box: Toolbox, key: str) -> tuple[Tool, Capability]:
        ways = [(t, c) for t in box.tools for c in box.capabilities[t.name] if c.key == key]
        return self.rng.choice(ways)

    # -- graphs ---------------------------------------------------------------------------------

    def _graph(self, box: Toolbox, missing: bool) -> tuple[list[Node], dict[str, str]]:
        rng = self.rng
        size = 1 if missing else rng.choices((1, 2, 3, 4, 5), SIZES)[0]
        files: dict[str, str] = {}
        nodes: list[Node] = []
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
        if size == 2 and rng.random() < 0.2 and self._twin(nodes, files):
            return nodes, files
        if size == 3 and rng.random() < 0.12 and self._pair(box, nodes, files):
            return nodes, files
        while len(nodes) < size and self._grow(box, nodes, files):
            pass
        if rng.random() < 0.12 and not missing:
            self._file(rng.choice(("image", "audio", "video", "text")), files)
        order = list(files.items())
        rng.shuffle(order)
        return nodes, dict(order)

    def _twin(self, nodes: list[Node], files: dict[str, str]) -> bool:
        """The same tool again on another file, for 'transcribe a.wav and b.wav', 'the total on each of these'."""
        node = nodes[0]
        if node.values[0][0] != "file" or any(kind != "said" for kind, _ in node.values[1:]):
            return False
        other = self._file(node.capability.inputs[0], files)
        nodes.append(Node(node.tool, node.capability, [("file", other), *node.values[1:]]))
        return True

    def _pair(self, box: Toolbox, nodes: list[Node], files: dict[str, str]) -> bool:
        """Two files read and compared, for 'do these two voice memos say the same thing?'."""
        readers = [t for t in box.tools if box.capabilities[t.name][0].implied and t.output == "text"]
        judges = [t for t in box.tools if box.capabilities[t.name][0].key == "text_similarity"]
        if not readers or not judges:
            return False
        nodes.clear()
        files.clear()
        tool = self.rng.choice(readers)
        self._place(box, tool, nodes, files, {})
        if not self._twin(nodes, files):
            return False
        self._place(box, judges[0], nodes, files, {0: 0, 1: 1})
        return True

    def _again(self, nodes: list[Node]) -> bool:
        """The same tool once more with other words: an edit of its own result or the same file, or another text."""
        able = [n for n, node in enumerate(nodes) if self._repeats(node)]
        if not able:
            return False
        source = self.rng.choice(able)
        node = nodes[source]
        if len(node.values) == 1:
            bank = node.values[0][1][1]
            nodes.append(
                Node(node.tool, node.capability, [("said", (self.rng.choice(self.phrases.banks[bank]), bank))])
            )
            return True
        bank = node.capability.banks[1]
        said = ("said", (self.rng.choice(self.phrases.banks[bank]), bank))
        onward = node.capability.output == node.capability.inputs[0] and self.rng.random() < 0.6
        nodes.append(Node(node.tool, node.capability, [("ref", source) if onward else node.values[0], said]))
        return True

    @staticmethod
    def _repeats(node: Node) -> bool:
        if len(node.values) == 1:
            return node.values[0][0] == "said" and node.values[0][1][1] not in ("passage", "url")
        return bool(node.capability.do_split) and node.values[1][0] == "said"

    def _grow(self, box: Toolbox, nodes: list[Node], files: dict[str, str]) -> bool:
        rng = self.rng
        way = rng.choices(("chain", "branch", "join", "apart", "again"), (55, 20, 9, 10, 6))[0]
        if way == "again" or (rng.random() < 0.15 and any(n.capability.do_split for n in nodes)):
            if self._again(nodes):
                return True
            way = "chain"
        used = {n.tool.name for n in nodes}
        fresh = [t for t in box.tools if t.name not in used]
        rng.shuffle(fresh)
        if rng.random() < FINISHING:
            fresh.sort(key=lambda t: not any(c.key in FINISHERS for c in box.capabilities[t.name]))
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
        return not bank.endswith("question") and not (slot > 0 and bank and bank not in ("sentence", "passage"))

    @staticmethod
    def _sources(tool: Tool, nodes: Sequence[Node]) -> dict[int, int]:
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
        self, box: Toolbox, tool: Tool, nodes: list[Node], files: dict[str, str], refs: Mapping[int, int]
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
        nodes.append(Node(tool, capability, values))

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
        if self.rng.random() < 0.25:
            self._file(self.rng.choice(("image", "audio", "video", "text")), files)
            if self.rng.random() < 0.6:
                return Item(self.rng.choice(self.phrases.banks["file_talk"]), files, Plan())
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
        nodes: list[Node] = []
        files: dict[str, str] = {}
        self._place(Toolbox((tool,), {"x": (c,)}), tool, nodes, files, {})
        item = self._word(nodes, files)
        return Item(item.request, item.files, Plan(), unable=True) if item else None

    # -- words ----------------------------------------------------------------------------------

    def _word(self, nodes: list[Node], files: Mapping[str, str]) -> Item | None:
        request, said = Words(self.phrases, self.rng, nodes, files).request()
        return self._item(nodes, files, request, said)

    def _item(
        self, nodes: list[Node], files: Mapping[str, str], request: str, said: Mapping[tuple[int, int], str]
    ) -> Item | None:
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
