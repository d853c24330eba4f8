"""MultimodalLM: the end-to-end model, as NExT-GPT's figure draws it.

    encode → project → splice into the text → LLM → signal tokens → project → generate

    model = MultimodalLM.build(Recipe.read("pocket"), Parts.installed(), Setting(weights))
    losses = model(batch)                       # training: a Batch, teacher-forced
    Speaker(model).speak(talk, …)               # inference: `inference.py`

Encoders, generators and the LLM's own weights are frozen. What can train is what `deltas()` lists: input
projectors, signal rows, LoRA, output projectors. A checkpoint holds these and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import InputError
from .contracts import Encoder, Generator, Setting
from .dialogue import Layout, Words
from .recipe import Recipe
from .registry import Parts
from .signals import SignalRows, Signals

IGNORED = -100  # labels without loss
SHARPNESS = 16.0  # of the nearest word


@dataclass
class Batch:
    """Laid-out dialogues, padded on the right.

    `ids`, `labels`, `mask`: (b, n). By modality: `seen` are features (m, t, width) and their places (m, 2),
    row and first position; `spelled` the captions of these (m, tokens) as rows of `table` (the backbone's vectors
    of the words that captions have), where they are known; `made` the places of signal runs; `conditions` what
    the generator's text encoder makes of their captions (m, tokens, width); `latents` of the files of the first of
    them, or None;
    `echoed` the words of these captions (m, signals) as rows of `spoken`, IGNORED behind the last;
    `seed` of the noise. `text` off leaves out the loss on words. `runs` is filled in by the model: what the
    output projectors read, without gradients.
    """

    ids: Tensor
    labels: Tensor
    mask: Tensor
    seen: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    made: dict[str, Tensor] = field(default_factory=dict)
    conditions: dict[str, Tensor] = field(default_factory=dict)
    latents: dict[str, Tensor | None] = field(default_factory=dict)
    seed: int = 0
    spelled: dict[str, Tensor] = field(default_factory=dict)
    table: Tensor | None = None
    echoed: dict[str, Tensor] = field(default_factory=dict)
    spoken: Tensor | None = None
    text: bool = True
    runs: dict[str, Tensor] = field(default_factory=dict)


class MultimodalLM(nn.Module):
    """See the file. Encoders and generators stand beside the module, not in it: they are nobody's parameters."""

    def __init__(
        self, recipe: Recipe, encoders: Mapping[str, Encoder], projectors: nn.ModuleDict, backbone: Any,
        output_projectors: nn.ModuleDict, generators: Mapping[str, Generator],
    ):  # fmt: skip
        super().__init__()
        self.recipe = recipe
        self.encoders = dict(encoders)
        self.projectors = projectors
        self.backbone = backbone
        self.signals = Signals(backbone.vocabulary, recipe.signals)
        self.rows = SignalRows(self.signals.size, backbone.hidden, backbone.tied)
        self.output_projectors = output_projectors
        self.generators = dict(generators)
        self.rows.begin(*backbone.rows)
        self.requires_grad_(False)

    @classmethod
    def build(cls, recipe: Recipe, parts: Parts, setting: Setting, lora: bool = True) -> MultimodalLM:
        """Makes every part that the recipe names and joins them; UnknownName, InputError say what does not fit."""
        for kind, part in _named(recipe):
            parts.require(kind, part.kind)
        encoders = {m: _fits(parts.make("encoder", i.encoder.kind, i.encoder.options, setting), m)
                    for m, i in recipe.inputs.items()}  # fmt: skip
        generators = {m: _fits(parts.make("generator", o.generator.kind, o.generator.options, setting), m)
                      for m, o in recipe.outputs.items()}  # fmt: skip
        backbone = parts.make("backbone", recipe.backbone.kind, recipe.backbone.options, setting)
        if lora:
            backbone.add_lora(recipe.lora)
        projectors = _input_projectors(recipe, parts, encoders, backbone.hidden)
        output_projectors = nn.ModuleDict()
        for m, o in recipe.outputs.items():
            sizes = {"hidden": backbone.hidden, "tokens": generators[m].tokens, "out": generators[m].width}
            options = o.projector.options
            output_projectors[m] = parts.make("output_projector", o.projector.kind, options, Setting(sizes=sizes))
        model = cls(recipe, encoders, projectors, backbone, output_projectors, generators)
        for part in (model.projectors, model.rows, model.output_projectors):
            part.to(setting.device)
        return model

    def layout(self) -> Layout:
        """How dialogues are laid out for this model."""
        tokens = {m: i.tokens for m, i in self.recipe.inputs.items()}
        return layout_of(self.recipe, self.backbone.tokenizer, self.backbone.ends, self.signals, tokens)

    def forward(self, batch: Batch, score: bool = False) -> dict[str, Tensor]:
        """Each loss apart: `text`; by modality `spell_…`, `echo_…`, `align_…`, `decide_…`, `denoise_…`, `cosine_…`.

        With `score`, `{"score": …}` instead: the log-probability of each row's answer.
        """
        if score:
            return {"score": self.answer_score(batch)}
        vectors = self.splice(batch)
        states = self.backbone.read(vectors.to(self.backbone.rows[0].dtype), batch.mask)
        losses = {"text": self.text_loss(states, batch.labels)} if batch.text else {}
        losses |= self.spelling(batch)
        for modality, places in batch.made.items():
            runs = self.runs(modality, states, vectors, places)
            batch.runs[modality] = runs.detach()
            condition = self.output_projectors[modality](runs).float()
            losses |= self.alignment(modality, condition, batch.conditions[modality])
            if modality in batch.echoed and batch.spoken is not None:
                own = states[_spans(places, self.signals.counts[modality])]
                losses[f"echo_{modality}"] = echo_loss(own, batch.echoed[modality], batch.spoken)
            latents = batch.latents.get(modality)
            if latents is not None:
                generator = self.generators[modality]
                losses[f"denoise_{modality}"] = generator.denoising_loss(latents, condition[: len(latents)], batch.seed)
        return losses

    def spelling(self, batch: Batch) -> dict[str, Tensor]:
        """How far projected content is from the words of its caption, by modality. The backbone is not run."""
        if batch.table is None:
            return {}
        return {
            f"spell_{m}": spelling_loss(self.project(m, batch.seen[m][0]), words, batch.table)
            for m, words in batch.spelled.items()
        }

    def alignment(self, modality: str, condition: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Distance of conditions (m, tokens, width) to those of the generator's text encoder.

        Where the generator decides by its condition what to make (`decides`), `decide_…` is the divergence of
        these decisions: a small distance may lie between two things.
        """
        losses = {f"align_{modality}": alignment_loss(condition, target)}
        decides = getattr(self.generators[modality], "decides", None)
        if decides is not None:
            losses[f"decide_{modality}"] = decision_loss(decides(condition), decides(target))
        with torch.no_grad():
            losses[f"cosine_{modality}"] = F.cosine_similarity(condition, target, dim=-1).mean()
        return losses

    def splice(self, batch: Batch) -> Tensor:
        """(b, n, hidden): token embeddings, with projected content in its places."""
        vectors = self.rows.embed(batch.ids, self.signals.base, self.backbone).float()
        for modality, (features, places) in batch.seen.items():
            projected = self.project(modality, features)
            row, at = _spans(places, projected.shape[1])
            vectors = vectors.index_put((row, at), projected.to(vectors.dtype))
        return vectors

    def project(self, modality: str, features: Tensor) -> Tensor:
        """(m, t, width) features -> (m, tokens, hidden)."""
        return self.projectors[modality](features)

    def text_loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy over what is learnt; the head sees these positions alone."""
        wanted = labels[:, 1:]
        learnt = wanted != IGNORED
        logits = self.rows.logits(states[:, :-1][learnt], self.backbone)
        return F.cross_entropy(logits.float(), wanted[learnt]) if learnt.any() else logits.sum() * 0.0

    def answer_score(self, batch: Batch) -> Tensor:
        """(b,) the log-probability of each row's learnt tokens: what the preference stage compares."""
        states = self.backbone.read(self.splice(batch).to(self.backbone.rows[0].dtype), batch.mask)
        wanted = batch.labels[:, 1:]
        row, at = (wanted != IGNORED).nonzero(as_tuple=True)
        scores = torch.log_softmax(self.rows.logits(states[row, at], self.backbone).float(), -1)
        scores = scores.gather(-1, wanted[row, at][:, None])[:, 0]
        return scores.new_zeros(len(wanted)).index_add(0, row, scores)

    def runs(self, modality: str, states: Tensor, vectors: Tensor, places: Tensor) -> Tensor:
        """What an output projector reads of each signal run: (m, signals, hidden), states and input vectors added."""
        row, at = _spans(places, self.signals.counts[modality])
        return states[row, at].float() + vectors[row, at].float()

    def deltas(self) -> dict[str, nn.Parameter]:
        """Everything that can ever train, by name: what a checkpoint holds."""
        ours = ("projectors.", "rows.", "output_projectors.")
        return {n: p for n, p in self.named_parameters() if n.startswith(ours) or ".lora_" in n}


def alignment_loss(condition: Tensor, target: Tensor) -> Tensor:
    """Squared distance over the target's mean square, so that a norm of 33 counts no more than one of 1."""
    return F.mse_loss(condition, target) / target.square().mean().clamp(min=1e-8)


def decision_loss(said: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor:
    """Mean over questions of the cross-entropy of answers (logits) with those wanted (logits)."""
    each = [-(wanted[k].softmax(-1) * said[k].log_softmax(-1)).sum(-1).mean() for k in said]
    return torch.stack(each).mean()


def echo_loss(states: Tensor, words: Tensor, spoken: Tensor) -> Tensor:
    """States (m, signals, hidden) as if they foretold the words (m, signals), rows of `spoken`; IGNORED is left out."""
    logits = states.float() @ spoken.T
    return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=IGNORED)


def spelling_loss(projected: Tensor, words: Tensor, table: Tensor) -> Tensor:
    """Content (m, tokens, hidden) against the words (m, tokens) that are rows of `table` (words, hidden).

    Which word is nearest, and how far it is; the mean vector, which all words share, is taken out.
    """
    mean = table.mean(0)
    own, wanted = projected.float() - mean, table - mean
    logits = SHARPNESS * F.normalize(own, dim=-1) @ F.normalize(wanted, dim=-1).T
    near = F.cross_entropy(logits.flatten(0, 1), words.flatten())
    return near + 0.5 * (own - wanted[words]).square().mean() / wanted.square().mean()


def layout_of(recipe: Recipe, tokenizer: Any, ends: frozenset[int], signals: Signals, tokens: dict[str, int]) -> Layout:
    """A Layout, without a whole model."""
    words = Words(tokenizer)
    stops = words.control("<|im_end|>" if recipe.template == "chatml" else "###")  # one id in their own vocabularies
    return Layout(words, signals, tokens, recipe.template, stops[0] if len(stops) == 1 else min(ends))


def _spans(places: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(m, 2) places -> indices (m, length) of rows and positions."""
    along = torch.arange(length, device=places.device)
    return places[:, :1].expand(-1, length), places[:, 1:] + along


def _input_projectors(recipe: Recipe, parts: Parts, encoders: Mapping[str, Encoder], hidden: int) -> nn.ModuleDict:
    """One projector a modality; `shared` takes the one before it, as NExT-GPT's single linear layer."""
    made = nn.ModuleDict()
    for modality, how in recipe.inputs.items():
        if how.projector.kind == "shared":
            if not made:
                raise InputError(f"input.{modality} shares a projector, and no modality before it has one.")
            made[modality] = list(made.values())[-1]
            continue
        sizes = {"features": encoders[modality].width, "hidden": hidden, "tokens": how.tokens}
        made[modality] = parts.make("projector", how.projector.kind, how.projector.options, Setting(sizes=sizes))
    return made


def _named(recipe: Recipe) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = [("backbone", recipe.backbone)]
    for i in recipe.inputs.values():
        found += [("encoder", i.encoder)] + [("projector", i.projector)] * (i.projector.kind != "shared")
    for o in recipe.outputs.values():
        found += [("generator", o.generator), ("output_projector", o.projector)]
    return found


def _fits(part: Any, modality: str) -> Any:
    if part.modality != modality:
        raise InputError(f"The part for {modality} is one for {part.modality}; name another in the recipe.")
    return part
