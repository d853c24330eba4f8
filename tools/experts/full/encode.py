"""From what models make (pictures, samples, frames) to bytes of PNG, WAV and MP4; and sound files to samples."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....core.errors import InputError


def png(picture: Any) -> bytes:
    """A Pillow picture as PNG."""
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def wav(samples: Any, rate: int) -> bytes:
    """Samples between -1 and 1, of shape (time) or (channels, time), as 16-bit WAV."""
    import numpy as np

    sound = np.atleast_2d(np.asarray(samples, dtype=np.float32))
    whole = (np.nan_to_num(sound).clip(-1, 1) * 32767).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(sound.shape[0])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(whole.T.tobytes())
    return out.getvalue()


def mp4(frames: Sequence[Any], fps: int) -> bytes:
    """Frames, each (height, width, 3) in bytes or a Pillow picture, as H.264 in MP4. Odd sides lose a pixel."""
    import av
    import numpy as np

    pictures = [np.asarray(f, dtype=np.uint8)[:, :, :3] for f in frames]
    height, width = (n // 2 * 2 for n in pictures[0].shape[:2])
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream: Any = file.add_stream("libx264", rate=fps, options={"crf": "18", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return out.getvalue()


def samples_of(audio: Path, rate: int) -> Any:
    """A sound file of any format as mono float samples at `rate`."""
    from av.error import FFmpegError
    from faster_whisper.audio import decode_audio

    try:
        return decode_audio(str(audio), sampling_rate=rate)
    except (FFmpegError, IndexError, ValueError) as e:  # IndexError: a container without a sound track
        raise InputError(f"'{audio.name}' holds no sound that can be read; convert it to WAV or MP3.") from e
