"""The sounds that pocket-audio knows: General MIDI instruments, drums and effects, synthesised sounds, speech.

    VOICES["violin"].programs, VOICES["violin"].keys      # which presets play it, and in which range

Presets that an ear cannot tell apart are one voice (three organs are "an organ"), and presets that
nobody has a word for (most synthesiser pads) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

MELODIC, DRUM, EFFECT, SYNTH, SPEECH, BEAT = "melodic", "drum", "effect", "synth", "speech", "beat"


@dataclass(frozen=True)
class Voice:
    """One class of sound. `programs`: General MIDI programs from 0, or keys of the drum channel.

    `keys`: the lowest and the highest MIDI key it plays; `chords`: whether it can sound several at once;
    `patterns`: what a synthesised sound can do (see `audio_scenes.py`).
    """

    name: str
    kind: str
    programs: tuple[int, ...] = ()
    keys: tuple[int, int] = (48, 84)
    chords: bool = False
    patterns: tuple[str, ...] = ()
    mass: bool = False  # "wind", not "a wind"

    def said(self) -> str:
        """With its article."""
        return self.name if self.mass else f"{'an' if self.name[0] in 'aeiou' else 'a'} {self.name}"


def _melodic() -> list[Voice]:
    rows: list[tuple[str, tuple[int, ...], int, int, bool]] = [
        ("piano", (0, 1), 36, 90, True),
        ("electric piano", (4, 5), 36, 84, True),
        ("harpsichord", (6,), 36, 84, True),
        ("celesta", (8,), 60, 96, True),
        ("glockenspiel", (9,), 72, 96, False),
        ("music box", (10,), 60, 96, True),
        ("vibraphone", (11,), 53, 89, True),
        ("marimba", (12,), 48, 84, False),
        ("xylophone", (13,), 60, 96, False),
        ("tubular bells", (14,), 55, 79, False),
        ("dulcimer", (15,), 55, 84, True),
        ("organ", (16, 18), 36, 84, True),
        ("church organ", (19,), 36, 84, True),
        ("accordion", (21, 23), 53, 84, True),
        ("harmonica", (22,), 60, 84, True),
        ("acoustic guitar", (24, 25), 40, 76, True),
        ("electric guitar", (26, 27), 40, 76, True),
        ("distorted guitar", (29, 30), 40, 72, True),
        ("bass guitar", (33, 34), 28, 52, False),
        ("synth bass", (38, 39), 28, 52, False),
        ("violin", (40,), 55, 91, False),
        ("cello", (42,), 36, 67, False),
        ("double bass", (43,), 28, 48, False),
        ("plucked strings", (45,), 43, 84, False),
        ("harp", (46,), 40, 91, True),
        ("timpani", (47,), 36, 55, False),
        ("string orchestra", (48, 49), 40, 84, True),
        ("choir", (52, 53), 48, 79, True),
        ("trumpet", (56,), 55, 82, False),
        ("trombone", (57,), 40, 70, False),
        ("tuba", (58,), 28, 55, False),
        ("muted trumpet", (59,), 55, 82, False),
        ("french horn", (60,), 41, 74, False),
        ("brass section", (61,), 43, 79, True),
        ("saxophone", (65, 66), 46, 80, False),
        ("oboe", (68,), 58, 86, False),
        ("bassoon", (70,), 34, 67, False),
        ("clarinet", (71,), 50, 86, False),
        ("piccolo", (72,), 74, 100, False),
        ("flute", (73,), 60, 93, False),
        ("recorder", (74,), 60, 91, False),
        ("pan flute", (75,), 60, 91, False),
        ("whistling", (78,), 65, 91, False),
        ("ocarina", (79,), 60, 88, False),
        ("synthesizer", (80, 81), 41, 84, True),
        ("sitar", (104,), 45, 76, False),
        ("banjo", (105,), 48, 84, True),
        ("koto", (107,), 48, 84, False),
        ("kalimba", (108,), 55, 84, False),
        ("bagpipe", (109,), 55, 79, False),
        ("steel drum", (114,), 55, 84, False),
    ]
    several = {"tubular bells", "plucked strings", "whistling"}
    return [Voice(name, MELODIC, p, (low, high), chords, mass=name in several) for name, p, low, high, chords in rows]


def _drums() -> list[Voice]:
    rows: list[tuple[str, tuple[int, ...]]] = [
        ("bass drum", (35, 36)), ("snare drum", (38, 40)), ("hand clap", (39,)), ("hi-hat", (42, 44)),
        ("tom drum", (45, 48)), ("crash cymbal", (49, 57)), ("ride cymbal", (51, 59)), ("tambourine", (54,)),
        ("cowbell", (56,)), ("bongo", (60, 61)), ("conga", (63, 64)), ("agogo bell", (67, 68)), ("shaker", (69, 70)),
        ("referee whistle", (72,)), ("guiro", (73, 74)), ("claves", (75,)), ("woodblock", (76, 77)),
        ("cuica", (78, 79)), ("triangle", (81,)),
    ]  # fmt: skip
    return [Voice(name, DRUM, keys, mass=name == "claves") for name, keys in rows] + [Voice("drum beat", BEAT)]


def _effects() -> list[Voice]:
    return [
        Voice("taiko drum", DRUM, (-116,)),  # negative: a melodic program, played like a drum
        Voice("sea waves", EFFECT, (122,), mass=True), Voice("birdsong", EFFECT, (123,), mass=True),
        Voice("telephone", EFFECT, (124,)), Voice("helicopter", EFFECT, (125,)),
        Voice("applause", EFFECT, (126,), mass=True), Voice("gunshot", DRUM, (-127,)),
    ]  # fmt: skip


def _synths() -> list[Voice]:
    steady, timed = ("steady",), ("slow", "fast")
    return [
        Voice("pure tone", SYNTH, patterns=steady), Voice("buzz", SYNTH, patterns=steady),
        Voice("sweep", SYNTH, patterns=("up", "down")), Voice("white noise", SYNTH, patterns=steady, mass=True),
        Voice("pink noise", SYNTH, patterns=steady, mass=True), Voice("brown noise", SYNTH, patterns=steady, mass=True),
        Voice("wind", SYNTH, patterns=steady, mass=True), Voice("beeps", SYNTH, patterns=timed, mass=True),
        Voice("siren", SYNTH, patterns=timed), Voice("laser", SYNTH, patterns=timed),
        Voice("heartbeat", SYNTH, patterns=timed), Voice("ticking clock", SYNTH, patterns=timed),
    ]  # fmt: skip


VOICES: dict[str, Voice] = {
    v.name: v for v in [*_melodic(), *_drums(), *_effects(), *_synths(), Voice("speech", SPEECH, mass=True)]
}
