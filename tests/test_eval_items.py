"""Suites: the bundled one, files of one's own, and what is said of a bad one."""

import json
from pathlib import Path

import pytest
from eval_rig import SUITE, suite

from anyloom.core.artifacts import ArtifactStore
from anyloom.core.errors import InputError
from anyloom.evaluation.items import Item, read_suite
from anyloom.evaluation.media import COLOURS, MOTIONS, SHAPES, SOUNDS, made
from anyloom.evaluation.suites.held_out import build
from anyloom.evaluation.suites.shapes import shapes

DOCS = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_bundled_suite_is_whole():
    found = shapes()
    assert len(found.items) == len({i.id for i in found.items}) >= 100
    assert (
        {i.source for i in found.items}
        == {i.target for i in found.items}
        == {"text", "image", "audio", "video", "speech"}
    )
    assert found.sha256 == shapes().sha256
    for item in found.items:
        assert item.expect or item.words, item.id
        assert item.source == "text" or item.attach, item.id


def test_the_suite_of_second_requests_is_whole():
    found = read_suite("turns")
    assert len({i.id for i in found.items}) == len(found.items) == 168
    assert len({(i.before, i.request) for i in found.items}) == 168
    for item in found.items:
        assert len(item.before) == 1
        assert item.expect["concept"]
        assert "{" not in f"{item.before}{item.request}"
        if item.conversion == "image-to-image":
            (colour,) = item.expect["colour"]
            assert colour in item.request
            assert colour not in item.before[0]
    assert f"`turns` ({len(found.items)} second requests" in DOCS
    assert Item("a", "text-to-text", "b").to_json().get("before") is None


def test_the_suite_of_what_was_held_out_is_whole_and_its_files_can_be_used(tmp_path):
    found = read_suite("pocket")
    assert len(found.items) == len({i.id for i in found.items}) > 200
    assert len(found.conversions) == 19
    store = ArtifactStore(tmp_path)
    for item in found.items:
        assert item.expect or item.words, item.id
        for one in item.attach:
            assert "make" in one or store.add_file(found.folder / one["file"]).modality == item.source
    kinds = {k for i in found.items for k in i.expect}
    assert kinds == {"concept", "colour", "motion"}
    assert f"{len(found.items)} items over {len(found.conversions)} conversions" in DOCS


def test_a_suite_is_made_of_what_is_held_out_and_of_nothing_else(tmp_path):
    media = tmp_path / "media"
    rows = []
    for split in ("train", "test"):
        for n in range(6):
            thing = ["dog", "violin", "house", "tree", "fish", "heart"][n]
            for modality, ending, style in (("image", "png", "noto"), ("video", "mp4", "noto"), ("audio", "wav", "up")):
                voice = ["violin", "piano", "harp", "flute", "siren", "wind"][n]
                name = f"{modality}-{split}-{'scene-' if n % 2 else ''}{n}"
                concept = voice if modality == "audio" else thing
                caption = f"a blue {thing} moving left" if modality == "video" else f"a blue {concept}"
                rows.append({"id": name, "concept": concept, "style": style, "caption": caption, "modality": modality,
                             "file": f"{modality}/{name}.{ending}", "split": split})  # fmt: skip
                file = media / rows[-1]["file"]
                file.parent.mkdir(parents=True, exist_ok=True)
                made_of = {"image": ("picture", {"shape": "heart", "colour": "blue"}),
                           "video": ("clip", {"shape": "heart", "colour": "blue", "motion": "left"}),
                           "audio": ("sound", {"kind": "siren"})}[modality]  # fmt: skip
                file.write_bytes(made({"make": made_of[0], **made_of[1]})[0])
    (media / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    build(media, tmp_path / "out", each=4)
    found = read_suite(str(tmp_path / "out" / "pocket.jsonl"))
    files = [a["file"] for i in found.items for a in i.attach if "file" in a]
    assert files
    assert all("-test-" in f for f in files)
    clip = next(i for i in found.items if i.conversion == "video-to-text")
    assert clip.expect["colour"] == ("blue",)
    assert clip.expect["motion"] == ("moving left", "left")
    assert "motion" not in next(i for i in found.items if i.conversion == "video-to-image").expect
    linked = next(i for i in found.items if i.conversion == "audio-to-image")
    assert linked.expect["concept"] != (), "what makes the sound is what must be drawn"
    (media / "manifest.jsonl").write_text("".join(json.dumps({**r, "split": "train"}) + "\n" for r in rows))
    with pytest.raises(InputError, match="nothing of the split 'test'"):
        build(media, tmp_path / "none")


def test_a_limit_is_spread_over_the_conversions():
    found = shapes().limited(40)
    assert len(found.items) == 40
    assert set(found.conversions) == set(shapes().conversions)
    assert shapes().limited(None) == shapes()
    assert [i.id for i in shapes().limited(2).items] == ["text-to-image-0", "text-to-video-0"]


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
        suite(tmp_path, json.dumps(shapes().items[0].to_json()) + "\n{", "mine.jsonl")


@pytest.mark.parametrize("shape", SHAPES)
def test_drawn_pictures_are_the_same_each_time_and_hold_their_colour(shape, tmp_path):
    recipe = {"make": "picture", "shape": shape, "colour": "blue"}
    (tmp_path / "a.png").write_bytes(made(recipe)[0])
    assert made(recipe) == made(recipe)
    from PIL import Image

    colours = Image.open(tmp_path / "a.png").convert("RGB").getcolors(1 << 20)
    assert sum(n for n, c in colours if c == COLOURS["blue"]) > 5000


def test_sounds_and_clips_open(tmp_path):

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
    for item in shapes().items:
        data = item.to_json()
        again = Item(**{**data, "attach": tuple(data["attach"]), "references": tuple(data["references"]),
                        "expect": {k: tuple(v) for k, v in data["expect"].items()}})  # fmt: skip
        assert again == item
