"""A tokenizer without a vocabulary: a token id *is* its bytes.

Up to three ASCII bytes make a token, or two bytes of other characters; so a CJK character or an emoji never
fits into one, and a stop word tokenized by itself often doesn't line up with the answer's tokens. As in the
stock models, both are the client's problem.
"""

from __future__ import annotations

from collections.abc import Iterable

EOS = 2


def encode(text: str) -> list[int]:
    """The tokens of a text."""
    data = text.encode()
    tokens = []
    at = 0
    while at < len(data):
        size = 1
        if data[at] < 0x80:
            while size < 3 and at + size < len(data) and data[at + size] < 0x80:
                size += 1
        else:
            size = min(2, len(data) - at)
        tokens.append(size << 24 | int.from_bytes(data[at : at + size], "big"))
        at += size
    return tokens


def decode(tokens: Iterable[int]) -> bytes:
    """The bytes of tokens; EOS has none."""
    return b"".join((token & 0xFFFFFF).to_bytes(token >> 24, "big") for token in tokens if token > EOS)
