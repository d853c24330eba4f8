"""The networks of pocket-audio, in AudioLDM's structure: mel autoencoder, latent flow, vocoder.

    mels (n, 64, 192)  --MelCoder.encode-->  latents (n, 8, 16, 48)  --decode-->  mels  --Vocoder-->  (n, 49152)
    AudioFlow(latents, times, condition) -> the velocity from noise to latents

The flow is a transformer over 2 x 2 patches of the latents, which are joined in attention by the text's
tokens; the condition's first vector goes to every layer's modulation as well, which is what makes words
heard when training is short. The condition is what `text.Reader` makes of a caption.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders.mel import BANDS, FRAMES, HOP, WINDOW
from .networks import ChannelNorm, Residual

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
    """How large the flow is; `condition` is the width of the text's tokens."""

    condition: int = 256
    width: int = 256
    layers: int = 6
    heads: int = 4
    latent: tuple[int, int, int] = LATENT


class _FlowLayer(nn.Module):
    """Attention over sound and text together, then a mixing that also looks at its neighbours."""

    def __init__(self, sizes: FlowSizes, grid: tuple[int, int]):
        super().__init__()
        d = sizes.width
        self.heads, self.grid = sizes.heads, grid
        self.norms = nn.ModuleList([nn.LayerNorm(d, elementwise_affine=False) for _ in range(2)])
        self.shift = nn.Parameter(torch.zeros(6, d))  # beside the modulation that all layers share
        self.qkv, self.words, self.out = nn.Linear(d, 3 * d), nn.Linear(d, 2 * d), nn.Linear(d, d)
        self.q_norm, self.k_norm = nn.RMSNorm(d // sizes.heads), nn.RMSNorm(d // sizes.heads)
        self.up, self.near, self.down = (
            nn.Linear(d, 3 * d),
            nn.Conv2d(3 * d, 3 * d, 3, padding=1, groups=3 * d),
            nn.Linear(3 * d, d),
        )
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, words: Tensor, state: Tensor) -> Tensor:
        """x (n, cells, d); words (n, k, d); state (n, 6, d)."""
        n, cells, d = x.shape
        a, b, gate, c, e, other = (state + self.shift).unsqueeze(2).unbind(1)
        own = self.qkv(self.norms[0](x) * (1 + a) + b).view(n, cells, 3, self.heads, -1)
        said = self.words(words).view(n, words.shape[1], 2, self.heads, -1)
        q = self.q_norm(own[:, :, 0]).transpose(1, 2)
        k = self.k_norm(torch.cat([own[:, :, 1], said[:, :, 0]], 1)).transpose(1, 2)
        v = torch.cat([own[:, :, 2], said[:, :, 1]], 1).transpose(1, 2)
        seen = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        x = x + (1 + gate) * self.out(seen.transpose(1, 2).reshape(n, cells, d))
        inner = self.up(self.norms[1](x) * (1 + c) + e)
        around = inner.transpose(1, 2).reshape(n, -1, *self.grid)
        inner = F.gelu((around + self.near(around)).flatten(2).transpose(1, 2))
        return x + (1 + other) * self.down(inner)


class AudioFlow(nn.Module):
    """Flow matching: at time 0 noise, at time 1 latents; it says in which direction to go."""

    def __init__(self, sizes: FlowSizes = FlowSizes()):
        super().__init__()
        self.sizes = sizes
        channels, high, long = sizes.latent
        d, grid = sizes.width, (high // 2, long // 2)
        self.enter = nn.Linear(4 * channels, d)
        self.place = nn.Parameter(torch.randn(grid[0] * grid[1], d) * 0.02)
        self.time = nn.Sequential(nn.Linear(128, d), nn.SiLU(), nn.Linear(d, d))
        self.words, self.direct = nn.Linear(sizes.condition, d), nn.Linear(sizes.condition, d)
        self.modulate = nn.Linear(d, 6 * d)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        self.layers = nn.ModuleList([_FlowLayer(sizes, grid) for _ in range(sizes.layers)])
        self.norm = nn.LayerNorm(d)
        self.leave = nn.Linear(d, 4 * channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, latents: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        """(n, 8, 16, 48), (n,) in 0…1, (n, k, condition) -> (n, 8, 16, 48)."""
        x = self.enter(F.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)) + self.place
        turns = times[:, None] * 1000 * torch.exp(-math.log(10_000) * torch.arange(64, device=times.device) / 64)
        state = F.silu(self.time(torch.cat([turns.cos(), turns.sin()], 1)) + self.direct(condition[:, 0]))
        state = self.modulate(state).view(len(x), 6, -1)
        words = self.words(condition).to(x.dtype)
        for layer in self.layers:
            x = layer(x, words, state)
        high, long = self.sizes.latent[1] // 2, self.sizes.latent[2] // 2
        return F.pixel_shuffle(self.leave(self.norm(x)).transpose(1, 2).reshape(len(x), -1, high, long), 2)


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
    """Mels to samples through magnitudes and phases and one inverse Fourier transform (Vocos's way)."""

    def __init__(self, width: int = 256, layers: int = 6):
        super().__init__()
        self.enter = nn.Conv1d(BANDS, width, 7, padding=3)
        self.first = nn.LayerNorm(width)
        self.layers = nn.Sequential(*[_Convolved(width) for _ in range(layers)])
        self.last = nn.LayerNorm(width)
        self.leave = nn.Linear(width, WINDOW + 2)

    def forward(self, mels: Tensor) -> Tensor:
        """(n, 64, frames) -> (n, frames * 256)."""
        x = self.first(self.enter(mels).transpose(1, 2)).transpose(1, 2)
        x = self.leave(self.last(self.layers(x).transpose(1, 2))).float()
        with torch.autocast(x.device.type, enabled=False):
            loud, phase = x.chunk(2, -1)
            spectrum = torch.polar(loud.clamp(max=7).exp(), phase)
            return overlap_add(torch.fft.irfft(spectrum, WINDOW))


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
