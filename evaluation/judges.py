"""Judges: who says what a picture, a clip or a sound is. Neither mode uses them.

    judges = open_judges(settings)                  # {"image": …}: one for each modality that has weights
    judges["image"].says(Path("made.png"))          # {"concept": ("heart", 0.93), "colour": ("blue", 0.88)}

The trained judges (`training/pocket/judge.py`) are looked for in DATA/judge/judge-MODALITY.safetensors, then among
what ships. Where there is none for clips, the pictures' judge looks at their frames, and the motion is measured by a
rule (`motion.py`). Where there is none at all, nothing is judged and the report says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import WeightsError

if TYPE_CHECKING:
    from ..core.settings import Settings

SENSES = ("image", "video", "audio")
FILE = "judge-{}.safetensors"
SHIPPED = "pkg:anyloom.weights/judge/" + FILE
Saying = Mapping[str, tuple[str, float]]


class Judge(Protocol):
    """Names what it sees or hears."""

    @property
    def fingerprint(self) -> str:
        """What tells its weights."""

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """By kind, what it can name."""

    def says(self, file: Path) -> Saying:
        """By kind (concept, colour, style, motion) the likeliest name and its probability."""

    def features(self, file: Path) -> list[float]:
        """The numbers from which it decides, for distances between sets of files."""


def open_judges(settings: Settings) -> dict[str, Judge]:
    """The trained judges that are there, by modality."""
    found: dict[str, Judge | None] = {sense: trained(sense, settings) for sense in SENSES}
    seer = found["image"]
    if found["video"] is None and isinstance(seer, TrainedJudge):
        found["video"] = ClipJudge(seer)
    return {sense: judge for sense, judge in found.items() if judge is not None}


def trained(sense: str, settings: Settings) -> Judge | None:
    """The judge of one modality; None without weights. WeightsError when the file is no judge."""
    from ..core.weights import Weights

    own = Path(settings.data_dir) / "judge" / FILE.format(sense)
    if own.exists():
        return TrainedJudge(own)
    try:
        return TrainedJudge(Weights(settings.cache_dir, offline=settings.offline).resolve(SHIPPED.format(sense)))
    except WeightsError as e:
        if "is no judge" in str(e):
            raise
        return None


class TrainedJudge:
    """`training.pocket.judge.Judge` over files."""

    def __init__(self, file: Path):
        from ..training.pocket.judge import Judge as Network

        self.network: Any = Network.open(file)
        self.classes = self.network.classes
        self.fingerprint = hashlib.sha256(file.read_bytes()).hexdigest()[:16]

    def says(self, file: Path) -> Saying:
        """See Judge."""
        said: Saying = self.network.says(self._items(file))[0]
        return said

    def features(self, file: Path) -> list[float]:
        """What the heads read."""
        return self.seen(self._items(file))

    def seen(self, items: Any) -> list[float]:
        """The heads' input for the first item, taken on its way."""
        import torch

        seen: list[Any] = []
        head = next(iter(self.network.heads.values()))
        hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            with torch.no_grad():
                self.network(items)
        finally:
            hook.remove()
        return [float(x) for x in seen[0][0]]

    def _items(self, file: Path) -> Any:
        """(1, frames, channels, height, width), prepared as for the pocket encoders."""
        from ..pocket import media
        from ..pocket.encoders.mel import fitted, log_mel
        from ..pocket.encoders.pocket import levelled, picture

        if self.network.sense == "image":
            return (picture(file, 64) * 2 - 1)[None, None]
        if self.network.sense == "video":
            return (media.frames(file, self.network.frames, 64) * 2 - 1)[None]
        return log_mel(fitted(levelled(media.sound(file)))[None])[:, None, None]


class ClipJudge:
    """Clips by the pictures' judge, whose opinions of five frames are added up, and motions by rule."""

    KINDS = ("concept", "colour")
    FRAMES = 16

    def __init__(self, seer: TrainedJudge):
        from .motion import MOTIONS

        self.seer = seer
        self.classes = {k: seer.classes[k] for k in self.KINDS if k in seer.classes} | {"motion": list(MOTIONS)}
        self.fingerprint = f"{seer.fingerprint}-frames"

    def says(self, file: Path) -> Saying:
        """See Judge; the motion is as sure as a rule can be."""
        from .motion import motion

        frames = self._frames(file)
        logits = self.seer.network(frames[2::3][:, None])
        found: dict[str, tuple[str, float]] = {}
        for kind in self.KINDS:
            if kind in logits:
                value, at = logits[kind].softmax(-1).mean(0).max(-1)
                found[kind] = (self.classes[kind][int(at)], float(value))
        return {**found, "motion": (motion(frames), 1.0)}

    def features(self, file: Path) -> list[float]:
        """The pictures' features, mean over the frames."""
        every = [self.seer.seen(frame[None, None]) for frame in self._frames(file)[2::3]]
        return [sum(column) / len(every) for column in zip(*every, strict=True)]

    def _frames(self, file: Path) -> Any:
        from ..pocket import media

        return media.frames(file, self.FRAMES, 64) * 2 - 1


def named(said: str, right: Sequence[str]) -> bool:
    """Whether a judge's name is one of the right ones: "blue heart" is a heart."""
    words = set(said.lower().split())
    return any(set(name.lower().split()) <= words for name in right)


def in_words(saying: Saying) -> str:
    """A saying as a sentence: "blue heart moving left"."""
    concept, colour, motion = (saying[k][0] if k in saying else "" for k in ("concept", "colour", "motion"))
    if colour in concept.split():
        colour = ""
    return " ".join(w for w in (colour, concept, motion) if w)
