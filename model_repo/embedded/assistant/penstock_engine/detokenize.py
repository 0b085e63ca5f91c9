"""Token ids to text, one at a time, without ever cutting a character in half.

Two ways, one interface. A byte-level BPE vocabulary (GPT-2, Llama 3, Qwen, ours) maps each token to
fixed bytes: a table and an incremental UTF-8 decoder do it exactly, in about a microsecond. Any
other tokenizer is asked to decode a short window twice, and what the new token added is the
difference; slower, but right where a token's text depends on its neighbour.

Bytes that can no longer become a character turn into U+FFFD, as in every decoder; bytes of a
character that is merely unfinished are held, and dropped if the generation ends there.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

_REPLACEMENT = "\ufffd"


class Detokenizer(Protocol):
    """State of one text in the making."""

    def push(self, token: int) -> str:
        """Return the text that became certain with this token; often, but not always, its own."""


class ByteDetokenizer:
    """For vocabularies whose tokens are bytes. `table[id]` holds them; special tokens hold none."""

    __slots__ = ("_decode", "_table")

    def __init__(self, table: Sequence[bytes]) -> None:
        self._table = table
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def push(self, token: int) -> str:
        """See `Detokenizer.push`. An id outside the vocabulary adds nothing."""
        return self._decode(self._table[token]) if 0 <= token < len(self._table) else ""


class WindowDetokenizer:
    """For all other tokenizers: decode the last few tokens with and without the new one."""

    __slots__ = ("_decode", "_ids", "_read", "_start")

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0  # the window begins here, at a token whose text is complete
        self._read = 0  # the text of the tokens before this one has been returned

    def push(self, token: int) -> str:
        """See `Detokenizer.push`."""
        self._ids.append(token)
        before = self._decode(self._ids[self._start : self._read])
        now = self._decode(self._ids[self._start :])
        if now.endswith(_REPLACEMENT) and len(self._ids) - self._read < 8:
            return ""  # the character is unfinished; eight tokens on, it never will be
        if len(now) <= len(before):
            return ""
        self._ids = self._ids[self._read :]
        self._start, self._read = 0, len(self._ids)
        return now[len(before) :]


def byte_level_table(tokenizer: Mapping[str, Any]) -> list[bytes] | None:
    """The bytes of each token of a tokenizer.json, or None if it isn't byte-level BPE.

    Args:
        tokenizer: the parsed tokenizer.json.
    """
    decoder = tokenizer.get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    if [part.get("type") for part in parts] != ["ByteLevel"]:
        return None
    vocabulary: Mapping[str, int] = tokenizer["model"]["vocab"]
    added = tokenizer.get("added_tokens", [])
    ids = [*vocabulary.values(), *(token["id"] for token in added)]
    table = [b""] * (max(ids, default=-1) + 1)
    letters = {chr(code): byte for byte, code in enumerate(byte_letters())}
    for text, token in vocabulary.items():
        if all(letter in letters for letter in text):
            table[token] = bytes(letters[letter] for letter in text)
        else:
            table[token] = text.encode()
    for token in added:
        table[token["id"]] = b"" if token.get("special") else token["content"].encode()
    return table


def byte_letters() -> Iterable[int]:
    """GPT-2's printable stand-in for each of the 256 bytes, as a code point."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [byte if byte in plain else next(spare) for byte in range(256)]
