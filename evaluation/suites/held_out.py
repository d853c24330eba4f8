"""The suite `pocket`, made of what training never saw: `anyloom eval make-suite --media MEDIA --out FOLDER`.

    build(Path("media"), Path("suite"), each=12)      # writes suite/pocket.jsonl and the files beside it

MEDIA is the folder of `anyloom train mmllm-media`, whose rows of the split `test` are held out from every pocket
model: things in a style in which they were never shown, colours on things, motions of things, scenes of sound. Only
pictures whose licence lets them be handed on plainly are taken. Sounds are written as Opus, to be small.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ..items import Item
from .shapes import FACTS, SENTENCES

NAME = "pocket.jsonl"
STYLES = {"image": ("noto", "3d"), "video": ("noto", "fluent")}  # Apache-2.0 and MIT
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
MOTIONS = {
    "moving left": ("left",), "moving right": ("right",), "moving up": ("up", "upwards", "rising"),
    "moving down": ("down", "downwards", "falling"), "spinning": ("spinning", "turning", "rotating"),
    "growing": ("growing", "bigger", "larger"), "shrinking": ("shrinking", "smaller"),
    "bouncing": ("bouncing", "hopping", "jumping"), "fading away": ("fading", "vanishing", "disappearing"),
}  # fmt: skip
LICENCES = """# Where the files of this suite come from

| folder | from | licence |
|---|---|---|
| image, video: noto | Noto Emoji by Google | Apache-2.0 |
| image: 3d; video: fluent | Fluent Emoji by Microsoft | MIT |
| audio | notes of FluidR3 GM by Frank Wen; synthesised sounds of our own | MIT; Apache-2.0 |

