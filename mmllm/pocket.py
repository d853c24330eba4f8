"""The pocket models as parts of an end-to-end model: entry points `encoder.pocket-*` and `generator.pocket-*`.

Options: `file` or `folder` names other weights than those that ship, a URI or a path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..core.errors import InputError, WeightsError
from ..core.packaged import MINILM
from ..pocket.encoders.network import POCKET, SenseEncoder
from ..pocket.encoders.pocket import PocketEncoder
from ..pocket.generators.audio import PocketAudio
from ..pocket.generators.image import PocketImage
from ..pocket.generators.layout import load_part
from ..pocket.generators.text import Features, Reader, ReaderConfig
from ..pocket.generators.video import PocketVideo
from ..pocket.tensors import read_tensors
from .contracts import Check, Media, Progress, ResolvesWeights, Setting

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = "pkg:anyloom.weights/"
WEIGHTS = SHIPPED + "pocket-{}"


def see(options: Mapping[str, Any], setting: Setting) -> PocketEncoder:
    """Factory of `encoder.pocket-image`."""
    return _encoder("image", options, setting)


def watch(options: Mapping[str, Any], setting: Setting) -> PocketEncoder:
    """Factory of `encoder.pocket-video`."""
    return _encoder("video", options, setting)


def hear(options: Mapping[str, Any], setting: Setting) -> PocketEncoder:
    """Factory of `encoder.pocket-audio`."""
    return _encoder("audio", options, setting)


def draw(options: Mapping[str, Any], setting: Setting) -> PocketImage:
    """Factory of `generator.pocket-image`."""
    weights = _weights(setting)
    folder = _folder("image", options, weights)
    device = setting.device
    made: PocketImage = _shared(folder, device, lambda: PocketImage.open(folder, _features(weights, device), device))
    return _told(made, made.reader)


def film(options: Mapping[str, Any], setting: Setting) -> PocketVideo:
    """Factory of `generator.pocket-video`; option `image` names the folder of the pictures' model."""
    weights = _weights(setting)
    image = draw({"folder": options["image"]} if "image" in options else {}, setting)
    return _told(PocketVideo.open(_folder("video", options, weights), image), image.reader)


def play(options: Mapping[str, Any], setting: Setting) -> PocketAudio:
    """Factory of `generator.pocket-audio`."""
    weights = _weights(setting)
    features = _features(weights, setting.device)
    made = PocketAudio.open(_folder("audio", options, weights), features, setting.device)
    return _told(made, made.reader)


def _features(weights: ResolvesWeights, device: str) -> Features:
    """The frozen text encoder, one for all generators."""
    folder = weights.resolve(MINILM)
    found: Features = _shared(folder, device, lambda: Features.open(folder).to(device))
    return found


_ALIVE: WeakValueDictionary[tuple[Path, str], Any] = WeakValueDictionary()


def _shared(folder: Path, device: str, make: Callable[[], Any]) -> Any:
    """What was made of this folder, as long as somebody holds it: clips are drawn by the same model as pictures."""
    found = _ALIVE.get((folder.resolve(), device))
    if found is None:
        found = _ALIVE[folder.resolve(), device] = make()
    return found


