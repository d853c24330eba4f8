"""ImageBind-huge as the modality encoder: one vector of 1024 an item, as NExT-GPT takes it.

    [input]
    image = { encoder = { kind = "imagebind-huge", modality = "image", file = "imagebind_huge.safetensors" }, … }

Without a file it is the architecture alone. The three modalities of a recipe share one model.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...pocket import media
from ..contracts import Setting
from .imagebind import HUGE, ImageBind, load_published
from .published import tensors_of

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's
MEL_MEAN, MEL_DEVIATION = -4.268, 9.138
CLIPS = {"video": 5, "audio": 3}
SECONDS = 2.0
_open: weakref.WeakValueDictionary[tuple[str, str, str, int, int], ImageBind] = weakref.WeakValueDictionary()


class ImageBindEncoder:
    """The part. `tokens` is 1: the published model speaks in pooled vectors."""

    tokens = 1

    def __init__(self, model: ImageBind, modality: str, fingerprint: str):
        self.model, self.modality, self.fingerprint = model, modality, fingerprint
        self.width = model.sizes.out

    def prepare(self, file: Path) -> Tensor:
        """See the contract. Video: 5 clips of 2 frames; sound: 3 clips of 2 seconds, spread over the file."""
        sizes = self.model.sizes
        if self.modality == "image":
            return media.normalised(media.picture(file, sizes.side), MEAN, DEVIATION)
        if self.modality == "video":
            clips = media.frames(file, 2 * CLIPS["video"], sizes.side)
            clips = media.normalised(clips, MEAN, DEVIATION)
            return clips.view(CLIPS["video"], 2, *clips.shape[1:]).transpose(1, 2)
        wave = media.sound(file)
        length = int(SECONDS * media.RATE)
        starts = torch.linspace(0, max(0, len(wave) - length), CLIPS["audio"]).long()
        return torch.stack([self._spectrum(wave[s : s + length]) for s in starts])

    def encode(self, items: Tensor) -> Tensor:
        """See the contract."""
        with torch.no_grad():
            like = next(self.model.parameters())
            return self.model.embed(self.modality, items.to(like.device, like.dtype)).float()[:, None]

    def _spectrum(self, wave: Tensor) -> Tensor:
        """(1, bands, frames), normalised; short sounds are followed by silence."""
        sizes = self.model.sizes
        mel = media.log_mel(wave, sizes.bands)[:, : sizes.frames]
        mel = F.pad(mel, (0, sizes.frames - mel.shape[1]))
        return ((mel - MEL_MEAN) / MEL_DEVIATION)[None]


def imagebind(options: Mapping[str, Any], setting: Setting) -> ImageBindEncoder:
    """Factory; options modality, file (published weights), width and layers (narrower copies for tests)."""
    width, layers = int(options.get("width", 0)), int(options.get("layers", 0))
    file = str(options.get("file", ""))
    device = str(torch.empty(0).device) if torch.empty(0).is_meta else setting.device
    key = (file, device, setting.dtype, width, layers)
    model = _open.get(key)
    if model is None:
        sizes = HUGE.narrowed(width, layers or 2) if width else HUGE
        only = ("vision", "audio")
        model = ImageBind(sizes, only) if file or width else ImageBind(sizes)
        if file:
            load_published(model, tensors_of(Path(file)))
        model = model.to(getattr(torch, setting.dtype)).requires_grad_(False).eval()
        if not next(model.parameters()).is_meta:
            model = model.to(setting.device)
        _open[key] = model
    return ImageBindEncoder(model, options["modality"], f"imagebind-{width or 'huge'}")
