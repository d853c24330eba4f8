"""The networks of pocket-audio, in AudioLDM's structure: mel autoencoder, latent flow, vocoder.

    mels (n, 64, 192)  --MelCoder.encode-->  latents (n, 8, 16, 48)  --decode-->  mels  --Vocoder-->  (n, 49152)
    AudioFlow(latents, times, condition) -> the velocity from noise to latents

The flow is the picture's denoiser (unet.py): a transformer over patches of the latents, which was tried first,
trained at a quarter of its speed on a CPU. The condition is what `text.Reader` makes of a caption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders.mel import BANDS, CENTRE, FLOOR, FRAMES, HOP, SCALE, WINDOW, filters
from .networks import ChannelNorm, Residual
from .unet import UNet, UNetConfig

BINS = WINDOW // 2 + 1
LATENT = (8, BANDS // 4, FRAMES // 4)


class MelCoder(nn.Module):
    """Mels to latents a quarter as high and long, and back; a KL autoencoder."""

    scale: Tensor

    def __init__(self, inner: tuple[int, int] = (48, 96), latent: int = LATENT[0]):
        super().__init__()
        a, b = inner
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, a, 3, padding=1),
            Residual(a, a),
            nn.Conv2d(a, b, 3, 2, 1),
            Residual(b, b),
            Residual(b, b),
            ChannelNorm(b),
            nn.Conv2d(b, 2 * latent, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent, b, 3, padding=1),
            Residual(b, b),
            Residual(b, b),
            Residual(b, b),
            nn.Conv2d(b, 4 * a, 3, padding=1),
            nn.PixelShuffle(2),
            Residual(a, a),
            Residual(a, a),
            ChannelNorm(a),
            nn.Conv2d(a, 4, 3, padding=1),
            nn.PixelShuffle(2),
        )
        # What latents are multiplied by, so that they have deviation one; set when training ends.
        self.register_buffer("scale", torch.ones(()))

    def moments(self, mels: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 64, t) -> mean and log-variance, unscaled."""
        mean, spread = self.encoder(mels[:, None]).float().chunk(2, 1)
        return mean, spread.clamp(-12, 4)

    def encode(self, mels: Tensor) -> Tensor:
        """(n, 64, t) -> latents (n, 8, 16, t/4), scaled."""
        return self.moments(mels)[0] * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """The way back: (n, 64, t)."""
        return self.decoder(latents / self.scale)[:, 0]


@dataclass(frozen=True)
class FlowSizes:
    """How large the flow is; `condition` is the width of the text's `rows`."""

    condition: int = 256
    rows: int = 6
    channels: tuple[int, int] = (64, 128)
    latent: tuple[int, int, int] = LATENT


