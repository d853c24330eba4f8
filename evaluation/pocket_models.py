"""The pocket models one by one, as users meet them (files in, files out): what the judge says, and how long it took.

    found = measure(weights, Manifest.load(pictures), SoundData.read(sounds), judges, 40, print)

| row             | asked for                                             | right when                           |
|-----------------|-------------------------------------------------------|--------------------------------------|
| picture         | names of the vocabulary                               | the judge names the thing            |
| picture, colour | colour x thing pairs that were never trained on       | it names the thing and the colour    |
| clip            | thing x motion pairs that were never trained on       | it is measured to move so            |
| sound           | plain sounds of the voices, and held-out scenes       | it names the voice                   |
| caption         | held-out style x thing pictures                       | word for word; words in common       |
| caption, colour | held-out colour x thing pictures                      | word for word                        |
| question        | what, which colour, how many, which style             | word for word                        |
| caption of a …  | held-out motions; sounds played by a real synthesiser | the motion is named; the voice is    |

`reliable` is the judge's own accuracy on held-out true items: no figure can be expected above it.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.weights import Weights
    from ..tools.contracts import Expert
    from ..training.pocket.audio_data import SoundData
    from ..training.pocket.data import Manifest
    from .judges import TrainedJudge

Say = Callable[[str], None]


@dataclass
class Row:
    """Figures of one kind: each a list of 0 and 1 (or shares), and the seconds of every call."""

    name: str
    scores: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, asked: str, answered: str, seconds: float, **scores: float) -> None:
        """One more; the first score is the one by which it is listed among the wrong."""
        for kind, value in scores.items():
            self.scores.setdefault(kind, []).append(float(value))
        self.seconds.append(seconds)
        if not next(iter(scores.values())):
            self.wrong.append(f"{asked} → {answered}")

    def told(self) -> str:
        """As one line."""
        shares = ", ".join(f"{k} {statistics.fmean(v):.1%}" for k, v in self.scores.items())
        return f"{self.name:<22}{len(self.seconds):>4}  {shares}; {statistics.median(self.seconds):.2f} s (median)"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        means = {k: round(statistics.fmean(v), 4) for k, v in self.scores.items()}
        return {"n": len(self.seconds), **means, "seconds": round(statistics.median(self.seconds), 3)}


class Models:
    """Experts, loaded once, called with files."""

    def __init__(self, weights: Weights, folder: Path):
        self.weights, self.folder = weights, folder
        self._loaded: dict[type[Expert], Expert] = {}
        self._count = 0

    def __call__(self, expert: type[Expert], seed: int = 0, **args: Any) -> tuple[Any, float]:
        """The first output (text as a string, else a file), and seconds; loading is not counted."""
        from ..tools.contracts import Run

        if expert not in self._loaded:
            made = self._loaded[expert] = expert()
            made.load("cpu", expert.fetch(self.weights))
            made.run(args, Run(seed=seed))  # warm
        began = time.perf_counter()
        output = self._loaded[expert].run(args, Run(seed=seed))[0]
        took = time.perf_counter() - began
        if output.modality == "text":
            return output.data.decode(), took
        self._count += 1
        file = self.folder / f"{self._count:05d}-{output.file_name}"
        file.write_bytes(output.data)
        return file, took


def measure(
    weights: Weights, manifest: Manifest | None, sounds: SoundData | None, judges: Mapping[str, TrainedJudge],
    count: int, say: Say, keep: Path | None = None,
) -> list[Row]:  # fmt: skip
    """All rows for which there is data; those of generators need a judge as well. `keep`: where the files stay."""
    with tempfile.TemporaryDirectory() as scratch:
        models = Models(weights, keep or Path(scratch))
        models.folder.mkdir(parents=True, exist_ok=True)
        rows: list[Row] = []
        for row in _rows(models, manifest, sounds, judges, count):
            rows.append(row)
            say(row.told())
            for line in row.wrong[:12]:
                say(f"    {line}")
    return rows


def _rows(
    models: Models, manifest: Manifest | None, sounds: SoundData | None, judges: Mapping[str, TrainedJudge], count: int
) -> Iterator[Row]:
    if manifest is not None:
        yield from _captions_of_pictures(models, manifest, count)
        if "image" in judges:
            yield pictures(models, manifest, judges["image"], count)
            yield coloured(models, manifest, judges["image"], count)
        yield from _clips(models, manifest, count)
    if sounds is not None:
        yield from _sounds(models, sounds, judges.get("audio"), count)


def pictures(models: Models, manifest: Manifest, judge: TrainedJudge, count: int) -> Row:
    """Names of the vocabulary, common things first."""
    from ..tools.experts.pocket.pictures import PocketTextToImage

    row, rng = Row("picture"), random.Random(1)
    for seed, name in enumerate(rng.sample(common_names(manifest), count)):
        file, took = models(PocketTextToImage, seed, text=name)
        said = judge.says(file)["concept"][0]
        row.add(name, said, took, right=said == name)
    return row


def coloured(models: Models, manifest: Manifest, judge: TrainedJudge, count: int) -> Row:
    """Colours on things that were never trained on together."""
    from ..tools.experts.pocket.pictures import PocketTextToImage

    row, rng = Row("picture, colour"), random.Random(2)
    pairs = held_colours(manifest)
    for seed, (colour, name) in enumerate(rng.sample(pairs, min(count, len(pairs)))):
        file, took = models(PocketTextToImage, seed, text=f"{colour} {name}")
        said = judge.says(file)
        thing, tint = said["concept"][0] == name, said["colour"][0] == colour
        answer = f"{said['colour'][0]} {said['concept'][0]}"
        row.add(f"{colour} {name}", answer, took, right=thing and tint, thing=thing, colour=tint)
    return row


def common_names(manifest: Manifest) -> list[str]:
    """Names of things with full weight, one or two words long, in a fixed order."""
    from ..training.pocket.image_scenes import SOLID

    plain = {i.name for i in manifest.select("image") if i.weight >= 1 and i.group in SOLID and len(i.name.split()) < 3}
    return sorted(plain)


def held_colours(manifest: Manifest) -> list[tuple[str, str]]:
    """(colour, name) of things that can be painted and of hues that a judge was taught, never trained on together."""
    from ..training.pocket.encoders_colours import HUES
    from ..training.pocket.image_colours import COLOURS, Palette
    from ..training.pocket.splits import held_colour

    palette, names = Palette.of(manifest), set(common_names(manifest))
    able = {i.name for i in manifest.select("image") if i.name in names and palette.can[i.row] == 1}
    able = {n for n in able if not set(n.split()) & set(COLOURS)}
    return sorted((c, n) for n in able for c in HUES if held_colour(c, n))


def _captions_of_pictures(models: Models, manifest: Manifest, count: int) -> Iterator[Row]:
    from ..tools.experts.pocket.captions import PocketImageToText, PocketVQA
    from ..training.pocket.encoders_data import overlap
    from ..training.pocket.encoders_pictures import PicturePool

    pool = PicturePool(manifest, "cpu", painted=3000)
    for name, tests in (("caption", pool.tests), ("caption, colour", pool.tests_painted)):
        row, asked = Row(name), Row("question" + name.removeprefix("caption"))
        for file, told, question, answer in _files(models, tests(), count):
            said, took = models(PocketImageToText, image=file)
            row.add(told, said, took, exact=said == told, overlap=overlap(said, told))
            said, took = models(PocketVQA, image=file, text=question)
            asked.add(f"{told}: {question}", said, took, right=said == answer)
        yield row
        yield asked


def _files(models: Models, batches: Iterator[Any], count: int) -> Iterator[tuple[Path, str, str, str]]:
    """Pictures of a pool's tests as PNG files: (file, caption, question, answer), spread over all of them."""
    from ..pocket.generators.image import png

    every = [
        (item[0], told, *asked)
        for batch in batches
        for item, told, asked in zip(batch.items, batch.told, batch.asked, strict=True)
    ]
    for n, (item, told, question, answer) in enumerate(random.Random(4).sample(every, min(count, len(every)))):
        file = models.folder / f"seen-{n:04d}.png"
        file.write_bytes(png(item, 64))
        yield file, told, question, answer


