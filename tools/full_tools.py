"""The tools of the full profile that pocket has not: with those of `builtin.py`, HuggingGPT's 35 task types and more.

Names are the hub's task tags, or HuggingGPT's where the hub has none (`canny-control`: a picture's edges,
`canny-text-to-image`: a picture drawn along such edges).
"""

from __future__ import annotations

from .contracts import Param, Tool

_IMAGE = Param("image", "image", "the picture")
_AUDIO = Param("audio", "audio", "the sound file")
_TEXT = Param("text", "text", "the text")
_DRAW = Param("text", "text", "what to draw")

_CONTROLS = {
    "canny": "hard edges",
    "depth": "depth map",
    "hed": "soft edges",
    "mlsd": "straight lines",
    "normal": "surface normals",
    "openpose": "people's poses",
    "seg": "segmentation",
}
_DETECTED = ("canny", "hed", "mlsd", "normal", "openpose")

TOOLS: tuple[Tool, ...] = (
    Tool("token-classification", "Finds names of people, places and organisations in a text", (_TEXT,), "text"),
    Tool("text2text-generation", "Does with a text what an instruction in it says", (_TEXT,), "text"),
    Tool(
        "translation",
        "Translates a text into another language",
        (_TEXT, Param("language", "text", "the language it is translated into", required=False)),
        "text",
    ),
    Tool("conversational", "Replies to a message in a conversation", (_TEXT,), "text"),
    Tool(
        "zero-shot-classification",
        "Says which of some given labels fits a text best",
        (_TEXT, Param("labels", "text", "the labels, separated by commas")),
        "text",
    ),
    Tool(
        "tabular-classification",
        "Says whether a statement is true of a table",
        (Param("table", "text", "the table as CSV"), Param("text", "text", "the statement")),
        "text",
    ),
    Tool(
        "table-question-answering",
        "Answers a question from a table",
        (Param("table", "text", "the table as CSV"), Param("text", "text", "what is asked")),
        "text",
    ),
    Tool("object-detection", "Finds the things in a picture and where they are", (_IMAGE,), "text"),
    Tool("image-classification", "Names the one thing that a picture shows", (_IMAGE,), "text"),
    Tool("image-segmentation", "Colours the regions of a picture by what they are", (_IMAGE,), "image"),
    Tool("depth-estimation", "Draws how near everything in a picture is", (_IMAGE,), "image"),
    Tool("audio-to-audio", "Cleans a recording of noise, or changes its voice", (_AUDIO,), "audio"),
    Tool(
        "voice-cloning",
        "Speaks a text with the voice of a recording",
        (Param("text", "text", "what is said"), Param("audio", "audio", "the voice")),
        "audio",
    ),
    Tool("audio-classification", "Names the kind of sound in a recording", (_AUDIO,), "text"),
    Tool(
        "image-to-video",
        "Sets a picture in motion",
        (_IMAGE, Param("text", "text", "what happens", required=False)),
        "video",
    ),
    *(Tool(f"{c}-control", f"Draws the {_CONTROLS[c]} of a picture", (_IMAGE,), "image") for c in _DETECTED),
    *(
        Tool(
            f"{c}-text-to-image",
            f"Draws a picture from a description, along the {words} of a given one",
            (Param("image", "image", f"the {words}"), _DRAW),
            "image",
        )
        for c, words in _CONTROLS.items()
    ),
)

_BY_NAME = {t.name: t for t in TOOLS}


def full_tool(name: str) -> Tool:
    """The tool of that name."""
    return _BY_NAME[name]


def tools() -> list[Tool]:
    """All of them, for the entry point."""
    return list(TOOLS)
