"""The local controller says what it is, and what can be asked of it, without asking its model."""

import pytest

from anyloom.controller.base import PlanRequest
from anyloom.controller.local import LocalController
from anyloom.controller.plan import Plan
from anyloom.controller.smalltalk import small_talk
from anyloom.tools.contracts import Tool

DRAW = Tool("text-to-image", "Draws a picture.", (), "image")
READ = Tool("optical-character-recognition", "Reads what is written.", (), "text")
SPEAK = Tool("text-to-speech", "Speaks.", (), "audio")


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        "hi there!",
        "Hey anyloom",
        "good morning",
        "What can you do?",
        "hello, who are you?",
        "help",
        "Help me!",
    ],
)
def test_it_says_what_it_is_and_what_to_ask(text):
    said = small_talk(text, (DRAW, READ))
    assert all(part in said for part in ("I am anyloom", "- draw a red cat", "`anyloom tools`"))
    assert "read this note aloud" not in said  # nothing here speaks
    assert "read this note aloud" in small_talk(text, (READ, SPEAK))
    assert "draw" not in small_talk(text, ())
    assert said.startswith("Hello. ") == (text in ("Hello", "hi there!", "Hey anyloom", "good morning"))


@pytest.mark.parametrize("text", ["thanks", "Great, thank you!", "ok thanks a lot", "cheers"])
def test_it_is_polite(text):
    assert small_talk(text, (DRAW,)) == "You are welcome.\n"
    assert small_talk("thanks, bye", (DRAW,)) == small_talk("Goodbye!", (DRAW,)) == "Goodbye.\n"


@pytest.mark.parametrize(
    "text",
    [
        "draw a cat", "say hello aloud", "hello in German?", "what can you see?", "help me to draw a cat",
        "thank him in French", "what is this?", "how does this work?", "who are they?", "how do I use ffmpeg?", "", "?",
        "hello" + 200 * " " + "you",
    ],
)  # fmt: skip
def test_all_else_is_not_small_talk(text):
    assert small_talk(text, (DRAW,)) is None


async def test_no_model_is_loaded_for_it():
    def absent(adapter):
        raise AssertionError("the model was opened")

    local = LocalController(absent)
    for text in ("hello", "thanks"):
        request = PlanRequest(text)
        assert await local.plan(request, [DRAW]) == Plan()
        pieces = [piece async for piece in local.answer(request, Plan(), ())]
        assert "".join(pieces) == small_talk(text, [DRAW])
