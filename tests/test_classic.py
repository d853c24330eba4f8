"""Changes to pictures told in free wording: what is understood, what comes out, what is refused."""

import io

import pytest
from PIL import Image

from anyloom.core.errors import ExpertError, InputError
from anyloom.tools.contracts import Run
from anyloom.tools.experts.classic import PillowClassic
from anyloom.tools.experts.instructions import parse

SAID = {
    "grayscale": "make it black and white | grey | convert to b&w | greyscale please | remove the colours",
    "invert": "invert the colours | negative | make a negative of this photo | invert note.png",
    "edges": "find the edges | edge detection | show only the outlines",
    "rotate degrees=180.0": "turn it upside down | rotate 180° | Could you please turn the attached image upside down?",
    "rotate degrees=-90.0": "rotate 90 degrees left | rotate the cat photo to the left | a quarter turn to the left | "
    "rotate it by ninety degrees counter-clockwise",
    "rotate degrees=90.0": "rotate | turn it to the right | rotate the picture 90 degrees clockwise",
    "rotate degrees=45.0": "turn the picture 45 degrees clockwise | rotate by 45",
    "flip vertical=False": "mirror it | flip the picture horizontally | flip it",
    "flip vertical=True": "flip vertically | flip the cat photo vertically | flip it upside down",
    "blur amount=3.0": "blur it a lot | make it very blurry | blur the cat picture heavily",
    "blur amount=0.4": "slightly blur the image | make it a bit blurry",
    "blur amount=1.0": "blur it | apply a gaussian blur",
    "blur radius=5.0": "blur with radius 5",
    "crop square=True": "crop to a square | make it square | crop the cat photo to a square | a centered square",
    "crop width=200 height=100": "crop to 200x100",
    "crop area=top off=False share=0.5": "crop the top half | keep only the top half | crop the cat photo to the top",
    "crop area=bottom off=True share=0.5": "cut off the bottom half | remove the lower half",
    "crop area=bottom right off=False share=0.25": "crop the bottom right quarter | crop the lower-right quarter",
    "crop area=all off=True share=0.1": "crop 10% from each side",
    "crop area=left off=True pixels=20.0": "trim 20 pixels from the left",
    "resize width=200 height=100": "resize to 200x100 | resize it to 200 by 100 pixels | scale to 200 x 100.",
    "resize width=300": "make it 300 px wide | set the width to 300",
    "resize factor=0.5": "half the size | make it half as big | shrink it to half | scale to 50% | make it smaller",
    "resize factor=0.25": "a quarter of the size | scale it down to 25 percent",
    "resize factor=3.0": "make it 3 times bigger | make it three times larger | triple the size",
    "resize factor=2.0": "twice as big | double the size | zoom in 2x | make it bigger | enlarge this image",
    "resize factor=0.8": "shrink by 20% | 20% smaller",
    "resize longest=128 shrink_only=True": "thumbnail | make a small thumbnail of it",
}
CASES = [(said.strip(), meant) for meant, many in SAID.items() for said in many.split(" | ")]


def told(text):
    return [" ".join([o.name, *(f"{k}={v}" for k, v in o.values.items())]) for o in parse(text)]


@pytest.mark.parametrize(("said", "meant"), CASES, ids=[c[0] for c in CASES])
def test_wording(said, meant):
    assert told(said) == [meant]


def test_several_in_the_order_said():
    text = "Make it grey, rotate it 90 degrees right and then blur it slightly; crop to a square, then resize to 64x64."
    assert [o.name for o in parse(text)] == ["grayscale", "rotate", "blur", "crop", "resize"]
    assert [o.name for o in parse("make it black and white and invert it & mirror it")] == [
        "grayscale",
        "invert",
        "flip",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "add a hat", "paint it in the style of van gogh", "sharpen it", "make it grey and add a hat",
     "blur the background", "blur the faces in the photo", "remove the person on the left", "make the grey sky blue",
     "describe it"],
)  # fmt: skip
def test_what_it_cannot_do_is_refused_with_what_it_can(text):
    with pytest.raises(ExpertError, match="possible are grayscale, blur") as caught:
        parse(text)
    assert not caught.value.retryable


def change(image, text, tmp_path, name="in.png", **options):
    file = tmp_path / name
    image.save(file, **options)
    made = PillowClassic().run({"image": file, "text": text}, Run())
    assert [o.media_type for o in made] == ["image/png"]
    return Image.open(io.BytesIO(made[0].data))


