"""Training of pocket-audio, in four parts: reader, coder, vocoder, flow (the last needs the first two).

    train_reader(words, budget, out, say)       # captions -> condition (audio_reader.py)
    train_coder(data, budget, out, say)         # mels <-> latents
    train_vocoder(data, budget, out, say)       # mels (half of them through the coder) -> samples
    train_flow(data, words, budget, out, say)   # condition -> latents, flow matching

Each writes its weights as float16 safetensors into `out` (reader, coder, vocoder, flow) and goes on from its own
checkpoint with `resume`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ...pocket.encoders.mel import HOP, SAMPLES, log_mel
from ...pocket.generators.audio_networks import AudioFlow, FlowSizes, MelCoder, Vocoder, spectrum
from ...pocket.tensors import read_tensors
from .audio_data import SoundData
from .audio_loop import Budget, Say, fit
from .audio_reader import open_reader, save_part
from .audio_words import SceneWords
from .encoders_data import between, chooser, draws, level

UNHEARD = 0.12  # share of steps without text, for guidance
QUIET = 1e-4  # amplitudes below this are silence


class Waves:
    """Clips on the device, some of them drawn and shifted in time for each batch."""

    def __init__(self, data: SoundData, budget: Budget, count: int, workers: int):
        self.clips = data.train_clips(count, budget.seed, workers)
        self.all = torch.from_numpy(self.clips.waves).to(budget.device)
        tests = data.test_clips()
        self.tests = level(torch.from_numpy(tests.waves).to(budget.device).float() / 32768)
        self.test_scenes = tests.scenes

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, SAMPLES) at about the loudness of use."""
        waves = level(self.all[draws(n, len(self.all), rng)].float() / 32768)
        return waves * between(n, 0.7, 1.2, rng)[:, None]


def open_coder(out: Path, device: str) -> MelCoder:
    """The trained coder of a run. InputError when there is none yet."""
    if not (out / "coder.safetensors").exists():
        raise InputError(f"'{out}' holds no coder.safetensors; run `anyloom train audio --part coder` first.")
    coder = MelCoder()
    coder.load_state_dict({k: v.float() for k, v in read_tensors(out / "coder.safetensors")[0].items()})
    return coder.requires_grad_(False).eval().to(device)


# -- coder -----------------------------------------------------------------------------------------


def train_coder(waves: Waves, budget: Budget, out: Path, say: Say) -> dict[str, float]:
    """L1, edges and a little KL; ends with the latents' deviation as the scale."""
    coder = MelCoder().to(budget.device)
    say(f"mel coder: {_millions(coder)} million parameters")

    def loss(rng: torch.Generator, spent: float) -> dict[str, Tensor]:
        mels = log_mel(waves.draw(budget.batch, rng))
        mean, spread = coder.moments(mels)
        noise = torch.randn(mean.shape, generator=rng, device=mean.device)
        made = coder.decode((mean + noise * (0.5 * spread).exp()) * coder.scale).float()
        l1 = (made - mels).abs().mean()
        edges = (made - mels).diff(dim=1).abs().mean() + (made - mels).diff(dim=2).abs().mean()
        kl = 0.5 * (mean.square() + spread.exp() - 1 - spread).mean()
        return {"total": l1 + 0.5 * edges + 2 * (made - mels).square().mean() + 1e-3 * kl, "l1": l1, "kl": kl}

    def measure() -> dict[str, float]:
        mels = log_mel(waves.tests)
        made = torch.cat([coder.decode(coder.encode(m)).float() for m in mels.split(64)])
        return {"l1": float((made - mels).abs().mean())}

    found = fit(coder, loss, budget, out / "run-coder", say, measure)
    with torch.no_grad():
        some = torch.cat([coder.moments(log_mel(w))[0] for w in waves.tests.split(64)])
        coder.scale.fill_(float(1 / some.std()))
    save_part(coder, out / "coder.safetensors")
    return found


# -- vocoder ---------------------------------------------------------------------------------------


