"""Tiny tokenizers: characters as tokens, in the files that each kind of model wants."""

import json
import string

CHARACTERS = string.ascii_letters + string.digits + ".,!?:;'-<>/_|()"


def bytes_to_letters():
    """GPT-2's letters for bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {b: chr(b) for b in kept}, 0
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + extra)
            extra += 1
    return letters


def clip(folder, length=77):
    """CLIP's tokenizer, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = sorted(bytes_to_letters().values())
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "pad_token": "<|endoftext|>"}
    config |= {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(words)


def roberta(folder, length=128, kind="RobertaTokenizer"):
    """Byte-level BPE without merges, as RoBERTa, BART and GPT-2 have it."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(bytes_to_letters().values()), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "model_max_length": length}))
    return len(words)


def bert(folder, length=128, kind="BertTokenizer", more=()):
    """WordPiece with characters as pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EMPTY]", *more]
    words += [*CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    config = {"tokenizer_class": kind, "model_max_length": length, "do_lower_case": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(words)


def fast(folder, template="", length=512, more=(), **config):
    """A tokenizer in one file (`tokenizer.json`): characters, T5's special tokens, a chat template where given."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", *more]
    words = {w: n for n, w in enumerate([*special, *CHARACTERS, " ", "\n"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    if not template:
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length,
        additional_special_tokens=list(more), **config,
    )  # fmt: skip
    if template:
        tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return len(words)
