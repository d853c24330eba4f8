"""The pocket encoders for the captioner and as parts of the end-to-end model: files in, tokens out.

encoder = PocketEncoder.open(Path("encoder-image.safetensors"))
features = encoder.encode(encoder.prepare(Path("cat.png"))[None])      # (1, 16, 256)

"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import WeightsError
from .. import media
from ..tensors import packed, read_tensors
from .mel import fitted, log_mel
from .network import SenseEncoder, Sizes


class PocketEncoder:
    """See `contracts.Encoder`."""

    def __init__(self, network: SenseEncoder, fingerprint: str):
        self.network = network.requires_grad_(False).eval()
        self.fingerprint = fingerprint
        self.modality = network.sizes.modality
        self.tokens, self.width = network.sizes.tokens, network.sizes.width

    @classmethod
    def open(cls, file: Path, device: str = "cpu", dtype: str = "float32") -> PocketEncoder:
        """Weights that `save` wrote. WeightsError when the file is none."""
        tensors, head = read_tensors(file)
        digest = hashlib.sha256(Path(file).read_bytes())
        if "trunk" in head:  # another sense's, which is not kept twice
            other = Path(file).with_name(head["trunk"])
            tensors |= {k: v for k, v in read_tensors(other)[0].items() if k.startswith("trunk.")}
            digest.update(other.read_bytes())
        try:
            network = SenseEncoder(Sizes.from_json(json.loads(head["sizes"])))
            network.load_state_dict({k: v.float() for k, v in tensors.items()})
        except (KeyError, TypeError, ValueError, RuntimeError) as e:
            raise WeightsError(
                f"'{file}' is no encoder ({str(e).splitlines()[0][:120]}); fetch or train it anew."
            ) from e
        name = f"pocket-{network.sizes.modality}-{digest.hexdigest()[:16]}"
        return cls(network.to(device, getattr(torch, dtype)), name)

    def prepare(self, file: Path) -> Tensor:
        """See the contract: (frames, channels, height, breadth) in -1…1."""
        sizes = self.network.sizes
        if sizes.modality == "image":
            return picture(file, sizes.height)[None] * 2 - 1
        if sizes.modality == "video":
            return media.frames(file, sizes.frames, sizes.height) * 2 - 1
        return log_mel(fitted(levelled(media.sound(file)))[None])[:, None]

    def encode(self, items: Tensor) -> Tensor:
        """See the contract."""
        with torch.no_grad():
            like = self.network.queries
            return self.network(items.to(like.device, like.dtype)).float()


def picture(file: Path, side: int) -> Tensor:
    """The whole picture on white, fitted into a square: (3, side, side) in 0…1. InputError when it is none."""
    import numpy as np
    from PIL import Image, ImageOps

    from ...core.errors import InputError

    try:
        with Image.open(file) as opened:
            found = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise InputError(f"'{Path(file).name}' cannot be read as a picture.") from e
    whole = Image.new("RGBA", found.size, "white")
    whole.alpha_composite(found)
    small = ImageOps.pad(whole.convert("RGB"), (side, side), Image.Resampling.LANCZOS, color="white")
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1).float() / 255


def levelled(wave: Tensor) -> Tensor:
    """Loudest sample 0.7, as in training; silence stays silence."""
    peak = float(wave.abs().max())
    return wave / peak * 0.7 if peak > 1e-4 else wave


def save(network: SenseEncoder, file: Path, trunk: str = "") -> None:
    """int8 safetensors (`pocket/tensors.py`) with the sizes in the header.

    `trunk` names a file beside it that holds the trunk already.
    """
    from safetensors.torch import save_file

    tensors = dict(network.state_dict())
    head = {"sizes": json.dumps(network.sizes.to_json())}
    if trunk:
        tensors = {k: v for k, v in tensors.items() if not k.startswith("trunk.")}
        head["trunk"] = trunk
    save_file(packed(tensors), file, head)