def train_vocoder(waves: Waves, budget: Budget, out: Path, say: Say) -> dict[str, float]:
    """The magnitudes between the bands, by their logarithms; loud ones count more. Phases need no training.

    Half of the mels have been through the coder, as they will be in use.
    """
    coder = open_coder(out, budget.device)
    vocoder = Vocoder().to(budget.device)
    say(f"vocoder: {_millions(vocoder)} million parameters")

    def loss(rng: torch.Generator, spent: float) -> dict[str, Tensor]:
        whole = waves.draw(budget.batch, rng)
        with torch.no_grad(), torch.autocast(whole.device.type, enabled=False):
            mels, true = log_mel(whole), spectrum(whole).abs()
        with torch.no_grad():
            half = len(mels) // 2
            mels = torch.cat([mels[:half], coder.decode(coder.encode(mels[half:])).float()])
        made = vocoder.magnitudes(mels)
        log = (made - true.clamp(min=QUIET).log()).abs().mean()
        loud = (made.clamp(max=7).exp() - true).abs().sum() / true.sum().clamp(min=1e-3)
        return {"total": log + 2 * loud, "log": log, "loud": loud}

    def measure() -> dict[str, float]:
        found: dict[str, list[float]] = {"mel": [], "mel_through_coder": [], "untrained": []}
        for true in waves.tests.split(32):
            mels = log_mel(true)
            through = coder.decode(coder.encode(mels)).float()
            for name, own, given in (
                ("mel", vocoder, mels), ("mel_through_coder", vocoder, through), ("untrained", plain, mels)
            ):  # fmt: skip
                found[name].append(float((log_mel(own(given)) - mels).abs().mean()))
        return {name: sum(values) / len(values) for name, values in found.items()}

    plain = Vocoder().eval().to(budget.device)
    found = fit(vocoder, loss, budget, out / "run-vocoder", say, measure)
    save_part(vocoder, out / "vocoder.safetensors")
    return found


# -- flow ------------------------------------------------------------------------------------------


def train_flow(waves: Waves, words: SceneWords, budget: Budget, out: Path, say: Say) -> dict[str, float]:
    """Every clip's latents with one of its scene's captions; straight paths from noise. The reader stays as it is."""
    coder, reader = open_coder(out, budget.device), open_reader(out, budget.device)
    flow = AudioFlow(FlowSizes(condition=reader.config.width, rows=reader.config.rows)).to(budget.device)
    flow.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    say(f"flow: {_millions(flow)} million parameters, {len(words.captions)} captions, {len(waves.all)} clips")
    with torch.no_grad():
        conditions = torch.cat([reader(f.float()) for f in words.features.split(512)])
        unheard = reader(torch.zeros_like(words.features[:1]).float())
        latents = torch.cat([coder.encode(log_mel(level(w.float() / 32768))).half() for w in waves.all.split(256)])
        true = torch.cat([coder.encode(log_mel(w)) for w in waves.tests.split(64)])
    rows = [words.rows_of[s] for s in waves.clips.scenes]
    held = torch.tensor([words.rows_of[s][0] for s in waves.test_scenes], device=budget.device)

    def loss(rng: torch.Generator, spent: float) -> dict[str, Tensor]:
        choose = chooser(rng)
        chosen = choose.integers(len(latents), size=budget.batch).tolist()
        some = [rows[n][int(choose.integers(len(rows[n])))] for n in chosen]
        which = torch.tensor(chosen, device=latents.device)
        heard = torch.rand(len(some), generator=rng, device=which.device) >= UNHEARD
        condition = torch.where(heard[:, None, None], conditions[torch.tensor(some, device=which.device)], unheard)
        return {"total": velocity_loss(flow, latents[which].float(), condition, rng)}

    def measure() -> dict[str, float]:
        rng = torch.Generator(budget.device).manual_seed(5)
        pairs = zip(true.split(64), held.split(64), strict=True)
        parts = [velocity_loss(flow, z, conditions[r], rng) for z, r in pairs]
        return {"velocity": float(torch.stack(parts).mean())}

    found = fit(flow, loss, budget, out / "run-flow", say, measure)
    save_part(flow, out / "flow.safetensors", sizes=asdict(flow.sizes))
    return found


def velocity_loss(flow: AudioFlow, clean: Tensor, condition: Tensor, rng: torch.Generator) -> Tensor:
    """Flow matching's loss at logit-normal times."""
    times = torch.sigmoid(1.2 * torch.randn(len(clean), generator=rng, device=clean.device))
    noise = torch.randn(clean.shape, generator=rng, device=clean.device)
    part = times[:, None, None, None]
    made = flow((1 - part) * noise + part * clean, times, condition)
    return F.mse_loss(made.float(), clean - noise)


def _millions(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f}"


assert SAMPLES % HOP == 0
