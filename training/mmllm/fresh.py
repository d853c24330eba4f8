"""Pictures, clips and sounds drawn anew for each batch: what input projectors learn to spell from.

    fresh = Fresh.open(pictures, sounds, "cuda")
    batch = fresh.batch(bank, 128, seed=step)      # features of 128 pictures and some others, and words

Files of a folder are learnt by heart after some passes; what the encoders' own trainers draw (moved, bent, restyled,
painted, counted, played differently) never comes twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from ...mmllm.model import Batch
from ..pocket.encoders_data import Pool
from .batches import MediaBank

SHARES = {"image": 1.0, "video": 0.4, "audio": 0.5}  # there is most to be told apart in pictures, and clips cost most


class Fresh:
    """One pool of each modality."""

    def __init__(self, pools: Mapping[str, Pool], device: str):
        self.pools, self.device = dict(pools), device

    @classmethod
    def open(
        cls, pictures: Path | None, sounds: Path | None, device: str, clips: int = 8000, workers: int = 1, seed: int = 0
    ) -> Fresh:
        """The folders of `train data` and `train sound-data`, either or both."""
        from ..pocket.audio_data import SoundData
        from ..pocket.data import Manifest
        from ..pocket.encoders_data import SoundPool
        from ..pocket.encoders_pictures import ClipPool, PicturePool

        pools: dict[str, Pool] = {}
        if pictures is not None:
            manifest = Manifest.load(pictures)
            pools |= {
                "image": PicturePool(manifest, device, seed=seed),
                "video": ClipPool(manifest, device, seed=seed),
            }
        if sounds is not None:
            pools["audio"] = SoundPool(SoundData.read(sounds), device, clips, workers, seed + 5)
        return cls(pools, device)

    def texts(self) -> Iterator[str]:
        """Everything that may be said, so that its words are known."""
        for pool in self.pools.values():
            for text in pool.texts():
                yield text
                yield from text.split()

    def batch(self, bank: MediaBank, count: int, seed: int) -> Batch:
        """`count` pictures, and of other modalities their share, of those that the model reads."""
        rng = torch.Generator(self.device).manual_seed(seed)
        nothing = torch.zeros(0, dtype=torch.long, device=bank.device)
        batch = Batch(nothing, nothing, nothing, table=bank.table)
        for modality in bank.model.projectors:
            if modality in self.pools:
                drawn = self.pools[modality].batch(max(2, round(SHARES[modality] * count)), rng)
                batch.seen[modality] = (bank.model.encoders[modality].encode(drawn.items), nothing)
                batch.spelled[modality] = bank.spell(modality, drawn.told)
        return batch
