"""What counts as a picture, a sound, a video or a text is decided by content; the rest is refused in a sentence."""

import io
import os
import struct
import subprocess
import sys
import wave

import pytest

from anyloom.core.errors import InputError
from anyloom.core.media import Limits, inspect_file


def picture(kind, frames=1, size=(20, 20)):
    from PIL import Image

    out = io.BytesIO()
    several = [Image.new("RGB", size, (n * 20, 0, 0)) for n in range(frames)]
    more = {"save_all": True, "append_images": several[1:]} if frames > 1 else {}
    several[0].save(out, kind, **more)
    return out.getvalue()


def wav(seconds=1):
    out = io.BytesIO()
    with wave.open(out, "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(b"\x01\x00" * (8000 * seconds))
    return out.getvalue()


def sound(container, codec, cover=False):
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format=container) as c:
        stream = c.add_stream(codec, rate=48000, layout="mono")
        art = c.add_stream("mjpeg", rate=1) if cover else None
        if art:
            art.width = art.height = 32
            art.pix_fmt = "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
            c.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
            c.mux(art.encode())
        for n in range(60):
            frame = av.AudioFrame.from_ndarray(np.full((1, 960), n * 100, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48000, n * 960
            c.mux(stream.encode(frame))
        c.mux(stream.encode())
    return out.getvalue()


def film(container, codec, pixels="yuv420p"):
    import av
    import numpy as np

    out = io.BytesIO()
    with av.open(out, "w", format=container) as c:
        stream = c.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        for n in range(16):
            c.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), n * 9, np.uint8), format="rgb24")))
        c.mux(stream.encode())
    return out.getvalue()


def look(folder, data, name="file", limits=None):
    (folder / name).write_bytes(data)
    return inspect_file(folder / name, limits or Limits())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_pictures(tmp_path, kind):
    info = look(tmp_path, picture(kind))
    assert (info.media_type, info.facts) == (f"image/{kind.lower()}", {"width": 20, "height": 20})


def test_a_phones_jpeg_with_a_second_picture_in_it_is_a_jpeg(tmp_path):
    assert look(tmp_path, picture("MPO", frames=2)).media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("container", "codec", "media_type"),
    [
        ("mp3", "libmp3lame", "audio/mpeg"),
        ("flac", "flac", "audio/flac"),
        ("ogg", "libopus", "audio/ogg"),
        ("ipod", "aac", "audio/mp4"),
        ("mov", "aac", "audio/mp4"),
        ("webm", "libopus", "audio/webm"),
    ],
)
def test_sounds(tmp_path, container, codec, media_type):
    info = look(tmp_path, sound(container, codec))
    assert info.media_type == media_type
    assert info.facts["seconds"] == pytest.approx(1.2, abs=0.1)


def test_a_sound_with_a_cover_picture_is_a_sound(tmp_path):
    assert look(tmp_path, sound("mp3", "libmp3lame", cover=True)).media_type == "audio/mpeg"


@pytest.mark.parametrize("name", ["file", "file.mp4", "file.mkv", "file.webm", "file.txt"])
@pytest.mark.parametrize(
    ("container", "codec", "pixels", "media_type"),
    [
        ("mp4", "mpeg4", "yuv420p", "video/mp4"),
        ("mov", "mpeg4", "yuv420p", "video/quicktime"),
        ("webm", "libvpx", "yuv420p", "video/webm"),
        ("matroska", "mjpeg", "yuvj420p", "video/x-matroska"),
        ("avi", "mjpeg", "yuvj420p", "video/x-msvideo"),
    ],
)
def test_videos_whatever_they_are_called(tmp_path, container, codec, pixels, media_type, name):
    info = look(tmp_path, film(container, codec, pixels), name)
    assert info.media_type == media_type
    assert info.facts == {"seconds": pytest.approx(2, abs=0.2), "width": 64, "height": 64}


