"""Read the key-value header of a GGUF file: enough to know context length and special tokens.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (v2 and v3, little-endian).
Long arrays (the vocabulary) are stepped over, not kept.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
            10: "<Q", 11: "<q", 12: "<d"}  # fmt: skip
_STRING, _ARRAY = 8, 9


class GgufError(ValueError):
    """Not a GGUF file, or one that is cut short."""


def read_gguf_metadata(path: Path) -> dict[str, Any]:
    """Return the scalar and string entries of the header; arrays are left out.

    Raises:
        GgufError: the file isn't GGUF v2 or v3, or its header is damaged.
    """
    with path.open("rb") as file:
        try:
            magic, version = struct.unpack("<4sI", file.read(8))
            if magic != b"GGUF" or version not in (2, 3):
                raise GgufError(f"{path} is not a GGUF file of version 2 or 3")
            _tensors, entries = struct.unpack("<QQ", file.read(16))
            found: dict[str, Any] = {}
            for _ in range(entries):
                key = _read_string(file)
                (kind,) = struct.unpack("<I", file.read(4))
                value = _read_value(file, kind)
                if value is not None:
                    found[key] = value
        except (struct.error, UnicodeDecodeError, KeyError) as exc:
            raise GgufError(f"{path}: damaged GGUF header ({exc})") from None
    return found


def _read_string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    return file.read(length).decode("utf-8")


def _read_value(file: BinaryIO, kind: int) -> Any:
    """One value, or None for an array, which is stepped over."""
    if kind == _STRING:
        return _read_string(file)
    if kind == _ARRAY:
        element, count = struct.unpack("<IQ", file.read(12))
        if element in _SCALARS:
            file.seek(count * struct.calcsize(_SCALARS[element]), 1)
        else:
            for _ in range(count):
                (length,) = struct.unpack("<Q", file.read(8))
                file.seek(length, 1)
        return None
    layout = _SCALARS[kind]
    return struct.unpack(layout, file.read(struct.calcsize(layout)))[0]