def _clips(models: Models, manifest: Manifest, count: int) -> Iterator[Row]:
    """Thing x motion never trained on: true clips are captioned and measured; then clips are made and measured."""
    from ..pocket import media
    from ..tools.experts.pocket.captions import PocketVideoToText
    from ..tools.experts.pocket.pictures import PocketTextToVideo
    from ..training.pocket.encoders_pictures import ClipPool
    from .motion import motion

    pool = ClipPool(manifest, "cpu", painted=100)
    every = [
        (item, told, name)
        for batch in pool.tests()
        for item, told, name in zip(batch.items, batch.told, batch.names, strict=True)
    ]
    row, rule = Row("caption of a clip"), Row("measuring true clips")
    chosen = random.Random(5).sample(every, min(count, len(every)))
    for n, (item, told, name) in enumerate(chosen):
        file = models.folder / f"seen-{n:04d}.mp4"
        file.write_bytes(media.mp4((item + 1) / 2, 4))
        said, took = models(PocketVideoToText, video=file)
        wanted = told.removeprefix(name).strip()
        row.add(told, said, took, motion=said.endswith(wanted), named=said.startswith(name), exact=said == told)
        began = time.perf_counter()
        found = motion(item)
        rule.add(told, found, time.perf_counter() - began, motion=found == wanted)
    yield row
    yield rule
    row = Row("clip")
    for seed, (_, told, name) in enumerate(chosen):
        file, took = models(PocketTextToVideo, seed, text=told)
        found = motion(media.frames(file, 16, 64) * 2 - 1)
        row.add(told, found, took, motion=found == told.removeprefix(name).strip())
    yield row


