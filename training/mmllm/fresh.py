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
from torch import Tensor

from ...mmllm.model import Batch
from ..pocket.encoders_data import Pool
from ..pocket.image_words import article
from .batches import MediaBank

SHARES = {"image": 1.0, "video": 0.4, "audio": 0.5}  # there is most to be told apart in pictures, and clips cost most
KEPT = 16_384  # features of each modality that are remembered
NUMBERS = ("two", "three", "four")


class Fresh:
    """One pool of each modality. `uses`: how often what was drawn is learnt from, since the encoders are most of a
    step. `kept`: how many of each modality are remembered for it."""

    def __init__(self, pools: Mapping[str, Pool], device: str, uses: int = 1, kept: int = KEPT):
        self.pools, self.device, self.uses, self.kept = dict(pools), device, uses, kept
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}

    @classmethod
    def open(
        cls, pictures: Path | None, sounds: Path | None, device: str, clips: int = 8000, workers: int = 1,
        seed: int = 0, uses: int = 1, kept: int = KEPT,
    ) -> Fresh:  # fmt: skip
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
        return cls(pools, device, uses, kept)

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
                wanted = max(2, round(SHARES[modality] * count))
                features, words = self._some(bank, modality, wanted, rng)
                batch.seen[modality], batch.spelled[modality] = (features, nothing), words
        return batch

    def _some(self, bank: MediaBank, modality: str, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Features and words of `count`, some of them new."""
        drawn = self.pools[modality].batch(-(-count // self.uses), rng)
        said = [sentence(modality, told, name) for told, name in zip(drawn.told, drawn.names, strict=True)]
        with torch.no_grad():
            new = bank.model.encoders[modality].encode(drawn.items), bank.spell(modality, said)
        if self.uses == 1:
            return new
        old = self._kept.get(modality)
        kept = new if old is None else tuple(torch.cat([a, b])[-self.kept :] for a, b in zip(old, new, strict=True))
        self._kept[modality] = kept[0], kept[1]
        which = torch.randint(len(kept[0]), (count - len(new[0]),), generator=rng, device=rng.device)
        return torch.cat([new[0], kept[0][which]]), torch.cat([new[1], kept[1][which]])


def sentence(modality: str, told: str, name: str) -> str:
    """What a pool says of an item, as captions of files say it: "a dog face and a pizza", "three dog faces"."""
    if modality == "audio":
        return told
    first, _, second = told.partition(" and ")
    if second and first == name:
        return f"{article(first)} and {article(second)}"
    return told if told.split(" ")[0] in NUMBERS else article(told)
