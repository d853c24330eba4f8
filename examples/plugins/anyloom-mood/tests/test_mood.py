"""The expert over a tiny random checkpoint in the hub's layout."""

from anyloom_mood import MODEL, Mood

from anyloom.tools.contracts import Run


def tiny(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "good": 2, "bad": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder)
    config = DistilBertConfig(vocab_size=4, dim=16, n_layers=1, n_heads=2, hidden_dim=16, pad_token_id=1)
    config.id2label = {0: "NEGATIVE", 1: "POSITIVE"}
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_it_says_a_mood(tmp_path):
    mood = Mood()
    mood.load("cpu", {MODEL: tiny(tmp_path)})
    (said,) = mood.run({"text": "good"}, Run())
    assert said.data.decode().split(" ")[0] in ("positive", "negative")
