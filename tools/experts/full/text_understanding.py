"""What is in a text: names, the label that fits, the answer to a question, and what a table says."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ....core.errors import ExpertError, InputError
from ...builtin import tool
from ...contracts import Expert, Output, Run
from ...full_tools import full_tool
from .hub import HubExpert, build, card
from .loading import model_of

WINDOW, STRIDE = 384, 128  # tokens of a question and a piece of its text; how far pieces overlap


class TextModel(HubExpert):
    """A model with a tokenizer that labels a text."""

    needs: ClassVar[tuple[str, ...]] = ("transformers",)
    kind: ClassVar[str]

    def open(self, folders: list[Path]) -> None:
        """The model and its tokenizer."""
        self.model, self.tokenizer = model_of(folders[0], self.kind, self.device, "AutoTokenizer")

    def text(self, args: Mapping[str, Any], name: str = "text") -> str:
        """The argument without blanks around it; InputError when nothing is left."""
        if not args[name].strip():
            raise InputError(f"'{self.tool.name}' needs '{name}', and it is empty.")
        return str(args[name]).strip()


class Tagger(TextModel):
    """Names of people, places and organisations."""

    kind = "AutoModelForTokenClassification"

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A line a name, in the order of the text."""
        from transformers import pipeline

        tag: Any = pipeline(
            "token-classification",
            model=self.model,
            tokenizer=self.tokenizer,
            aggregation_strategy="simple",
            device=self.model.device,
        )
        text = self.text(args)
        tag.tokenizer.model_max_length = min(tag.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        run.progress(0, 1, "text")
        found = [
            {"text": text[n["start"] : n["end"]], "kind": n["entity_group"], "score": round(float(n["score"]), 3)}
            for n in tag(text)
        ]
        run.progress(1, 1, "text")
        words = "\n".join(f"{n['text']} ({n['kind']})" for n in found) or "No names were found."
        return [Output.text(words, "names", names=found)]


class Labeller(TextModel):
    """Which of the given labels fits, by a model that judges whether one sentence follows from another."""

    kind = "AutoModelForSequenceClassification"

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """A line a label, the best first."""
        import torch

        labels = [w.strip() for w in args["labels"].replace("\n", ",").split(",") if w.strip()]
        if not labels:
            raise InputError("There are no labels to choose from; give some, separated by commas.")
        text, scores = self.text(args), []
        follows = next((n for w, n in self.model.config.label2id.items() if w.lower().startswith("entail")), -1)
        for n, label in enumerate(labels):
            run.check()
            run.progress(n, len(labels), "labels")
            asked = self.tokenizer(
                text, f"This example is {label}.", truncation="only_first", max_length=512, return_tensors="pt"
            )
            scores.append(self.model(**asked.to(self.device)).logits[0, follows].float())
        run.progress(len(labels), len(labels), "labels")
        chances = torch.stack(scores).softmax(0).tolist()
        order = sorted(zip(labels, chances, strict=True), key=lambda pair: -pair[1])
        lines = "\n".join(f"{label} ({chance:.2f})" for label, chance in order)
        return [Output.text(lines, "labels", label=order[0][0], score=round(order[0][1], 4))]


class Answerer(TextModel):
    """Marks the answer in a text, word for word, however long the text is."""

    kind = "AutoModelForQuestionAnswering"

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The likeliest passage. ExpertError when the model holds that the text has no answer."""
        question, context = self.text(args), self.text(args, "context")
        pieces = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=self.window(),
            stride=self.window() // 3,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=True,
            return_tensors="pt",
        )
        best: tuple[float, str] = (float("-inf"), "")
        count = len(pieces["input_ids"])
        for n in range(count):
            run.check()
            run.progress(n, count, "pieces of the text")
            best = max(best, self.marked(pieces, n, context))
        run.progress(count, count, "pieces of the text")
        if not best[1]:
            raise ExpertError("The text holds no answer to this question, as far as the model can tell.")
        return [Output.text(best[1], "answer", score=round(best[0], 3))]

    def window(self) -> int:
        """Tokens that are read at once."""
        return min(WINDOW, getattr(self.model.config, "max_position_embeddings", WINDOW) - 2)

    def marked(self, pieces: Any, n: int, context: str) -> tuple[float, str]:
        """The best passage of one piece and its score; no text where "no answer" scores higher."""
        names = [k for k in ("input_ids", "attention_mask", "token_type_ids") if k in pieces]
        seen = self.model(**{k: pieces[k][n : n + 1].to(self.device) for k in names})
        start, end = seen.start_logits[0].float().cpu(), seen.end_logits[0].float().cpu()
        inside = [i for i, part in enumerate(pieces.sequence_ids(n)) if part == 1]
        nothing = float(start[0] + end[0]), ""
        spans = [(float(start[a] + end[b]), a, b) for a in inside for b in inside if a <= b < a + 30]
        if not spans:
            return nothing
        score, a, b = max(spans)
        places = pieces["offset_mapping"][n]
        return max(nothing, (score, context[int(places[a][0]) : int(places[b][1])].strip()))


class TableReader(TextModel):
    """TAPAS: answers from the cells of a table, or judges a statement about it."""

    needs = ("transformers", "pandas")
    kind = "TapasForQuestionAnswering"

    def open(self, folders: list[Path]) -> None:
        """The model and its tokenizer."""
        self.model, self.tokenizer = model_of(folders[0], self.kind, self.device, "TapasTokenizer")

    def work(self, args: Mapping[str, Any], run: Run) -> list[Output]:
        """The cells that answer, after the operation to do with them where there is one; or true or false."""
        table = frame(args["table"])
        asked = self.tokenizer(
            table=table,
            queries=[self.text(args)],
            truncation="drop_rows_to_fit",
            padding="max_length",
            max_length=min(512, self.model.config.max_position_embeddings),
            return_tensors="pt",
        )
        run.progress(0, 1, "table")
        seen = self.model(**{k: v.to(self.device) for k, v in asked.items()})
        run.progress(1, 1, "table")
        if self.kind == "TapasForSequenceClassification":
            chances = seen.logits[0].float().softmax(-1)
            true = float(chances[1])
            return [Output.text("true" if true >= 0.5 else "false", "verdict", score=round(true, 4))]
        return [self._cells(table, asked, seen)]

    def _cells(self, table: Any, asked: Any, seen: Any) -> Output:
        operation = seen.logits_aggregation.cpu() if seen.logits_aggregation is not None else None
        found = self.tokenizer.convert_logits_to_predictions(dict(asked), seen.logits.float().cpu(), operation)
        cells = [str(table.iat[row, column]) for row, column in found[0][0]]
        if not cells:
            raise ExpertError("No cell of the table answers this question, as far as the model can tell.")
        names = getattr(self.model.config, "aggregation_labels", None) or {}
        how = names.get(int(found[1][0]), "NONE") if operation is not None else "NONE"
        return Output.text(aggregated(how, cells), "answer", cells=cells, operation=how)


def aggregated(how: str, cells: list[str]) -> str:
    """The cells summed, averaged or counted where that is what the question wants."""
    try:
        numbers = [float(c.replace(",", "")) for c in cells]
    except ValueError:
        numbers = []
    if how == "COUNT":
        return str(len(cells))
    if how in ("SUM", "AVERAGE") and numbers:
        return f"{sum(numbers) / (1 if how == 'SUM' else len(numbers)):g}"
    return ", ".join(cells)


def frame(text: str) -> Any:
    """A CSV text as a table of strings; commas, semicolons or tabs."""
    import pandas

    try:
        dialect: Any = csv.Sniffer().sniff(text.strip()[:2000], ",;\t|")
    except csv.Error:
        dialect = csv.excel
    rows = [r for r in csv.reader(io.StringIO(text.strip()), dialect) if any(c.strip() for c in r)]
    if len(rows) < 2 or len({len(r) for r in rows}) != 1:
        raise InputError("The table cannot be read; give CSV with a line of headings and as many cells in each line.")
    return pandas.DataFrame([[c.strip() for c in r] for r in rows[1:]], columns=[c.strip() for c in rows[0]])


def experts() -> list[type[Expert]]:
    """All of them, for the entry point."""
    names, labels, answer = (
        full_tool("token-classification"),
        full_tool("zero-shot-classification"),
        tool("question-answering"),
    )
    judge, table = full_tool("tabular-classification"), full_tool("table-question-answering")
    tapas = "google/tapas-{}-finetuned-{}"
    return [
        build(
            Tagger,
            "bert-ner",
            names,
            card("dslim/bert-base-NER", licence="MIT", size=4.3e8, memory=6e8, speed="fast", quality=0.65),
            "BERT base; people, places, organisations in English",
        ),
        build(
            Tagger,
            "bert-large-ner",
            names,
            card(
                "dbmdz/bert-large-cased-finetuned-conll03-english",
                licence="MIT",
                size=1.3e9,
                memory=1.6e9,
                quality=0.75,
            ),
            "BERT large; people, places, organisations in English",
        ),
        build(
            Labeller,
            "bart-large-mnli",
            labels,
            card("facebook/bart-large-mnli", licence="MIT", size=1.6e9, memory=2e9, quality=0.7),
            "BART large; any labels",
        ),
        build(
            Labeller,
            "deberta-v3-base-mnli",
            labels,
            card(
                "MoritzLaurer/DeBERTa-v3-base-mnli-fever-anli",
                licence="MIT",
                size=3.7e8,
                memory=8e8,
                speed="fast",
                quality=0.75,
            ),
            "DeBERTa base; any labels, small and sure",
        ),
        build(
            Answerer,
            "distilbert-squad",
            answer,
            card(
                "distilbert/distilbert-base-cased-distilled-squad",
                licence="Apache-2.0",
                size=2.6e8,
                memory=4e8,
                speed="instant",
                quality=0.55,
            ),
            "DistilBERT; quotes an answer from a text",
        ),
        build(
            Answerer,
            "roberta-squad2",
            answer,
            card("deepset/roberta-base-squad2", licence="CC-BY-4.0", size=5e8, memory=7e8, speed="fast", quality=0.75),
            "RoBERTa; quotes an answer from a text, and says when there is none",
        ),
        *(
            build(
                TableReader,
                f"tapas-{size}-tabfact",
                judge,
                card(
                    tapas.format(size, "tabfact"),
                    licence="Apache-2.0",
                    size=bytes_,
                    memory=bytes_ * 1.5,
                    quality=quality,
                ),
                f"TAPAS {size}; judges a statement about a table",
                kind="TapasForSequenceClassification",
            )
            for size, bytes_, quality in (("base", 4.4e8, 0.6), ("large", 1.35e9, 0.7))
        ),
        build(
            TableReader,
            "tapas-base-wtq",
            table,
            card(tapas.format("base", "wtq"), licence="Apache-2.0", size=4.4e8, memory=7e8, quality=0.6),
            "TAPAS base; finds, counts, sums and averages cells",
        ),
        build(
            TableReader,
            "tapas-large-wtq",
            table,
            card(tapas.format("large", "wtq"), licence="Apache-2.0", size=1.35e9, memory=2e9, quality=0.7),
            "TAPAS large; finds, counts, sums and averages cells",
        ),
    ]
