"""Measures a trained model on what training never saw: modalities, runs, conditions, concepts, captions.

    figures = check(speaker, items, Extent(captions=60, shown=40), judges={}, say=print)

| figure                | what it is                                                                              |
|-----------------------|-----------------------------------------------------------------------------------------|
| modality              | of the requests in `heldout.toml`, those answered with exactly the wanted modalities     |
| runs                  | signal runs that are whole and in order, of all that were said                           |
| cosine_MODALITY       | the projected condition against the text encoder's, on held-out captions, mean over rows |
| asked_MODALITY        | of the same, those in which the condition decides for the same thing as the text's       |
| judged_MODALITY       | of the files made of the same, those in which the judge names the thing (where one is)   |
| caption_MODALITY      | of held-out files, those whose description names the thing                               |
| seconds_…             | median time of a description, and of the words before a file, warm                       |

Every figure comes with the number of cases; the answers themselves are in `cases`.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...mmllm.contracts import SENSES
from ...mmllm.dialogue import Piece, Seen, Turn
from ...mmllm.inference import Reply, Speaker
from .instructions import bare, voices
from .items import Item

Say = Callable[[str], None]
ASKS = {"image": "Draw {}.", "video": "Make a clip of {}.", "audio": "Let me hear {}."}
TELLS = {"image": "What is this?", "video": "What happens here?", "audio": "What do you hear?"}
MEDIA_TYPES = {"image": ".png", "video": ".mp4", "audio": ".wav"}


@dataclass(frozen=True)
class Extent:
    """How many of each kind, by modality; `split` of the items. `generate`: whether files are made and judged."""

    captions: int = 50
    shown: int = 40
    split: str = "test"
    seed: int = 0
    generate: bool = True


@dataclass
class Figures:
    """Shares with the number of cases, and the cases."""

    values: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    cases: list[dict[str, Any]] = field(default_factory=list)

    def put(self, name: str, found: Sequence[float]) -> None:
        """The mean of some cases, where there are any."""
        if found:
            self.values[name] = round(sum(found) / len(found), 4)
            self.counts[name] = len(found)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {"values": self.values, "counts": self.counts, "cases": self.cases}


def requests() -> list[dict[str, Any]]:
    """The held-out requests: text, shows, wants."""
    text = (resources.files(__package__) / "heldout.toml").read_text(encoding="utf-8")
    return [{"shows": [], **r} for r in tomllib.loads(text)["request"]]


def check(
    speaker: Speaker, items: Sequence[Item], tests: Extent, judges: Mapping[str, Any] | None = None, say: Say = print
) -> Figures:
    """Everything, on the items of the tests' split."""
    held = [i for i in items if i.split == tests.split]
    if not held:
        raise InputError(f"There are no items of the split '{tests.split}' to measure on.")
    measuring = _Measuring(speaker, held, list(items), tests, dict(judges or {}), Figures())
    measuring.modalities()
    say(_line(measuring.figures, "modality", "runs"))
    for modality in SENSES:
        measuring.asked(modality)
        measuring.told(modality)
        say(_line(measuring.figures, *(f"{n}_{modality}" for n in ("cosine", "asked", "judged", "caption"))))
    measuring.finish()
    return measuring.figures


def _line(figures: Figures, *names: str) -> str:
    return "  ".join(f"{n} {figures.values[n]:.3f} (of {figures.counts[n]})" for n in names if n in figures.values)


