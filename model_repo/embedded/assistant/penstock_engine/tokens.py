"""The tokenizer of a model, whichever it brought along.

tokenizer.json beside the weights is read with Hugging Face's `tokenizers`, which is exact and quick.
Without one, GenAI's own tokenizer is used, which it makes from the GGUF or the OpenVINO folder.
Special tokens are never added: the prompt template says where they go, and their text in the
prompt is understood as them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock_engine.detokenize import (
    ByteDetokenizer,
    Detokenizer,
    WindowDetokenizer,
    byte_level_table,
)


class PromptTokenizer:
    """Text to ids, and a fresh detokenizer per request.

    Attributes:
        kind: what the tokenizer is, for the log.
        longest: bytes of the longest token if known, else 0. A text of n bytes has at least
            n / longest tokens, so a text that can't fit is refused without being tokenized.
    """

    def __init__(
        self,
        kind: str,
        encode: Callable[[str], list[int]],
        detokenizer: Callable[[], Detokenizer],
        token_bytes: Callable[[int], bytes],
        longest: int,
    ) -> None:
        self.kind = kind
        self.encode = encode
        self.detokenizer = detokenizer
        self.token_bytes = token_bytes
        self.longest = longest

    def __repr__(self) -> str:
        return f"PromptTokenizer({self.kind})"


def load_tokenizer(folder: Path, genai_tokenizer: Callable[[], Any]) -> PromptTokenizer:
    """Choose the tokenizer for the weights in `folder`.

    Args:
        folder: where tokenizer.json may lie.
        genai_tokenizer: called for GenAI's tokenizer if there is none.
    """
    path = folder / "tokenizer.json"
    return _from_json(path) if path.is_file() else _from_genai(genai_tokenizer())


def _from_json(path: Path) -> PromptTokenizer:
    import tokenizers  # here, because a model without tokenizer.json needs no such package

    text = path.read_text(encoding="utf-8")
    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(prompt: str) -> list[int]:
        ids: list[int] = tokenizer.encode(prompt, add_special_tokens=False).ids
        return ids

    table = byte_level_table(json.loads(text))
    if table is not None:
        added = [token.content.encode() for token in tokenizer.get_added_tokens_decoder().values()]
        return PromptTokenizer(
            kind=f"{path.name}, byte-level, {len(table)} tokens",
            encode=encode,
            detokenizer=lambda: ByteDetokenizer(table),
            token_bytes=lambda token: table[token] if 0 <= token < len(table) else b"",
            longest=max(len(raw) for raw in [*table, *added]),
        )

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    return PromptTokenizer(
        kind=f"{path.name}, {tokenizer.get_vocab_size()} tokens",
        encode=encode,
        detokenizer=lambda: WindowDetokenizer(decode),
        token_bytes=lambda token: decode([token]).encode(),
        longest=0,
    )


def _from_genai(tokenizer: Any) -> PromptTokenizer:
    def encode(prompt: str) -> list[int]:
        ids: list[int] = tokenizer.encode(prompt, add_special_tokens=False).input_ids.data[0].tolist()
        return ids

    def decode(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""

    return PromptTokenizer(
        kind="GenAI's own",
        encode=encode,
        detokenizer=lambda: WindowDetokenizer(decode),
        token_bytes=lambda token: decode([token]).encode(),
        longest=0,
    )
