"""The GGUF reader: what it finds, and that hostile files end in GgufError, quickly and in little memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.gguf import GgufError, read_gguf

HEAD = struct.Struct("<4sIQQ")
SOUND = {
    "general.architecture": "llama",
    "llama.block_count": 3,
    "general.alignment": (5, struct.pack("<i", -1)),
    "general.some_float": (12, struct.pack("<d", 0.5)),
    "general.a_bool": (7, b"\x01"),
    "tokenizer.ggml.scores": (9, struct.pack("<IQ", 6, 3) + struct.pack("<3f", 0, 0, 0)),
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "é"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.padding_token_id": 99,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.chat_template": "{{ messages }}",
}
Make = Callable[..., bytes]


def read(path: Path, data: bytes) -> tuple[str, dict[str, str]]:
    path.write_bytes(data)
    return read_gguf(path)


@pytest.mark.parametrize("version", [2, 3])
def test_template_and_tokens(version: int, make_gguf: Make, tmp_path: Path) -> None:
    template, tokens = read(tmp_path / "m", make_gguf(SOUND, version) + b"\x00" * 1000)
    assert template == "{{ messages }}"
    assert tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}  # 99 is no token


def test_nothing_to_find(make_gguf: Make, tmp_path: Path) -> None:
    assert read(tmp_path / "m", make_gguf({"general.architecture": "llama"})) == ("", {})
    assert read(tmp_path / "m", make_gguf({"tokenizer.ggml.bos_token_id": 1})) == ("", {})


def test_every_way_to_cut_it_short_is_refused(make_gguf: Make, tmp_path: Path) -> None:
    data = make_gguf(SOUND)
    for size in range(len(data)):
        with pytest.raises(GgufError):
            read(tmp_path / "m", data[:size])


BIG = 1 << 62
HOSTILE: list[tuple[bytes, str]] = [
    (b"", "ends in the middle"),
    (b"PK\x03\x04" + b"\0" * 100, "does not begin with GGUF"),
    (HEAD.pack(b"GGUF", 1, 0, 0), "version is 1; 2 and 3"),
    (HEAD.pack(b"GGUF", 3 << 24, 0, 0), "version is 50331648"),  # big-endian
    (HEAD.pack(b"GGUF", 3, 0, BIG), "metadata pairs"),
    (HEAD.pack(b"GGUF", 3, BIG, 1), "ends in the middle"),
    (HEAD.pack(b"GGUF", 3, 0, 1) + struct.pack("<Q", BIG), "bytes for a key"),
]


@pytest.mark.parametrize(("data", "piece"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_heads(data: bytes, piece: str, tmp_path: Path) -> None:
    with pytest.raises(GgufError, match=piece):
        read(tmp_path / "m", data)


PAIRS: list[tuple[str, Any, str]] = [
    ("tokenizer.chat_template", (8, struct.pack("<Q", BIG)), "bytes for the chat template"),
    ("tokenizer.chat_template", (8, struct.pack("<Q", 1 << 20)), "ends in the middle"),
    ("tokenizer.chat_template", (8, struct.pack("<Q", 1) + b"\xff"), "the chat template is not UTF-8"),
    ("other", (8, struct.pack("<Q", BIG)), "ends in the middle"),
    ("other", (8, struct.pack("<Q", (1 << 64) - 1)), "ends in the middle"),
    ("other", (9, struct.pack("<IQ", 4, BIG)), "elements of 'other'"),
    ("other", (9, struct.pack("<IQ", 4, 1 << 24)), "ends in the middle"),
    ("other", (9, struct.pack("<IQ", 8, 1 << 24)), "ends in the middle"),
    ("other", (9, struct.pack("<IQ", 9, 2)), "unknown type 9"),  # arrays of arrays
    ("other", (77, b""), "unknown type 77"),
]


@pytest.mark.parametrize(("key", "value", "piece"), PAIRS, ids=range(len(PAIRS)))
def test_hostile_pairs(key: str, value: Any, piece: str, make_gguf: Make, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(GgufError, match=piece):
            read(tmp_path / "m", make_gguf({key: value}))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_metadata_without_end(make_gguf: Make, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(make_gguf({"a": (8, struct.pack("<Q", 1 << 29)), "b": 1}))
    with path.open("r+b") as file:
        file.truncate(1 << 30)  # sparse
    with pytest.raises(GgufError, match="metadata is larger than"):
        read_gguf(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8))
def test_any_damage_is_read_or_refused(changes: list[tuple[int, int]], make_gguf: Make, tmp_path: Path) -> None:
    data = bytearray(make_gguf(SOUND))
    for at, value in changes:
        data[at % len(data)] = value
    with suppress(GgufError):
        template, tokens = read(tmp_path / "m", bytes(data))
        assert isinstance(template, str)
        assert set(tokens) <= {"bos_token", "eos_token", "unk_token", "pad_token"}
