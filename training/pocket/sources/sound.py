"""Where recorded sounds come from: a General MIDI sound font through fluidsynth, and the Piper voice.

    notes = record_notes(Path("FluidR3_GM.sf2"))           # {"p040-060": wave, "drum-038": wave, …}
    waves = play(font, [[Note(…), …], …], seconds=3.072)   # whole phrases, as fluidsynth plays them
    speech = speak(voice, SENTENCES[:24], takes=2)         # [wave, …]

fluidsynth (a program, LGPL) and the font are found on this machine; Debian has both as packages
`fluidsynth` and `fluid-soundfont-gm` (FluidR3, MIT licence). Many phrases share one MIDI file, in slots
of equal length, so that the font is read a few times and not thousands of times.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import wave as waves
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ....core.errors import ExpertError, InputError, SettingsError
from ..audio_bank import RATE, Wave, bank_name
from ..audio_scenes import Note
from ..audio_voices import DRUM, EFFECT, MELODIC, VOICES

FONTS = ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/sounds/sf2/TimGM6mb.sf2")
LICENCES = {"FluidR3_GM.sf2": "MIT", "TimGM6mb.sf2": "GPL-2.0"}
PLAYED = 48_000  # fluidsynth's rate: three times ours, filtered down, so that nothing folds back
TICKS = 960  # a second: 480 to the quarter at 120 quarters a minute
APART = 5  # keys between recorded notes
SLOTS = 60  # phrases in one MIDI file
SENTENCES = (
    "The train leaves at half past seven.",
    "I have not seen her since last winter.",
    "Please close the door behind you.",
    "Two cups of coffee and a glass of water.",
    "The old bridge is closed for repairs.",
    "What time does the shop open?",
    "My brother lives near the sea.",
    "It rained all day and all night.",
    "The answer is on the next page.",
    "We walked through the forest in silence.",
    "Could you speak a little louder?",
    "The children are playing outside.",
    "She put the letters back in the drawer.",
    "Every morning he reads the paper.",
    "There is nothing left in the box.",
    "Turn left at the second traffic light.",
    "The soup needs a bit more salt.",
    "Nobody knew where the cat had gone.",
    "He painted the fence green and white.",
    "This road leads down to the river.",
    "They arrived long before sunset.",
    "The meeting has been moved to Thursday.",
    "Do not forget to water the plants.",
    "A cold wind blew from the north.",
    "The library is quiet in the afternoon.",
    "I will call you again tomorrow.",
    "The key is under the flower pot.",
    "Her new bicycle has a silver bell.",
    "We need more chairs for the guests.",
    "The moon is bright and round tonight.",
    "He counted the coins on the table.",
    "Thank you very much for your help.",
)


def find_font(given: Path | None = None) -> Path:
    """The font that was given, or the one that is installed. SettingsError when there is none, or no fluidsynth."""
    if shutil.which("fluidsynth") is None:
        raise SettingsError("fluidsynth is not installed; on Debian: apt install fluidsynth fluid-soundfont-gm.")
    for font in [given] if given else map(Path, FONTS):
        if font.is_file():
            return font
    raise SettingsError(f"There is no sound font at {given or ' or '.join(FONTS)}; name one with --font.")


def licence_of(font: Path) -> str:
    """The licence of a known font; of another one its user has to know it."""
    return LICENCES.get(font.name, "unknown")


def record_notes(font: Path, say: Callable[[str], None] = lambda text: None) -> dict[str, Wave]:
    """Every voice's notes, silence trimmed, loudest sample 0.9."""
    wanted = _wanted()
    found: dict[str, Wave] = {}
    for long in (True, False):
        some = [(n, length) for n, length in wanted if (length > 1.5) == long]
        phrases = [[n] for n, _ in some]
        seconds = max(length for _, length in some) + 0.2
        for (note, _), wave in zip(some, play(font, phrases, seconds), strict=True):
            wave = _trimmed(wave)
            if len(wave) < RATE // 50:
                raise ExpertError(
                    f"Program {note.program} of '{font.name}' is silent at key {note.key}; use another font."
                )
            found[bank_name(note.program, note.key)] = wave
        say(f"{len(found)} notes recorded")
    return found


def _wanted() -> list[tuple[Note, float]]:
    """What has to be recorded: each note, and for how many seconds."""
    found: dict[tuple[int, int], float] = {(-1, key): 1.0 for key in (36, 38, 42)}  # the beat's
    for voice in VOICES.values():
        for program in voice.programs:
            if voice.kind == MELODIC:
                keys = range(voice.keys[0] + 2, voice.keys[1] + 3, APART)
                found.update({(program, key): 2.2 for key in keys})
            elif voice.kind == DRUM:
                found[(-1, program) if program > 0 else (-program, 60)] = (
                    1.4 if program < 0 or program in (49, 57, 51, 59) else 1.0
                )
            elif voice.kind == EFFECT:
                found.update({(program, key): 3.1 for key in (54, 60, 66)})
    return [(Note(0.02, length, key, 100, program), length) for (program, key), length in sorted(found.items())]


