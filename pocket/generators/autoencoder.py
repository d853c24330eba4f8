"""The picture autoencoder: 64x64x3 in -1…1 <-> latents 16x16x4, a Gaussian for each (KL-regularised).

    vae = Autoencoder(AutoencoderConfig())
    z = vae.latents(pictures)                       # normalised to mean 0 and deviation 1 for each channel
    pictures = vae.pictures(z)

Pixels are folded two by two into channels at both doors, so that nothing runs at full size: after
AutoencoderKL (latent diffusion, arXiv 2112.10752) with pixel unshuffling. 2.6M parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import ChannelNorm, Residual


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes. `latent_mean` and `latent_deviation` are measured when training ends."""

    latent: int = 4
    encoder: tuple[int, int] = (64, 128)
    decoder: tuple[int, int] = (96, 160)
    side: int = 64
    latent_mean: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    latent_deviation: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)


class Door(nn.Module):
    """The last convolution: norm, SiLU, conv."""

    def __init__(self, inside: int, out: int):
        super().__init__()
        self.norm, self.conv = ChannelNorm(inside), nn.Conv2d(inside, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) -> (n, out, h, w)."""
        return self.conv(self.norm(x))


class Autoencoder(nn.Module):
    """See the file's first lines."""

    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        first, second = config.encoder
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, first, 3, padding=1), Residual(first, first),
            nn.Conv2d(first, second, 3, 2, 1), Residual(second, second), Residual(second, second),
            Door(second, 2 * config.latent),
        )  # fmt: skip
        last, inner = config.decoder
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent, inner, 3, padding=1), Residual(inner, inner), Residual(inner, inner),
            nn.Conv2d(inner, 4 * last, 3, padding=1), nn.PixelShuffle(2), Residual(last, last), Residual(last, last),
            Door(last, 12), nn.PixelShuffle(2),
        )  # fmt: skip

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3, 64, 64) -> mean and log variance, (n, 4, 16, 16) each, float32."""
        mean, spread = self.encoder(pictures.contiguous(memory_format=torch.channels_last)).float().chunk(2, 1)
        return mean, spread.clamp(-12.0, 4.0)

    def decode(self, z: Tensor) -> Tensor:
        """Latents as `encode` gives them -> (n, 3, 64, 64)."""
        return self.decoder(z.contiguous(memory_format=torch.channels_last))

    def latents(self, pictures: Tensor) -> Tensor:
        """(n, 3, 64, 64) -> normalised latents at the mode, (n, 4, 16, 16)."""
        mean, _ = self.encode(pictures)
        return (mean - self._per_channel(self.config.latent_mean, mean)) / self._per_channel(
            self.config.latent_deviation, mean
        )

    def pictures(self, z: Tensor) -> Tensor:
        """Normalised latents -> (n, 3, 64, 64), cut to -1…1, float32."""
        scaled = z * self._per_channel(self.config.latent_deviation, z) + self._per_channel(self.config.latent_mean, z)
        return self.decode(scaled).float().clamp(-1.0, 1.0)

    @staticmethod
    def _per_channel(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[None, :, None, None]


def reconstruction_loss(
    made: Tensor, wanted: Tensor, mean: Tensor, spread: Tensor, kl: float
) -> tuple[Tensor, dict[str, float]]:
    """Absolute and squared error, error of the edges, and the KL term; also as plain numbers for the log."""
    off = made - wanted
    absolute, squared = off.abs().mean(), off.pow(2).mean()
    edges = sum((made.diff(dim=d) - wanted.diff(dim=d)).abs().mean() for d in (2, 3))
    divergence = 0.5 * (mean.pow(2) + spread.exp() - 1 - spread).mean()
    loss = absolute + 0.5 * edges + 2 * squared + kl * divergence
    told = torch.stack([loss, squared, divergence]).detach().tolist()
    return loss, dict(zip(("loss", "squared", "divergence"), told, strict=True))


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Peak signal to noise of pictures in -1…1, in decibels."""
    return float(10 * torch.log10(4 / F.mse_loss(made.float(), wanted.float())))
