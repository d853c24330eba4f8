"""How a clip moves, by measuring it: a rule, not a model, so that nothing it says was learnt from anybody.

    motion(clip)            # (frames, 3, side, side) in -1…1 -> "moving left", …, "spinning", "still"

What differs from the ground is tracked: its centre, area, opacity and the way it lies. The names are those
of the captions (`training/pocket/encoders_pictures.MOTIONS`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOTIONS = (
    "moving left", "moving right", "moving up", "moving down", "bouncing", "growing", "shrinking", "fading away",
    "spinning", "still",
)  # fmt: skip
AWAY, LARGER, FAINTER = 0.28, 1.45, 0.45  # of half the side; of the size; of the opacity


def motion(clip: Tensor) -> str:
    """The one motion that rules."""
    from ..pocket.generators.paths import tracked

    way = tracked(clip)
    x, y, size, opacity = way[:, 0], way[:, 1], way[:, 2], way[:, 4]
    if opacity[-1] < FAINTER * opacity[0]:
        return "fading away"
    across, down = float(x[-1] - x[0]), float(y[-1] - y[0])
    if max(abs(across), abs(down)) > AWAY:
        if abs(across) > abs(down):
            return "moving right" if across > 0 else "moving left"
        return "moving down" if down > 0 else "moving up"
    ratio = float(size[-1] / size[0])
    if ratio > LARGER or ratio < 1 / LARGER:
        return "growing" if ratio > 1 else "shrinking"
    if float(y.max() - y.min()) > AWAY:
        return "bouncing"
    return "spinning" if turned(clip) > 0.12 else "still"


def turned(clip: Tensor) -> float:
    """How much of the picture changes within its own outline, from frame to frame: 0 for what stands still."""
    steps = (clip[1:] - clip[:-1]).abs().amax(1).mean((1, 2))
    ink = (clip - clip[:, :, :1, :1]).abs().amax(1).mean((1, 2))
    return float(steps.mean() / ink.mean().clamp(min=1e-3))
