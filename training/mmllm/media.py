"""Captioned files out of the pocket data: what the end-to-end model is shown, and captions of what it is asked for.

    made = export(pictures, sounds, out, Counts(), say=print)         # out/manifest.jsonl, out/image/… and so on

Files, not arrays: what is trained on goes through the same door (a PNG, a WAV, an MP4 that an encoder reads)
as what a user attaches. A request needs no file to be learnt from, only a caption that the generator's text
encoder can read, and there are many more of these: rows without a `file`.

Splits: `train`, and `test` for all that `splits.py` and `audio_scenes.py` hold out: pictures of a thing in a
style in which it was never shown, colours on things, motions of things, scenes of sound.
"""

from __future__ import annotations

import json
import random
import wave as waves
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import InputError
from ...pocket.encoders.mel import RATE

if TYPE_CHECKING:
    from torch import Tensor

    from ..pocket.audio_scenes import Scene as SoundScene
    from ..pocket.data import Manifest
    from ..pocket.image_scenes import Scene
    from ..pocket.video_scenes import MotionScene

Say = Callable[[str], None]
AT_ONCE = 64  # pictures painted in one pass
MOTIONS = {  # those that the encoder of clips can tell apart, as its captioner says them
    "left": "moving left", "right": "moving right", "up": "moving up", "down": "moving down", "spin": "spinning",
    "grow": "growing", "shrink": "shrinking", "bounce": "bouncing", "vanish": "fading away",
}  # fmt: skip
TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Counts:
    """How many of each there are. `plain`: of all pictures of the set, at most; the rest are drawn at random."""

    plain: int = 100_000
    scenes: int = 2000
    clips: int = 1400
    sounds: int = 2000
    tests: int = 120
    asked_images: int = 9000
    asked_clips: int = 5000


@dataclass(frozen=True)
class Row:
    """A line of the manifest; see `items.Item`."""

    id: str
    concept: str
    style: str
    caption: str
    modality: str
    file: str
    split: str
    others: tuple[str, ...] = ()


