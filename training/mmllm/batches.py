"""From dialogues to batches: layout, padding, features of what is seen, targets of what is made.

    bank = MediaBank(model, items, device, folder)
    batch = make_batch(model, bank, talks, seed=step)

Encoders and generators are frozen, so what they make of a file or a caption is computed once and kept
(float16, in memory), and in `folder` for the next run: `bank.fill(…)` computes all of it beforehand.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import InputError
from ...mmllm.dialogue import Laid, Made, Seen, Turn
from ...mmllm.model import IGNORED, Batch, MultimodalLM
from .instructions import bare, bare_thing
from .items import Item

AT_ONCE = 64  # files or captions in one pass of a frozen part
WORKERS = 4
STEP = 16  # on a GPU lengths are whole numbers of these: its kernels are prepared anew for every length
KEPT = ("features", "conditions")  # what is written to the folder


class Shelf:
    """Tensors of one shape by key, float16, on the device that uses them."""

    def __init__(self, device: str | torch.device):
        self.device = device
        self.rows: dict[str, int] = {}
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, keys: Sequence[str], values: Tensor) -> None:
        """Puts (n, …) behind what is there; keys are new."""
        self.rows.update({k: len(self.rows) + n for n, k in enumerate(keys)})
        self._parts.append(values.detach().to(self.device, torch.float16))

    def get(self, keys: Sequence[str]) -> Tensor:
        """(n, …), float32."""
        return self.whole[torch.tensor([self.rows[k] for k in keys], device=self.device)].float()

    @property
    def whole(self) -> Tensor:
        """All of them, in order."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]


