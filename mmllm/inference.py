"""Speaker: answers a dialogue with words and media, over a MultimodalLM.

    speaker = Speaker(model)
    reply = speaker.speak(talk, files, on_text=print, on_media=start_generating, seed=3)
    media = speaker.generate("image", reply.media[0].condition, seed=5)

Words are sampled (greedily by default); when the first token of a signal run comes, the rest of the
run follows by force and is read in one pass, its condition is projected, and `on_media` is told at
once: whoever listens can generate while the words go on. Nothing else of the signal vocabulary can
be sampled, so every run is whole. What was read before (system text, earlier turns with their
pictures) is taken from the cache as far as the new dialogue begins alike.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import Cancelled, InputError
from ..core.loops import digits, going_round
from .contracts import Check, Media, Progress
from .dialogue import Laid, Turn

if TYPE_CHECKING:
    from .model import MultimodalLM

KEPT = 4  # conversations whose keys and values are kept
KEPT_FEATURES = 64  # items whose projected features are kept
MOST_MEDIA = 4  # in one answer


@dataclass(frozen=True)
class Wanted:
    """One output that the model asked for. `condition`: (tokens, width)."""

    index: int
    modality: str
    condition: Tensor


@dataclass
class Reply:
    """What was said: the words, the media asked for, where in the words each stands, and how much was read."""

    text: str = ""
    media: list[Wanted] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0


class Speaker:
    """Answers dialogues, one at a time. `files` maps the keys of Seen pieces to files."""

    def __init__(self, model: MultimodalLM):
        self.model = model.eval()
        self.decoder = model.backbone.decoder()
        self.layout = model.layout()
        self.ends = model.backbone.ends | {self.layout.stop}
        self.digits = digits(model.backbone.tokenizer)
        self.lock = threading.Lock()
        self._known: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        blocked = torch.zeros(model.signals.base + model.signals.size, dtype=torch.bool)
        blocked[model.signals.never_sampled()] = True
        self._blocked = blocked
        self._firsts = [model.signals.run(m)[0] for m in model.signals.counts]

    def speak(
        self,
        talk: Sequence[Turn],
        files: Mapping[str, Path],
        *,
        on_text: Callable[[str], None] = lambda text: None,
        on_media: Callable[[Wanted], None] = lambda wanted: None,
        check: Check = lambda: None,
        max_tokens: int = 200,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Reply:
        """The assistant's next turn. Cancelled when `check` raises it; InputError for what cannot be read."""
        laid = self.layout.lay(talk, answer=True)
        with self.lock, torch.inference_mode():
            state, states, cached = self._read(laid, files, check)
            reply = Reply(prompt_tokens=len(laid.ids), cached_tokens=cached)
            said = _Said(self.layout.words.text, on_text)
            random = torch.Generator().manual_seed(seed)
            last = states[-1:]
            while len(reply.ids) < max_tokens:
                check()
                token = self._pick(last, len(reply.media) < MOST_MEDIA, temperature, random)
                if token in self.ends or going_round(reply.ids, self.digits):
                    break
                modality = self.model.signals.begins(token)
                if modality is None:
                    said.add(token)
                    reply.ids.append(token)
                    last = self.decoder.extend(state, self._embed([token]))
                    continue
                last = self._signal(modality, state, reply, said, on_media)
            reply.text = said.finish()
            return reply

    def generate(
        self,
        modality: str,
        condition: Tensor,
        *,
        seed: int,
        progress: Progress = lambda done, total, note: None,
        check: Check = lambda: None,
        options: Mapping[str, Any] | None = None,
    ) -> Media:
        """The file itself. May run in another thread while `speak` goes on."""
        generator = self.model.generators[modality]
        made: Media = generator.generate(condition, seed=seed, progress=progress, check=check, options=options or {})
        return made

    def _signal(
        self, modality: str, state: Any, reply: Reply, said: _Said, on_media: Callable[[Wanted], None]
    ) -> Tensor:
        """Reads a whole run in one pass; the state at a token is the one that has consumed it."""
        run = self.model.signals.run(modality)
        vectors = self._embed(run)
        states = self.decoder.extend(state, vectors)
        projector = self.model.output_projectors[modality]
        device = next(iter(projector.parameters())).device
        condition = projector((states + vectors.to(states)).float()[None].to(device))[0].float()
        reply.ids += run
        reply.places.append(len(said.finish()))
        wanted = Wanted(len(reply.media), modality, condition)
        reply.media.append(wanted)
        on_media(wanted)
        return states[-1:]

    def _pick(self, state: Tensor, more_media: bool, temperature: float, random: torch.Generator) -> int:
        """One token. Middles of runs and tags never; beginnings of runs only while more media may be asked for."""
        rows = self.model.rows.written
        own = self.decoder.logits(state)[0].cpu()
        ours = (state[0].to(rows.device, rows.dtype) @ rows.T).float().cpu()
        logits = torch.cat([own, ours]).masked_fill_(self._blocked, -torch.inf)
        if not more_media:
            logits[self._firsts] = -torch.inf
        if temperature <= 0:
            return int(logits.argmax())
        return int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=random))

    def _embed(self, ids: Sequence[int]) -> Tensor:
        """(n, hidden) of ids, of the model's vocabulary or ours."""
        base, rows = self.model.signals.base, self.model.rows.rows
        vectors = self.decoder.embed([0 if i >= base else i for i in ids])
        for n, i in enumerate(ids):
            if i >= base:
                vectors[n] = rows[i - base].to(vectors)
        return vectors

    def _read(self, laid: Laid, files: Mapping[str, Path], check: Check) -> tuple[Any, Tensor, int]:
        """Reads a prompt, all but what was read before; keeps it for the next time."""
        marks = self._marks(laid, files)
        best, known = 0, None
        for before, state in self._known.items():
            alike = next((n for n, (a, b) in enumerate(zip(before, marks, strict=False)) if a != b),
                         min(len(before), len(marks)))  # fmt: skip
            if alike > best:
                best, known = alike, state
        best = min(best, len(marks) - 1)  # the last position is read anew: its state is wanted
        state = self.decoder.cut(known, best) if known is not None and best else self.decoder.start()
        vectors = self._embed(laid.ids)
        for place, seen in laid.seen:
            check()
            tokens = self.layout.tokens[seen.modality]
            if place + tokens > best:
                vectors[place : place + tokens] = self._projected(seen.modality, files[seen.key]).to(vectors)
        states = self.decoder.extend(state, vectors[best:])
        self._known[marks] = self.decoder.cut(state, len(marks))
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return state, states, best

    def _marks(self, laid: Laid, files: Mapping[str, Path]) -> tuple[Any, ...]:
        """What each position stands for: an id, or content with its hash."""
        marks: list[Any] = list(laid.ids)
        for place, seen in laid.seen:
            if seen.key not in files:
                raise InputError(f"The {seen.modality} '{seen.key}' of the conversation is not there; attach it again.")
            digest = hashlib.sha256(Path(files[seen.key]).read_bytes()).hexdigest()
            for n in range(self.layout.tokens[seen.modality]):
                marks[place + n] = (digest, n)
        return tuple(marks)

    def _projected(self, modality: str, file: Path) -> Tensor:
        """(tokens, hidden) of a file."""
        key = f"{modality}:{hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
        if key not in self._features:
            encoder, projector = self.model.encoders[modality], self.model.projectors[modality]
            device = next(iter(projector.parameters())).device
            features = encoder.encode(encoder.prepare(Path(file))[None].to(device))
            self._features[key] = projector(features.float())[0]
            while len(self._features) > KEPT_FEATURES:
                self._features.popitem(last=False)
        return self._features[key]


class _Said:
    """Tokens as text: passes on what is certain, keeps back half a character."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None]):
        self._decode, self._on_text = decode, on_text
        self._ids: list[int] = []
        self._told = ""

    def add(self, token: int) -> None:
        """One more token of words."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if not text.endswith("\ufffd") and len(text) > len(self._told):
            self._on_text(text[len(self._told) :])
            self._told = text

    def finish(self) -> str:
        """All that was passed on."""
        return self._told


def stopped(flag: threading.Event) -> Check:
    """A check that raises once the flag is set."""

    def check() -> None:
        if flag.is_set():
            raise Cancelled("Stopped.")

    return check