def _told(made: Any, reader: Reader) -> Any:
    """A generator with what training wants to know: what its condition decides, and a mark of its text encoder.

    A checkpoint is bound to the text encoder alone: what comes after the condition may be trained on.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(reader.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().half().numpy().tobytes())
    made.condition_print = f"pocket-reader-{digest.hexdigest()[:16]}"
    if reader.config.heads:
        made.decides = reader.says
    return made


class TextSide:
    """A generator's text encoder without the generator: conditions to train on, while the rest is not there yet."""

    def __init__(self, modality: str, reader: Reader, features: Features):
        self.modality = modality
        self.reader, self.features = reader.requires_grad_(False).eval(), features
        self.tokens, self.width = reader.config.rows, reader.config.width
        self.fingerprint = "text-side"

    @classmethod
    def factory(cls, modality: str) -> Callable[[Mapping[str, Any], Setting], TextSide]:
        """A factory for `Parts.adding`, in place of `generator.pocket-MODALITY`."""

        def factory(options: Mapping[str, Any], setting: Setting) -> TextSide:
            weights = _weights(setting)
            features = _features(weights, setting.device)
            if modality == "audio":
                reader = _sound_reader(_folder("audio", options, weights) / "reader.safetensors")
            else:
                reader = load_part(Reader, _folder("image", options, weights) / "text_encoder")
            made: TextSide = _told(cls(modality, reader.to(setting.device), features), reader)
            return made

        return factory

    def named_parameters(self) -> list[tuple[str, Any]]:
        """All frozen."""
        return [(f"reader.{n}", p) for n, p in self.reader.named_parameters()]

    def text_condition(self, captions: Sequence[str]) -> Tensor:
        """See the contract."""
        import torch

        with torch.no_grad():
            found: Tensor = self.reader(self.features(captions))
        return found

    def prepare(self, file: Path) -> Tensor:
        """InputError: there is no generator."""
        raise InputError(f"Only the text encoder of pocket-{self.modality} is here; put its other parts beside it.")

    def latents(self, items: Tensor) -> Tensor:
        """InputError: there is no generator."""
        raise InputError(f"Only the text encoder of pocket-{self.modality} is here; put its other parts beside it.")

    def denoising_loss(self, latents: Tensor, condition: Tensor, seed: int) -> Tensor:
        """InputError: there is no generator."""
        raise InputError(f"Only the text encoder of pocket-{self.modality} is here; put its other parts beside it.")

    def generate(
        self, condition: Tensor, *, seed: int, progress: Progress, check: Check, options: Mapping[str, Any]
    ) -> Media:
        """InputError: there is no generator."""
        raise InputError(f"Only the text encoder of pocket-{self.modality} is here; put its other parts beside it.")


def _sound_reader(file: Path) -> Reader:
    """The reader of pocket-audio, which is kept in one file."""
    tensors, head = read_tensors(file)
    try:
        reader = Reader(ReaderConfig(**json.loads(head["config"])))
        reader.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as e:
        raise WeightsError(f"'{file}' is no reader ({str(e).splitlines()[0][:120]}); train it anew.") from e
    return reader


class Beside:
    """Weights that are not shipped yet, in a folder laid out as `weights/` is; all others as they were found before.

    A folder `text` in it is the text encoder, whole or small (`anyloom train sound-text`).
    """

    def __init__(self, weights: ResolvesWeights, folder: Path):
        self.weights, self.folder = weights, folder

    def resolve(self, uri: str) -> Path:
        """See ResolvesWeights."""
        if uri == MINILM and (self.folder / "text").exists():
            return self.folder / "text"
        name = uri.removeprefix(SHIPPED)
        if name != uri and (self.folder / name).exists():
            return self.folder / name
        return self.weights.resolve(uri)

    def converted(self, uri: str, recipe: str, convert: Any) -> Path:
        """As `core.weights.Weights` has it."""
        found: Path = self.weights.converted(uri, recipe, convert)  # type: ignore[attr-defined]
        return found


def _encoder(sense: str, options: Mapping[str, Any], setting: Setting) -> PocketEncoder:
    """From weights; without `setting.weights` the architecture alone."""
    if setting.weights is None:
        return PocketEncoder(SenseEncoder(POCKET[sense]), f"pocket-{sense}-empty")
    uri = str(options.get("file") or f"{WEIGHTS.format('encoders')}/{sense}.safetensors")
    return PocketEncoder.open(setting.weights.resolve(uri) if ":" in uri else Path(uri), setting.device, setting.dtype)


def _weights(setting: Setting) -> ResolvesWeights:
    if setting.weights is None:
        raise InputError(
            "The pocket generators have no architecture without weights: what they remember is part of it."
        )
    return setting.weights


def _folder(name: str, options: Mapping[str, Any], weights: ResolvesWeights) -> Path:
    uri = str(options.get("folder") or WEIGHTS.format(name))
    return weights.resolve(uri) if ":" in uri else Path(uri)
