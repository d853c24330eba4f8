"""The suite `turns`: what a second request of a conversation means, 24 items of seven kinds.

Another colour, another thing, a clip, words or the sound of what was drawn; another sound; a picture of what was
heard. The things are those of `pocket`. The second requests were written by other hands that saw neither the rules
by which the local controller understands follow-ups (`controller/followups.py`) nor what the end-to-end model was
trained on: twelve of each kind before the rules were widened, with these in view, and twelve (from number 12 on)
after that, which nobody had read when they were first measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..items import Item, Suite, read_suite

# kind: conversion, the request before
KINDS = {
    "colour": ("image-to-image", "draw {before}"),
    "thing": ("text-to-image", "draw {before}"),
    "clip": ("image-to-video", "draw {before}"),
    "ask": ("image-to-text", "draw {before}"),
    "sound": ("image-to-audio", "draw {before}"),
    "other_sound": ("text-to-audio", "make the sound of {before}"),
    "picture": ("audio-to-image", "make the sound of {before}"),
}
EACH = 12  # things of a kind
COLOURS = ("red", "blue", "green", "yellow", "purple")  # what things have before they get another
# A thing that is drawn and heard: what its sound may rightly be called, and what its picture.
SOUNDING = (
    ("a violin", ("violin",), ("violin",)), ("an accordion", ("accordion",), ("accordion",)),
    ("a trumpet", ("trumpet", "muted trumpet"), ("trumpet",)), ("a banjo", ("banjo",), ("banjo",)),
    ("a guitar", ("acoustic guitar", "electric guitar", "distorted guitar"), ("guitar",)),
    ("a flute", ("flute", "pan flute"), ("flute",)), ("a saxophone", ("saxophone",), ("saxophone",)),
    ("a harp", ("harp",), ("harp",)), ("a helicopter", ("helicopter",), ("helicopter",)),
    ("a bird", ("birdsong",), ("bird", "black bird")), ("a telephone", ("telephone",), ("telephone",)),
    ("an alarm clock", ("ticking clock",), ("alarm clock", "mantelpiece clock", "stopwatch")),
)  # fmt: skip
ASKED = {
    "colour": (
        "can you make it {colour} instead", "nice! now in {colour} please", "hmm id rather have it {colour}",
        "{colour} would look better i think", "same thing but {colour}", "Could I see a {colour} one?",
        "change the color to {colour} pls", "what about {colour}?",
        "lovely, but my daughter wants it to be {colour}", "no no, {colour}!", "turn it {colour}",
        "how would that look if it was {colour}",
        "Could I have that in {colour} instead, please?", "hmm nah make it {colour}",
        "Lovely, dear, but I think {colour} would suit it better.",
        "Same one, just {colour}. Everything else stays.", "can it be {colour}?? thats my favrite",
        "Our class voted and {colour} won, so please redo it with that colour.",
        "what would it look like if it was {colour}", "Please to change the color, I want {colour}.",
        "Swap the colour for {colour}, client hates this one", "I don't really like that colour. Try {colour}?",
        "{colour} please!!", "It is nice, but mine at home is {colour}. You can paint it so?",
    ),
    "thing": (
        "ok now draw {thing}", "actually can i have {thing} instead", "not that, i meant {thing}",
        "cool. {thing} next please", "forget that one, show me {thing}",
        "Thank you! Would you draw {thing} for me now?", "and {thing}?", "swap it for {thing}",
        "hm changed my mind, lets go with {thing}", "i'd like to see {thing} now",
        "could you replace it with {thing} plz", "my son says it should be {thing}",
        "Now draw me {thing}.", "ok cool but can u do {thing} now", "Actually, scrap that. I need {thing}.",
        "I changed my mind, I'd rather see {thing} if it isn't too much trouble.", "Not this. I want {thing}!!!",
        "And how about {thing}?", "Thank you, that was very pretty. My grandson is asking for {thing} next.",
        "Replace it with {thing}, please.", "sorry my english, i was meaning {thing}",
        "Let's have {thing} this time, for the second worksheet.", "{thing} instead pls",
        "wait do you know what {thing} looks like? show me",
    ),
    "clip": (
        "can you make it move?", "now animate it", "i want to see that as a video",
        "Great, could you turn this into a short clip please?", "make a little movie out of it",
        "ooh can we get it moving", "same but as a clip", "bring it to life!!", "video version pls",
        "how does it look in motion",
        "would be cool if it wasnt just a still picture, can you do a gif or something",
        "let me watch it move around",
        "Can you make it move?", "omg animate this",
        "That's wonderful! Would it be possible to see it as a little film?",
        "Need this as a short video, few seconds is fine.", "i want to see it moving!!",
        "Turn that into a clip for me please", "The children would love to watch it in motion. Could you do that?",
        "Is possible to do a video from this same one?", "now make a gif of it lol",
        "Good. Same subject, but animated now.", "What about a moving version?",
        "It just sits there! Bring it to life, will you?",
    ),
    "ask": (
        "what is that?", "what am i looking at here", "tell me whats in the picture",
        "Could you describe it for me, please?", "so what does it show", "i cant see the image, what's on it?",
        "uh what did you just draw", "in words please, what can be seen there",
        "whats that thing in the middle supposed to be", "describe the drawing",
        "my screen is tiny, can you say what it is", "and what do you see in it?",
        "What is that?", "I haven't got my glasses on, dear. What is in the picture?", "uhh what am i looking at",
        "Describe the image in words, I need alt text.", "Tell me what you can see in it.",
        "Please explain me, what shows this picture?", "So what did you draw there?",
        "my screen is tiny, whats on it??", "One of my pupils can't see well. Could you say what the drawing shows?",
        "is that supposed to be an animal or what", "Quick caption for this one: what's it of?",
        "What's it called, the thing you made?",
    ),
    "sound": (
        "what does it sound like?", "let me hear it", "now play the sound it makes", "Can I hear that too please?",
        "and the noise?", "how does that sound", "awesome, sound please", "i wanna hear it",
        "can you do the noise it makes", "give me some audio of that",
        "my kid is asking what noise that makes, could you play it", "make it go, i mean with sound",
        "What does it sound like?", "now let me hear it", "Can you play the noise it makes, please?",
        "make it do its sound!!!", "Oh how sweet. I'd love to hear it too.", "How it sounds? I want listen.",
        "audio for this pls", "My pupils want to know what noise that makes. Could you play it?",
        "Great, and I need the matching sound effect as well.", "lol does it make a noise? play it",
        "And its sound?", "I've never heard one of those in real life, would you let me listen to it?",
    ),
    "other_sound": (
        "now {thing}", "can i hear {thing} instead", "ok and what does {thing} sound like?", "play {thing} pls",
        "haha nice, do {thing} next", "I would like to listen to {thing} now, please", "not that one, {thing}",
        "how about {thing}?", "let me hear {thing}", "too loud lol. try {thing}",
        "could you make the sound of {thing}", "thanks, and {thing} after that?",
        "Now play {thing}.", "Can I hear {thing} instead?", "haha ok do {thing} next",
        "That one was a bit loud for me. Perhaps {thing}?", "What does {thing} sound like?", "I want {thing} now!",
        "Not quite right for the edit. Give me {thing}.", "Thank you. And please, how sounds {thing}?",
        "Next one for our listening quiz: {thing}, please.", "bet you cant do {thing}",
        "Let me listen to {thing}, it would remind me of the old days.", "and {thing}?",
    ),
    "picture": (
        "what does it look like?", "show me a picture of it", "now draw it", "Could I see what's making that sound?",
        "can you paint the thing that makes this noise", "and a pic of that pls", "id like to see it too",
        "cool, whats that look like though", "draw me whatever that was", "please make an image to go with it",
        "ok i heard it, now let me see it", "got a drawing of that?",
        "Can you show me what that looks like?", "draw it",
        "What makes that noise? I'd like to see a picture of it.", "Ooh, now may I see it?",
        "i wanna see what it looks like!!", "Please you make the image of this what I hear.",
        "cool, got a pic of the thing?", "Now an illustration to go with that sound, please.",
        "Could you draw whatever was making that sound? It's for a flashcard.",
        "Show me the one who did that noise!", "I heard it fine, dear, but I would so like to look at it as well.",
        "need a visual of that too, thx",
    ),
}  # fmt: skip


def turns() -> Suite:
    """All items, grouped by kind."""
    pocket = read_suite("pocket").items
    return Suite("turns", tuple(item for kind in KINDS for item in _items(kind, pocket)))


def _items(kind: str, pocket: Sequence[Item]) -> Iterator[Item]:
    conversion, before = KINDS[kind]
    drawn = [i for i in pocket if i.conversion == "text-to-image"]
    heard = [i for i in pocket if i.conversion == "text-to-audio"]
    for number, asked in enumerate(ASKED[kind]):
        n = number % EACH
        if kind in ("sound", "picture"):
            first, sounds, pictures = SOUNDING[n]
            facts: Mapping[str, tuple[str, ...]] = {"concept": sounds if kind == "sound" else pictures}
            meaning = first
        else:
            some = heard if kind == "other_sound" else drawn
            facts, meaning = some[n].expect, some[n].meaning
            first = meaning if kind in ("clip", "ask") else some[n - 1].meaning
            if kind == "colour":
                (colour,) = facts["colour"]
                first = f"a {meaning.split(' ', 1)[1].replace(colour, _other(colour, number))}"
                asked = asked.replace("{colour}", colour)
        yield Item(
            f"{kind.replace('_', '-')}-{number}", conversion, asked.replace("{thing}", meaning), expect=facts,
            meaning=meaning, before=(before.replace("{before}", first),),
        )  # fmt: skip


def _other(colour: str, number: int) -> str:
    return next(c for c in (*COLOURS[number % len(COLOURS) :], *COLOURS) if c != colour)
