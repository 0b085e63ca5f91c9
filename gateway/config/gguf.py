"""The chat template and the special tokens of a .gguf file, and no more of it.

Model files come from strangers, so the reader is bounded: every length is checked against a limit before
anything is read, strings that nobody asked for are skipped, nothing is allocated on the word of the file,
and whatever is wrong ends in GgufError. Weights are never touched.

Layout, little-endian (ggml-org/ggml, docs/gguf.md): "GGUF", u32 version, u64 tensors, u64 pairs, then pairs
of string key, u32 type, value. A string is u64 length + UTF-8. An array is u32 element type, u64 count,
elements.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {
    0: 1,
    1: 1,
    2: 2,
    3: 2,
    4: 4,
    5: 4,
    6: 4,
    7: 1,
    10: 8,
    11: 8,
    12: 8,
}  # type → bytes; 8 string, 9 array
_STRING, _ARRAY, _UINT32 = 8, 9, 4
_MAX_PAIRS = 65536
_MAX_KEY = 65535
_MAX_ITEMS = 1 << 24
_MAX_WANTED = 1 << 20  # a string that we keep: a template, or a token
_MAX_METADATA = 1 << 28  # all pairs together

TEMPLATE = "tokenizer.chat_template"
_TOKENS = "tokenizer.ggml.tokens"
_ROLES = {
    "tokenizer.ggml.bos_token_id": "bos_token",
    "tokenizer.ggml.eos_token_id": "eos_token",
    "tokenizer.ggml.unknown_token_id": "unk_token",
    "tokenizer.ggml.padding_token_id": "pad_token",
}


class GgufError(Exception):
    """The file is no GGUF that can be read; the text says why, for an operator."""


def read_gguf(path: Path) -> tuple[str, dict[str, str]]:
    """The chat template, "" if it has none, and role → special token. Errors: GgufError, OSError."""
    with path.open("rb", buffering=1 << 18) as file:
        return _Reader(file).run()


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = file.seek(0, 2)
        file.seek(0)

    def run(self) -> tuple[str, dict[str, str]]:
        if self.take(4) != b"GGUF":
            raise GgufError("it does not begin with GGUF")
        version = self.number("<I")
        if version not in (2, 3):
            raise GgufError(f"its GGUF version is {version}; 2 and 3 can be read")
        self.number("<Q")
        pairs = self.bounded(_MAX_PAIRS, "metadata pairs")
        template = ""
        tokens = (0, 0)  # where the array of tokens begins, how many there are
        ids: dict[str, int] = {}
        for _ in range(pairs):
            key = self.string(_MAX_KEY, "a key")
            kind = self.number("<I")
            if key == TEMPLATE and kind == _STRING:
                template = self.string(_MAX_WANTED, "the chat template")
            elif key in _ROLES and kind == _UINT32:
                ids[_ROLES[key]] = self.number("<I")
            elif kind == _ARRAY:
                item, count = self.number("<I"), self.bounded(_MAX_ITEMS, f"elements of {key!r}")
                if key == _TOKENS and item == _STRING:
                    tokens = (self.file.tell(), count)
                self.skip(item, count, key)
            else:
                self.skip(kind, 1, key)
            if self.file.tell() > _MAX_METADATA:
                raise GgufError(f"its metadata is larger than {_MAX_METADATA} bytes")
        return template, self.special(*tokens, ids)

    def special(self, start: int, count: int, ids: dict[str, int]) -> dict[str, str]:
        """The texts of the tokens `ids`; ids beyond the vocabulary are left out."""
        wanted = set(ids.values())
        texts: dict[int, str] = {}
        self.file.seek(start)
        for index in range(min(count, max(wanted, default=-1) + 1)):
            if index in wanted:
                texts[index] = self.string(_MAX_WANTED, "a token")
            else:
                self.forward(self.number("<Q"))
        return {role: texts[index] for role, index in ids.items() if index in texts}

    def skip(self, kind: int, count: int, key: str) -> None:
        if kind == _STRING:
            for _ in range(count):
                self.forward(self.number("<Q"))
        elif kind in _SIZES:
            self.forward(_SIZES[kind] * count)
        else:
            raise GgufError(f"{key[:80]!r} has a value of the unknown type {kind}")

    def bounded(self, limit: int, what: str) -> int:
        number = self.number("<Q")
        if number > limit:
            raise GgufError(f"it claims {number} {what[:100]}")
        return number

    def string(self, limit: int, what: str) -> str:
        data = self.take(self.bounded(limit, f"bytes for {what}"))
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise GgufError(f"{what} is not UTF-8") from None

    def number(self, code: str) -> int:
        return int(struct.unpack(code, self.take(struct.calcsize(code)))[0])

    def take(self, size: int) -> bytes:
        data = self.file.read(size)
        if len(data) < size:
            raise GgufError("it ends in the middle of its metadata")
        return data

    def forward(self, size: int) -> None:
        if size > self.size - self.file.tell():
            raise GgufError("it ends in the middle of its metadata")
        self.file.seek(size, 1)
