"""The pocket models as parts of an end-to-end model: entry points `encoder.pocket-*` and `generator.pocket-*`.

Options: `file` or `folder` names other weights than those that ship, a URI or a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..pocket.encoders.network import POCKET, SenseEncoder
from ..pocket.encoders.pocket import PocketEncoder
from ..pocket.generators.audio import PocketAudio
from ..pocket.generators.image import PocketImage
from ..pocket.generators.text import MINILM, Features
from ..pocket.generators.video import PocketVideo
from .contracts import ResolvesWeights, Setting

WEIGHTS = "pkg:anyloom.weights/pocket-{}"


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
    return PocketImage.open(_folder("image", options, weights), Features.open(weights.resolve(MINILM)))


def film(options: Mapping[str, Any], setting: Setting) -> PocketVideo:
    """Factory of `generator.pocket-video`; option `image` names the folder of the pictures' model."""
    weights = _weights(setting)
    image = draw({"folder": options["image"]} if "image" in options else {}, setting)
    return PocketVideo.open(_folder("video", options, weights), image)


def play(options: Mapping[str, Any], setting: Setting) -> PocketAudio:
    """Factory of `generator.pocket-audio`."""
    weights = _weights(setting)
    return PocketAudio.open(_folder("audio", options, weights), Features.open(weights.resolve(MINILM)))


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