Things were painted in other colours and moved along paths by us. All of it is of the split `test`.
"""


class Rows:
    """The held-out rows of a media folder."""

    def __init__(self, media: Path, seed: int):
        from ...training.mmllm.instructions import voices
        from ...training.mmllm.items import read_manifest

        self.random = random.Random(seed)
        rows = [i for i in read_manifest(media / "manifest.jsonl") if i.split == "test"]
        if not rows:
            raise InputError(f"'{media}' holds nothing of the split 'test'; make it with `anyloom train mmllm-media`.")
        self.random.shuffle(rows)
        self.rows, self.voices = rows, voices()

    def some(self, modality: str, count: int, files: bool = True, **wanted: Any) -> list[Any]:
        """Items of this modality, each of another concept as long as there are enough; plain names first."""
        fits = [
            i for i in self.rows
            if i.modality == modality and (i.file is not None) == files
            and (not files or modality == "audio" or i.style in STYLES[modality])
            and all(test(i) for test in wanted.values())
        ]  # fmt: skip
        fits.sort(key=lambda i: len(i.concept.split()) > 2)
        seen: set[str] = set()
        fresh = [i for i in fits if not (i.concept in seen or seen.add(i.concept))]  # type: ignore[func-returns-value]
        return [*fresh, *(i for i in fits if i not in fresh)][:count]


def build(media: Path, out: Path, each: int = 12, seed: int = 0) -> list[Item]:
    """Writes the suite; returns its items. InputError when there is nothing held out in `media`."""
    rows = Rows(media, seed)
    half = each // 2
    coloured = rows.some("image", each, coloured=lambda i: "-scene-" in i.id)
    shown = [*rows.some("image", each - half, plain=lambda i: "-scene-" not in i.id), *coloured[:half]]
    clips = rows.some("video", each)
    heard = rows.some("audio", each)
    drawable = rows.some("audio", each, linked=lambda i: i.concept in set(rows.voices.values()))
    sounding = rows.some("audio", each, files=False)
    ringing = rows.some("image", each, linked=lambda i: i.concept in rows.voices)
    things = {v: tuple(t for t, own in rows.voices.items() if own == v) for v in rows.voices.values()}
    asked = [
        *_each("text-to-image", coloured, "draw {}"), *_each("text-to-video", clips, "make a video of {}"),
        *_each("text-to-audio", sounding, "make the sound of {}"), *_words(each),
        *_each("image-to-text", shown, "describe this picture"),
        *_each("image-to-speech", shown, "describe this picture aloud"),
        *_each("image-to-video", shown, "make a video of what is in this picture"),
        *_each("image-to-image", shown, "draw the same thing as in this picture"),
        *(_item("image-to-audio", n, "make the sound of what is in this picture", i,
                expect={"concept": (rows.voices[i.concept],)}, meaning=f"the sound of a {rows.voices[i.concept]}",
                references=()) for n, i in enumerate(ringing)),
        *_each("video-to-text", clips, "describe what happens in this video"),
        *_each("video-to-speech", clips, "say aloud what happens in this video"),
        *_each("video-to-image", clips, "draw a picture of the thing in this video"),
        *_each("audio-to-text", heard, "what can be heard in this recording?"),
        *(_item("audio-to-image", n, "draw what makes this sound", i, expect={"concept": things[i.concept]},
                meaning=things[i.concept][0], references=()) for n, i in enumerate(drawable)),
        *_each("audio-to-audio", heard, "make a sound like this one"),
        *_spoken(each, coloured),
    ]  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    _files(media, out, asked)
    lines = "".join(json.dumps(i.to_json(), ensure_ascii=False) + "\n" for i in asked)
    (out / NAME).write_text(lines, encoding="utf-8")
    (out / "LICENCES.md").write_text(LICENCES, encoding="utf-8")
    return asked


def facts(item: Any) -> dict[str, Any]:
    """What is expected of an answer about a row, and how it may be put."""
    expect: dict[str, tuple[str, ...]] = {"concept": (item.concept,)}
    said = item.caption.removeprefix("an ").removeprefix("a ")
    first = said.split()[0]
    if first in COLOURS and first not in item.concept.split() and item.modality != "audio":
        expect["colour"] = (first,)
        bare = " ".join(w for w in item.concept.split() if w not in COLOURS)
        expect["concept"] = tuple(dict.fromkeys((item.concept, bare or item.concept)))
    if item.modality == "video":
        motion = next((m for m in MOTIONS if m in said), None)
        if motion:
            expect["motion"] = tuple(dict.fromkeys((motion, *MOTIONS[motion])))
    return {"expect": expect, "meaning": item.caption, "references": tuple(dict.fromkeys((item.caption, said)))}


def _each(conversion: str, items: Sequence[Any], request: str) -> Iterator[Item]:
    """An item of the suite for each row; a file is attached where the source is one."""
    for n, item in enumerate(items):
        own = facts(item)
        if conversion.endswith("-to-image"):
            own["expect"] = {k: v for k, v in own["expect"].items() if k != "motion"}
        yield _item(conversion, n, request.format(item.caption), item, **own)


def _item(conversion: str, number: int, request: str, item: Any, **fields: Any) -> Item:
    source = conversion.split("-to-")[0]
    attach: tuple[Mapping[str, Any], ...] = ()
    if source not in ("text", "speech"):
        name = f"{source}/{item.file.stem}{'.opus' if source == 'audio' else item.file.suffix}"
        attach = ({"file": name},)
    return Item(f"{conversion}-{number}", conversion, request, attach=attach, **fields)


def _words(each: int) -> Iterator[Item]:
    for n, words in enumerate(SENTENCES[:each]):
        yield Item(f"text-to-speech-{n}", "text-to-speech", f'say aloud: "{words}"', words=words, meaning=words)
    for n, (text, question, kind, answer) in enumerate(FACTS[:each]):
        yield Item(f"text-to-text-{n}", "text-to-text", f"{question} {text}", expect={kind: (answer,)}, meaning=answer)


def _spoken(each: int, things: Sequence[Any]) -> Iterator[Item]:
    for n, words in enumerate(SENTENCES[:each]):
        spoken = ({"make": "speech", "text": words},)
        yield Item(f"speech-to-text-{n}", "speech-to-text", "write down what is said in this recording", spoken,
                   meaning=words, words=words)  # fmt: skip
    for n, item in enumerate(things):
        spoken = ({"make": "speech", "text": f"Draw {item.caption}."},)
        yield Item(f"speech-to-image-{n}", "speech-to-image", "do what this recording asks for", spoken, **facts(item))
    for n, words in enumerate(SENTENCES[:each]):
        spoken = ({"make": "speech", "text": words},)
        yield Item(f"speech-to-speech-{n}", "speech-to-speech", "repeat in your own voice what this recording says",
                   spoken, meaning=words, words=words)  # fmt: skip


def _files(media: Path, out: Path, items: Sequence[Item]) -> None:
    """Copies what is attached; sounds become Opus."""
    for name in dict.fromkeys(str(a["file"]) for i in items for a in i.attach if "file" in a):
        to = out / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if to.suffix == ".opus":
            opus((media / name).with_suffix(".wav"), to)
        else:
            shutil.copyfile(media / name, to)


def opus(wav: Path, out: Path, bits: int = 48_000) -> None:
    """One channel, 48 kbit/s; the same bytes for the same sound."""
    import av

    with av.open(str(wav)) as source, av.open(str(out), "w", format="ogg", options={"fflags": "+bitexact"}) as file:
        stream: Any = file.add_stream("libopus", rate=48_000, layout="mono")
        stream.bit_rate = bits
        resampler = av.AudioResampler("s16", "mono", 48_000)
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                part.pts = None
                file.mux(stream.encode(part))
        for part in resampler.resample(None):
            part.pts = None
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