@pytest.fixture
def quarters():
    """Red, green / blue, white; 40 by 20."""
    image = Image.new("RGB", (40, 20))
    for n, colour in enumerate(["red", "lime", "blue", "white"]):
        image.paste(colour, ((n % 2) * 20, (n // 2) * 10, (n % 2) * 20 + 20, (n // 2) * 10 + 10))
    return image


def corners(image):
    w, h = image.size
    return [image.convert("RGB").getpixel(p) for p in ((1, 1), (w - 2, 1), (1, h - 2), (w - 2, h - 2))]


R, G, B, W = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("rotate 90 degrees left", (20, 40), [G, W, R, B]),
        ("rotate 90 degrees right", (20, 40), [B, R, W, G]),
        ("turn it upside down", (40, 20), [W, B, G, R]),
        ("mirror it", (40, 20), [G, R, W, B]),
        ("flip vertically", (40, 20), [B, W, R, G]),
        ("crop the top half", (40, 10), [R, G, R, G]),
        ("crop the left half", (20, 20), [R, R, B, B]),
        ("cut off the top half", (40, 10), [B, W, B, W]),
        ("crop the bottom right quarter", (20, 10), [W, W, W, W]),
        ("crop to a square", (20, 20), [R, G, B, W]),
        ("trim 20 pixels from the left", (20, 20), [G, G, W, W]),
        ("invert", (40, 20), [(0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)]),
        ("half the size", (20, 10), None),
        ("make it 3 times bigger", (120, 60), None),
        ("resize to 10 pixels wide", (10, 5), None),
        ("thumbnail", (40, 20), [R, G, B, W]),
        ("rotate by 45 degrees", (44, 44), None),
    ],
)
def test_what_comes_out(quarters, tmp_path, text, size, expected):
    image = change(quarters, text, tmp_path)
    assert abs(image.width - size[0]) <= 1
    assert abs(image.height - size[1]) <= 1
    if expected:
        assert corners(image) == expected


def test_grayscale_has_no_colour_left(quarters, tmp_path):
    image = change(quarters, "make it black and white", tmp_path).convert("RGB")
    assert all(r == g == b for _, (r, g, b) in image.getcolors())


def test_edges_are_found_where_the_colours_meet(tmp_path):
    image = Image.new("RGB", (60, 60), "white")
    image.paste("black", (20, 20, 40, 40))
    lines = change(image, "find the edges", tmp_path).convert("L")
    assert lines.getpixel((30, 30)) == lines.getpixel((5, 5)) == 0
    assert max(lines.getpixel((x, 30)) for x in range(16, 25)) == 255


def test_blur_is_stronger_when_a_lot_is_asked(tmp_path):
    image = Image.new("L", (200, 200))
    image.paste(255, (100, 0, 200, 200))

    def softness(text):
        row = change(image, text, tmp_path).convert("L")
        return sum(5 < row.getpixel((x, 100)) < 250 for x in range(200))

    assert 0 < softness("blur it slightly") < softness("blur it") < softness("blur it a lot")


def test_exif_orientation_is_honoured(quarters, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned 90 degrees to the right
    image = change(quarters, "make it 2 times bigger", tmp_path, "in.jpg", exif=exif, quality=95)
    assert image.size == (40, 80)


@pytest.mark.parametrize(
    "text", ["invert", "blur it", "half the size", "black and white", "find the edges", "mirror it"]
)
def test_transparency_is_kept(tmp_path, text):
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((200, 10, 10, 255), (10, 10, 30, 30))
    changed = change(image, text, tmp_path)
    assert changed.getpixel((0, 0))[-1] == 0
    assert changed.getpixel((changed.width // 2, changed.height // 2))[-1] == 255


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "I;16"])
def test_any_kind_of_picture_is_taken(tmp_path, mode):
    image = Image.new("L", (12, 12), 90)
    made = Image.new("I;16", (12, 12), 30000) if mode == "I;16" else image.convert(mode)
    name = "in.jpg" if mode == "CMYK" else "in.png"
    assert change(made, "turn it upside down", tmp_path, name).size == (12, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [("crop to 400x100", "cannot be cropped to 400x100"), ("make it 9000 times bigger", "million are made"),
     ("resize to 0x0", "0 pixels"), ("crop 50% from each side", "Nothing would be left")],
)  # fmt: skip
def test_impossible_sizes(quarters, tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        change(quarters, text, tmp_path)


def test_no_picture(tmp_path):
    file = tmp_path / "note.png"
    file.write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"'note\.png' cannot be opened as a picture"):
        PillowClassic().run({"image": file, "text": "invert"}, Run())
