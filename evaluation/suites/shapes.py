"""The suite `shapes`: the matrix of conversions between text, pictures, sound, video and speech, six items each.

Everything that is attached is drawn and sounded on the fly (`media.py`), plainer than anything that the pocket models
learnt from: whoever brings other models can run it without any data. What the pocket models are measured by is
`pocket` (`held_out.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..items import Item, Suite

# Things to be made: name, colour, and what else a judge may rightly call it.
MADE = (
    ("heart", "blue", ("heart",)), ("car", "red", ("car", "automobile")), ("apple", "green", ("apple",)),
    ("flower", "yellow", ("flower", "blossom", "sunflower", "tulip")), ("fish", "orange", ("fish",)),
    ("house", "purple", ("house",)),
)  # fmt: skip
# Things that are shown: drawn by `media.py`.
SHOWN = (
    ("heart", "red", ("heart",)), ("star", "yellow", ("star",)), ("house", "blue", ("house",)),
    ("tree", "green", ("tree",)), ("fish", "orange", ("fish",)), ("crescent moon", "purple", ("moon",)),
)  # fmt: skip
MOTIONS = {
    "left": ("moving left", ("left",)), "right": ("moving right", ("right",)),
    "up": ("moving up", ("up", "rising", "upwards")), "down": ("moving down", ("down", "falling", "downwards")),
    "grow": ("growing", ("grow", "growing", "bigger", "larger")),
    "shrink": ("shrinking", ("shrink", "shrinking", "smaller")),
}  # fmt: skip
HEARD = (
    ("pure tone", ("pure tone", "tone")), ("beeps", ("beeps", "beep", "beeping")), ("siren", ("siren",)),
    ("white noise", ("white noise", "noise")), ("sweep", ("sweep",)),
    ("ticking clock", ("ticking clock", "clock", "ticking")),
)  # fmt: skip
SOUNDING = (
    ("a violin", ("violin",)), ("a drum beat", ("drum beat", "drum")), ("birdsong", ("birdsong",)),
    ("a siren", ("siren",)), ("sea waves", ("sea waves",)), ("a piano", ("piano", "electric piano")),
)  # fmt: skip
SENTENCES = (
    "The train leaves at nine in the morning.", "Please bring two apples and a loaf of bread.",
    "My sister has a small black cat.", "It will rain in the evening.", "The library is next to the old church.",
    "We had soup and fish for dinner.", "The bus stops in front of the old bridge.",
    "My brother plays football on Saturday.", "She bought a new coat and a warm hat.",
    "The baby is sleeping in the next room.", "Turn left at the second street.", "The shop closes at half past five.",
)  # fmt: skip
EACH = 6  # items of a conversion; `held_out.py` takes more of the sentences
FACTS = (
    ("Anna has a red bicycle. She rides it to school every day.", "What colour is Anna's bicycle?", "colour", "red"),
    ("The meeting was moved from Monday to Thursday.", "On which day is the meeting?", "concept", "Thursday"),
    ("Tom bought three lemons and one melon.", "How many lemons did Tom buy?", "concept", "three"),
    ("The museum opens at ten and closes at six.", "When does the museum close?", "concept", "six"),
    ("Whales are mammals, and sharks are fish.", "What are whales?", "concept", "mammals"),
    ("The river flows north into the lake.", "Where does the river flow into?", "concept", "the lake"),
    ("Paula's dog is called Rex, and her cat is called Mimi.", "What is Paula's cat called?", "concept", "Mimi"),
    ("The green tent is for four people.", "What colour is the tent?", "colour", "green"),
    (
        "The bakery sells bread in the morning and cake in the afternoon.",
        "What does the bakery sell in the morning?",
        "concept",
        "bread",
    ),
    ("Mr Brown is a teacher, and his wife is a doctor.", "What is Mr Brown's wife?", "concept", "doctor"),
    ("The lighthouse stands on a small island.", "Where does the lighthouse stand?", "concept", "island"),
    ("The concert begins at eight and lasts two hours.", "When does the concert begin?", "concept", "eight"),
)


def shapes() -> Suite:
    """All items, grouped by conversion."""
    return Suite(
        "shapes",
        tuple(
            item for part in (_from_text, _from_pictures, _from_clips, _from_sounds, _from_speech) for item in part()
        ),
    )


def thing(name: str, colour: str) -> str:
    """ "a blue heart", "an orange fish"."""
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {name}"


def _item(conversion: str, number: int, request: str, **fields: Any) -> Item:
    return Item(f"{conversion}-{number}", conversion, request, **fields)


def _about(name: str, colour: str, right: tuple[str, ...]) -> dict[str, Any]:
    """The facts of a thing in a colour."""
    said = thing(name, colour)
    return {
        "expect": {"concept": right, "colour": (colour,)},
        "meaning": said,
        "references": (said, f"{colour} {name}"),
    }


def _moving(name: str, colour: str, right: tuple[str, ...], motion: str) -> dict[str, Any]:
    """The facts of a thing that moves."""
    facts = _about(name, colour, right)
    words, names = MOTIONS[motion]
    said = f"{thing(name, colour)} {words}"
    return {"expect": {**facts["expect"], "motion": (motion, *names)}, "meaning": said, "references": (said,)}


def _from_text() -> Iterator[Item]:
    for n, (name, colour, right) in enumerate(MADE):
        yield _item("text-to-image", n, f"draw {thing(name, colour)}", **_about(name, colour, right))
    for n, ((name, colour, right), motion) in enumerate(zip(MADE, MOTIONS, strict=True)):
        facts = _moving(name, colour, right, motion)
        yield _item("text-to-video", n, f"make a video of {facts['meaning']}", **facts)
    for n, (name, right) in enumerate(SOUNDING):
        yield _item(
            "text-to-audio", n, f"make the sound of {name}", expect={"concept": right}, meaning=f"the sound of {name}"
        )
    for n, words in enumerate(SENTENCES[:EACH]):
        yield _item("text-to-speech", n, f'say aloud: "{words}"', words=words, meaning=words)
    for n, (text, question, kind, answer) in enumerate(FACTS[:EACH]):
        expect: Mapping[str, tuple[str, ...]] = {kind: (answer,)}
        yield _item("text-to-text", n, f"{question} {text}", expect=expect, meaning=answer)


def _from_pictures() -> Iterator[Item]:
    for target, request in (
        ("text", "describe this picture"), ("speech", "describe this picture aloud"),
        ("video", "make a video of what is in this picture"), ("image", "draw the same thing as in this picture"),
    ):  # fmt: skip
        for n, (name, colour, right) in enumerate(SHOWN):
            picture = {"make": "picture", "shape": name, "colour": colour}
            yield _item(f"image-to-{target}", n, request, attach=(picture,), **_about(name, colour, right))


def _from_clips() -> Iterator[Item]:
    for target, request in (
        ("text", "describe what happens in this video"), ("speech", "say aloud what happens in this video"),
        ("image", "draw a picture of the thing in this video"),
    ):  # fmt: skip
        for n, ((name, colour, right), motion) in enumerate(zip(SHOWN, MOTIONS, strict=True)):
            facts = _about(name, colour, right) if target == "image" else _moving(name, colour, right, motion)
            clip = {"make": "clip", "shape": name, "colour": colour, "motion": motion}
            yield _item(f"video-to-{target}", n, request, attach=(clip,), **facts)


def _from_sounds() -> Iterator[Item]:
    for target, request in (
        ("text", "what can be heard in this recording?"), ("image", "draw what makes this sound"),
        ("audio", "make a sound like this one"),
    ):  # fmt: skip
        for n, (name, right) in enumerate(HEARD):
            facts: dict[str, Any] = {"expect": {"concept": right}, "meaning": name}
            if target == "text":
                facts["references"] = (name,)
            yield _item(f"audio-to-{target}", n, request, attach=({"make": "sound", "kind": name},), **facts)


def _from_speech() -> Iterator[Item]:
    for n, words in enumerate(SENTENCES[:EACH]):
        spoken = {"make": "speech", "text": words}
        yield _item(
            "speech-to-text",
            n,
            "write down what is said in this recording",
            attach=(spoken,),
            words=words,
            meaning=words,
        )
    for n, (name, colour, right) in enumerate(MADE):
        spoken = {"make": "speech", "text": f"Draw {thing(name, colour)}."}
        yield _item(
            "speech-to-image", n, "do what this recording asks for", attach=(spoken,), **_about(name, colour, right)
        )
    for n, words in enumerate(SENTENCES[:EACH]):
        spoken = {"make": "speech", "text": words}
        yield _item(
            "speech-to-speech",
            n,
            "repeat in your own voice what this recording says",
            attach=(spoken,),
            words=words,
            meaning=words,
        )
