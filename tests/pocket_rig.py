"""Toy data for the pocket models: three shapes in two styles, packed as `anyloom train data` packs pictures."""

import numpy as np

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
