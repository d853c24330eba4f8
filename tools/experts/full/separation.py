"""Speech without noise, and two voices apart: Conv-TasNet (Luo and Mesgarani 2019), as trained by Asteroid on LibriMix.

The net learns filters in place of a spectrum, a mask over them for each source, and the way back. Its
size is read off the weights; the names of its parts are those of Asteroid's checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import InputError, WeightsError
from ...contracts import Expert, Output, Run
from ...full_tools import full_tool
from .encode import samples_of, wav
from .hub import HubExpert, build, card

RATE = 16_000
PIECE, OVERLAP = 20 * RATE, RATE  # samples that are heard at once; how far pieces overlap
DILATIONS = 8  # blocks until the dilation begins at 1 again


class Separator(HubExpert):
    """Estimates the sources that a recording is a sum of, and gives those that are wanted."""

    needs = ("torch",)
    half = False  # it is small, and what is faint would be lost
    stems: ClassVar[tuple[str, ...]] = ("speech",)

    def open(self, folders: list[Path]) -> None:
        """The net of `conv_tasnet()` with the weights of the file."""
        from safetensors.torch import load_file

        state = load_file(folders[0])
        try:
            self.model = conv_tasnet(state)
            self.model.load_state_dict(state)
        except (KeyError, RuntimeError) as e:
            raise WeightsError(f"'{folders[0].name}' holds no Conv-TasNet; check the revision that is set.") from e
        self.model.to(self.device).eval()

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A WAV of 16 kHz for each source, as loud as it was in the recording."""
        audio = Path(args["audio"])
        samples = samples_of(audio, RATE)
        if len(samples) < RATE // 10:
            raise InputError(f"'{audio.name}' is shorter than a tenth of a second; give a longer recording.")
        sources = self.apart(samples, run)
        facts = {"rate": RATE, "seconds": round(len(samples) / RATE, 2)}
        made = zip(sources, self.stems, strict=False)
        return [Output(wav(s, RATE), "audio/wav", stem, {**facts, "sources": len(sources)}) for s, stem in made]

    def apart(self, samples: Any, run: Run) -> Any:
        """The sources, an array (sources, time), heard in pieces that are faded into one another."""
        import numpy as np

        starts = range(0, max(1, len(samples) - OVERLAP), PIECE - OVERLAP)
        whole: Any = None
        for n, start in enumerate(starts):
            run.check()
            run.progress(n, len(starts), "pieces of the recording")
            heard = self.heard(samples[start : start + PIECE])
            if whole is None:
                whole = np.zeros((len(heard), len(samples)), np.float32)
            shared = OVERLAP if n else 0
            before = whole[:, start : start + shared]
            heard = heard[ordered(before, heard[:, :shared])] if n else heard
            rise = np.linspace(0, 1, shared, dtype=np.float32)
            whole[:, start : start + shared] = before * (1 - rise) + heard[:, :shared] * rise
            whole[:, start + shared : start + PIECE] = heard[:, shared:]
        run.progress(len(starts), len(starts), "pieces of the recording")
        return whole

    def heard(self, piece: Any) -> Any:
        """The sources of one piece, each as loud as fits the mixture best (the net knows no loudness)."""
        import numpy as np
        import torch

        sound = torch.as_tensor(piece)[None, None].to(self.device)
        found = self.model(sound)[0].float().cpu().numpy()
        loud = (found @ piece) / np.maximum((found**2).sum(-1), 1e-8)
        return found * loud[:, None]


def ordered(before: Any, heard: Any) -> list[int]:
    """The order of a piece's sources that goes on with those before it: where they overlap, they are alike."""
    orders = permutations(range(len(heard)))
    return list(max(orders, key=lambda o: float((before * heard[list(o)]).sum())))


def conv_tasnet(state: Mapping[str, Any]) -> Any:
    """The net, as large as the weights `state` say: (batch, 1, time) in, (batch, sources, time) out."""
    import torch
    from torch import nn
    from torch.nn import functional

    filters, _, length = state["encoder.filterbank._filters"].shape
    narrow, wide = state["masker.bottleneck.1.weight"].shape[0], state["masker.TCN.0.shared_block.0.weight"].shape[0]
    skip, sources = state["masker.TCN.0.skip_conv.weight"].shape[0], state["masker.mask_net.1.weight"].shape[0]
    depth = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("masker.TCN."))

    class Norm(nn.Module):
        """Over channels and time together."""

        def __init__(self, width: int):
            super().__init__()
            self.gamma, self.beta = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

        def forward(self, x: Any) -> Any:
            return functional.group_norm(x, 1, self.gamma, self.beta, 1e-8)

    class Filters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.filterbank = nn.Module()
            self.filterbank.register_parameter("_filters", nn.Parameter(torch.zeros(filters, 1, length)))

        @property
        def bank(self) -> Any:
            return self.filterbank._filters

    class Block(nn.Module):
        def __init__(self, dilation: int):
            super().__init__()
            across = nn.Conv1d(wide, wide, 3, padding=dilation, dilation=dilation, groups=wide)
            self.shared_block = nn.Sequential(
                nn.Conv1d(narrow, wide, 1), nn.PReLU(), Norm(wide), across, nn.PReLU(), Norm(wide)
            )
            self.res_conv, self.skip_conv = nn.Conv1d(wide, narrow, 1), nn.Conv1d(wide, skip, 1)

    class Masker(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bottleneck = nn.Sequential(Norm(filters), nn.Conv1d(filters, narrow, 1))
            self.TCN = nn.ModuleList(Block(2 ** (n % DILATIONS)) for n in range(depth))
            self.mask_net = nn.Sequential(nn.PReLU(), nn.Conv1d(skip, sources, 1))

        def forward(self, x: Any) -> Any:
            h, total = self.bottleneck(x), 0
            block: Any
            for block in self.TCN:
                shared = block.shared_block(h)
                h, total = h + block.res_conv(shared), total + block.skip_conv(shared)
            return functional.relu(self.mask_net(total)).unflatten(1, (-1, filters))

    class ConvTasNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.masker, self.decoder = Filters(), Masker(), Filters()

        def forward(self, sound: Any) -> Any:
            seen = functional.conv1d(sound, self.encoder.bank, stride=length // 2)
            masked = (self.masker(seen) * seen[:, None]).flatten(0, 1)
            back = functional.conv_transpose1d(masked, self.decoder.bank, stride=length // 2)
            back = functional.pad(back, (0, sound.shape[-1] - back.shape[-1]))
            return back.unflatten(0, (len(sound), -1))[:, :, 0]

    return ConvTasNet()


def experts() -> list[type[Expert]]:
    """Both, for `speech.py`."""
    more: dict[str, Any] = {"licence": "CC-BY-SA-4.0", "size": 2.1e7, "memory": 4e8, "speed": "fast"}
    file = "pytorch_model.bin.safetensors"
    change = full_tool("audio-to-audio")
    return [
        build(
            Separator,
            "conv-tasnet-clean",
            change,
            card("JorisCos/ConvTasNet_Libri1Mix_enhsingle_16k", path=file, quality=0.7, **more),
            "Conv-TasNet; speech without the noise around it",
        ),
        build(
            Separator,
            "conv-tasnet-apart",
            change,
            card("JorisCos/ConvTasNet_Libri2Mix_sepclean_16k", path=file, quality=0.55, **more),
            "Conv-TasNet; two people who speak at once, each in a file",
            stems=("voice-1", "voice-2"),
        ),
    ]
