"""Stable Diffusion 1.5, Zeroscope v2 576w and AudioLDM-l-full as modality generators, on diffusers' classes.

| part                 | modality | condition | what it is                                          |
|----------------------|----------|-----------|-----------------------------------------------------|
| stable-diffusion-1.5 | image    | 77 x 768  | states of CLIP ViT-L's text encoder                 |
| zeroscope-v2-576w    | video    | 77 x 1024 | states of OpenCLIP ViT-H's text encoder, 23 layers  |
| audioldm-l-full      | audio    | 1 x 512   | CLAP's text embedding of length one, as class label |

Option `folder` names a pipeline in diffusers' layout; without it the architecture stands alone, at
full size or, with `narrow = true`, so small that a test trains through it. Sampling is a loop of our
own over the pipeline's scheduler: a seed decides, every step reports and can be stopped. The target
of the denoising loss is what the scheduler's configuration says that the network predicts.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ...pocket import media
from ..contracts import Check, Media, Progress, Setting
from .networks import Networks, built, opened

GUIDANCE = {"image": 7.5, "video": 9.0, "audio": 2.5}
STEPS = {"image": 30, "video": 30, "audio": 50}
OPTIONS = ("steps", "guidance")


class LatentDiffusion(ABC):
    """What the three have in common. Subclasses say how a condition goes in and how latents become a file."""

    modality: str
    tokens: int
    side = 512

    def __init__(self, networks: Networks, fingerprint: str):
        self.networks = networks
        self.fingerprint = fingerprint
        self.width = networks.condition
        for network in (networks.unet, networks.vae, networks.text_encoder, networks.vocoder):
            if network is not None:
                network.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.unet.parameters()).device

    def named_parameters(self) -> list[tuple[str, Any]]:
        """Of the networks: all frozen, which every stage asserts."""
        return [
            (f"{part}.{name}", p)
            for part in ("unet", "vae", "text_encoder", "vocoder")
            if (network := getattr(self.networks, part)) is not None
            for name, p in network.named_parameters()
        ]

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """See the contract."""
        with torch.no_grad():
            ids, mask = self.networks.tokens(captions, self.device)
            return self._encoded(ids, mask).float()

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """See the contract."""
        scheduler = self.networks.scheduler
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(latents.shape, generator=random).to(latents)
        times = torch.randint(0, scheduler.config.num_train_timesteps, (len(latents),), generator=random)
        times = times.to(latents.device)
        noised = scheduler.add_noise(latents, noise, times)
        foretold = self._denoise(noised, times, condition)
        kind = scheduler.config.prediction_type
        target = {"epsilon": noise, "sample": latents}.get(kind)
        if target is None:
            target = scheduler.get_velocity(latents, noise, times)
        return torch.nn.functional.mse_loss(foretold.float(), target.float())

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """See the contract; options steps, guidance, and what the subclass adds."""
        import copy

        scheduler = copy.deepcopy(self.networks.scheduler)  # it counts its steps
        scheduler.set_timesteps(int(options.get("steps", STEPS[self.modality])))
        guidance = float(options.get("guidance", GUIDANCE[self.modality]))
        like = next(self.networks.unet.parameters())
        z = torch.randn(self._shape(options), generator=torch.Generator().manual_seed(seed)).to(like)
        z = z * scheduler.init_noise_sigma
        both = torch.cat([self.text_condition([""]).to(like), condition[None].to(like)])
        with torch.no_grad():
            for n, time in enumerate(scheduler.timesteps):
                check()
                twice = scheduler.scale_model_input(torch.cat([z, z]), time)
                free, guided = self._denoise(twice, time.to(like.device).expand(2), both).chunk(2)
                z = scheduler.step(free + guidance * (guided - free), time, z).prev_sample
                progress(n + 1, len(scheduler.timesteps), "denoising")
            check()
            return self._file(z / self.networks.vae.config.scaling_factor)

    def _decoded(self, z: Tensor) -> Tensor:
        return (self.networks.vae.decode(z).sample.float() / 2 + 0.5).clamp(0, 1)

    def _clean(self, pictures: Tensor) -> Tensor:
        """Pictures (or spectrograms) to scaled latents, at the mode of the VAE's guess."""
        like = next(self.networks.vae.parameters())
        with torch.no_grad():
            posterior = self.networks.vae.encode(pictures.to(like)).latent_dist
            return posterior.mode().float() * self.networks.vae.config.scaling_factor

    def _encoded(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.networks.text_encoder(ids).last_hidden_state

    def _denoise(self, z: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        like = next(self.networks.unet.parameters())
        return self.networks.unet(z.to(like), times, encoder_hidden_states=condition.to(like)).sample

    @abstractmethod
    def prepare(self, file: Path) -> Tensor:
        """See the contract."""

    def latents(self, items: Tensor) -> Tensor:
        """See the contract."""
        return self._clean(items)

    @abstractmethod
    def _shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        """Of the noise that a file begins as, one of it."""

    @abstractmethod
    def _file(self, z: Tensor) -> Media:
        """The finished latents as a file."""


class StableDiffusion(LatentDiffusion):
    """Pictures."""

    modality, tokens = "image", 77

    def prepare(self, file: Path) -> Tensor:
        """(3, side, side) in -1…1."""
        return media.picture(file, self.networks.side) * 2 - 1

    def _shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        side = self.networks.side // self.networks.shrink
        return (1, self.networks.unet.config.in_channels, side, side)

    def _file(self, z: Tensor) -> Media:
        return Media("image", media.png(self._decoded(z)[0]), "image/png")


class Zeroscope(LatentDiffusion):
    """Clips: 24 frames of 576 x 320, as it was published; training on squares."""

    modality, tokens = "video", 77

    def prepare(self, file: Path) -> Tensor:
        """(frames, 3, side, side) in -1…1."""
        return media.frames(file, self.networks.frames, self.networks.side) * 2 - 1

    def latents(self, items: Tensor) -> Tensor:
        """(n, frames, 3, h, w) -> (n, channels, frames, h', w')."""
        return torch.stack([self._clean(clip).transpose(0, 1) for clip in items])

    def _shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        height, width = (n // self.networks.shrink for n in self.networks.picture)
        frames = int(options.get("frames", self.networks.frames))
        return (1, self.networks.unet.config.in_channels, frames, height, width)

    def _file(self, z: Tensor) -> Media:
        clip = torch.cat([self._decoded(frame[None]) for frame in z[0].transpose(0, 1)])
        return Media("video", media.mp4(clip), "video/mp4")


class AudioLDM(LatentDiffusion):
    """Sounds: a spectrogram in latents, a vocoder behind."""

    modality, tokens = "audio", 1

    def prepare(self, file: Path) -> Tensor:
        """(1, frames, bands): the log-mel of the first seconds, silence behind."""
        networks = self.networks
        mel = media.log_mel(media.sound(file), networks.bands, 1024, 160, low=0.0).T[: networks.frames]
        quiet = mel.new_full((networks.frames - len(mel), networks.bands), float(mel.min()))
        return torch.cat([mel, quiet])[None]

    def _encoded(self, ids: Tensor, mask: Tensor) -> Tensor:
        found = self.networks.text_encoder(ids, attention_mask=mask).text_embeds
        return torch.nn.functional.normalize(found, dim=-1)[:, None]

    def _denoise(self, z: Tensor, times: Tensor, condition: Tensor) -> Tensor:
        like = next(self.networks.unet.parameters())
        out = self.networks.unet(z.to(like), times, encoder_hidden_states=None, class_labels=condition[:, 0].to(like))
        return out.sample

    def _shape(self, options: Mapping[str, Any]) -> tuple[int, ...]:
        networks = self.networks
        height, width = networks.frames // networks.shrink, networks.bands // networks.shrink
        return (1, networks.unet.config.in_channels, height, width)

    def _file(self, z: Tensor) -> Media:
        mel = self.networks.vae.decode(z).sample[:, 0]
        wave = self.networks.vocoder(mel)[0]
        return Media("audio", media.wav(wave.float()), "audio/wav")


_KINDS: dict[str, type[LatentDiffusion]] = {
    "stable-diffusion-1.5": StableDiffusion, "zeroscope-v2-576w": Zeroscope, "audioldm-l-full": AudioLDM,
}  # fmt: skip


def _make(kind: str, options: Mapping[str, Any], setting: Setting) -> LatentDiffusion:
    unknown = set(options) - {"modality", "folder", "narrow"}
    if unknown:
        raise InputError(f"The generator '{kind}' has no option '{min(unknown)}'; it has folder and narrow.")
    if "folder" in options:
        networks = opened(kind, Path(options["folder"]), setting)
        name = hashlib.sha256(str(sorted(p.shape for p in networks.unet.parameters())).encode()).hexdigest()[:12]
        return _KINDS[kind](networks, f"{kind}-{name}")
    networks = built(kind, bool(options.get("narrow")), setting)
    return _KINDS[kind](networks, f"{kind}{'-narrow' if options.get('narrow') else ''}")


def stable_diffusion(options: Mapping[str, Any], setting: Setting) -> LatentDiffusion:
    """Factory; options folder, narrow."""
    return _make("stable-diffusion-1.5", options, setting)


def zeroscope(options: Mapping[str, Any], setting: Setting) -> LatentDiffusion:
    """Factory; options folder, narrow."""
    return _make("zeroscope-v2-576w", options, setting)


def audioldm(options: Mapping[str, Any], setting: Setting) -> LatentDiffusion:
    """Factory; options folder, narrow."""
    return _make("audioldm-l-full", options, setting)
