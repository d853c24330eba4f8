"""Provenance goes into a file and comes out again; the file is otherwise what it was."""

import io
import struct
import wave

import pytest

from anyloom.core.errors import InputError
from anyloom.core.provenance import embed, extract

MADE = {"tool": "text-to-image", "seed": 7, "params": {"prompt": "grüße"}}


def image(kind, **options):
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(out, kind, **options)
    return out.getvalue()


def wav(frames=b"\x01\x00\x02\x00"):
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(frames)
    return out.getvalue()


def box(kind, body):
    return struct.pack(">I4s", 8 + len(body), kind) + body


MP4 = box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", b"tables") + box(b"mdat", b"frames")


def read(folder, data):
    (folder / "f").write_bytes(data)
    return extract(folder / "f")


@pytest.mark.parametrize(
    ("data", "kind"),
    [(image("PNG"), "image/png"), (image("JPEG"), "image/jpeg"), (wav(), "audio/wav"), (MP4, "video/mp4")],
)
def test_in_and_out_again_and_again(tmp_path, data, kind):
    once = embed(data, kind, MADE)
    assert read(tmp_path, once) == MADE
    assert embed(once, kind, dict(reversed(MADE.items()))) == once
    assert read(tmp_path, embed(once, kind, {"seed": 8})) == {"seed": 8}
    assert embed(embed(once, kind, {"seed": 8}), kind, MADE) == once


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "audio/wav", "video/mp4", "audio/mpeg", "text/plain"])
@pytest.mark.parametrize("data", [b"", b"x", b"something else altogether, of some length"])
def test_bytes_of_another_kind_are_left_alone(kind, data):
    assert embed(data, kind, MADE) == data


def test_png_pixels_and_what_stands_behind_the_picture_stay(tmp_path):
    from PIL import Image

    data = embed(image("PNG") + b"appendix", "image/png", MADE)
    assert data.endswith(b"appendix")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.getpixel((0, 0)) == (255, 0, 0)
        opened.load()
        assert '"seed":7' in opened.info["anyloom"]


def test_jpeg_keeps_its_header_in_front_and_foreign_comments(tmp_path):
    from PIL import Image

    data = embed(image("JPEG", comment=b"holiday"), "image/jpeg", MADE)
    assert data[:4] == image("JPEG")[:4]
    assert b"holiday" in data
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        assert opened.info["jfif"]


def test_too_much_for_a_jpeg_comment_is_left_out():
    assert embed(image("JPEG"), "image/jpeg", {"text": "x" * 70_000}) == image("JPEG")


@pytest.mark.parametrize("frames", [b"\x01\x00", b"\x01\x00\x02\x00" * 50])
def test_wav_frames_and_sizes(tmp_path, frames):
    data = embed(wav(frames), "audio/wav", MADE)
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    with wave.open(io.BytesIO(data)) as w:
        assert w.readframes(1000) == frames


def test_wav_keeps_the_comments_of_others(tmp_path):
    theirs = wav()[:12] + b"LIST" + struct.pack("<I", 16) + b"INFOICMT" + struct.pack("<I", 4) + b"hey\0" + wav()[12:]
    data = embed(theirs, "audio/wav", MADE)
    assert b"hey\0" in data
    assert read(tmp_path, data) == MADE


def test_mp4_keeps_every_byte_in_its_place(tmp_path):
    once = embed(MP4, "video/mp4", MADE)
    assert once.startswith(MP4)
    later = once + box(b"mdat", b"added by another program")
    again = embed(later, "video/mp4", {"seed": 8})
    assert read(tmp_path, again) == {"seed": 8}
    assert again.index(b"added by") == later.index(b"added by")


def test_mp4_whose_last_box_goes_to_the_end(tmp_path):
    open_end = box(b"ftyp", b"isom\0\0\0\0") + b"\0\0\0\0mdat" + b"frames"
    data = embed(open_end, "video/mp4", MADE)
    assert read(tmp_path, data) == MADE
    assert data[16:32] == struct.pack(">I", 14) + b"mdatframes" + data[30:32]


def test_mp4_still_plays(tmp_path):
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as c:
        stream = c.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        c.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        c.mux(stream.encode())
    with av.open(io.BytesIO(embed(out.getvalue(), "video/mp4", MADE))) as c:
        assert len(list(c.decode(video=0))) == 1


@pytest.mark.parametrize("data", [b"", b"text", image("PNG"), image("JPEG", comment=b"hi"), wav(), MP4])
def test_a_foreign_file_has_none(tmp_path, data):
    assert read(tmp_path, data) is None


def test_damaged_or_hostile_provenance_counts_as_none(tmp_path):
    good = embed(MP4, "video/mp4", {"a": 1})
    assert read(tmp_path, good.replace(b'{"a":1}', b'{"a"1:}')) is None
    nested = b"[" * 100_000
    assert read(tmp_path, good[: -7 - 24] + struct.pack(">I", 24 + len(nested)) + good[-7 - 20 : -7] + nested) is None


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        extract(tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        extract(tmp_path / "gone.png")
