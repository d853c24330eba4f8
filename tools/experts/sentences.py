"""Sentences of a text, as several experts need them: to speak, to choose from, to look for answers in."""

from __future__ import annotations

import re

_END = re.compile(r"""(?<=[.!?…])(["'”’)\]]*)\s+(?=["'“‘(\[]*[^\sa-z])""")
_ABBREVIATION = re.compile(r"\b(?:mr|mrs|ms|dr|prof|st|no|vs|jr|sr|co|inc|ltd|e\.g|i\.e|fig|approx)\.$", re.I)
_INITIAL = re.compile(r"(?:^|[\s.])[A-Z]\.$")
_DEPENDENT = re.compile(r"(?:It|He|She|They|This|These|Those|Its|His|Her|Their|Then|But|However)\b")
_ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")


def split(text: str) -> list[str]:
    """The sentences in order. A line break ends one only where the line is an item or looks complete."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        for block in _blocks(paragraph):
            found += _sentences(block)
    return found


def split_lines(text: str) -> list[str]:
    """The sentences of a text whose line breaks mean something: a form, a receipt, a table."""
    return [s for line in text.splitlines() if line.strip() for s in _sentences(" ".join(line.split()))]


def leans(sentence: str) -> bool:
    """Whether it begins with a word that points back, such as "It": alone, it is hard to understand."""
    return bool(_DEPENDENT.match(sentence))


def _blocks(paragraph: str) -> list[str]:
    """Lines joined where a sentence runs on; items of a list stay apart."""
    blocks: list[str] = []
    for line in paragraph.splitlines():
        words = " ".join(line.split())
        if not words:
            continue
        if blocks and not _ITEM.match(line):
            blocks[-1] += " " + words
        else:
            blocks.append(words)
    return blocks


def _sentences(block: str) -> list[str]:
    pieces, start = [], 0
    for end in _END.finditer(block):
        sentence = block[start : end.end(1)]
        if _INITIAL.search(sentence) or _ABBREVIATION.search(sentence):
            continue
        pieces.append(sentence.strip())
        start = end.end()
    return [p for p in [*pieces, block[start:].strip()] if p]


def short(text: str) -> bool:
    """Whether a text is so short that a summary of it is the text itself."""
    return len(split(text)) <= 2 and len(text.split()) <= 60
