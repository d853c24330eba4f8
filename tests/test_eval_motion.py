"""How a clip moves is measured by rule: true paths are called what they are."""

import random

import pytest
import torch

from anyloom.core.settings import load_settings
from anyloom.evaluation.judges import open_judges
from anyloom.evaluation.media import made
from anyloom.evaluation.motion import MOTIONS, motion
from anyloom.pocket.generators.paths import moved
from anyloom.training.pocket.judge import Judge
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


def test_without_a_judge_of_clips_the_pictures_judge_looks_at_frames_and_the_motion_is_measured(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "judge"
    folder.mkdir()
    Judge("image", 3, 1, {"concept": ["fish", "star"], "colour": ["red", "blue"], "style": ["flat"]}).save(
        folder / "judge-image.safetensors"
    )
    judges = open_judges(load_settings({"data_dir": tmp_path, "offline": True, "cache_dir": tmp_path / "none"}))
    data, _, name = made({"make": "clip", "shape": "fish", "colour": "red", "motion": "left"})
    (tmp_path / name).write_bytes(data)
    said = judges["video"].says(tmp_path / name)
    assert set(said) == {"concept", "colour", "motion"}
    assert said["motion"] == ("moving left", 1.0)
    assert said["concept"][0] in judges["video"].classes["concept"]
    assert set(MOTIONS) == set(judges["video"].classes["motion"])
    seen = judges["video"].features(tmp_path / name)
    assert len(seen) == len(judges["image"].seen(torch.zeros(1, 1, 3, 64, 64)))
    assert judges["video"].fingerprint != judges["image"].fingerprint