def _sounds(models: Models, sounds: SoundData, judge: TrainedJudge | None, count: int) -> Iterator[Row]:
    import torch

    from ..pocket import media
    from ..tools.experts.pocket.captions import PocketAudioToText
    from ..tools.experts.pocket.sounds import PocketTextToAudio
    from ..training.pocket.audio_scenes import captions

    tests = sounds.test_clips()
    chosen = random.Random(6).sample(range(len(tests.scenes)), min(3 * count, len(tests.scenes)))
    row = Row("caption of a sound")
    for n in chosen:
        file = models.folder / f"heard-{n:04d}.wav"
        file.write_bytes(media.wav(torch.from_numpy(tests.waves[n].astype("float32")) / 32768))
        said, took = models(PocketAudioToText, audio=file)
        scene = tests.scenes[n]
        true = captions(scene)[0]
        row.add(true, said, took, voice=f" {scene.voice} " in f" {said.replace(',', '')} " or said == true,
                exact=said == true)  # fmt: skip
    yield row
    if judge is None:
        return
    row = Row("sound")
    for seed, scene in enumerate(_scenes(tests.scenes, count)):
        file, took = models(PocketTextToAudio, seed, text=captions(scene)[0])
        said = judge.says(file)["concept"][0]
        row.add(captions(scene)[0], said, took, right=said == scene.voice)
    yield row


def _scenes(tests: Sequence[Any], count: int) -> list[Any]:
    """Scenes to be played: each once, spread over the voices."""
    once = sorted(set(tests), key=lambda s: s.key)
    return random.Random(7).sample(once, min(count, len(once)))


def reliable(judges: Mapping[str, TrainedJudge], manifest: Manifest | None, sounds: SoundData | None) -> dict[str, Any]:
    """By sense the trained judge's own accuracy on true items: sounds of scenes that it never heard, and pictures as
    they are (of which it saw none plainly, and the things of all)."""
    from ..training.pocket.encoders_data import SoundPool
    from ..training.pocket.encoders_pictures import ClipPool, PicturePool
    from ..training.pocket.judge import measure as own
    from .judges import TrainedJudge

    found: dict[str, Any] = {}
    for sense, judge in judges.items():
        if not isinstance(judge, TrainedJudge):
            continue  # clips by the pictures' judge
        pool: Any = None
        if sense == "audio" and sounds is not None:
            pool = SoundPool(sounds, "cpu", 64, other=True)
        elif manifest is not None and sense != "audio":
            pool = (PicturePool if sense == "image" else ClipPool)(manifest, "cpu", painted=100, other=True)
        if pool is not None:
            found[sense] = own(judge.network.eval(), pool)
        if sense == "image" and manifest is not None:
            stock = (true := PicturePool(manifest, "cpu", painted=1500, seed=77)).stock
            plain = true.made([stock.alone(i, None) for i in stock.items[::20]], None)
            painted = true.made([stock.coloured(e) for e in stock.unseen[:256]], None)
            for name, batch in (("concept, trained on", plain), ("concept, colour that it never has", painted)):
                said = judge.network.says(batch.items)
                right = [s["concept"][0] == n for s, n in zip(said, batch.names, strict=True)]
                found[sense][name] = sum(right) / max(1, len(right))
    return found