class MediaBank:
    """Features, latents, conditions and words of the training data, computed when first wanted."""

    def __init__(
        self, model: MultimodalLM, items: Iterable[Item], device: str | torch.device, folder: Path | None = None,
        texts: Iterable[str] = (),
    ):  # fmt: skip
        self.model, self.device, self.folder = model, device, folder
        self.layout = model.layout()
        items = list(items)
        self.files = {i.id: i.file for i in items if i.file is not None}
        self._kept: dict[tuple[str, str], Shelf] = {}
        self._new_words = False
        self._laid: dict[tuple[tuple[Turn, ...], bool], Laid] = {}
        self._row_of, self.table = self._words([*(i.caption for i in items if i.file is not None), *texts])
        self._spelled = {i.id: self._spell(i.modality, i.caption) for i in items if i.file is not None}
        self._called = {c for i in items for c in i.captions}
        self._said, self.spoken = self._captions(self._called)

    def put(self, items: Sequence[Item], features: Tensor) -> None:
        """Items of one modality that have no files, with their features (n, t, width)."""
        modality = items[0].modality
        self._shelf("features", modality).add([i.id for i in items], features)
        self._spelled |= {i.id: self._spell(modality, i.caption) for i in items}
        if new := {c for i in items for c in i.captions} - self._called:
            self._called |= new
            self._new_words = True

    def features(self, modality: str, keys: Sequence[str]) -> Tensor:
        """(n, t, width) of files, by id."""
        encoder = self.model.encoders[modality]
        return self._all("features", modality, keys, lambda some: self._files(some, encoder.prepare, encoder.encode))

    def latents(self, modality: str, keys: Sequence[str]) -> Tensor:
        """(n, …) clean latents of files, by id."""
        generator = self.model.generators[modality]
        prepare, network = generator.prepare, generator.latents
        return self._all("latents", modality, keys, lambda some: self._files(some, prepare, network))

    def conditions(self, modality: str, captions: Sequence[str]) -> Tensor:
        """(n, tokens, width) of captions: the targets of alignment."""
        return self._all("conditions", modality, captions, self.model.generators[modality].text_condition)

    def spelled(self, keys: Sequence[str]) -> Tensor:
        """(n, tokens): the words of files' captions, as rows of `table`; a line's end behind the last."""
        return torch.stack([self._spelled[k] for k in keys]).to(self.device)

    def spell(self, modality: str, captions: Sequence[str]) -> Tensor:
        """(n, tokens): the same of any captions; words that the table has not are as an end."""
        for caption in captions:
            if (key := f"{modality}/{caption}") not in self._spelled:
                self._spelled[key] = self._spell(modality, caption)
        return torch.stack([self._spelled[f"{modality}/{c}"] for c in captions]).to(self.device)

    def echoed(self, modality: str, captions: Sequence[str]) -> Tensor:
        """(n, signals): the words of captions, as rows of `spoken`; IGNORED behind the last and where unknown."""
        count = self.model.signals.counts[modality]
        if self._new_words:
            self._said, self.spoken = self._captions(self._called)
            self._new_words = False
        rows = [(self._said.get(thing_of(c), []) + [IGNORED] * count)[:count] for c in captions]
        return torch.tensor(rows, device=self.device)

    def lay(self, turns: Sequence[Turn], answer: bool = False) -> Laid:
        """A dialogue as ids, once."""
        key = (tuple(turns), answer)
        if key not in self._laid:
            self._laid[key] = self.layout.lay(turns, answer)
        return self._laid[key]

    def keys(self, modality: str) -> list[str]:
        """Ids of all files of a modality whose features are known."""
        return list(self._shelf("features", modality).rows)

    def fill(self, talks: Iterable[Sequence[Turn]], say: Callable[[str], None]) -> None:
        """Computes all features and conditions that these dialogues want, and keeps them in the folder."""
        seen: dict[str, dict[str, None]] = {}
        made: dict[str, dict[str, None]] = {}
        for turns in talks:
            for piece in (p for t in turns for p in t.pieces):
                if isinstance(piece, Seen):
                    seen.setdefault(piece.modality, {})[piece.key] = None
                elif isinstance(piece, Made):
                    if piece.caption:
                        made.setdefault(piece.modality, {})[piece.caption] = None
                    if piece.key:
                        seen.setdefault(piece.modality, {})[piece.key] = None
        for what, wanted, get in (("features", seen, self.features), ("conditions", made, self.conditions)):
            for modality, keys in wanted.items():
                self._read(what, modality)
                before = len(self._shelf(what, modality))
                some = [k for k in keys if k not in self._shelf(what, modality).rows]
                for start in range(0, len(some), AT_ONCE):
                    get(modality, some[start : start + AT_ONCE])
                if len(self._shelf(what, modality)) > before:
                    say(f"{what} of {len(keys)} {modality} items")
                    self._write(what, modality)

    def _all(self, what: str, modality: str, keys: Sequence[str], make: Callable[[Sequence[str]], Tensor]) -> Tensor:
        kept = self._shelf(what, modality)
        missing = [k for k in dict.fromkeys(keys) if k not in kept.rows]
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            with torch.no_grad():
                kept.add(some, make(some))
        return kept.get(keys)

    def _shelf(self, what: str, modality: str) -> Shelf:
        if (what, modality) not in self._kept:
            self._kept[what, modality] = Shelf(self.device)
        return self._kept[what, modality]

    def _files(self, keys: Sequence[str], prepare: Any, network: Any) -> Tensor:
        if unknown := [k for k in keys if k not in self.files]:
            raise InputError(f"The dialogues name '{unknown[0]}', of which the manifest has no file.")
        with ThreadPoolExecutor(WORKERS) as pool:
            items = list(pool.map(prepare, [self.files[k] for k in keys]))
        made: Tensor = network(torch.stack(items).to(self.device))
        return made

    def _words(self, captions: Iterable[str]) -> tuple[dict[int, int], Tensor]:
        """The row of each id that captions are made of, and a table of the backbone's own vectors of them."""
        plain = self.layout.words.plain
        known = sorted({plain("\n")[0], *(i for c in set(captions) for i in plain(f" {bare_thing(c)}"))})
        with torch.no_grad():
            table = self.model.backbone.embed(torch.tensor(known, device=self.device)).float().detach()
        return {i: n for n, i in enumerate(known)}, table

    def _spell(self, modality: str, caption: str) -> Tensor:
        """(tokens,) rows of the table, an end behind the last word."""
        plain, count = self.layout.words.plain, self.layout.tokens.get(modality, 0)
        filler = plain("\n")[0]
        ids = (plain(f" {bare_thing(caption)}") + [filler] * count)[:count]
        return torch.tensor([self._row_of.get(i, self._row_of[filler]) for i in ids])

    def _captions(self, captions: Iterable[str]) -> tuple[dict[str, list[int]], Tensor]:
        """Captions as rows of a table of the backbone's vectors, by which it foretells words, and that table."""
        ids = {c: self.layout.words.plain(f" {c}") for c in {thing_of(c) for c in captions}}
        known = sorted({i for row in ids.values() for i in row})
        row_of = {i: n for n, i in enumerate(known)}
        head = self.model.backbone.rows[1][torch.tensor(known)].detach().to(self.device, torch.float32)
        return {c: [row_of[i] for i in row] for c, row in ids.items()}, head

    def _file(self, what: str, modality: str) -> Path | None:
        part: Any = self.model.encoders if what == "features" else self.model.generators
        mark = getattr(part[modality], "condition_print", part[modality].fingerprint)
        name = f"{what}-{modality}-{hashlib.sha256(str(mark).encode()).hexdigest()[:12]}.safetensors"
        return self.folder / name if self.folder is not None else None

    def _write(self, what: str, modality: str) -> None:
        from safetensors.torch import save_file

        file, kept = self._file(what, modality), self._shelf(what, modality)
        if file is None or what not in KEPT:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        save_file({"values": kept.whole.cpu()}, part, {"keys": json.dumps(list(kept.rows))})
        part.replace(file)

    def _read(self, what: str, modality: str) -> None:
        from safetensors import safe_open

        file = self._file(what, modality)
        if file is None or not file.exists() or len(self._shelf(what, modality)):
            return
        with safe_open(file, "pt") as opened:
            self._shelf(what, modality).add(json.loads(opened.metadata()["keys"]), opened.get_tensor("values"))


