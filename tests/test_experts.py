"""The pocket experts: what they refuse at once, and, with the real weights, what a user gets from them."""

import re
import socket
import wave
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from anyloom.core.errors import Cancelled, ExpertError, InputError
from anyloom.core.settings import load_settings
from anyloom.core.weights import Weights
from anyloom.tools.contracts import Run
from anyloom.tools.experts import sentences
from anyloom.tools.experts.full.whisper import experts as whispers
from anyloom.tools.experts.minilm import MiniLMCentroid, MiniLMSimilarity
from anyloom.tools.experts.ocr import Piece, RapidOCR, reading_order
from anyloom.tools.experts.piper import LONGEST, PiperJoe
from anyloom.tools.experts.piper import sentences as said_one_by_one
from anyloom.tools.experts.smollm import PageAnswer, SmolAnswer, SmolGenerate, SmolSummarize, pieces_of, repeats, tidy
from anyloom.tools.experts.whisper import WhisperTiny
from anyloom.tools.fakes import tiny_mp4, tiny_wav
from anyloom.tools.residency import Residency

NOTE = Path(__file__).parent.parent / "examples" / "note.png"
TELESCOPE = (
    "The James Webb Space Telescope was launched on 25 December 2021 on an Ariane 5 rocket. It is the largest "
    "telescope ever sent into space. Its mirror is 6.5 metres wide and made of 18 gold-plated segments. The "
    "telescope observes infrared light, which lets it see through dust and look at the first galaxies. A "
    "sunshield the size of a tennis court keeps its instruments cold. The first images were released in July "
    "2022."
)


# -- what needs no weights ---------------------------------------------------------------------------


def test_sentences_end_where_they_end():
    text = 'Dr. Smith met J. Lee at 5.30 p.m. on Monday. "Good!" he said.\nThen they\nleft… Why? See e.g. page 3.'
    first = "Dr. Smith met J. Lee at 5.30 p.m. on Monday."
    assert sentences.split(text) == [first, '"Good!" he said.', "Then they left…", "Why?", "See e.g. page 3."]
    assert sentences.split("- milk\n- two eggs\n\nBye") == ["- milk", "- two eggs", "Bye"]
    assert sentences.split("  \n ") == []


def test_speech_is_cut_into_breaths_and_capitals_are_read_as_words():
    pieces = said_one_by_one("A WORD OF WARNING. " + "Very " + "very " * 200 + "long. [[x]] NASA")
    assert pieces[0] == "a word of warning."
    assert max(map(len, pieces)) <= LONGEST
    assert "[[" not in " ".join(pieces)
    assert pieces[-1].endswith("NASA")


def box(x, y, w=100, h=20):
    return ((x, y), (x + w, y), (x + w, y + h), (x, y + h))


def test_reading_order_is_by_line_also_on_a_page_that_lies_askew():
    straight = [Piece("right", box(200, 3), 1), Piece("below", box(0, 40), 1), Piece("left", box(0, 0), 1)]
    assert reading_order(straight) == ["left right", "below"]
    turned = [Piece(p.text, tuple((x, y + 0.1 * x) for x, y in p.corners), 1) for p in straight]
    assert reading_order(turned) == ["left right", "below"]


def test_what_goes_in_circles_is_cut():
    text = "The fox ran home. The fox and the crow ate the cheese. The fox and the crow ate the cheese."
    assert repeats(text) > 0
    assert tidy(text, cut_off=False) == "The fox ran home. The fox and the crow ate the cheese."
    assert tidy("One is enough here now. And then the second was cut", cut_off=True) == "One is enough here now."
    assert repeats("a short text that says nothing twice") == 0


def test_long_texts_come_in_whole_sentences():
    pieces = pieces_of("One two three. " * 10, 10)
    assert all(p.endswith(".") and len(p.split()) <= 10 for p in pieces)
    assert " ".join(pieces).split() == ("One two three. " * 10).split()


