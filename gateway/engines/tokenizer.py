"""Counts tokens where a model does not: with the version's own tokenizer.json.

The `tokenizers` package is optional (`penstock[tokenizer]`): most contracts count by themselves. Loading
takes a second and counting a long prompt milliseconds, so both belong off the event loop; the package
releases the interpreter's lock while it works.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class TokenizerError(ValueError):
    """Why tokens cannot be counted, in words for an operator."""


class TokenCounter:
    """Counts with one loaded tokenizer; may be used from several threads."""

    __slots__ = ("_path", "_tokenizer")

    def __init__(self, tokenizer: Any, path: str) -> None:
        self._tokenizer = tokenizer
        self._path = path

    def __repr__(self) -> str:
        return f"TokenCounter({self._path})"

    def count(self, prompt: str, answer: str) -> tuple[int, int]:
        """Tokens of a prompt, with the special tokens that the engine adds, and of an answer, without."""
        encode = self._tokenizer.encode
        return len(encode(prompt, add_special_tokens=True).ids), len(encode(answer, add_special_tokens=False).ids)


def load_counter(path: str) -> TokenCounter:
    """The counter of a tokenizer.json, or of its folder. Blocks: use a thread. Errors: TokenizerError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise TokenizerError(
            f"tokenizer {path}: the package 'tokenizers' is not installed; install penstock[tokenizer]"
        ) from error
    file = Path(path)
    if file.is_dir():
        file = file / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises bare Exception for a missing file and for bad JSON alike
        raise TokenizerError(f"tokenizer {path} cannot be loaded: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return TokenCounter(tokenizer, path)
