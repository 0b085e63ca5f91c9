"""Counting tokens: with the real package where it is installed, and without it."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from gateway.engines.tokenizer import TokenizerError, load_counter


def write_tokenizer(folder: Path) -> Path:
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.models.WordLevel({"[UNK]": 0, "<s>": 1, "to": 2, "be": 3}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_counts_neither_cut_nor_padded(tmp_path: Path) -> None:
    file = write_tokenizer(tmp_path)
    for path in (file, tmp_path):
        counter = load_counter(str(path))
        assert counter.count("to be or not to be", "to be") == (7, 2)
        assert counter.count("", "") == (1, 0)


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0"}'])
def test_a_tokenizer_that_cannot_be_loaded(tmp_path: Path, content: str | None) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TokenizerError, match="cannot be loaded"):
        load_counter(str(path))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tokenizers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TokenizerError, match=r"install penstock\[tokenizer\]"):
        load_counter("x")