def test_openai_whisper_says_how_to_get_it():
    import importlib.util

    full = whispers()
    assert [e.checkpoint for e in full] == ["tiny", "base", "small", "medium", "turbo", "large-v3"]
    assert {e.card.profiles for e in full} == {("full",)}
    if importlib.util.find_spec("whisper") is None:
        assert "pip install openai-whisper" in full[0].available()


def test_nothing_to_say_and_nothing_to_shorten_is_refused_before_anything_is_loaded():
    with pytest.raises(InputError, match="nothing to say"):
        PiperJoe().run({"text": " … !"}, Run())
    with pytest.raises(InputError, match="nothing to shorten"):
        MiniLMCentroid().run({"text": " "}, Run())
    with pytest.raises(InputError, match="the prompt is empty"):
        SmolGenerate().run({"text": ""}, Run())


# -- with the real weights ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def residency():
    return Residency(None, Weights(load_settings({}).cache_dir), "cpu")


@pytest.fixture
def ask(residency, monkeypatch):
    """Runs an expert whose weights are on this disk; whatever reaches for the network then fails."""

    def call(expert, run=None, **args):
        with residency.use(expert) as instance:
            monkeypatch.setattr(socket.socket, "connect", _refused)
            try:
                return instance.run(args, run or Run(seed=1))[0]
            finally:
                monkeypatch.undo()

    return call


def _refused(*args):
    raise AssertionError("an expert reached for the network")


def text_of(output):
    return output.data.decode()


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def page(tmp_path, *lines, size=(900, 400), at=40):
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for n, line in enumerate(lines):
        draw.text((40, 40 + n * 60), line, "black", ImageFont.load_default(at))
    file = tmp_path / "page.png"
    image.save(file)
    return file


@pytest.mark.weights
def test_what_is_said_is_heard(ask, tmp_path):
    text = (
        "The train leaves at nine in the morning. Please bring the blue umbrella. We will meet under the station clock."
    )
    steps = []
    spoken = ask(PiperJoe, Run(seed=5, progress=lambda *a: steps.append(a)), text=text)
    assert [s[0] for s in steps] == [0, 1, 2, 3]
    file = tmp_path / "said.wav"
    file.write_bytes(spoken.data)
    with wave.open(str(file)) as sound:
        assert (sound.getsampwidth(), sound.getnchannels(), sound.getframerate()) == (2, 1, 22050)
        assert 4 < sound.getnframes() / 22050 < 12
    heard = []
    found = ask(WhisperTiny, Run(progress=lambda *a: heard.append(a)), audio=file)
    said, written = set(words(text)), set(words(text_of(found)))
    assert len(said & written) / len(said) > 0.8, text_of(found)
    assert heard
    assert all(0 < done <= total for done, total, _ in heard)


@pytest.mark.weights
def test_the_same_seed_speaks_the_same_bytes(ask):
    one, two, other = (ask(PiperJoe, Run(seed=s), text="Good morning, Ada.").data for s in (1, 1, 2))
    assert one == two != other


@pytest.mark.weights
def test_silence_noise_and_what_is_no_sound_are_told_apart(ask, tmp_path):
    tone, mute, torn = tmp_path / "tone.wav", tmp_path / "mute.mp4", tmp_path / "torn.wav"
    tone.write_bytes(tiny_wav(b"\x09" * 32, seconds=2))
    mute.write_bytes(tiny_mp4(b"\x09" * 32))
    torn.write_bytes(b"RIFF torn")
    with pytest.raises(ExpertError, match=r"No speech was found in 'tone\.wav' \(2\.0 s") as caught:
        ask(WhisperTiny, audio=tone)
    assert not caught.value.retryable
    for file in (mute, torn):
        with pytest.raises(InputError, match="holds no sound that can be read"):
            ask(WhisperTiny, audio=file)


@pytest.mark.weights
def test_stopping_ends_the_work(ask):
    run = Run()
    run.stop.set()
    with pytest.raises(Cancelled):
        ask(PiperJoe, run, text="Hello.")
    with pytest.raises(Cancelled):
        ask(SmolGenerate, run, text="Write a story.")