@pytest.mark.parametrize(
    "text", ["BMW is a maker of cars", "Get free stuff", "ID3 tags", "MZ is a code", "OggS", "GIF89a"]
)
def test_a_text_that_begins_like_a_picture_or_a_sound_is_a_text(tmp_path, text):
    assert look(tmp_path, text.encode()).media_type == "text/plain"


def test_only_json_that_parses_is_json(tmp_path):
    assert look(tmp_path, b'{"a": 1}', "a.json").media_type == "application/json"
    assert look(tmp_path, b'{"a": ', "a.json").media_type == "text/plain"
    assert look(tmp_path, b"[" * 100_000, "a.json").media_type == "text/plain"


def test_text_whose_umlaut_lies_across_the_end_of_what_is_read_first(tmp_path):
    assert look(tmp_path, b"x" * 4095 + "ü".encode()).facts == {"characters": 4096}


def bomb(width, height):
    import zlib

    end = picture("PNG")[33:]
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + end


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: bomb(50_000, 50_000), "pixels"),
        (lambda: bomb(9_000, 9_000), "9000 x 9000 pixels; the limit is 50 million"),
        (lambda: picture("TIFF"), "TIFF picture; convert it to PNG"),
        (lambda: b"\0\0\0\x1cftypheic" + bytes(40), "HEIC or AVIF picture; convert it to JPEG"),
        (lambda: wav()[:9000], "broken or truncated sound .* announces 16044 bytes and holds 9000"),
        (lambda: film("avi", "mjpeg", "yuvj420p")[:9000], "broken or truncated sound"),
        (lambda: film("matroska", "mjpeg", "yuvj420p")[:5000], "truncated"),
        (lambda: sound("flac", "flac")[:200], "truncated"),
        (lambda: "Grüße".encode("utf-16"), "save it as UTF-8"),
        (lambda: "Grüße".encode("latin-1"), "save it as UTF-8"),
        (lambda: os.urandom(300) + bytes(300), "no kind that is accepted .*MP3"),
        (lambda: b"<!-- " + b"-" * 900 + b" --><svg/>", "SVG drawing; convert it to PNG"),
        (lambda: b"x" * 1_000_001, "more than 1,000,000 characters"),
        (lambda: "ü".encode() * 3_000_000, "more than 1,000,000 characters"),
    ],
)
def test_what_is_refused_and_why(tmp_path, data, said):
    with pytest.raises(InputError, match=said) as caught:
        look(tmp_path, data())
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_frames_count_as_pixels(tmp_path):
    with pytest.raises(InputError, match="5 frames of 20 x 20 pixels"):
        look(tmp_path, picture("GIF", frames=5), limits=Limits(image_pixels=1000))


def test_a_video_that_is_too_long_or_too_large(tmp_path):
    with pytest.raises(InputError, match="lasts 2 seconds; the limit is 1 for video"):
        look(tmp_path, film("mp4", "mpeg4"), limits=Limits(video_seconds=1))
    with pytest.raises(InputError, match="64 x 64 pixels"):
        look(tmp_path, film("mp4", "mpeg4"), limits=Limits(image_pixels=1000))


def test_a_name_is_never_taken_for_an_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    Path("concat:a.wav|b.wav").write_bytes(wav())
    assert inspect_file(Path("concat:a.wav|b.wav"), Limits()).media_type == "audio/wav"


def test_what_is_no_readable_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no ordinary file"):
        inspect_file(tmp_path / "pipe", Limits())
    with pytest.raises(InputError, match="cannot be read"):
        inspect_file(tmp_path / ("x" * 400), Limits())
    with pytest.raises(InputError):
        inspect_file("a\0b", Limits())
    (tmp_path / "mine").write_text("secret")
    (tmp_path / "mine").chmod(0)
    if os.geteuid():  # root may read everything
        with pytest.raises(InputError, match="cannot be read: Permission denied"):
            inspect_file(tmp_path / "mine", Limits())


def test_importing_and_looking_at_text_loads_no_media_library(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    code = (
        "import sys; from anyloom.core.media import *; inspect_file(sys.argv[1], Limits());"
        "print({'PIL', 'av', 'numpy'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.txt")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