def export(
    pictures: Path | None,
    sounds: Path | None,
    out: Path,
    counts: Counts | None = None,
    seed: int = 0,
    say: Say = print,
) -> list[Row]:
    """Writes files and manifest.jsonl. InputError when there is neither pictures nor sounds."""
    if pictures is None and sounds is None:
        raise InputError("There is nothing to make files of; name a folder of pictures, of sounds, or both.")
    counts = counts or Counts()
    parts: list[Iterator[Row]] = []
    if pictures is not None:
        parts.append(Pictures(pictures, out, counts, seed).rows(say))
    if sounds is not None:
        parts.append(_sounds(sounds, out, counts, seed, say))
    rows = list(chain(*parts))
    part = out / "manifest.part"
    part.write_text("".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    part.replace(out / "manifest.jsonl")
    return rows


class Pictures:
    """Pictures and clips of a data folder."""

    def __init__(self, folder: Path, out: Path, counts: Counts, seed: int):
        from ..pocket.data import HELDOUT_STYLE, Manifest
        from ..pocket.image_paint import Painter
        from ..pocket.image_scenes import Mixture, SceneWriter
        from ..pocket.video_scenes import MotionWriter

        self.manifest: Manifest = Manifest.load(folder)
        self.out, self.counts, self.random = out, counts, random.Random(seed)
        self.names = {i.concept: i.name for i in self.manifest.items}
        self.held = self.manifest.select("image", HELDOUT_STYLE)
        shown = Mixture(plain=0.0, coloured=0.45, pair=0.25, number=0.12, background=0.10, placed=0.08, style_named=0.0)
        self.scenes = SceneWriter(self.manifest, seed + 11, shown)
        asked = Mixture(plain=0.5, coloured=0.18, pair=0.12, number=0.06, background=0.07, placed=0.07, style_named=0.2)
        self.asked = SceneWriter(self.manifest, seed + 12, asked)
        self.films = MotionWriter(self.manifest, seed + 13, things=self.scenes)
        self.asked_films = MotionWriter(self.manifest, seed + 14, animated=0.15, things=self.scenes)
        self.held_films = MotionWriter(self.manifest, seed + 15, animated=0.0, held=True, things=self.scenes)
        self.painter = Painter(self.manifest, "cpu", self.scenes.palette)

    def rows(self, say: Say) -> Iterator[Row]:
        """Everything, files written on the way."""
        for name in ("image", "video"):
            (self.out / name).mkdir(parents=True, exist_ok=True)
        trained = [i for i in self.scenes.items][: self.counts.plain]
        yield from self._plain(trained, TRAIN)
        yield from self._plain(self.held[: self.counts.tests], TEST)
        say(f"{len(trained)} pictures")
        yield from self._drawn(say)
        yield from self._clips(say)
        yield from self._asked()

    def _plain(self, items: Sequence[Any], split: str) -> Iterator[Row]:
        """Pictures of the set as they are, on white."""
        from ..pocket.image_scenes import Scene, Sprite
        from ..pocket.image_words import words_of

        for some in _some(items):
            painted = self._paint([Scene((Sprite(i.row),), i.name, i.style, "plain") for i in some])
            for item, picture in zip(some, painted, strict=True):
                words = words_of(item)
                others = (item.name, *words.names[:2], *words.keywords[:2])
                name = f"{item.style}-{item.concept}"
                yield self._png(f"image-{split}-{name}", picture, item.name, item.style, article(item.name), split,
                                others)  # fmt: skip

    def _drawn(self, say: Say) -> Iterator[Row]:
        """Things painted, counted, together, and (for testing) in colours that they never had."""
        scenes = [(n, self.scenes.scene(n), TRAIN) for n in range(self.counts.scenes)]
        held = [(n, s, TEST) for n, s in enumerate(self._held_colours(self.counts.tests))]
        for some in _some([*scenes, *held]):
            painted = self._paint([s for _, s, _ in some])
            for (n, scene, split), picture in zip(some, painted, strict=True):
                told = self.told(scene)
                yield self._png(f"image-{split}-scene-{n}", picture, self.names[scene.concepts[0]], scene.style, told,
                                split, (scene.caption,) if scene.caption != told else ())  # fmt: skip
        say(f"{len(scenes)} scenes, {len(held)} held-out colours")

    def _held_colours(self, count: int) -> list[Scene]:
        from ..pocket.image_scenes import COLOUR_NAMES, Scene, Sprite
        from ..pocket.image_words import words_of
        from ..pocket.splits import held_colour

        found: list[Scene] = []
        items = [i for i in self.scenes._paintable if i.group != "Symbols"]
        while items and len(found) < count:
            item, n = self.random.choice(items), self.random.randrange(len(COLOUR_NAMES))
            plain = words_of(item).plain
            if held_colour(COLOUR_NAMES[n], plain):
                said = article(f"{COLOUR_NAMES[n]} {plain}")
                found.append(Scene((Sprite(item.row, n),), said, item.style, "coloured", concepts=(item.concept,),
                                   colours=(COLOUR_NAMES[n],)))  # fmt: skip
        return found

    def told(self, scene: Scene) -> str:
        """What is plainly true of a scene: things, colours, number, ground; not where they are, nor the style."""
        from ..pocket.image_words import NUMBERS, many

        things = [_coloured(self.names[c], colour) for c, colour in zip(scene.concepts, scene.colours, strict=False)]
        count = len(scene.sprites)
        if len(things) == 1 and count > 1:
            return f"{NUMBERS[count]} {many(things[0])}"
        said = " and ".join(article(t) for t in things)
        return f"{said} on a {scene.ground} background" if scene.ground else said

    def _clips(self, say: Say) -> Iterator[Row]:
        wanted = [(n, s, TRAIN) for n, s in enumerate(_motions(self.films, self.counts.clips))]
        wanted += [(n, s, TEST) for n, s in enumerate(_motions(self.held_films, self.counts.tests))]
        from ...pocket import media

        for n, scene, split in wanted:
            frames = (self._film(scene) + 1) / 2
            name = f"video-{split}-{n}"
            (self.out / "video" / f"{name}.mp4").write_bytes(media.mp4(frames))
            told = self.told_motion(scene)
            others = (scene.caption,) if scene.caption != told else ()
            yield Row(name, self.names[scene.concept], scene.style, told, "video", f"video/{name}.mp4", split, others)
        say(f"{len(wanted)} clips")

    def told_motion(self, scene: MotionScene) -> str:
        """What is plainly true of a clip."""
        thing = article(_coloured(self.names[scene.concept], scene.facts.get("colour", "")))
        moved = f"{thing} {MOTIONS.get(scene.motion, '')}".strip()
        ground = scene.facts.get("background")
        return f"{moved} on a {ground} background" if ground else moved

    def _asked(self) -> Iterator[Row]:
        """Captions alone: what pictures and clips are asked for by."""
        for n in range(self.counts.asked_images):
            scene = self.asked.scene(n)
            yield Row(f"image-{TRAIN}-asked-{n}", self.names[scene.concepts[0]], scene.style, scene.caption, "image",
                      "", TRAIN)  # fmt: skip
        for n in range(self.counts.asked_clips):
            film = self.asked_films.scene(n)
            yield Row(f"video-{TRAIN}-asked-{n}", self.names[film.concept], film.style, film.caption, "video", "",
                      TRAIN)  # fmt: skip

    def _png(
        self, name: str, picture: Tensor, concept: str, style: str, told: str, split: str, others: tuple[str, ...]
    ) -> Row:
        from ...pocket import media

        (self.out / "image" / f"{name}.png").write_bytes(media.png((picture + 1) / 2))
        return Row(name, concept, style, told, "image", f"image/{name}.png", split, others)

    def _paint(self, scenes: Sequence[Scene]) -> Tensor:
        from ..pocket.image_scenes import packed

        return self.painter.paint(packed(scenes))

    def _film(self, scene: MotionScene) -> Tensor:
        """(16, 3, 64, 64) in -1…1."""
        import numpy as np
        import torch

        from ..pocket.image_scenes import Scene, Sprite

        first = len(self.manifest.array("image"))
        if scene.rows[0] < first:
            return self._paint([
                Scene((Sprite(row, scene.colour, *place),), "", scene.style, "", scene.background)
                for row, place in zip(scene.rows, scene.places, strict=True)
            ])  # fmt: skip
        frames = np.asarray(self.manifest.array("video")).reshape(-1, *self.manifest.array("video").shape[2:])
        rgba = torch.from_numpy(frames[[r - first for r in scene.rows]].copy()).permute(0, 3, 1, 2).float() / 255
        return (rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]) * 2 - 1


