"""What the config's tests share: a shipped repository in miniature, a way to write a config, a .gguf."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Config, ConfigError, load

DATA = Path(__file__).parents[1] / "data" / "configs"


@pytest.fixture
def repository() -> Path:
    """A model repository with `assistant`, versions 1 and 2, each with its tokenizer_config.json."""
    return DATA / "repository"


@pytest.fixture
def load_text(tmp_path: Path, repository: Path) -> Callable[..., Config]:
    """Load a TOML text from tmp_path/penstock.toml."""

    def load_it(text: str, **more: Any) -> Config:
        path = tmp_path / "penstock.toml"
        path.write_text(text, encoding="utf-8")
        return load(path, repository=repository, **more)

    return load_it


@pytest.fixture
def refusal(load_text: Callable[..., Config]) -> Callable[..., ConfigError]:
    """The ConfigError that a TOML text is refused with."""

    def refused(text: str, **more: Any) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load_text(text, **more)
        return caught.value

    return refused


def gguf_string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def gguf_pair(key: str, value: Any) -> bytes:
    """A metadata pair: a str, an int (u32), a list of str, or raw (type, bytes)."""
    if isinstance(value, str):
        kind, data = 8, gguf_string(value)
    elif isinstance(value, int):
        kind, data = 4, struct.pack("<I", value)
    elif isinstance(value, list):
        kind, data = 9, struct.pack("<IQ", 8, len(value)) + b"".join(map(gguf_string, value))
    else:
        kind, data = value
    return gguf_string(key) + struct.pack("<I", kind) + data


def gguf_bytes(pairs: dict[str, Any], version: int = 3) -> bytes:
    """The head of a .gguf file with these metadata, and no tensors."""
    head = b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs))
    return head + b"".join(gguf_pair(key, value) for key, value in pairs.items())


@pytest.fixture
def make_gguf() -> Callable[..., bytes]:
    return gguf_bytes