def make_batch(
    model: MultimodalLM,
    bank: MediaBank,
    talks: Sequence[Sequence[Turn]],
    *,
    seed: int = 0,
    denoise: bool = True,
    targets: bool = True,
    last_only: bool = False,
    text: bool = True,
    spell: bool = False,
    echo: bool = False,
) -> Batch:
    """Dialogues as one padded batch. `targets` off leaves out what only alignment needs; `last_only` puts loss
    on the last turn alone (preference); `text` off leaves the loss on words out; `spell` puts one on content,
    `echo` one on the states of signals."""
    laid = [bank.lay(turns) for turns in talks]
    width = max(len(one.ids) for one in laid)
    if torch.device(bank.device).type == "cuda":
        width = -(-width // STEP) * STEP
    ids = torch.full((len(laid), width), bank.layout.stop)
    labels = torch.full((len(laid), width), IGNORED)
    mask = torch.zeros(len(laid), width, dtype=torch.long)
    for row, (one, turns) in enumerate(zip(laid, talks, strict=True)):
        here, learn = torch.tensor(one.ids), torch.tensor(one.learn)
        if last_only:
            learn[: len(bank.lay(turns[:-1], answer=True).ids)] = False
        ids[row, : len(here)] = here
        mask[row, : len(here)] = 1
        labels[row, : len(here)] = torch.where(learn, here, torch.tensor(IGNORED))
    device = bank.device
    batch = Batch(ids.to(device), labels.to(device), mask.to(device), seed=seed, text=text)
    _seen(batch, bank, laid, spell)
    if targets:
        _made(batch, bank, laid, denoise, echo)
    return batch


def content_batch(bank: MediaBank, keys: dict[str, Sequence[str]]) -> Batch:
    """Files alone with the words of their captions: what input projectors learn from without the backbone."""
    nothing = torch.zeros(0, dtype=torch.long, device=bank.device)
    batch = Batch(nothing, nothing, nothing, table=bank.table)
    for modality, some in keys.items():
        batch.seen[modality] = (bank.features(modality, some), nothing)
        batch.spelled[modality] = bank.spelled(some)
    return batch


def thing_of(caption: str) -> str:
    """A caption without what says that it is a sound, and without its article."""
    return bare_thing(bare(caption))


def length_of(turns: Sequence[Turn], tokens: int = 10) -> int:
    """About how long a dialogue is, without laying it out: what batches are sorted by."""
    return sum(
        len(p) // 4 + 1 if isinstance(p, str) else tokens for turn in turns for p in turn.pieces
    ) + 6 * len(turns)  # fmt: skip


def _seen(batch: Batch, bank: MediaBank, laid: Sequence[Laid], spell: bool) -> None:
    """Features of everything that is spliced in, by modality."""
    found: dict[str, list[tuple[str, list[int]]]] = {}
    for row, one in enumerate(laid):
        for place, seen in one.seen:
            found.setdefault(seen.modality, []).append((seen.key, [row, place]))
    for modality, some in found.items():
        places = torch.tensor([p for _, p in some], device=bank.device)
        keys = [k for k, _ in some]
        batch.seen[modality] = (bank.features(modality, keys), places)
        if spell:
            batch.spelled[modality], batch.table = bank.spelled(keys), bank.table


def _made(batch: Batch, bank: MediaBank, laid: Sequence[Laid], denoise: bool, echo: bool) -> None:
    """Targets of every signal run whose caption is known, by modality; those of which there are files come first."""
    found: dict[str, list[tuple[Made, list[int]]]] = {}
    for row, one in enumerate(laid):
        for place, made in one.made:
            if made.caption:
                found.setdefault(made.modality, []).append((made, [row, place]))
    for modality, some in found.items():
        some.sort(key=lambda one: not one[0].key)
        batch.made[modality] = torch.tensor([p for _, p in some], device=bank.device)
        batch.conditions[modality] = bank.conditions(modality, [m.caption for m, _ in some])
        if echo:
            batch.echoed[modality] = bank.echoed(modality, [m.caption for m, _ in some])
            batch.spoken = bank.spoken
        keys = [m.key for m, _ in some if m.key]
        batch.latents[modality] = bank.latents(modality, keys) if denoise and keys else None
