"""Which files a request may use, and foreign tool lists."""

import json

import pytest

from anyloom.controller.files import absent_files, modality_of, named_files
from anyloom.controller.toollist import read_tools
from anyloom.core.errors import InputError


def test_attached_names_come_first_then_those_in_the_text():
    text = "I have 'my song.mp3' and example.jpg; see https://www.example.com/other.jpg too."
    assert named_files(text, ["b.mp4"]) == {"b.mp4": "video", "my song.mp3": "audio", "example.jpg": "image"}


def test_an_unknown_extension_is_refused():
    with pytest.raises(InputError, match="no extension"):
        modality_of("virus.exe")


def test_a_tool_list_in_taskbench_form(tmp_path):
    node = {
        "id": "Image Stitcher",
        "desc": "Joins pictures.",
        "input-type": ["image", "image"],
        "output-type": ["image"],
    }
    file = tmp_path / "tools.json"
    file.write_text(json.dumps({"nodes": [node]}))
    (tool,) = read_tools(file)
    assert tool.signature() == "image, image -> image"
    assert [p.name for p in tool.params] == ["image", "image2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("{}", "has no 'nodes'"),
        ('{"nodes": [{"desc": "x"}]}', "has no 'id'"),
        ('{"nodes": [{"id": "a", "input-type": "text"}]}', "lists of type names"),
        ('{"nodes": [{"id": "a"}, {"id": "a"}]}', "'a' twice"),
    ],
)
def test_a_broken_tool_list_is_one_sentence(tmp_path, content, said):
    file = tmp_path / "tools.json"
    file.write_text(content)
    with pytest.raises(InputError, match=said):
        read_tools(file)
    with pytest.raises(InputError, match="There is no tool list"):
        read_tools(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("transcribe nothing.wav", ["image.png"], ["nothing.wav"]),
        ("describe 'my cat.png' and dog.jpg", ["dog.jpg"], ["my cat.png"]),
        ("describe Cat.PNG", ["cat.png"], []),
        ("draw a cat and save it as cat.png", [], []),
        ("speak this into hello.wav: good morning", [], []),
        ("summarize notes.txt", [], []),
        ("describe https://example.org/a.png", [], []),
        ("what does photo.png show?", ["folder/photo.png"], []),
        ("draw a cat", [], []),
    ],
)
def test_a_file_that_is_to_be_read_and_is_not_there_is_found(text, present, absent):
    assert absent_files(text, present) == absent
