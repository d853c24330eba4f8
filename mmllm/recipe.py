"""Recipe: an end-to-end model as a file of about ten lines that names its parts and sizes.

    name = "pocket"
    template = "chatml"
    backbone = "smollm2-135m"
    lora = { rank = 32, alpha = 32, targets = ["q_proj", "k_proj", "v_proj", "o_proj"] }
    [input]
    image = { encoder = "pocket-image", projector = "mlp", tokens = 8 }
    [output]
    image = { generator = "pocket-image", signals = 4, projector = { kind = "transformer", width = 256, layers = 2 } }

A part is its name, or a table with its name as `kind` and its options. Swapping an encoder, a
projector or the backbone is an edit of one line. `Recipe.read` takes a file, or the name of a recipe
that ships with anyloom.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from ..core.errors import InputError, UnknownName, nearest
from .contracts import SENSES

TEMPLATES = ("chatml", "vicuna-v0")
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class Part:
    """A part's name and its options."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """How one modality comes in: its encoder, and a projector to `tokens` vectors of the LLM's width."""

    encoder: Part
    projector: Part
    tokens: int


@dataclass(frozen=True)
class Output:
    """How one modality goes out: `signals` tokens, a projector to the condition, and the generator."""

    generator: Part
    projector: Part
    signals: int


@dataclass(frozen=True)
class Lora:
    """The adapters of stage 3."""

    rank: int = 32
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGETS


@dataclass(frozen=True)
class Recipe:
    """A whole model. `to_json` is what a checkpoint's manifest keeps."""

    name: str
    backbone: Part
    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]
    lora: Lora = Lora()
    template: str = "chatml"

    @classmethod
    def read(cls, source: str | Path) -> Recipe:
        """From a file, or by the name of one that ships with anyloom. InputError says what is wrong in it."""
        file = Path(source)
        if file.suffix == ".toml" or file.is_file():
            try:
                text = file.read_text(encoding="utf-8")
            except OSError as e:
                raise InputError(f"The recipe '{source}' cannot be read: {e.strerror}.") from e
        else:
            known = shipped()
            if str(source) not in known:
                names = ", ".join(known)
                raise UnknownName(f"There is no recipe '{source}'{nearest(str(source), known)}; there is {names}.")
            text = (resources.files(f"{__package__}.recipes") / f"{source}.toml").read_text(encoding="utf-8")
        try:
            return cls.parse(tomllib.loads(text), str(source))
        except tomllib.TOMLDecodeError as e:
            raise InputError(f"The recipe '{source}' is no TOML: {e}.") from e

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "recipe") -> Recipe:
        """From a mapping of the file's form. InputError names the key."""
        reader = _Reader(where)
        reader.only(data, "", "name", "template", "backbone", "lora", "input", "output")
        template = data.get("template", "chatml")
        if template not in TEMPLATES:
            reader.fail("template", template, f"one of {', '.join(TEMPLATES)}")
        return cls(
            name=reader.word(data, "name"),
            backbone=reader.part(data, "backbone"),
            inputs={m: reader.input(m, v) for m, v in reader.senses(data, "input")},
            outputs={m: reader.output(m, v) for m, v in reader.senses(data, "output")},
            lora=reader.lora(data.get("lora", {})),
            template=template,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain = asdict(self)
        plain["lora"]["targets"] = list(self.lora.targets)
        return plain

    @property
    def signals(self) -> dict[str, int]:
        """Signal tokens by modality."""
        return {m: o.signals for m, o in self.outputs.items()}


def shipped() -> list[str]:
    """The names of the recipes that come with anyloom."""
    folder = resources.files(f"{__package__}.recipes")
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


@dataclass(frozen=True)
class _Reader:
    """Reads values out of a recipe and says which key is wrong."""

    where: str

    def fail(self, key: str, value: Any, wanted: str) -> Any:
        raise InputError(f"The recipe '{self.where}' has {key} = {value!r}; it wants {wanted}.")

    def only(self, table: Any, key: str, *known: str) -> None:
        if not isinstance(table, Mapping):
            self.fail(key, table, "a table")
        for name in table:
            if name not in known:
                place = f"[{key}] " if key else ""
                raise InputError(
                    f"The recipe '{self.where}' has an unknown key {place}'{name}'{nearest(name, known)}; "
                    f"there is {', '.join(known)}."
                )

    def word(self, table: Mapping[str, Any], key: str) -> str:
        value = table.get(key)
        return value if isinstance(value, str) and value else self.fail(key, value, "a name")

    def count(self, table: Mapping[str, Any], key: str, place: str) -> int:
        value = table.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            self.fail(f"{place}.{key}", value, "a whole number of at least 1")
        return int(value)  # type: ignore[arg-type]  # checked on the line above

    def part(self, table: Mapping[str, Any], key: str, default: str | None = None) -> Part:
        value = table.get(key, default)
        if isinstance(value, str) and value:
            return Part(value)
        if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
            return Part(value["kind"], {k: v for k, v in value.items() if k != "kind"})
        return self.fail(key, value, "a part's name, or a table with its name as 'kind'")

    def senses(self, data: Mapping[str, Any], key: str) -> list[tuple[str, Mapping[str, Any]]]:
        self.only(data.get(key, {}), key, *SENSES)
        return [(m, data[key][m]) for m in SENSES if m in data.get(key, {})]

    def input(self, modality: str, table: Mapping[str, Any]) -> Input:
        place = f"input.{modality}"
        self.only(table, place, "encoder", "projector", "tokens")
        projector = self.part(table, "projector", "mlp")
        return Input(self.part(table, "encoder"), projector, self.count(table, "tokens", place))

    def output(self, modality: str, table: Mapping[str, Any]) -> Output:
        place = f"output.{modality}"
        self.only(table, place, "generator", "projector", "signals")
        projector = self.part(table, "projector", "transformer")
        return Output(self.part(table, "generator"), projector, self.count(table, "signals", place))

    def lora(self, table: Any) -> Lora:
        self.only(table, "lora", "rank", "alpha", "dropout", "targets")
        chosen = {k: table[k] for k in table if k != "targets"}
        return Lora(**chosen, targets=tuple(table.get("targets", TARGETS)))
