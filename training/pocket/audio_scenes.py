"""What happens in one sound, in words and in notes: the truth that captions, notes and labels are made from.

    scene = Scene("violin", "up", register="high", tempo="fast")
    captions(scene)      # ["a violin playing a fast rising scale, high", "fast high rising scale on a violin", …]
    notes(scene, rng)    # [Note(0.1, 0.3, 76, 100, 40), …]

A tenth of all scenes (by a hash of what they are) is held out: no such combination is trained on.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from .audio_voices import BEAT, DRUM, EFFECT, MELODIC, SPEECH, VOICES

if TYPE_CHECKING:
    from numpy.random import Generator

SECONDS = 3.072
STEP = {"slow": 0.62, "": 0.34, "fast": 0.15}  # seconds from one note to the next
TUNES = {
    "note": "a long note", "repeat": "one note again and again", "up": "a rising scale", "down": "a falling scale",
    "melody": "a melody", "chord": "a chord",
}  # fmt: skip
TUNE_WORDS = {"note": "note", "repeat": "repeated notes", "up": "rising scale", "down": "falling scale",
              "melody": "melody", "chord": "chord"}  # fmt: skip
PITCHED = ("pure tone", "buzz", "beeps")


@dataclass(frozen=True)
class Scene:
    """One sound's facts. `tempo`: slow, fast or "" (neither is said); `register`: high, low or ""."""

    voice: str
    pattern: str
    register: str = ""
    tempo: str = ""

    @property
    def key(self) -> str:
        """A short unique name."""
        return "-".join(w.replace(" ", "_") for w in (self.voice, self.pattern, self.register, self.tempo) if w)

    @property
    def held_out(self) -> bool:
        """Whether this combination is kept for testing; the plainest one of each voice never is."""
        plain = self == plainest(self.voice)
        return not plain and zlib.crc32(self.key.encode()) % 10 == 0


@dataclass(frozen=True)
class Note:
    """Seconds from the start, seconds long, MIDI key, velocity, General MIDI program (-1: the drum channel)."""

    start: float
    length: float
    key: int
    velocity: int
    program: int


def scenes() -> list[Scene]:
    """Every scene there is, in a fixed order."""
    return [s for name in VOICES for s in of_voice(name)]


def of_voice(name: str) -> list[Scene]:
    """The scenes of one voice."""
    voice = VOICES[name]
    if voice.kind == MELODIC:
        wide = voice.keys[1] - voice.keys[0] >= 24
        registers = ("", "high", "low") if wide else ("",)
        still = [Scene(name, p, r) for p in ("note", *(("chord",) if voice.chords else ())) for r in registers]
        return still + [
            Scene(name, p, r, t) for p in ("up", "down", "melody", "repeat") for r in registers for t in STEP
        ]
    if voice.kind == DRUM:
        return [Scene(name, "hit")] + [Scene(name, "repeat", tempo=t) for t in ("slow", "fast")]
    if voice.kind == BEAT:
        return [Scene(name, "beat", tempo=t) for t in STEP]
    if voice.kind in (EFFECT, SPEECH):
        return [Scene(name, "steady")]
    registers = ("", "high", "low") if name in PITCHED else ("",)
    timed = (
        [(p, "") for p in voice.patterns] if voice.patterns[0] not in STEP else [("steady", t) for t in voice.patterns]
    )
    if name == "sweep":
        timed = [(p, t) for p in voice.patterns for t in STEP]
    return [Scene(name, p, r, t) for p, t in timed for r in registers]


def plainest(name: str) -> Scene:
    """The first scene of a voice."""
    return of_voice(name)[0]


@cache  # a batch asks for hundreds, a tenth of a millisecond each
def captions(scene: Scene) -> list[str]:
    """True sentences about it, the canonical one first."""
    voice, kind = VOICES[scene.voice], VOICES[scene.voice].kind
    said, name = voice.said(), scene.voice
    if kind == MELODIC:
        return _melodic(scene, said, name)
    how = " ".join(w for w in (scene.tempo, scene.register) if w)
    led = f"{how} {name}".strip()
    if kind == DRUM:
        if scene.pattern == "hit":
            return [f"one hit of {said}", f"{said}", f"a single {name} hit", f"the sound of {said}", name]
        quick = {"slow": "slowly", "fast": "quickly"}[scene.tempo]
        return [f"{scene.tempo} hits of {said}", f"{said} hit {quick} again and again", f"{said}, {scene.tempo}",
                f"{scene.tempo} {name} rhythm", f"{said} played {quick}"]  # fmt: skip
    if kind == BEAT:
        return [_a(led), f"{scene.tempo} drums".strip(), f"a drum kit playing {_a(f'{scene.tempo} beat'.strip())}",
                f"{scene.tempo} rhythm on a drum kit".strip()]  # fmt: skip
    if kind == SPEECH:
        return ["a man speaking", "speech", "someone talking", "a person speaking", "a voice saying something"]
    if name == "sweep":
        way, other = {"up": ("rising", "goes up"), "down": ("falling", "goes down")}[scene.pattern]
        tempo = f"{scene.tempo} " if scene.tempo else ""
        return [_a(f"{tempo}{way} sweep"), _a(f"{tempo}tone that {other}"), _a(f"{tempo}{way} tone"),
                f"{tempo}sweep {scene.pattern}"]  # fmt: skip
    first = led if voice.mass else _a(led)
    return [first, f"the sound of {first}", led, f"{said}, {how}" if how else f"sound of {said}"]


