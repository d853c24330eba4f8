"""pocket-audio: three seconds of sound from a description, as a modality generator and for the cascade.

    model = PocketAudio.open(folder, features)      # coder, reader, flow and vocoder.safetensors
    condition = model.text_condition(["a slow low melody on a cello"])[0]
    media = model.generate(condition, seed=1, progress=…, check=…, options={})     # WAV, 3.07 s, 16 kHz

`features` is the frozen text encoder that pocket-image has as well (`text.Features`).
Sampling goes along the flow in some 16 second-order steps with guidance.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError, WeightsError
from .. import media
from ..contracts import Check, Media, Progress
from ..encoders.mel import RATE, fitted, log_mel
from ..encoders.pocket import levelled
from ..tensors import read_tensors
from .audio_networks import LATENT, AudioFlow, FlowSizes, MelCoder, Vocoder
from .text import Features, Reader, ReaderConfig

PARTS = ("coder", "reader", "flow", "vocoder")
STEPS, GUIDANCE = 16, 3.0


class PocketAudio:
    """See `contracts.Generator`."""

    modality = "audio"

    def __init__(
        self, coder: MelCoder, reader: Reader, flow: AudioFlow, vocoder: Vocoder, features: Features, fingerprint: str
    ):
        self.coder, self.reader, self.flow, self.vocoder, self.features = coder, reader, flow, vocoder, features
        self.fingerprint = fingerprint
        self.tokens, self.width = reader.config.rows, flow.sizes.condition
        for part in (coder, reader, flow, vocoder):
            part.requires_grad_(False).eval()
        with torch.no_grad():
            self.silent = reader(torch.zeros(1, reader.config.tokens, reader.config.features, device=self.device))

    @classmethod
    def open(cls, folder: Path, features: Features, device: str = "cpu") -> PocketAudio:
        """From a folder with the four files. WeightsError when one is missing or does not fit."""
        files = {name: Path(folder) / f"{name}.safetensors" for name in PARTS}
        tensors, heads = {}, {}
        for name, file in files.items():
            tensors[name], heads[name] = read_tensors(file)
        try:
            config = json.loads(heads["reader"]["config"])
            raw: dict[str, Any] = json.loads(heads["flow"]["sizes"])
            sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
            made: dict[str, nn.Module] = {
                "coder": MelCoder(), "vocoder": Vocoder(), "reader": Reader(ReaderConfig(**config)),
                "flow": AudioFlow(FlowSizes(**sizes)),
            }  # fmt: skip
            for name, module in made.items():
                module.load_state_dict({k: v.float() for k, v in tensors[name].items()})
                module.to(device)
        except (KeyError, TypeError, ValueError, RuntimeError) as e:
            raise WeightsError(f"'{folder}' is no pocket-audio ({str(e).splitlines()[0][:120]}); fetch it anew.") from e
        digest = hashlib.sha256(b"".join(f.read_bytes() for f in files.values())).hexdigest()[:16]
        parts: list[Any] = [made[name] for name in PARTS]
        coder, reader, flow, vocoder = parts
        return cls(coder, reader, flow, vocoder, features.to(device), f"pocket-audio-{digest}")

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.flow.ramps.device

    def named_parameters(self) -> list[tuple[str, Any]]:
        """Of the networks: all frozen, which every stage asserts."""
        parts = (("coder", self.coder), ("reader", self.reader), ("flow", self.flow), ("vocoder", self.vocoder))
        return [(f"{name}.{n}", p) for name, part in parts for n, p in part.named_parameters()]

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """See the contract; a longer text is cut at its 19th token."""
        with torch.no_grad():
            return self.reader(self.features(captions).to(self.device)).float()

    def prepare(self, file: Path) -> Tensor:
        """See the contract: a log-mel spectrogram (64, 192)."""
        return log_mel(fitted(levelled(media.sound(file)))[None])[0]

    def latents(self, items: Tensor) -> Tensor:
        """See the contract."""
        with torch.no_grad():
            return self.coder.encode(items.to(self.device))

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """See the contract: the loss of flow matching."""
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        times = torch.sigmoid(1.2 * torch.randn(len(latents), generator=random)).to(latents)
        part = times[:, None, None, None]
        made = self._velocity((1 - part) * noise + part * latents, times, condition)
        return F.mse_loss(made.float(), latents - noise)

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """See the contract; options steps (16) and guidance (3)."""
        steps, guidance = int(options.get("steps", STEPS)), float(options.get("guidance", GUIDANCE))
        if not 1 <= steps <= 200:
            raise InputError(f"'steps' is {steps}; it has to be between 1 and 200.")
        with torch.no_grad():
            z = self._sampled(condition[None].to(self.device).float(), seed, steps, guidance, progress, check)
            check()
            wave = self.vocoder(self.coder.decode(z).float())[0]
        return Media("audio", media.wav(gentle(wave.cpu())), "audio/wav")

    def _sampled(
        self, condition: Tensor, seed: int, steps: int, guidance: float, progress: Progress, check: Check
    ) -> Tensor:
        """Along the flow from noise to latents, with the last step's direction as a second-order help."""
        z = torch.randn(1, *LATENT, generator=torch.Generator().manual_seed(seed)).to(self.device)
        both = torch.cat([self.silent, condition])
        way = torch.linspace(0, 1, steps + 1) ** 1.2  # shorter steps near the noise, where most is decided
        before: Tensor | None = None
        for n in range(steps):
            check()
            size = float(way[n + 1] - way[n])
            free, heard = self._velocity(z.repeat(2, 1, 1, 1), way[n].repeat(2).to(z), both).chunk(2)
            now = free + guidance * (heard - free)
            ratio = size / float(way[n] - way[n - 1]) if n else 0.0
            z = z + size * (now if before is None else now + 0.5 * ratio * (now - before))
            before = now
            progress(n + 1, steps, "denoising")
        return z

    def _velocity(self, z: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        return self.flow(z, times, condition.float())


def gentle(wave: Tensor) -> Tensor:
    """Nothing that hurts: no offset, loudest sample 0.7, soft beginnings and ends."""
    wave = torch.nan_to_num(wave.float())
    wave = levelled(wave - wave.mean())
    fade = RATE // 100
    wave[:fade] *= torch.linspace(0, 1, fade)
    wave[-fade:] *= torch.linspace(1, 0, fade)
    return wave.clamp(-0.95, 0.95)
