"""The discriminators that teach the vocoder not to buzz: convolutions over complex spectrograms of three sizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

RESOLUTIONS = ((1024, 256), (512, 128), (256, 64))


class _OneScale(nn.Module):
    """One resolution: verdicts for patches of time and frequency, and what was felt on the way."""

    def __init__(self, size: int, hop: int, wide: int):
        super().__init__()
        self.size, self.hop = size, hop
        self.layers = nn.ModuleList([
            nn.Conv2d(2, wide, (7, 5), (2, 1), (3, 2)), nn.Conv2d(wide, wide, (5, 3), (2, 2), (2, 1)),
            nn.Conv2d(wide, 2 * wide, (5, 3), (2, 2), (2, 1)), nn.Conv2d(2 * wide, 2 * wide, 3, 1, 1),
        ])  # fmt: skip
        self.verdict = nn.Conv2d(2 * wide, 1, 3, padding=1)

    def forward(self, waves: Tensor) -> list[Tensor]:
        """(n, samples) -> feature maps, the verdicts last."""
        window = torch.hann_window(self.size, device=waves.device)
        with torch.autocast(waves.device.type, enabled=False):
            spectrum = torch.stft(waves.float(), self.size, self.hop, self.size, window, return_complex=True)
            x = torch.view_as_real(spectrum).permute(0, 3, 1, 2)
            x = x.sign() * x.abs().clamp(min=1e-5).sqrt()  # quiet partials count too
        found = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            found.append(x)
        return [*found, self.verdict(x)]


class Rival(nn.Module):
    """All resolutions."""

    def __init__(self, wide: int = 32):
        super().__init__()
        self.scales = nn.ModuleList([_OneScale(size, hop, wide) for size, hop in RESOLUTIONS])

    def forward(self, waves: Tensor) -> list[list[Tensor]]:
        """Feature maps of each."""
        return [scale(waves) for scale in self.scales]


def rival_losses(rival: Rival, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(the rival's own, what it tells the maker, the distance of what it feels).

    One backward pass serves both: the maker is judged by a copy of the rival that learns nothing from it.
    """
    own = made.new_zeros(())
    for real, fake in zip(rival(true), rival(made.detach()), strict=True):
        own = own + F.relu(1 - real[-1].float()).mean() + F.relu(1 + fake[-1].float()).mean()
    still = {name: p.detach() for name, p in rival.named_parameters()}
    with torch.no_grad():
        wanted = functional_call(rival, still, (true,))
    found = functional_call(rival, still, (made,))
    told, felt = made.new_zeros(()), made.new_zeros(())
    for real, fake in zip(wanted, found, strict=True):
        told = told + F.relu(1 - fake[-1].float()).mean()
        for a, b in zip(real[:-1], fake[:-1], strict=True):
            felt = felt + (a.float() - b.float()).abs().mean() / a.float().abs().mean().clamp(min=1e-3)
    return own / len(wanted), told / len(wanted), felt / (4 * len(wanted))