class AudioFlow(nn.Module):
    """Flow matching: at time 0 noise, at time 1 latents; it says in which direction to go.

    The picture's denoiser over the latents as a picture of 16 bands by 48 moments. Where a picture has drafts it gets
    two ramps, because a pattern means another sound in another band.
    """

    ramps: Tensor

    def __init__(self, sizes: FlowSizes = FlowSizes()):
        super().__init__()
        self.sizes = sizes
        channels, high, long = sizes.latent
        self.unet = UNet(
            UNetConfig(
                latent=channels, draft=2, channels=tuple(sizes.channels), rows=sizes.rows, condition=sizes.condition
            )
        )
        up = torch.linspace(-1, 1, high)[:, None].expand(high, long)
        along = torch.linspace(-1, 1, long)[None].expand(high, long)
        self.register_buffer("ramps", torch.stack([up, along]), persistent=False)

    def forward(self, latents: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """(n, 8, 16, 48), (n,) in 0…1, (n, rows, condition) -> (n, 8, 16, 48)."""
        latents = latents.contiguous(memory_format=torch.channels_last)
        ramps = self.ramps.expand(len(latents), -1, -1, -1)
        return -self.unet(latents, 1000 * (1 - times), condition, ramps)


class _Convolved(nn.Module):
    """A ConvNeXt block over time."""

    def __init__(self, width: int):
        super().__init__()
        self.near = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.gain = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, frames), the same shape out."""
        inner = self.norm(self.near(x).transpose(1, 2))
        return x + (self.down(F.gelu(self.up(inner))) * self.gain).transpose(1, 2)


class Vocoder(nn.Module):
    """Mels to samples: a small network says the magnitudes between the bands, Griffin and Lim's way finds the phases.

    A network that foretells phases as well (Vocos's way) buzzed at the frame rate after 940 steps, where phases found
    by going back and forth between spectrum and samples (Griffin and Lim 1984, with Perraudin's momentum of 2013)
    cannot. The network adds to what the bands' own amplitudes, spread over their bins, give; what it says is then
    brought to the loudness that every band has, which halves the distance to the true magnitudes (docs/log.md).
    """

    bands: Tensor
    spread: Tensor
    start: Tensor

    def __init__(self, width: int = 256, layers: int = 4):
        super().__init__()
        self.enter = nn.Conv1d(BANDS, width, 7, padding=3)
        self.first = nn.LayerNorm(width)
        self.layers = nn.Sequential(*[_Convolved(width) for _ in range(layers)])
        self.last = nn.LayerNorm(width)
        self.leave = nn.Linear(width, BINS)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        bands = filters(torch.device("cpu"))
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("spread", (bands / bands.sum(0).clamp(min=1e-6)).T.clone(), persistent=False)
        angles = 2 * math.pi * torch.rand(BINS, FRAMES, generator=torch.Generator().manual_seed(0))
        self.register_buffer("start", angles, persistent=False)

    def magnitudes(self, mels: Tensor) -> Tensor:
        """(n, 64, frames) -> natural logarithms of amplitudes (n, 513, frames)."""
        x = self.first(self.enter(mels).transpose(1, 2)).transpose(1, 2)
        x = self.leave(self.last(self.layers(x).transpose(1, 2))).transpose(1, 2).float()
        with torch.autocast(x.device.type, enabled=False):
            plain = self.spread @ (mels.float() * SCALE + CENTRE).exp()
            return plain.clamp(min=FLOOR).log() + x

    def levelled(self, loud: Tensor, mels: Tensor, rounds: int = 3) -> Tensor:
        """Amplitudes (n, 513, frames) such that each band is as loud as the mels say."""
        wanted = (mels.float() * SCALE + CENTRE).exp()
        for _ in range(rounds):
            ratio = wanted / (self.bands @ loud).clamp(min=1e-6)
            loud = loud * (self.spread @ ratio.clamp(0.02, 50).log()).exp()
        return loud

    def forward(self, mels: Tensor, rounds: int = 32) -> Tensor:
        """(n, 64, frames) -> (n, frames * 256)."""
        with torch.autocast(mels.device.type, enabled=False):
            loud = self.levelled(self.magnitudes(mels).clamp(max=7).exp(), mels)
            return phased(loud, self.start[:, : loud.shape[2]], rounds)


def phased(loud: Tensor, start: Tensor, rounds: int, momentum: float = 0.99) -> Tensor:
    """Amplitudes (n, 513, frames) and first phases -> samples (n, frames * 256) whose spectrum comes near them."""
    whole = torch.polar(loud, start.expand_as(loud))
    before = torch.zeros_like(whole)
    for _ in range(rounds):
        found = spectrum(inverse(whole))
        ahead = found - momentum / (1 + momentum) * before
        whole, before = loud * ahead / ahead.abs().clamp(min=1e-8), found
    return inverse(whole)


def spectrum(waves: Tensor) -> Tensor:
    """(n, frames * 256) -> (n, 513, frames), complex, framed as `log_mel` does."""
    edge = (WINDOW - HOP) // 2
    padded = F.pad(waves[:, None], (edge, edge), mode="reflect")[:, 0]
    window = torch.hann_window(WINDOW, device=waves.device)
    return torch.stft(padded, WINDOW, HOP, WINDOW, window, center=False, return_complex=True)


def inverse(whole: Tensor) -> Tensor:
    """The samples of a complex spectrum."""
    return overlap_add(torch.fft.irfft(whole.transpose(1, 2), WINDOW))


def overlap_add(frames: Tensor) -> Tensor:
    """(n, frames, WINDOW) -> (n, frames * HOP): windowed, added up, the edges cut as `log_mel` pads them."""
    window = torch.hann_window(WINDOW, device=frames.device)
    _n, count = frames.shape[:2]
    size = (1, (count - 1) * HOP + WINDOW)

    def added(x: Tensor) -> Tensor:
        return F.fold(x.transpose(1, 2), size, (1, WINDOW), stride=(1, HOP))[:, 0, 0]

    total = added(frames * window)
    weight = added((window.square()).expand(1, count, WINDOW))
    edge = (WINDOW - HOP) // 2
    return (total / weight.clamp(min=1e-3))[:, edge : edge + count * HOP]