def play(font: Path, phrases: Sequence[Sequence[Note]], seconds: float) -> list[Wave]:
    """Each phrase as fluidsynth plays it, mono, 16 kHz, `seconds` long, without reverb."""
    found: list[Wave] = []
    slot = seconds + 1.0  # room for the last note to die away
    for at in range(0, len(phrases), SLOTS):
        some = phrases[at : at + SLOTS]
        with tempfile.TemporaryDirectory() as folder:
            midi, out = Path(folder) / "phrases.mid", Path(folder) / "phrases.wav"
            midi.write_bytes(midi_file(some, slot))
            done = subprocess.run(
                ["fluidsynth", "-ni", "-q", "-R", "0", "-C", "0", "-g", "0.4", "-r", str(PLAYED), "-T", "wav",
                 "-F", str(out), str(font), str(midi)], capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode or not out.exists():
                raise ExpertError(
                    f"fluidsynth failed on '{font.name}': {done.stderr.strip()[:200] or done.returncode}."
                )
            whole = _read(out)
        starts = [int(n * slot * RATE) for n in range(len(some))]
        length = round(seconds * RATE)
        whole = np.pad(whole, (0, max(0, starts[-1] + length - len(whole))))
        found += [whole[s : s + length].copy() for s in starts]
    return found


def midi_file(phrases: Sequence[Sequence[Note]], slot: float) -> bytes:
    """A standard MIDI file of one track: phrase n begins at n * slot seconds. Chords keep one program."""
    events: list[tuple[int, int, bytes]] = []
    for n, phrase in enumerate(phrases):
        for note in phrase:
            drum = note.program == -1
            channel = 9 if drum else n % 8
            start = round((n * slot + note.start) * TICKS)
            end = max(start + 1, round((n * slot + note.start + note.length) * TICKS))
            if not drum:
                events.append((start, 1, bytes([0xC0 | channel, note.program])))
            events.append((start, 2, bytes([0x90 | channel, note.key, note.velocity])))
            events.append((end, 0, bytes([0x80 | channel, note.key, 0])))
    track, last = b"", 0
    for tick, _, message in sorted(events):
        track += _delta(tick - last) + message
        last = tick
    end_at = round(len(phrases) * slot * TICKS)
    track += _delta(max(0, end_at - last)) + b"\xff\x2f\x00"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, 480) + b"MTrk" + struct.pack(">I", len(track)) + track


def _delta(ticks: int) -> bytes:
    """A number in MIDI's groups of seven bits."""
    out = bytes([ticks & 0x7F])
    while ticks := ticks >> 7:
        out = bytes([0x80 | (ticks & 0x7F)]) + out
    return out


def _read(file: Path) -> Wave:
    """A stereo WAV at 48 kHz as mono at 16 kHz, low-passed below 7.8 kHz."""
    with waves.open(str(file), "rb") as opened:
        if opened.getframerate() != PLAYED or opened.getnchannels() != 2:
            raise InputError(
                f"fluidsynth wrote {opened.getframerate()} Hz, {opened.getnchannels()} channels; 48000, 2 expected."
            )
        raw = np.frombuffer(opened.readframes(opened.getnframes()), np.int16)
    mono = raw.reshape(-1, 2).astype(np.float32).mean(1) / 32768
    return resampled(mono, PLAYED)


def resampled(wave: Wave, rate: int) -> Wave:
    """At 16 kHz, through a windowed sinc; in pieces, so that minutes of sound do not fill the memory."""
    if rate == RATE:
        return wave
    if rate < RATE:
        raise InputError(f"A sound at {rate} Hz is too dull to be taken into the bank; 16000 or more is needed.")
    half, ratio = 48, rate / RATE
    padded = np.pad(wave, (half - 1, half + 1))
    out = np.empty(int(len(wave) / ratio), np.float32)
    if rate % RATE == 0:  # every output sample has the same taps
        step = rate // RATE
        seen = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)[::step]
        taps = _taps(np.zeros(1), half, ratio)[0]
        for at in range(0, len(out), 65_536):
            out[at : at + 65_536] = seen[at : at + 65_536][: len(out) - at] @ taps
        return out
    for at in range(0, len(out), 65_536):
        places = np.arange(at, min(len(out), at + 65_536)) * ratio
        first = places.astype(np.int64)
        around = padded[first[:, None] + np.arange(2 * half)]
        out[at : at + len(places)] = (around * _taps(places - first, half, ratio)).sum(1)
    return out


def _taps(between: np.ndarray, half: int, ratio: float) -> Wave:
    """A low-pass below 0.48 of the new rate, for places between two samples: (n, 2 * half)."""
    cut = 0.96 / ratio
    away = between[:, None] - np.arange(-half + 1, half + 1)
    window = np.cos(np.pi * away / (2 * half + 1)) ** 2
    return (cut * np.sinc(cut * away) * window).astype(np.float32)


def _trimmed(wave: Wave) -> Wave:
    """Silence cut away before and after (60 dB beneath the loudest), loudest sample 0.9."""
    peak = np.abs(wave).max(initial=0.0)
    if peak < 1e-4:
        return wave[:0]
    loud = np.flatnonzero(np.abs(wave) > peak * 1e-3)
    cut = wave[max(0, loud[0] - 16) : loud[-1] + 1] / peak * 0.9
    fade = min(len(cut), 160)
    cut[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return cut


def speak(voice: Callable[[str, int], tuple[Wave, int]], sentences: Sequence[str], takes: int) -> list[Wave]:
    """Every sentence `takes` times. `voice(text, seed)` gives samples and their rate."""
    spoken = [voice(text, take) for take in range(takes) for text in sentences]
    return [_trimmed(resampled(wave.astype(np.float32), rate)) for wave, rate in spoken]
