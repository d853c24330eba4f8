"""The log-mel spectrogram that encoders, pocket-audio and the judge share.

    mels = log_mel(waves)        # (n, 49152) at 16 kHz -> (n, 64, 192), about -1…1
    wave = fitted(wave)          # any length -> 49152 samples: cut to its loudest stretch, or followed by silence

64 bands between 30 Hz and 8 kHz, windows of 1024 samples every 256 (62.5 frames a second).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

RATE, BANDS, WINDOW, HOP, FRAMES = 16_000, 64, 1024, 256, 192
SAMPLES = HOP * FRAMES
FLOOR, CENTRE, SCALE = 1e-5, -5.0, 6.0  # of amplitudes; natural logarithms fall between -11.5 and 2


def log_mel(waves: Tensor) -> Tensor:
    """(n, samples) -> (n, BANDS, samples / HOP), centred and scaled. float32 whatever comes in."""
    waves = waves.float()
    padded = F.pad(waves[:, None], ((WINDOW - HOP) // 2, (WINDOW - HOP) // 2), mode="reflect")[:, 0]
    window = torch.hann_window(WINDOW, device=waves.device)
    spectrum = torch.stft(padded, WINDOW, HOP, WINDOW, window, center=False, return_complex=True).abs()
    return ((filters(waves.device) @ spectrum).clamp(min=FLOOR).log() - CENTRE) / SCALE


@lru_cache(4)
def filters(device: torch.device) -> Tensor:
    """Triangles on the mel scale, each of area one: (BANDS, WINDOW / 2 + 1)."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1 + hertz / 700)

    edges = 700 * (torch.exp(torch.linspace(mel(30.0), mel(RATE / 2), BANDS + 2) / 1127.0) - 1)
    bins = torch.arange(WINDOW // 2 + 1) * RATE / WINDOW
    up = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    shape = torch.minimum(up, down).clamp(min=0)
    shape = shape / shape.sum(1, keepdim=True).clamp(min=1e-3)
    return shape.to(device)


def fitted(wave: Tensor) -> Tensor:
    """(samples,) -> (SAMPLES,): the loudest stretch of a longer sound; a shorter one is followed by silence."""
    if len(wave) <= SAMPLES:
        return F.pad(wave, (0, SAMPLES - len(wave)))
    power = F.pad(wave.double().square().cumsum(0), (1, 0))
    starts = torch.arange(0, len(wave) - SAMPLES + 1, HOP)
    best = int(starts[(power[starts + SAMPLES] - power[starts]).argmax()])
    return wave[best : best + SAMPLES]
