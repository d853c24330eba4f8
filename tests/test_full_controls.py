"""The guides that ControlNets draw along: what is drawn, and where."""

import io

import numpy as np
import pytest
import torch
from full_rig import hub, made, ready_expert, registry, things  # noqa: F401  # fixtures
from PIL import Image

from anyloom.core.errors import ExpertError
from anyloom.tools.contracts import Run
from anyloom.tools.experts.full.control_pictures import figures, hed


def pixels(output):
    return np.asarray(Image.open(io.BytesIO(output.data)))


@pytest.mark.parametrize("name", ["canny", "line-segments", "hed", "dpt-normals", "vitpose-base"])
def test_a_guide_has_the_size_of_the_picture(made, name):
    assert pixels(made(name)).shape == (40, 60, 3)


@pytest.mark.parametrize("name", ["canny", "line-segments"])
def test_the_sides_of_the_box_are_found_and_nothing_else(made, name):
    drawn = pixels(made(name))[:, :, 0] > 0
    assert drawn.any()
    beyond = drawn.copy()
    beyond[7:34, 7:34] = False
    assert not beyond.any(), "the box is at 10 to 30"
    assert not drawn[14:27, 14:27].any(), "it is of one colour within"


def test_normals_of_a_flat_background_look_at_the_viewer(registry, hub, things):
    expert = ready_expert(registry, hub, "dpt-normals", background=1.0)
    seen = pixels(expert.run(things, Run())[0]).reshape(-1, 3)
    assert (seen[:, :2] >= 126).mean() > 0.9
    assert (seen[:, 2] > 250).mean() > 0.9


def test_the_net_of_hed_has_the_size_of_vgg_and_its_five_maps():
    vgg, maps = 14_714_688, sum(width + 1 for width in (64, 128, 256, 512, 512))
    assert sum(p.numel() for p in hed().parameters()) == vgg + maps + 3


def test_a_figure_has_its_limbs_where_the_joints_are():
    joints = torch.zeros(17, 2)
    joints[5], joints[6], joints[11] = (
        torch.tensor([40.0, 20.0]),
        torch.tensor([20.0, 20.0]),
        torch.tensor([30.0, 60.0]),
    )
    scores = torch.zeros(17)
    scores[[5, 6, 11]] = 0.9
    drawn = figures([{"labels": torch.arange(17), "keypoints": joints, "scores": scores}], (64, 80), 0.3)
    assert drawn.shape == (80, 64, 3)
    assert drawn[20, 20:41].any(axis=1).all(), "from shoulder to shoulder, through the neck"
    assert drawn[20:61, 30].any(axis=1).all(), "from the neck to the hip"
    assert not drawn[70:].any()
    assert not drawn[:15].any(), "joints that are not sure are left out"


def test_a_picture_without_people_is_one_sentence(registry, hub, things):
    expert = ready_expert(registry, hub, "vitpose-base", least=1.0)
    with pytest.raises(ExpertError, match="Nobody was found"):
        expert.run(things, Run())