@dataclass
class _Measuring:
    """One measurement under way."""

    speaker: Speaker
    held: list[Item]
    items: list[Item]
    tests: Extent
    judges: dict[str, Any]
    figures: Figures
    whole: list[float] = field(default_factory=list)
    times: dict[str, list[float]] = field(default_factory=dict)

    def modalities(self) -> None:
        """The choice of modality, on the held-out requests."""
        right = []
        for n, request in enumerate(requests()):
            shown = [self._shown(what, 100 * n + k) for k, what in enumerate(request["shows"])]
            if None in shown:
                continue  # the data has no such file
            pieces: list[Piece] = [Seen(i.modality, i.id) for i in shown if i is not None]
            reply = self._ask([*pieces, request["text"]])
            made = [m.modality for m in reply.media]
            right.append(float(made == request["wants"]))
            self._case("modality", request["text"], wants=request["wants"], made=made, text=reply.text, right=right[-1])
        self.figures.put("modality", right)

    def asked(self, modality: str) -> None:
        """Conditions of held-out captions, and what they decide; the files made of them, where there is a judge."""
        import torch.nn.functional as F

        generator = self.speaker.model.generators.get(modality)
        if generator is None:
            return
        cosine, decided, judged = [], [], []
        for item in self._some(self._unheard(modality), self.tests.captions):
            caption = bare(item.caption)
            reply = self._ask([ASKS[modality].format(caption)])
            wanted = next((m for m in reply.media if m.modality == modality), None)
            if wanted is None:
                cosine.append(0.0)
                self._case(f"asked_{modality}", caption, text=reply.text, cosine=0.0)
                continue
            target = generator.text_condition([caption])[0].float()
            near = float(F.cosine_similarity(wanted.condition.cpu(), target.cpu(), dim=-1).mean())
            cosine.append(near)
            decided += self._decided(generator, wanted.condition, target)
            judged += self._judged(modality, wanted.condition, item)
            self._case(f"asked_{modality}", caption, text=reply.text, cosine=round(near, 4), same=decided[-1:])
        self.figures.put(f"cosine_{modality}", cosine)
        self.figures.put(f"asked_{modality}", decided)
        self.figures.put(f"judged_{modality}", judged)

    def told(self, modality: str) -> None:
        """Descriptions of held-out files."""
        found = []
        files = [i for i in self.held if i.modality == modality and i.file is not None]
        for item in self._some(files, self.tests.shown):
            reply = self._ask([Seen(modality, item.id), TELLS[modality]], timed="description")
            found.append(float(not reply.media and names(reply.text, item.concept)))
            self._case(f"caption_{modality}", item.caption, text=reply.text, right=found[-1])
        self.figures.put(f"caption_{modality}", found)

    def finish(self) -> None:
        """What was counted on the way."""
        self.figures.put("runs", self.whole)
        for name, seconds in self.times.items():
            self.figures.values[f"seconds_{name}"] = round(statistics.median(seconds), 3)
            self.figures.counts[f"seconds_{name}"] = len(seconds)

    def _ask(self, pieces: Sequence[Piece], timed: str = "words") -> Reply:
        files = {i.id: i.file for i in self.items if i.file is not None}
        started = time.perf_counter()
        reply = self.speaker.speak([Turn("user", tuple(pieces))], files, max_tokens=64)
        self.times.setdefault(timed, []).append(time.perf_counter() - started)
        self.whole += runs_whole(self.speaker, reply)
        return reply

    def _shown(self, what: str, seed: int) -> Item | None:
        """A file of this modality, of this thing where one is named; of the tests' split where there is one."""
        modality, _, thing = (w.strip() for w in what.partition(":"))
        for items in (self.held, self.items):
            some = [i for i in items if i.modality == modality and i.file is not None and thing in ("", i.concept)]
            if some:
                return random.Random(self.tests.seed + seed).choice(some)
        return None

    def _unheard(self, modality: str) -> list[Item]:
        """Held-out items whose caption nothing else has; a thing in an unseen style is called what it always was."""
        known = {c for i in self.items if i.split != self.tests.split for c in i.captions}
        return [i for i in self.held if i.modality == modality and i.caption not in known]

    def _some(self, items: Sequence[Item], count: int) -> list[Item]:
        return random.Random(self.tests.seed).sample(list(items), min(count, len(items)))

    def _decided(self, generator: Any, made: Any, wanted: Any) -> list[float]:
        """Whether the first question of the generator's gets the same answer from both; nothing where it has none."""
        decides = getattr(generator, "decides", None)
        if decides is None:
            return []
        one, two = decides(made[None].to(wanted)), decides(wanted[None])
        first = next(iter(one))
        return [float(one[first].argmax() == two[first].argmax())]

    def _judged(self, modality: str, condition: Any, item: Item) -> list[float]:
        """Whether the judge names the thing in the file that is made; nothing where there is no judge."""
        judge = self.judges.get(modality)
        if judge is None or not self.tests.generate:
            return []
        media = self.speaker.generate(modality, condition, seed=self.tests.seed)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"made{MEDIA_TYPES[modality]}"
            file.write_bytes(media.data)
            said = judge.says(file)["concept"][0]
        return [float(names(said, item.concept))]

    def _case(self, kind: str, asked: str, **found: Any) -> None:
        self.figures.cases.append({"kind": kind, "asked": asked, **found})


def names(text: str, concept: str) -> bool:
    """Whether a text names a thing: all of its words, or the sound's for what makes it."""
    words = set(text.lower().replace(".", " ").replace(",", " ").split())
    alike = (concept.lower(), voices().get(concept.lower(), concept.lower()))
    return any(set(a.split()) <= words | {w.rstrip("s") for w in words} for a in alike)


def runs_whole(speaker: Speaker, reply: Reply) -> list[float]:
    """For each run of signals in an answer whether it is whole and in order; 0 for a signal that stands alone."""
    signals = speaker.model.signals
    ids, found, at = reply.ids, [], 0
    while at < len(ids):
        modality = signals.begins(ids[at])
        if modality is not None:
            run = signals.run(modality)
            found.append(float(ids[at : at + len(run)] == run))
            at += len(run) if found[-1] else 1
            continue
        if ids[at] >= signals.base:
            found.append(0.0)
        at += 1
    return found