def _motions(writer: Any, count: int) -> list[MotionScene]:
    """Clips whose motion can be told, and animations as they are; the others are passed over."""
    found: list[MotionScene] = []
    for n in range(50 * count):
        if len(found) == count:
            break
        scene = writer.scene(n)
        whole = all(place == (0.0, 0.0, 1.0, 0.0, 1.0) for place in scene.places)
        if scene.motion in MOTIONS or (scene.motion == "animated" and whole):
            if scene.rows[0] >= writer.first and not whole:
                continue  # an animation on a path: two motions, of which one is said
            found.append(scene)
    return found


def _sounds(folder: Path, out: Path, counts: Counts, seed: int, say: Say) -> Iterator[Row]:
    """Clips of sound with all their captions, and the captions of every scene."""
    from ..pocket.audio_data import SoundData
    from ..pocket.audio_scenes import captions, scenes

    (out / "audio").mkdir(parents=True, exist_ok=True)
    data = SoundData.read(folder)
    for split, clips in ((TRAIN, data.train_clips(counts.sounds, seed + 21)), (TEST, data.test_clips())):
        some = list(range(len(clips.scenes)))
        if split == TEST:
            some = random.Random(seed).sample(some, min(counts.tests, len(some)))
        for n in some:
            name = f"audio-{split}-{n}"
            with waves.open(str(out / "audio" / f"{name}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(clips.waves[n].tobytes())
            row = _sound(name, clips.scenes[n], captions(clips.scenes[n]), split)
            yield replace(row, file=f"audio/{name}.wav")
        say(f"{len(some)} sounds, {split}")
    for n, scene in enumerate(scenes()):
        split = TEST if scene.held_out else TRAIN
        yield _sound(f"audio-{split}-asked-{n}", scene, captions(scene), split)


def _sound(name: str, scene: SoundScene, said: Sequence[str], split: str) -> Row:
    return Row(name, scene.voice, scene.pattern, said[0], "audio", "", split, tuple(said[1:]))


def article(name: str) -> str:
    """With a or an in front."""
    from ..pocket import image_words

    return image_words.article(name)


def _coloured(name: str, colour: str) -> str:
    """A thing in a colour that it was painted in: the colour in its own name gives way."""
    from ..pocket.image_words import COLOUR_WORDS

    if not colour:
        return name
    return f"{colour} {' '.join(w for w in name.split() if w not in COLOUR_WORDS) or name}"


def _some(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[at : at + AT_ONCE] for at in range(0, len(items), AT_ONCE))
