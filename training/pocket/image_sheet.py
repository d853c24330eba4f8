"""Sample sheets: many small pictures with their prompts in one PNG, for people to look at.

sheet(pictures, PROMPTS, Path("sheet.png"))
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

# In the vocabulary; then styles; then colours and pairs that were never trained on (manifest/splits.toml).
PROMPTS = (
    "red apple", "a dog face", "automobile", "sun", "a slice of pizza", "blue heart", "cat face", "a rocket",
    "banana", "soccer ball", "a house", "christmas tree", "hamburger", "guitar", "elephant", "tropical fish",
    "a rose", "snowman", "bicycle", "airplane", "key", "umbrella", "alarm clock", "octopus",
    "3d style strawberry", "3d style penguin", "3d style crown", "flat style red apple", "a puppy", "a burger",
    "a red sports car", "a happy face",
    "a purple apple", "a blue banana", "a pink car", "a purple elephant", "a green octopus", "an orange whale",
    "a cat and a pizza", "a dog and a rocket",
)  # fmt: skip
FILMED = (
    "a rocket moving up", "a red car moving left", "a soccer ball bouncing", "a fish moving right", "a star spinning",
    "a red heart pulsing", "a balloon rising", "an apple falling", "a ghost fading away", "a tree growing",
    "a bell swinging", "a blue banana moving down",
)  # fmt: skip


def sheet(pictures: Tensor, captions: Sequence[str], file: Path, columns: int = 8, scale: int = 2) -> None:
    """(n, 3, h, w) in -1…1, with a caption under each, as a PNG."""
    from PIL import Image, ImageDraw

    made = ((pictures.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    height, width = made.shape[1] * scale, made.shape[2] * scale
    below = 16 if any(captions) else 2
    rows = -(-len(made) // columns)
    page = Image.new("RGB", (columns * (width + 4), rows * (height + below)), "white")
    draw = ImageDraw.Draw(page)
    for n, picture in enumerate(made):
        x, y = n % columns * (width + 4), n // columns * (height + below)
        page.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS), (x, y))
        if captions[n]:
            draw.text((x + 2, y + height + 1), captions[n][: width // 6], fill="black")
    file.parent.mkdir(parents=True, exist_ok=True)
    page.save(file)
