"""Inputs of a Triton request, and the stock encoding of word lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb

from imitations.tokens import encode


def array(request: Any, name: str) -> npt.NDArray[Any] | None:
    """A copy of an input, None if it wasn't sent."""
    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().copy()


def one(request: Any, name: str, default: Any) -> Any:
    """The single value of an input."""
    values = array(request, name)
    if values is None or values.size == 0:
        return default
    value = values.reshape(-1)[0]
    return value if isinstance(value, bytes) else value.item()


def word_list(words: Iterable[bytes]) -> npt.NDArray[np.int32]:
    """[1, 2, n]: the tokens of all words in a row, and where each word ends, padded with -1."""
    tokens: list[int] = []
    ends: list[int] = []
    for word in words:
        if word:
            tokens += encode(word.decode())
            ends.append(len(tokens))
    ends += [-1] * (len(tokens) - len(ends))
    return np.array([[tokens, ends]], np.int32)


def word_lists(flat: npt.NDArray[Any] | None) -> Sequence[Sequence[int]]:
    """The inverse of `word_list`."""
    if flat is None:
        return ()
    tokens, ends = flat.reshape(2, -1).tolist()
    starts = [0, *ends]
    return [tokens[start:end] for start, end in zip(starts, ends, strict=False) if end > 0]
