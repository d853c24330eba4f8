"""How a clip moves is measured by rule: true paths are called what they are."""

import random

import pytest
import torch

from anyloom.evaluation.motion import motion
from anyloom.pocket.generators.paths import moved
from anyloom.training.pocket.video_scenes import PATHS

NAMES = {
    "left": "moving left", "right": "moving right", "up": "moving up", "down": "moving down", "grow": "growing",
    "shrink": "shrinking", "vanish": "fading away", "bounce": "bouncing", "spin": "spinning", "still": "still",
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_a_path_is_called_what_it_is(kind):
    picture = torch.ones(3, 64, 64)
    picture[0, 14:50, 20:34] = -0.6
    picture[2, 24:36, 14:50] = -0.8
    said = [motion(moved(picture, torch.tensor(PATHS[kind](random.Random(n))))) for n in range(8)]
    assert said.count(NAMES[kind]) >= 7, said
