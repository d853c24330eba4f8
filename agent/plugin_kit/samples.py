"""Tiny inputs of every modality, for experts to be tried on."""

from __future__ import annotations

import io
import wave
from pathlib import Path

TEXT = "A small red ball rolls down the hill."


def write_samples(folder: Path) -> dict[str, object]:
    """One input a modality: a text, and paths of a PNG, a WAV and an MP4 below `folder`."""
    files = {"image": _image(folder), "audio": _audio(folder), "video": _video(folder)}
    return {"text": TEXT, "url": "https://example.org", **files}


def _image(folder: Path) -> Path:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (160, 120), "white")
    ImageDraw.Draw(image).text((20, 50), "HELLO 42", fill="black", font_size=24)
    image.save(folder / "sample.png")
    return folder / "sample.png"


def _audio(folder: Path) -> Path:
    import numpy as np

    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(tone.tobytes())
    (folder / "sample.wav").write_bytes(out.getvalue())
    return folder / "sample.wav"


def _video(folder: Path) -> Path:
    import av
    import numpy as np

    with av.open(str(folder / "sample.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for n in range(8):
            frame = np.full((64, 64, 3), 255, np.uint8)
            frame[20:40, 4 * n : 4 * n + 20] = (255, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return folder / "sample.mp4"