@pytest.mark.weights
def test_printed_text_is_read(ask, tmp_path):
    file = page(tmp_path, "Quarterly report", "The well-known garden shop", "sold 4,312 tulips.")
    assert text_of(ask(RapidOCR, image=file)).splitlines() == [
        "Quarterly report", "The well-known garden shop", "sold 4,312 tulips.",
    ]  # fmt: skip


@pytest.mark.weights
def test_hand_writing_on_a_tilted_page_is_read(ask):
    read = text_of(ask(RapidOCR, image=NOTE)).splitlines()
    assert len(read) == 5
    assert read[1:4] == [
        "THE TRAIN LEAVES AT NINE IN THE MORNING.",
        "BRING THE BLUE UMBRELLA AND TWO APPLES.",
        "WE WILL MEET UNDER THE STATION CLOCK.",
    ]


@pytest.mark.weights
def test_a_picture_without_text_is_one_sentence(ask, tmp_path):
    with pytest.raises(ExpertError, match="No text was found in the picture") as caught:
        ask(RapidOCR, image=page(tmp_path))
    assert not caught.value.retryable
    ring = tmp_path / "ring.png"
    drawn = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(drawn).ellipse((14, 8, 50, 56), outline="black", width=7)
    drawn.save(ring)
    with pytest.raises(ExpertError, match="No text was found"):
        ask(RapidOCR, image=ring)  # no lone 0
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match="cannot be opened as a picture"):
        ask(RapidOCR, image=broken)


@pytest.mark.weights
def test_pages_are_asked(ask):
    assert "nine" in text_of(ask(PageAnswer, image=NOTE, text="When does the train leave?")).lower()
    assert "clock" in text_of(ask(PageAnswer, image=NOTE, text="Where will we meet?")).lower()


@pytest.mark.weights
def test_answers_are_quoted_from_the_text(ask):
    asked = {"When was the telescope launched?": "25 December 2021", "How wide is the mirror?": "6.5 metres"}
    for question, expected in asked.items():
        given = text_of(ask(SmolAnswer, text=question, context=TELESCOPE))
        assert expected in given
        assert given in TELESCOPE


@pytest.mark.weights
def test_what_the_text_does_not_tell_is_said_to_be_so(ask):
    assert text_of(ask(SmolAnswer, text="What is the capital of Japan?", context=TELESCOPE)) == "not in the text"


@pytest.mark.weights
@pytest.mark.parametrize("expert", [MiniLMCentroid, SmolSummarize])
def test_a_summary_is_shorter_and_about_the_same(ask, expert):
    made = text_of(ask(expert, text=TELESCOPE))
    assert 0 < len(made) < 0.7 * len(TELESCOPE)
    assert "telescope" in made.lower()
    assert text_of(ask(expert, text="The shop is closed on Monday.")) == "The shop is closed on Monday."


@pytest.mark.weights
def test_a_summary_by_extraction_quotes(ask):
    made = text_of(ask(MiniLMCentroid, text=TELESCOPE))
    assert all(s in TELESCOPE for s in sentences.split(made))
    assert made.startswith("The James Webb Space Telescope was launched")


@pytest.mark.weights
def test_what_is_written_ends_and_can_be_repeated(ask):
    one, two = (text_of(ask(SmolGenerate, Run(seed=3), text="Write a birthday greeting for Rosa.")) for _ in range(2))
    assert one == two
    assert "rosa" in one.lower()
    assert repeats(one) == 0


@pytest.mark.weights
def test_likeness_follows_meaning(ask):
    def alike(a, b):
        said = text_of(ask(MiniLMSimilarity, text=a, other=b))
        assert re.fullmatch(r"[01]\.\d\d \([a-z ]+\)", said)
        return float(said[:4])

    near = alike("How old are you?", "What is your age?")
    far = alike("How old are you?", "The stock market fell on Monday.")
    assert near > 0.6 > 0.3 > far
    assert alike("A red apple.", "A red apple.") == 1.0
