"""Follow-ups are planned as the requests they stand for; what is none is left alone."""

import time

import pytest

from anyloom.controller.base import PlanRequest, Turn
from anyloom.controller.followups import again, alone, spoken_of
from anyloom.core.artifacts import Artifact

PICTURE = Artifact("image", "image/png", "0" * 64, "picture.png", 9)
WORDS = Artifact("text", "text/plain", "1" * 64, "t.txt", 9)


def said(*requests, made=PICTURE, files=None):
    """The last of some requests, alone."""
    history = [Turn(r, "", (made,)) for r in requests[:-1]]
    there = {made.name: made.modality} if files is None else files
    return alone(PlanRequest(requests[-1], there, tuple(history)))


@pytest.mark.parametrize(
    ("before", "then", "meant"),
    [
        ("draw a red cat", "draw it again in blue", "draw a blue cat"),
        ("draw a cat", "Now make it orange, please!", "draw an orange cat"),
        ("draw an apple", "a green one", "draw a green apple"),
        ("draw an orange cat", "paint it blue", "draw a blue cat"),
        ("Draw me a picture of two cats.", "could you do it in pink?", "Draw me a picture of two pink cats."),
        ("draw cats", "in blue", "draw blue cats"),
        ("make a clip of a rocket", "the same in dark red", "make a clip of a dark red rocket"),
        ("draw a red cat", "what about a dog?", "draw a dog"),
        ("play a violin", "now a piano instead", "play a piano"),
        ("draw a cat", "as a line drawing", "draw a cat as a line drawing"),
        ("draw a cat in flat style", "now in pixel style", "draw a cat in pixel style"),
        ("draw a cat", "with a hat", "draw a cat with a hat"),
        ("draw a cat", "another one, please", "draw a cat"),
        ("draw a red cat", "hmm, id rather have it black", "draw a black cat"),
        ("draw a red cat", "yellow would be nicer", "draw a yellow cat"),
        ("draw a red cat", "not that, I meant two dogs", "draw two dogs"),
        ("draw a red cat", "put a hat on it", "draw a red cat with a hat"),
        ("draw a red cat", "Now draw a blue dog, please", "draw a blue dog"),
        ("draw a red cat", "ooh, can we get it moving?", "make a video of a red cat"),
        ("draw a violin", "let me hear it", "make the sound of a violin"),
        ("draw a cat", "Try again.", "draw a cat"),
    ],
)
def test_changes_of_what_was_made(before, then, meant):
    request = said(before, then)
    assert (request.text, dict(request.files)) == (meant, {})


@pytest.mark.parametrize(
    ("before", "files"),
    [
        ("make a video of a white fish moving left, describe it, and say it aloud", {}),
        ("tell me a joke", {}),
        ("make it black and white", {"picture.png": "image"}),
        ("what is in cat.png?", {"picture.png": "image"}),
    ],
)
def test_another_one_is_the_same_request_over_the_same_files(before, files):
    for made in (PICTURE, WORDS):
        history = (Turn(before, "", (made,)),)
        request = alone(PlanRequest("another one", {"picture.png": "image"}, history))
        assert (request.text, dict(request.files)) == (before, files)


def test_what_a_request_speaks_of():
    assert spoken_of("make it black and white") == spoken_of("rotate it by 90 degrees") == {"image"}
    assert spoken_of("turn the picture upside down") == {"image"}
    assert spoken_of("what is in the video?") == {"video"}
    assert spoken_of("describe the sound and the picture") == {"audio", "image"}
    assert spoken_of("read it to me") == spoken_of("draw a cat") == spoken_of("make a video of a cat") == set()


def test_changes_add_up():
    request = said("draw a cat", "make it blue", "with a hat", "again", "a dog instead", "in 3d")
    assert request.text == "draw a dog in 3d"


def test_what_was_made_of_the_thing_is_changed_too():
    assert said("draw a red cat.", "make a video of it", "what about a dog?").text == "make a video of a dog"
    assert said("draw a red cat.", "make a video of it", "now in blue").text == "make a video of a blue cat"
    assert said("draw a cat in 3d", "turn it upside down", "now in blue").text == "now in blue"


@pytest.mark.parametrize("then", ["now in French", "and French?", "in French please"])
def test_another_language_keeps_the_files(then):
    request = said("translate this note into German", then, made=WORDS, files={"note.png": "image"})
    assert (request.text, dict(request.files)) == ("translate this note into French", {"note.png": "image"})


@pytest.mark.parametrize(
    "then",
    [
        "describe it", "what is that?", "read it aloud", "make it black and white", "make it bigger",
        "turn it upside down",
        "thanks", "what about the other picture?", "compare it with the first one", "do it with the other picture",
        "is it blue?", "in what style is it?", "does it make a noise?", "tell me a story about it",
    ],
)  # fmt: skip
def test_other_requests_are_left_alone(then):
    request = said("draw a red cat", then)
    assert (request.text, dict(request.files)) == (then, {"picture.png": "image"})


def test_what_was_heard_is_drawn():
    sound = Artifact("audio", "audio/wav", "2" * 64, "sound.wav", 9)
    assert said("play a violin playing a long note", "got a picture of that?", made=sound).text == "draw a violin"
    assert said("play a violin", "louder", made=sound).text == "louder"
    assert said("play a violin", "make it blue", made=sound).text == "make it blue"


def test_a_picture_is_moved_where_there_is_a_tool_for_it():
    request = PlanRequest("animate it", {"picture.png": "image"}, (Turn("draw a red cat", "", (PICTURE,)),))
    assert alone(request, {"image-to-video"}) == request
    assert alone(request, {"image-to-image"}).text == "make a video of a red cat"


def test_what_is_about_a_file_is_left_alone():
    assert said("draw a red cat", "make it blue", files={"mine.png": "image"}).text == "make it blue"
    assert said("make a drawing of this", "make it blue").text == "make it blue"
    assert said("draw cat.png again", "make it blue").text == "make it blue"
    assert said("tell me a joke", "make it blue", made=WORDS).text == "make it blue"
    assert alone(PlanRequest("make it blue")).text == "make it blue"


def test_what_comes_with_a_file_is_about_that_whatever_it_is_called():
    history, files = (Turn("draw a red cat", "", (PICTURE,)),), {"picture.png": "image"}
    request = PlanRequest("make it blue", files, history, attached=("picture.png",))
    assert alone(request) == request


def test_long_texts_are_no_follow_ups_and_cost_no_time():
    started = time.perf_counter()
    for text in ("a" + 50_000 * " " + "b", 20_000 * "now ", "in blue" + 50_000 * "!"):
        assert said("draw a red cat", text).text == text
        assert said(text, "in blue").text == "in blue"
        assert not again(text)
    assert time.perf_counter() - started < 1


def test_what_asks_for_the_same_anew():
    assert all(again(t) for t in ("again", "Another one, please.", "draw it again", "once more", "a different one"))
    assert not any(again(t) for t in ("draw it again in blue", "against", "another dog", "one more cat", "", "please"))


@pytest.mark.parametrize(
    "then",
    [
        "What is the capital of France?", "how do I bake a cake?", "now give me a joke about a cat",
        "can you see a cat?", "I like it! What is a good name for a cat?", "now write a poem about a dog",
        "do you see a dog in it?",
    ],
)  # fmt: skip
def test_talk_of_other_things_is_left_alone(then):
    assert said("draw a red cat", then).text == then
