"""The tools of the pocket profile. Descriptions are what the controller reads: short and distinguishing.

Names are the Hugging Face hub's task tags where there is one. Which experts serve them is the
registry's business.
"""

from __future__ import annotations

from .contracts import Param, Tool

_IMAGE = Param("image", "image", "the picture")
_AUDIO = Param("audio", "audio", "the sound file")
_VIDEO = Param("video", "video", "the video")
_QUESTION = Param("text", "text", "what is asked")

TOOLS: tuple[Tool, ...] = (
    Tool("automatic-speech-recognition", "Writes down the words spoken in a recording", (_AUDIO,), "text", "speech"),
    Tool("text-to-speech", "Speaks a text aloud", (Param("text", "text", "what is said"),), "audio", holds="speech"),
    Tool(
        "optical-character-recognition",
        "Reads the words written or printed in a picture",
        (_IMAGE,),
        "text",
        "writing",
    ),
    Tool(
        "document-question-answering",
        "Answers a question about a scanned page, form, receipt or letter",
        (_IMAGE, _QUESTION),
        "text",
        "writing",
    ),
    Tool("text-generation", "Writes a new text from a prompt", (Param("text", "text", "what to write"),), "text"),
    Tool("summarization", "Shortens a text to its main points", (Param("text", "text", "the long text"),), "text"),
    Tool(
        "question-answering",
        "Answers a question from a given text",
        (_QUESTION, Param("context", "text", "the text that holds the answer")),
        "text",
    ),
    Tool(
        "sentence-similarity",
        "Says how alike two texts are in meaning",
        (Param("text", "text", "the first text"), Param("other", "text", "the second text")),
        "text",
    ),
    Tool(
        "image-to-image",
        "Changes a picture as told: grayscale, blur, edges, rotate, crop, resize, flip, invert",
        (_IMAGE, Param("text", "text", "what to do with it")),
        "image",
    ),
    Tool("text-to-image", "Draws a new picture from a description", (Param("text", "text", "what to draw"),), "image"),
    Tool("image-to-text", "Describes what a picture shows", (_IMAGE,), "text"),
    Tool(
        "visual-question-answering",
        "Answers a question about what a picture shows",
        (_IMAGE, _QUESTION),
        "text",
    ),
    Tool("text-to-video", "Makes a short video from a description", (Param("text", "text", "what happens"),), "video"),
    Tool("video-to-text", "Describes what happens in a video", (_VIDEO,), "text"),
    Tool(
        "text-to-audio",
        "Makes a sound effect or music from a description",
        (Param("text", "text", "what it sounds like"),),
        "audio",
    ),
    Tool("audio-to-text", "Describes what can be heard in a recording, not its words", (_AUDIO,), "text"),
)

_BY_NAME = {t.name: t for t in TOOLS}


def tool(name: str) -> Tool:
    """The built-in tool of that name."""
    return _BY_NAME[name]


def tools() -> list[Tool]:
    """All built-in tools, for the entry point."""
    return list(TOOLS)
