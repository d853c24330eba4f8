"""Suites: the bundled one, files of one's own, and what is said of a bad one."""

import json

import pytest
from eval_rig import SUITE, suite

from anyloom.core.errors import InputError
from anyloom.evaluation.items import Item, read_suite
from anyloom.evaluation.media import COLOURS, MOTIONS, SHAPES, SOUNDS, made
from anyloom.evaluation.suites.pocket import pocket


def test_the_bundled_suite_is_whole():
    found = pocket()
    assert len(found.items) == len({i.id for i in found.items}) >= 100
    assert (
        {i.source for i in found.items}
        == {i.target for i in found.items}
        == {"text", "image", "audio", "video", "speech"}
    )
    assert found.sha256 == pocket().sha256
    for item in found.items:
        assert item.expect or item.words, item.id
        assert item.source == "text" or item.attach, item.id


def test_a_limit_is_spread_over_the_conversions():
    found = pocket().limited(40)
    assert len(found.items) == 40
    assert set(found.conversions) == set(pocket().conversions)
    assert pocket().limited(None) == pocket()
    assert [i.id for i in pocket().limited(2).items] == ["text-to-image-0", "text-to-video-0"]


def test_a_file_is_read_as_toml_and_as_json_lines(tmp_path):
    found = suite(tmp_path)
    assert [i.id for i in found.items] == ["heart", "star", "seen", "spoken"]
    assert found.items[0].expect == {"concept": ("heart",), "colour": ("blue",)}
    assert (found.items[3].wants, found.items[3].target) == ("audio", "speech")
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(i.to_json()) for i in found.items))
    assert read_suite(str(tmp_path / "mine.jsonl")).items == found.items


SEEN = "[[item]]\nid='a'\nconversion='image-to-text'\nrequest='x'\nmeaning='x'\n"
BAD = [
    ("", "holds no items"),
    ("[[item]", "is no TOML"),
    ("[suite]\nname='x'", "has 'suite'"),
    ("[item]\nid='a'", "two brackets"),
    ("[[item]]\nconversion='text-to-image'\nrequest='x'", "Item 1 of 'mine.toml' lacks 'id'"),
    ("[[item]]\nid='a'\nconversion='text2image'\nrequest='x'\nmeaning='x'", "conversion 'text2image'"),
    ("[[item]]\nid='a'\nconversion='text-to-smell'\nrequest='x'\nmeaning='x'", "text-to-smell"),
    ("[[item]]\nid='a'\nconversion='text-to-image'\nrequest='x'\nexpected={}", "did you mean 'expect'"),
    ("[[item]]\nid='a'\nconversion='text-to-image'\nrequest='x'", "says nothing of its answer"),
    ("[[item]]\nid='a'\nconversion='text-to-image'\nrequest='x'\nexpect={size='big'}", "must be a table with concept"),
    ("[[item]]\nid='a'\nconversion='text-to-image'\nrequest=7\nmeaning='x'", "'request' must be a text"),
    (SEEN + "attach=['a.png']", "list of tables"),
    (SEEN + "attach=[{file='a.png'}]", "no such file"),
    (SEEN + "attach=[{file='../a.png'}]", "own folder"),
    (SEEN + "attach=[{make='cake'}]", "neither a file nor"),
    (SEEN + "attach=[{make='picture',shape='hart',colour='red'}]", "'shape' of a picture is 'hart'"),
    (SUITE + SUITE, "Two items of 'mine.toml' are called 'heart'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_bad_suite_is_one_sentence(tmp_path, text, said):
    with pytest.raises(InputError) as fault:
        suite(tmp_path, text)
    assert said in str(fault.value)
    assert "\n" not in str(fault.value).strip()


def test_an_unknown_suite_names_the_known_one():
    with pytest.raises(InputError, match=r"no suite 'poket', did you mean 'pocket'\?"):
        read_suite("poket")
    with pytest.raises(InputError, match="cannot be read"):
        read_suite("nowhere.toml")


def test_a_line_that_is_no_json_is_named(tmp_path):
    with pytest.raises(InputError, match=r"Line 2 of 'mine.jsonl' is no JSON"):
        suite(tmp_path, json.dumps(pocket().items[0].to_json()) + "\n{", "mine.jsonl")


@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_pictures_are_the_same_each_time_and_hold_their_colour(shape, tmp_path):
    recipe = {"make": "picture", "shape": shape, "colour": "blue"}
    (tmp_path / "a.png").write_bytes(made(recipe)[0])
    assert made(recipe) == made(recipe)
    from PIL import Image

    colours = Image.open(tmp_path / "a.png").convert("RGB").getcolors(1 << 20)
    assert sum(n for n, c in colours if c == COLOURS["blue"]) > 5000


def test_sounds_and_clips_open(tmp_path):
    from anyloom.core.artifacts import ArtifactStore

    store = ArtifactStore(tmp_path)
    for kind in SOUNDS:
        data, media_type, name = made({"make": "sound", "kind": kind})
        (tmp_path / name).write_bytes(data)
        assert store.add_file(tmp_path / name).media_type == media_type
    for motion in MOTIONS[:2]:
        recipe = {"make": "clip", "shape": "fish", "colour": "red", "motion": motion}
        data, media_type, name = made(recipe)
        assert data == made(recipe)[0]
        (tmp_path / name).write_bytes(data)
        assert store.add_file(tmp_path / name).modality == "video"


def test_an_item_comes_back_from_json():
    for item in pocket().items:
        data = item.to_json()
        again = Item(**{**data, "attach": tuple(data["attach"]), "references": tuple(data["references"]),
                        "expect": {k: tuple(v) for k, v in data["expect"].items()}})  # fmt: skip
        assert again == item
