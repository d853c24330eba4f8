"""Tiny models that read and write text, and one that talks about pictures."""

import functools
import json

import tiny_tokens

TURNS = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def t5(folder, size=16, more=()):
    """T5 with a tokenizer of characters and a head of its own (FLAN-T5, MADLAD)."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    words = tiny_tokens.fast(folder, more=more)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=words,
            d_model=size,
            d_kv=8,
            d_ff=16,
            num_layers=1,
            num_decoder_layers=1,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=False,
        )
    )
    head = torch.randn(words, size)
    head[: 3 + len(more)] = head[-2:] = 0  # never the special ones and blanks, or nothing may be said
    model.lm_head.weight = torch.nn.Parameter(head)
    model.save_pretrained(folder)


def bart(folder, kind="BartForConditionalGeneration", **more):
    """BART for summaries or for judging."""
    import transformers

    words = tiny_tokens.roberta(folder, 128, "BartTokenizer")
    config = transformers.BartConfig(
        vocab_size=words,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=128,
        **more,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)


def marian(folder):
    """OPUS-MT: two SentencePiece models and a shared vocabulary."""
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    (folder / "lines.txt").write_text(
        "\n".join(["the quick brown fox jumps over the lazy dog.", "A red box on a hill!"] * 8)
    )
    for side in ("source", "target"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "lines.txt"),
            model_prefix=str(folder / side),
            model_type="char",
            vocab_size=40,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    pieces = [line.split("\t")[0] for line in (folder / "source.vocab").read_text().splitlines()]
    words = ["</s>", "<unk>", *(p for p in pieces if p not in ("</s>", "<unk>", "<s>")), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(words)}))
    MarianTokenizer(*(str(folder / f) for f in ("source.spm", "target.spm", "vocab.json"))).save_pretrained(folder)
    MarianMTModel(
        MarianConfig(
            vocab_size=len(words),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=64,
            pad_token_id=len(words) - 1,
            eos_token_id=0,
            decoder_start_token_id=len(words) - 1,
            forced_eos_token_id=0,
        )
    ).save_pretrained(folder)


def bert(folder, kind, name="BertConfig", **more):
    """BERT and its like for tags, passages, embeddings."""
    import transformers

    words = tiny_tokens.bert(folder)
    config = getattr(transformers, name)(
        vocab_size=words,
        hidden_size=16,
        dim=16,
        num_hidden_layers=1,
        n_layers=1,
        num_attention_heads=2,
        n_heads=2,
        intermediate_size=16,
        hidden_dim=16,
        max_position_embeddings=128,
        **more,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)


def tapas(folder, kind, **more):
    """TAPAS: BERT with places in a table."""
    import transformers

    words = tiny_tokens.bert(folder, kind="TapasTokenizer")
    config = transformers.TapasConfig(
        vocab_size=words,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=128,
        **more,
    )
    getattr(transformers, kind)(config).save_pretrained(folder)


def deberta(folder):
    """DeBERTa v3 that judges, with a SentencePiece vocabulary; what follows is its first class, as on the hub."""
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification, DebertaV2Tokenizer

    words = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0), ("\u2581", -2.0)]
    words += [(c, -3.0) for c in tiny_tokens.CHARACTERS] + [("[MASK]", 0.0)]
    DebertaV2Tokenizer(vocab=words, model_max_length=128).save_pretrained(folder)
    labels = {0: "entailment", 1: "neutral", 2: "contradiction"}
    DebertaV2ForSequenceClassification(
        DebertaV2Config(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=128,
            relative_attention=True,
            position_buckets=8,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type="p2c|c2p",
            position_biased_input=False,
            type_vocab_size=0,
            pad_token_id=0,
            id2label=labels,
            label2id={v: k for k, v in labels.items()},
        )
    ).save_pretrained(folder)


def roberta(folder):
    """RoBERTa that marks answers; its positions begin behind the padding's."""
    from transformers import RobertaConfig, RobertaForQuestionAnswering

    words = tiny_tokens.roberta(folder, 128)
    RobertaForQuestionAnswering(
        RobertaConfig(
            vocab_size=words,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=130,
            type_vocab_size=1,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
        )
    ).save_pretrained(folder)


def mpnet(folder):
    """MPNet with WordPiece and RoBERTa's special tokens."""
    from transformers import MPNetConfig, MPNetModel, MPNetTokenizer

    words = ["<s>", "<pad>", "</s>", "[UNK]", *tiny_tokens.CHARACTERS, *(f"##{c}" for c in tiny_tokens.CHARACTERS)]
    words.append("<mask>")
    MPNetTokenizer(vocab={w: n for n, w in enumerate(words)}, model_max_length=128).save_pretrained(folder)
    MPNetModel(
        MPNetConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=130,
        )
    ).save_pretrained(folder)


def minilm(folder):
    """A BERT with the SentencePiece vocabulary of XLM-R, as the multilingual MiniLM is."""
    from transformers import BertConfig, BertModel, XLMRobertaTokenizer

    words = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    words += [(c, -3.0) for c in tiny_tokens.CHARACTERS] + [("<mask>", 0.0)]
    XLMRobertaTokenizer(vocab=words, model_max_length=128).save_pretrained(folder)
    BertModel(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=128,
            pad_token_id=1,
        )
    ).save_pretrained(folder)


def qwen2(folder):
    """Qwen 2.5, a chat model."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    words = tiny_tokens.fast(folder, TURNS)
    Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=words,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
        )
    ).save_pretrained(folder)


def llama(folder):
    """A chat model with a template of turns."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tiny_tokens.fast(folder, TURNS)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
        )
    ).save_pretrained(folder)


LABELS = {0: "O", 1: "B-PER", 2: "I-PER"}
FOLLOWS = {"id2label": {0: "contradiction", 1: "neutral", 2: "entailment"}}
FOLLOWS["label2id"] = {v: k for k, v in FOLLOWS["id2label"].items()}
OPERATIONS = {0: "NONE", 1: "SUM", 2: "AVERAGE", 3: "COUNT"}

LANGUAGE = {
    "google/flan-t5-base": t5,
    "google/madlad400-3b-mt": functools.partial(t5, more=("<2de>", "<2en>")),
    "facebook/bart-large-cnn": bart,
    "facebook/bart-large-mnli": functools.partial(bart, kind="BartForSequenceClassification", **FOLLOWS),
    "Helsinki-NLP/opus-mt-en-de": marian,
    "dslim/bert-base-NER": functools.partial(bert, kind="BertForTokenClassification", id2label=LABELS),
    "distilbert/distilbert-base-cased-distilled-squad": functools.partial(
        bert, kind="DistilBertForQuestionAnswering", name="DistilBertConfig"
    ),
    "deepset/roberta-base-squad2": roberta,
    "MoritzLaurer/DeBERTa-v3-base-mnli-fever-anli": deberta,
    "sentence-transformers/all-mpnet-base-v2": mpnet,
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": minilm,
    "google/tapas-base-finetuned-wtq": functools.partial(
        tapas, kind="TapasForQuestionAnswering", num_aggregation_labels=4, aggregation_labels=OPERATIONS
    ),
    "google/tapas-base-finetuned-tabfact": functools.partial(tapas, kind="TapasForSequenceClassification"),
    "Qwen/Qwen2.5-1.5B-Instruct": qwen2,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": llama,
}
