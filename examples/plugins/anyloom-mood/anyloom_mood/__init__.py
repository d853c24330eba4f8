"""Sentiment of a text, by a text-classification pipeline of the Hugging Face hub."""

from anyloom.core.errors import InputError
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool

MODEL = "hf:distilbert/distilbert-base-uncased-finetuned-sst-2-english"


class Mood(Expert):
    """Says whether an English text sounds positive or negative."""

    name = "distilbert-mood"
    tool = Tool(
        "sentiment-analysis", "says whether a text sounds positive or negative", (Param("text", "text"),), "text"
    )
    card = Card(weights=(MODEL,), licence="Apache-2.0", size=268_000_000, memory=400_000_000)

    def load(self, device, weights):
        """Opens the pipeline on the files that anyloom fetched."""
        from transformers import pipeline

        self.pipe = pipeline("text-classification", model=str(weights[MODEL]), device=device)

    def run(self, args, run):
        """Such as "positive (0.98)"."""
        if not args["text"].strip():
            raise InputError("The text is empty; give a sentence.")
        run.check()
        (found,) = self.pipe(args["text"], truncation=True)
        return [Output.text(f"{found['label'].lower()} ({found['score']:.2f})", "mood")]
