"""Clips played from the sound bank, or synthesised: a scene and a seed give 3.072 s at 16 kHz.

wave = render(scene, bank, seed)                       # float32 (49152,), loudest sample about 0.7
waves = render_many([(scene, seed), …], folder, workers=16)    # int16 (n, 49152)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from .audio_bank import RATE, Bank, Wave
from .audio_scenes import SECONDS, Note, Scene, notes
from .audio_voices import SPEECH, SYNTH, VOICES

SAMPLES = 49_152
RELEASE = 0.09  # seconds in which a note dies away when it is let go
assert round(SECONDS * RATE) == SAMPLES


def render(scene: Scene, bank: Bank, seed: int) -> Wave:
    """The scene as one of many ways it can sound."""
    rng = np.random.default_rng([seed, 7])
    kind = VOICES[scene.voice].kind
    if kind == SYNTH:
        wave = SYNTHS[scene.voice](scene, rng)
    elif kind == SPEECH:
        wave = _speech(bank, rng)
    else:
        wave = mix(notes(scene, rng), bank)
    return finished(wave, rng)


def finished(wave: Wave, rng: Generator) -> Wave:
    """Cut to length, faded at both ends, at a loudness that varies a little."""
    wave = np.pad(wave[:SAMPLES], (0, max(0, SAMPLES - len(wave)))).astype(np.float32)
    fade = 400
    wave[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    wave[:80] *= np.linspace(0, 1, 80, dtype=np.float32)
    return wave / max(1e-4, float(np.abs(wave).max())) * float(rng.uniform(0.55, 0.9))


def mix(line: Sequence[Note], bank: Bank) -> Wave:
    """Notes from the bank, added up."""
    out = np.zeros(SAMPLES + RATE, np.float32)
    for note in line:
        start = int(note.start * RATE)
        wave = bank.note(note.program, note.key)
        if note.program != -1:  # drums ring as long as they ring
            held = int(note.length * RATE)
            release = int(RELEASE * RATE)
            wave = wave[: held + release].copy()
            if len(wave) > held:
                tail = len(wave) - held
                wave[held:] *= np.exp(-5 * np.arange(tail, dtype=np.float32) / release)
        wave = wave[: len(out) - start]
        out[start : start + len(wave)] += wave * (note.velocity / 127) ** 1.6
    return out


def _speech(bank: Bank, rng: Generator) -> Wave:
    """A stretch of the voice, a little faster or slower."""
    wave = bank.speech[int(rng.integers(len(bank.speech)))]
    ratio = float(rng.uniform(0.94, 1.07))
    wave = np.interp(np.arange(0, len(wave) - 1, ratio), np.arange(len(wave)), wave)
    shift = int(rng.integers(0, max(1, len(wave) - RATE)) * rng.choice([0, 0, 1]))
    return np.pad(wave[shift:], (int(rng.uniform(0.02, 0.25) * RATE), 0)).astype(np.float32)


# -- synthesised sounds ----------------------------------------------------------------------------


def _hertz(scene: Scene, rng: Generator) -> float:
    low, high = {"": (300, 1200), "low": (90, 250), "high": (1500, 3200)}[scene.register]
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _time() -> np.ndarray:
    return np.arange(SAMPLES) / RATE


def _phase(hertz: np.ndarray) -> np.ndarray:
    return 2 * np.pi * np.cumsum(hertz) / RATE


def _tone(scene: Scene, rng: Generator) -> Wave:
    return np.sin(2 * np.pi * _hertz(scene, rng) * _time()).astype(np.float32)


def _buzz(scene: Scene, rng: Generator) -> Wave:
    """A saw or square wave, summed from what lies below half the rate."""
    hertz, square = _hertz(scene, rng) / 2, bool(rng.integers(2))
    order = range(1, int(7000 / hertz) + 1, 2 if square else 1)
    return sum((np.sin(2 * np.pi * hertz * n * _time()) / n for n in order), np.zeros(SAMPLES)).astype(np.float32)


def _sweep(scene: Scene, rng: Generator) -> Wave:
    low, high = float(rng.uniform(120, 300)), float(rng.uniform(2200, 5000))
    seconds = {"slow": 2.8, "": 1.7, "fast": 0.6}[scene.tempo] * float(rng.uniform(0.9, 1.05))
    way = np.clip(_time() / seconds, 0, 1)
    way = way if scene.pattern == "up" else 1 - way
    sound = np.sin(_phase(low * (high / low) ** way))
    return (sound * np.clip((seconds - _time()) / 0.03, 0, 1)).astype(np.float32)


def _noise(slope: float) -> Callable[[Scene, Any], Wave]:
    """Noise whose power falls with frequency to the power of `slope`: 0 white, 1 pink, 2 brown."""

    def make(scene: Scene, rng: Generator) -> Wave:
        bins = np.fft.rfft(rng.standard_normal(SAMPLES))
        hertz = np.maximum(np.fft.rfftfreq(SAMPLES, 1 / RATE), 30)
        return np.fft.irfft(bins * hertz ** (-slope / 2)).astype(np.float32)

    return make


def _wind(scene: Scene, rng: Generator) -> Wave:
    """Noise through a band whose middle wanders, in gusts."""
    knots = np.interp(np.linspace(0, 6, SAMPLES), np.arange(7), rng.uniform(250, 900, 7))
    gusts = np.interp(np.linspace(0, 5, SAMPLES), np.arange(6), rng.uniform(0.3, 1.0, 6))
    noise = _noise(1.0)(scene, rng)  # type: ignore[operator]  # the maker above
    carrier = np.sin(_phase(knots))
    slow = np.convolve(noise, np.hanning(160) / 80, "same")
    return ((carrier * slow + 0.3 * slow) * gusts).astype(np.float32)


def _beeps(scene: Scene, rng: Generator) -> Wave:
    period = {"slow": 0.85, "fast": 0.22}[scene.tempo] * float(rng.uniform(0.9, 1.1))
    inside = (_time() % period) / period < 0.5
    soft = np.convolve(inside, np.ones(64) / 64, "same")
    return (np.sin(2 * np.pi * _hertz(scene, rng) * _time()) * soft).astype(np.float32)


def _siren(scene: Scene, rng: Generator) -> Wave:
    period = {"slow": 1.7, "fast": 0.45}[scene.tempo] * float(rng.uniform(0.9, 1.1))
    low = float(rng.uniform(450, 650))
    swing = 0.5 + 0.5 * np.sin(2 * np.pi * _time() / period - 1.5)
    phase = _phase(low * float(rng.uniform(1.7, 2.2)) ** swing)
    return (np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)).astype(np.float32)


def _laser(scene: Scene, rng: Generator) -> Wave:
    period = {"slow": 0.95, "fast": 0.3}[scene.tempo] * float(rng.uniform(0.9, 1.1))
    at = _time() % period
    hertz = 200 + float(rng.uniform(2000, 3500)) * np.exp(-at / (0.07 if scene.tempo == "fast" else 0.15))
    return (np.sign(np.sin(_phase(hertz))) * 0.5 + np.sin(_phase(hertz))).astype(np.float32) * np.exp(
        -at / (0.6 * period)
    ).astype(np.float32)


def _heartbeat(scene: Scene, rng: Generator) -> Wave:
    period = {"slow": 1.15, "fast": 0.5}[scene.tempo] * float(rng.uniform(0.92, 1.08))
    at, second = _time() % period, 0.28 * period

    def thump(after: np.ndarray, hertz: float) -> np.ndarray:
        return np.where(after >= 0, np.exp(-after / 0.045) * np.sin(2 * np.pi * hertz * np.maximum(after, 0)), 0)

    return (thump(at, float(rng.uniform(52, 68))) + 0.7 * thump(at - second, float(rng.uniform(62, 80)))).astype(
        np.float32
    )


def _clock(scene: Scene, rng: Generator) -> Wave:
    period = {"slow": 1.0, "fast": 0.26}[scene.tempo] * float(rng.uniform(0.92, 1.08))
    out = np.zeros(SAMPLES + RATE, np.float32)
    after = np.arange(900) / RATE
    tones = rng.uniform(1900, 3200), rng.uniform(1500, 2500)
    for n, start in enumerate(np.arange(0.05, SECONDS - 0.1, period)):
        tick = np.exp(-after / 0.006) * np.sin(2 * np.pi * tones[n % 2] * after)
        at = int(start * RATE)
        out[at : at + 900] += tick.astype(np.float32)
    return out


SYNTHS: dict[str, Callable[[Scene, Any], Wave]] = {
    "pure tone": _tone, "buzz": _buzz, "sweep": _sweep, "white noise": _noise(0), "pink noise": _noise(1),
    "brown noise": _noise(2), "wind": _wind, "beeps": _beeps, "siren": _siren, "laser": _laser,
    "heartbeat": _heartbeat, "ticking clock": _clock,
}  # fmt: skip


# -- many ------------------------------------------------------------------------------------------


def render_many(wanted: Sequence[tuple[Scene, int]], folder: Path, workers: int = 1) -> np.ndarray:
    """int16 (n, SAMPLES), the same whatever the number of processes."""
    if workers <= 1 or len(wanted) < 64:
        return _some(list(wanted), folder)
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    size = -(-len(wanted) // (4 * workers))
    parts = [list(wanted[at : at + size]) for at in range(0, len(wanted), size)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return np.concatenate(list(pool.map(_some, parts, [folder] * len(parts))))


_banks: dict[Path, Bank] = {}


def _some(wanted: list[tuple[Scene, int]], folder: Path) -> np.ndarray:
    if folder not in _banks:
        _banks.clear()
        _banks[folder] = Bank.read(folder)
    waves = [render(scene, _banks[folder], seed) for scene, seed in wanted]
    return (np.stack(waves) * 32767).astype(np.int16)
