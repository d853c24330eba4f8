"""The sound bank: one recorded note for every sixth key of every instrument, drums, effects and speech, packed.

    bank = Bank.read(folder)                        # bank.safetensors, some 25 MB
    note = bank.note(program=40, key=61)            # float32 at 16 kHz, moved to that pitch
    write_bank(folder, {"p040-060": wave, …})

Samples are 8 bits with one scale for every 64 of them (about 45 dB beneath the note's own loudness at
every moment), so that the bank travels in a tenth of the space that finished clips would need, and
any number of clips can be played from it where no synthesiser is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import InputError

RATE = 16_000
BLOCK = 64
FILE = "bank.safetensors"
Wave = np.ndarray[Any, np.dtype[np.float32]]


def pack(wave: Wave) -> tuple[np.ndarray, np.ndarray]:
    """Samples in -1…1 -> int8 (n,) and one float16 scale per block; the end is filled up with silence."""
    blocks = np.pad(wave, (0, -len(wave) % BLOCK)).reshape(-1, BLOCK)
    scales = np.maximum(np.abs(blocks).max(1), 6e-5).astype(np.float16)
    whole = np.rint(blocks / scales[:, None].astype(np.float32) * 127).clip(-127, 127).astype(np.int8)
    return whole.reshape(-1), scales


def unpack(whole: np.ndarray, scales: np.ndarray) -> Wave:
    """What `pack` made, as float32."""
    blocks = whole.reshape(-1, BLOCK).astype(np.float32) * (scales.astype(np.float32) / 127)[:, None]
    found: Wave = blocks.reshape(-1).astype(np.float32)
    return found


def write_waves(file: Path, waves: Mapping[str, Wave], facts: Mapping[str, Any]) -> None:
    """Many waves by name into one safetensors file; `facts` are kept in its header."""
    from safetensors.numpy import save_file

    names = sorted(waves)
    packed = [pack(waves[n]) for n in names]
    sizes = np.array([len(p[0]) for p in packed], np.int64)
    tensors = {
        "samples": np.concatenate([p[0] for p in packed]),
        "scales": np.concatenate([p[1] for p in packed]),
        "sizes": sizes,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, {"names": json.dumps(names), "facts": json.dumps(dict(facts))})


def read_waves(file: Path) -> tuple[dict[str, Wave], dict[str, Any]]:
    """What `write_waves` wrote: the waves by name, and the facts. InputError when the file is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            head = opened.metadata() or {}
            samples, scales, sizes = (opened.get_tensor(n) for n in ("samples", "scales", "sizes"))
        names, facts = json.loads(head["names"]), json.loads(head["facts"])
    except (OSError, SafetensorError, KeyError, ValueError) as e:
        raise InputError(f"'{file}' is no file of packed sounds; make it with `anyloom train sound-data`.") from e
    wave, found, at = unpack(samples, scales), {}, 0
    for name, size in zip(names, sizes.tolist(), strict=True):
        found[name] = wave[at : at + size]
        at += size
    return found, facts


class Bank:
    """Recorded notes by program and key; drums are program -1, speech has names of its own."""

    def __init__(self, waves: Mapping[str, Wave], facts: Mapping[str, Any] | None = None):
        self.facts = dict(facts or {})
        self.notes: dict[int, dict[int, Wave]] = {}
        self.speech: list[Wave] = []
        for name in sorted(waves):
            kind, _, rest = name.partition("-")
            if kind == "speech":
                self.speech.append(waves[name])
            else:
                self.notes.setdefault(-1 if kind == "drum" else int(kind[1:]), {})[int(rest)] = waves[name]

    @classmethod
    def read(cls, folder: Path) -> Bank:
        """The bank of a sound-data folder."""
        return cls(*read_waves(Path(folder) / FILE))

    def note(self, program: int, key: int) -> Wave:
        """The nearest recorded key, played faster or slower until it has the pitch asked for."""
        recorded = self.notes.get(program)
        if not recorded:
            raise InputError(
                f"The sound bank holds no program {program}; make it anew with `anyloom train sound-data`."
            )
        nearest = min(recorded, key=lambda k: (abs(k - key), k))
        wave = recorded[nearest]
        if nearest == key or program == -1:
            return wave
        ratio = 2 ** ((key - nearest) / 12)
        return np.interp(np.arange(0, len(wave) - 1, ratio), np.arange(len(wave)), wave).astype(np.float32)


def bank_name(program: int, key: int) -> str:
    """What a note is called in the bank."""
    return f"drum-{key:03d}" if program == -1 else f"p{program:03d}-{key:03d}"
