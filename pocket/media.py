"""Files as the full-size networks take them, and what they make as files: pictures, frames, sound, log-mel.

picture(file, 224)                    # (3, 224, 224) in 0…1
frames(file, count=10, side=224)      # (count, 3, 224, 224)
sound(file)                           # (samples,) at 16 kHz
log_mel(wave, bands=128)              # (bands, frames)
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError

RATE = 16000
_OPEN = {"protocol_whitelist": "file", "format_whitelist": "wav,mp3,flac,ogg,avi,matroska,webm,mov,mp4,m4a,aac,gif,png"}


def picture(file: Path, side: int) -> Tensor:
    """The middle square of a picture, (3, side, side) in 0…1."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return _square(image.convert("RGB"), side)
    except (OSError, SyntaxError, ValueError) as e:
        raise InputError(f"'{Path(file).name}' cannot be read as a picture.") from e


def frames(file: Path, count: int, side: int) -> Tensor:
    """`count` frames spread over a video, (count, 3, side, side) in 0…1."""
    import av

    try:
        with av.open(f"file:{Path(file).absolute()}", options=_OPEN) as container:
            found = [_square(frame.to_image(), side) for frame in container.decode(video=0)]
    except (av.error.FFmpegError, IndexError, ValueError) as e:
        raise InputError(f"'{Path(file).name}' cannot be read as a video.") from e
    if not found:
        raise InputError(f"'{Path(file).name}' holds no frames.")
    at = torch.linspace(0, len(found) - 1, count).round().long()
    return torch.stack([found[i] for i in at])


def sound(file: Path, rate: int = RATE) -> Tensor:
    """(samples,) of a sound file, one channel."""
    import av
    import numpy as np

    try:
        with av.open(f"file:{Path(file).absolute()}", options=_OPEN) as container:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
            parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
            parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    except (av.error.FFmpegError, IndexError, ValueError) as e:
        raise InputError(f"'{Path(file).name}' cannot be read as a sound.") from e
    if not parts:
        raise InputError(f"'{Path(file).name}' holds no sound.")
    return torch.from_numpy(np.concatenate(parts).astype("float32"))


def log_mel(wave: Tensor, bands: int, window: int = 400, hop: int = 160, rate: int = RATE, low: float = 20.0) -> Tensor:
    """Log energies of mel bands, (bands, frames): Hann windows, no padding."""
    if len(wave) < window:
        wave = F.pad(wave, (0, window - len(wave)))
    size = 2 ** math.ceil(math.log2(window))
    power = torch.stft(
        wave - wave.mean(), size, hop, window, torch.hann_window(window), center=False, return_complex=True
    ).abs().square()  # fmt: skip
    return (_filters(bands, size, rate, low) @ power).clamp(min=1e-7).log()


def _filters(bands: int, size: int, rate: int, low: float) -> Tensor:
    """Triangles on the mel scale, (bands, size / 2 + 1)."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1 + hertz / 700)

    edges = 700 * (torch.exp(torch.linspace(mel(low), mel(rate / 2), bands + 2) / 1127.0) - 1)
    bins = torch.arange(size // 2 + 1) * rate / size
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(up, down).clamp(min=0)


def png(image: Tensor) -> bytes:
    """(3, h, w) in 0…1 as a PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(_bytes(image)).save(out, "PNG")
    return out.getvalue()


def mp4(clip: Tensor, rate: int = 8) -> bytes:
    """(frames, 3, h, w) in 0…1 as an MP4."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = (n - n % 2 for n in clip.shape[-2:])
        stream.pix_fmt = "yuv420p"
        for image in clip:
            picture = _bytes(image)[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def wav(wave: Tensor, rate: int = RATE) -> bytes:
    """(samples,) in -1…1 as a WAV."""
    import wave as waves

    out = io.BytesIO()
    with waves.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((wave.clamp(-1, 1) * 32767).short().cpu().numpy().astype("<i2").tobytes())
    return out.getvalue()


def _square(image: Any, side: int) -> Tensor:
    import numpy as np

    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    small = image.resize((side, side), 3, box=(left, top, left + short, top + short))  # 3: bicubic
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255


def _bytes(image: Tensor) -> Any:
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def normalised(images: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """(…, 3, h, w), each channel with its mean and deviation taken out."""
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