def _melodic(scene: Scene, said: str, name: str) -> list[str]:
    tune, word = TUNES[scene.pattern], TUNE_WORDS[scene.pattern]
    adjectives = " ".join(w for w in (scene.tempo, scene.register) if w)
    if scene.pattern == "repeat":
        first = f"{said} playing {adjectives} repeated notes".replace("  ", " ")
    else:
        bare = tune.removeprefix("a ")
        first = f"{said} playing {_a(f'{adjectives} {bare}'.strip())}"
    quick = {"slow": "slowly", "fast": "quickly", "": ""}[scene.tempo]
    tail = ", ".join(w for w in (quick, {"high": "high up", "low": "down low", "": ""}[scene.register]) if w)
    second = f"{said} playing {tune}" + (f", {tail}" if tail else "")
    led = f"{adjectives} {word}".strip()
    third = f"{led if scene.pattern == 'repeat' else _a(led)} on {said}"
    more = [f"{name} playing {led}", f"{adjectives} {name} {word}".strip()]
    if scene == plainest(scene.voice):
        more += [said, name, f"the sound of {said}"]
    if scene.pattern == "melody":
        more += [f"{adjectives} {name} music".strip(), f"{adjectives} tune on {said}".strip()]
    return [first, second, third, *more]


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def notes(scene: Scene, rng: Generator) -> list[Note]:
    """A way to play it; another generator gives another. Empty for sounds that are not played as notes."""
    voice = VOICES[scene.voice]
    if voice.kind == MELODIC:
        return _tune(scene, rng)
    if voice.kind == BEAT:
        return _beat(scene, rng)
    if voice.kind not in (DRUM, EFFECT):
        return []
    sound = int(rng.choice(voice.programs))
    program, key = (-sound, 60) if sound < 0 else (sound, 60) if voice.kind == EFFECT else (-1, sound)
    start = float(rng.uniform(0.03, 0.2))
    if scene.pattern in ("hit", "steady"):
        return [Note(start, SECONDS - start - 0.1, key, int(rng.integers(90, 120)), program)]
    step = STEP[scene.tempo] * float(rng.uniform(0.85, 1.15))
    return [Note(start + n * step, step, key, int(rng.integers(80, 120)), program)
            for n in range(int((SECONDS - start - 0.05) / step))]  # fmt: skip


def _tune(scene: Scene, rng: Generator) -> list[Note]:
    voice = VOICES[scene.voice]
    low, high = voice.keys
    third = (high - low) // 3
    low, high = {"": (low, high), "low": (low, low + third + 2), "high": (high - third - 2, high)}[scene.register]
    program, start = int(rng.choice(voice.programs)), float(rng.uniform(0.03, 0.2))
    if scene.pattern in ("note", "chord"):
        root = int(rng.integers(low, max(low + 1, high - 7)))
        keys = [root] if scene.pattern == "note" else [root, root + int(rng.choice([3, 4])), root + 7]
        length = float(rng.uniform(1.6, 2.6))
        return [Note(start, length, k, _loud(rng), program) for k in keys]
    step = STEP[scene.tempo] * float(rng.uniform(0.88, 1.12))
    count = int((SECONDS - start - 0.15) / step)
    root = low - int(rng.integers(0, 12))
    scale = [o + d for o in range(0, 84, 12) for d in (0, 2, 4, 5, 7, 9, 11)]
    inside = [root + d for d in scale if low <= root + d <= high]
    if scene.pattern == "repeat":
        line = [int(rng.choice(inside))] * count
    elif scene.pattern == "melody":
        at, line = len(inside) // 2, []
        for _ in range(count):
            at = int(min(len(inside) - 1, max(0, at + rng.choice([-3, -2, -1, 1, 2, 3]))))
            line.append(inside[at])
    else:
        count = min(count, len(inside), 12)
        at = int(rng.integers(0, len(inside) - count + 1))
        line = inside[at : at + count][:: 1 if scene.pattern == "up" else -1]
    return [Note(start + n * step, step * 0.95, k, _loud(rng), program) for n, k in enumerate(line)]


def _loud(rng: Generator) -> int:
    return int(rng.integers(80, 118))


def _beat(scene: Scene, rng: Generator) -> list[Note]:
    step = {"slow": 0.34, "": 0.22, "fast": 0.13}[scene.tempo] * float(rng.uniform(0.9, 1.1))
    found = []
    for n in range(int((SECONDS - 0.15) / step)):
        at, place = 0.05 + n * step, n % 8
        keys = [42] if rng.random() < 0.9 else []
        if place in (0, 4) and (place == 0 or rng.random() < 0.5):
            keys.append(36)
        if place in (2, 6):
            keys.append(38)
        if place == 3 and rng.random() < 0.3:
            keys.append(36)
        found += [Note(at, step, k, int(rng.integers(85, 118)), -1) for k in keys]
    return found
