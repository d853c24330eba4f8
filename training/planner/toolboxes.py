"""Samples tool lists: the pocket profile's, invented ones, and mixtures, with ever new names.

The planner must read the list, not remember it: names, styles of writing, descriptions, order and
length change from sample to sample. Names of TaskBench's published lists are kept out of training
(beyond those that the pocket profile shares with the hub), so that they can be used for testing.
"""

from __future__ import annotations

import random
import re

from ...tools.builtin import TOOLS
from ...tools.contracts import Param, Tool
from .phrases import Capability, Phrases
from .requests import Toolbox

POCKET = {
    "automatic-speech-recognition": "transcribe_speech",
    "text-to-speech": "speak_text",
    "optical-character-recognition": "read_text",
    "document-question-answering": "document_qa",
    "text-generation": "generate_text",
    "summarization": "summarise",
    "question-answering": "answer_from_passage",
    "sentence-similarity": "text_similarity",
    "image-to-image": "edit_image",
    "text-to-image": "draw_image",
    "image-to-text": "caption_image",
    "visual-question-answering": "visual_qa",
    "text-to-video": "make_video",
    "video-to-text": "caption_video",
    "text-to-audio": "sound_effect",
    "audio-to-text": "caption_sound",
}
# Near neighbours: a request for one could be meant for another, so a list holds one of a row at most.
NEIGHBOURS = tuple(
    frozenset(row.split())
    for row in (
        "generate_text write_email write_poem write_article write_slogan brainstorm chat_reply",
        "summarise summarise_dialogue",
        "write_headline title",
        "quiz generate_questions",
        "grammar check_spelling",
        "classify_text classify_labels topics",
        "ask_encyclopedia explain define_word web_search",
        "bullet_points make_outline action_items",
        "read_text read_handwriting extract_table",
        "draw_image design_logo make_avatar",
        "edit_image remove_object edge_map upscale_image denoise_image cartoonify",
        "detect_objects count_objects classify_image",
        "caption_image image_to_poem",
        "caption_video summarise_video",
        "caption_sound classify_sound",
    )
)
# One pocket tool may do what several capabilities ask for.
ALSO_ASKED = {"text-to-audio": ("compose_music",)}

TASKBENCH_NAMES = (
    "Image Downloader, Video Downloader, Audio Downloader, Text Downloader, URL Extractor, Text Search, "
    "Text Summarizer, Text Translator, Text Sentiment Analysis, Text Grammar Checker, Text Simplifier, "
    "Text Expander, Keyword Extractor, Text Paraphraser, Article Spinner, Topic Generator, Image Search, "
    "Image Search (by Image), Image Colorizer, Image Stitcher, Image Style Transfer, Video Search, Audio-to-Text, "
    "Audio Noise Reduction, Audio Effects, Voice Changer, Audio Splicer, Audio-to-Image, Image-to-Video, "
    "Video-to-Audio, Video-to-Image, Video Stabilizer, Video Speed Changer, Video Voiceover, "
    "Video Synchronization, Token Classification, Translation, Conversational, Tabular Classification, "
    "Object Detection, Image Classification, Image Segmentation, Depth Estimation, Image Editing, "
    "Audio Classification, Audio-to-Audio"
)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


HELD_OUT = frozenset(_key(n) for n in TASKBENCH_NAMES.split(", ")) - {_key(n) for n in POCKET}


def restyle(name: str, style: str) -> str:
    """`Text Reader` as a kebab, snake, camel, ... name."""
    words = re.findall(r"[A-Za-z0-9]+", name)
    if style == "kebab":
        return "-".join(w.lower() for w in words)
    if style == "snake":
        return "_".join(w.lower() for w in words)
    if style == "camel":
        return words[0].lower() + "".join(w[:1].upper() + w[1:] for w in words[1:])
    if style == "pascal":
        return "".join(w[:1].upper() + w[1:] for w in words)
    if style == "hyphen":
        return "-".join(w[:1].upper() + w[1:] if w.lower() != "to" else "to" for w in words)
    if style == "lower":
        return " ".join(w.lower() for w in words)
    return " ".join(words)


class ToolboxSampler:
    """Draws tool lists. One `random.Random` decides everything."""

    def __init__(self, phrases: Phrases, rng: random.Random):
        self.phrases = phrases
        self.rng = rng
        self.names = {
            c.key: [n for n in c.names if _key(n) not in HELD_OUT] or [c.key.replace("_", " ").title()]
            for c in phrases.capabilities.values()
        }

    def sample(self) -> Toolbox:
        """A list of 3 to 40 tools."""
        rng = self.rng
        kind = rng.choices(("pocket", "mixed", "invented"), (38, 12, 50))[0]
        pairs: list[tuple[Tool, Capability]] = []
        if kind != "invented":
            pairs = self._pocket()
        if kind != "pocket":
            size = (
                rng.randint(2, 10)
                if pairs
                else rng.choices((rng.randint(3, 9), rng.randint(10, 22), rng.randint(23, 40)), (14, 36, 50))[0]
            )
            taken = {c.key for _, c in pairs} | {_key(t.name) for t, _ in pairs}
            pairs += self._invented(size, taken)
        if kind == "mixed" or rng.random() < 0.5:
            rng.shuffle(pairs)
        asked = {t.name: (c, *self._also(t)) for t, c in pairs}
        return Toolbox(tuple(t for t, _ in pairs), asked)

    def _also(self, tool: Tool) -> list[Capability]:
        return [self.phrases.capabilities[k] for k in ALSO_ASKED.get(tool.name, ())]

    def _pocket(self) -> list[tuple[Tool, Capability]]:
        rng = self.rng
        keep = len(TOOLS) if rng.random() < 0.65 else rng.randint(6, len(TOOLS))
        chosen = rng.sample(list(TOOLS), keep)
        chosen.sort(key=list(TOOLS).index)
        described = rng.random() < 0.75
        pairs = []
        for tool in chosen:
            capability = self.phrases.capabilities[POCKET[tool.name]]
            text = tool.description if described else rng.choice(capability.descriptions)
            pairs.append((Tool(tool.name, text, tool.params, tool.output), capability))
        return pairs

    def _invented(self, size: int, taken: set[str]) -> list[tuple[Tool, Capability]]:
        rng = self.rng
        style = rng.choice(("title", "title", "hyphen", "kebab", "snake", "camel", "pascal", "lower"))
        mixed = rng.random() < 0.1
        pool = [c for c in self.phrases.capabilities.values() if c.key not in taken]
        rng.shuffle(pool)
        pairs = []
        for c in pool[:size]:
            one = rng.choice(("title", "kebab", "snake", "camel")) if mixed else style
            name = restyle(rng.choice(self.names[c.key]), one)
            if _key(name) in taken or any(c.key in row and row & taken for row in NEIGHBOURS):
                continue
            taken.add(c.key)
            taken.add(_key(name))
            pairs.append((self._tool(name, c), c))
        return pairs

    def _tool(self, name: str, c: Capability) -> Tool:
        counts: dict[str, int] = {}
        params = []
        for kind in c.inputs:
            counts[kind] = counts.get(kind, 0) + 1
            params.append(Param(kind if counts[kind] == 1 else f"{kind}{counts[kind]}", kind))
        return Tool(name, self.rng.choice(c.descriptions), tuple(params), c.output)
