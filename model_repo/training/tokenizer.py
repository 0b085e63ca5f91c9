"""Trains the tokenizer on the corpus and writes the files that clients of Hugging Face expect.

A byte-level BPE of 2,048 entries with Qwen2's pre-tokenizer: GGUF readers know it by name
(``pre=qwen2``), it splits numbers into digits, and no text is outside its alphabet.

Merges are learned within runs of letters only, so a word has the same tokens after a space, after a
quote and at the start of an answer. That costs a token per space, and buys a model that can copy: with
the usual ``Ġword`` tokens, the first word of every answer had to be spelled anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

from corpus import mix
from corpus.sample import BOS, EOS, PAD, ROLES
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

ROLE_TOKENS = [f"<|{role}|>" for role in ROLES]
SPECIAL_TOKENS = [PAD, BOS, EOS, *ROLE_TOKENS]
CONTEXT_LENGTH = 2048
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MERGED = r"\p{L}+|\p{N}| |[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
"""Runs within which merges are learned; each lies within one of Qwen2's words."""


def _pieces(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _texts(seed: int, samples: int) -> Iterator[str]:
    rng = Random(seed)
    for _ in range(samples):
        for message in mix.draw(rng).messages:
            yield message.content


def train(seed: int, samples: int, vocabulary: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pieces(_MERGED)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, samples), trainer)
    tokenizer.pre_tokenizer = _pieces(_QWEN2_WORDS)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json and the two files that say which tokens are special."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "additional_special_tokens": ROLE_TOKENS,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT_LENGTH,
        "chat_template": CHAT_TEMPLATE,
    }
    for name, content in (
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", {**named, "additional_special_tokens": ROLE_TOKENS}),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python model_repo/training/tokenizer.py --out runs/tokenizer",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the tokenizer's files")
    parser.add_argument("--samples", type=int, default=40_000, help="corpus samples to learn merges from")
    parser.add_argument("--vocabulary", type=int, default=2048, help="entries, special tokens included")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tokenizer = train(options.seed, options.samples, options.vocabulary)
    write(tokenizer, options.out)
    print(f"{tokenizer.get_vocab_size()} entries in {options.out}")


if __name__ == "__main__":
    main()
