"""Toy data for the pocket models: three shapes in two styles and tones for instruments, packed as the commands do."""

import json
from dataclasses import asdict

import numpy as np

from anyloom.training.pocket.audio_bank import Bank, bank_name, write_waves
from anyloom.training.pocket.audio_render import render
from anyloom.training.pocket.audio_scenes import plainest
from anyloom.training.pocket.audio_voices import DRUM, VOICES
from anyloom.training.pocket.data import Item, write_array, write_part

NAMES = {"1": "red ball", "2": "blue box", "3": "green hill"}
STYLES = ("fluent", "noto")


def shape(concept, style):
    """RGBA 64x64: a disc, a box or a half disc; one style has a dark rim."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    inside = {"1": x**2 + y**2 < 0.6, "2": (abs(x) < 0.7) & (abs(y) < 0.7), "3": (x**2 + y**2 < 0.7) & (y > -0.1)}[
        concept
    ]
    colour = {"1": (220, 40, 40), "2": (40, 80, 220), "3": (40, 180, 60)}[concept]
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[inside] = (*colour, 255)
    if style == "noto":
        picture[inside & (x > 0.3)] = (*(c // 2 for c in colour), 255)
    return picture


def toy_data(folder):
    """Writes pictures, clips and the manifest; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    items, pictures = [], []
    for concept, name in NAMES.items():
        for style in STYLES:
            split = "heldout-style" if (concept, style) == ("3", "noto") else "train"
            items.append(
                Item(
                    f"{style}/{concept}",
                    concept,
                    style,
                    name,
                    "image",
                    "pictures.npy",
                    len(items),
                    "CC0-1.0",
                    "toy",
                    split,
                    (name.split()[1], "thing"),
                    "Objects",
                    1.0,
                )
            )
            pictures.append(shape(concept, style))
    clip = Item(
        "moving/fluent/1", "1", "fluent", "red ball", "video", "clips.npy", 0, "CC0-1.0", "toy", "train", (), "Objects"
    )
    write_array(folder, "pictures.npy", np.stack(pictures))
    write_array(folder, "clips.npy", np.repeat(pictures[0][None, None], 16, 1))
    write_part(folder, "pictures", [*items, clip], {"toy": {"licence": "CC0-1.0"}})
    return folder


def toy_sounds(folder):
    """Writes a sound-data folder whose instruments are decaying tones, without a synthesiser; returns the folder."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    waves = {f"speech-{n:03d}": 0.3 * rng.standard_normal(16_000).astype(np.float32) for n in range(2)}
    time = np.arange(12_000) / 16_000
    for voice in VOICES.values():
        for number in voice.programs:
            drum = voice.kind == DRUM and number > 0
            program, key = (-1, number) if drum else (abs(number), 60)
            tone = np.sin(2 * np.pi * (110 + 7 * abs(number)) * time) * np.exp(-4 * time)
            waves[bank_name(program, key)] = (0.8 * tone).astype(np.float32)
    for key in (36, 38, 42):
        waves.setdefault(bank_name(-1, key), (0.8 * np.exp(-20 * time)).astype(np.float32))
    write_waves(folder / "bank.safetensors", waves, {})
    bank = Bank(waves)
    chosen = [plainest(name) for name in ("violin", "snare drum", "white noise", "siren")]
    rows = [{"id": f"test-{n}", "scene": asdict(s)} for n, s in enumerate(chosen)]
    write_waves(folder / "test.safetensors", {f"test-{n}": render(s, bank, 50 + n) for n, s in enumerate(chosen)}, {})
    (folder / "test.json").write_text(json.dumps(rows))
    return folder
