"""Text to tokens. Runs as the first step of the ensemble."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from imitations.reading import array, one, word_list
from imitations.tokens import EOS, encode


class TritonPythonModel:
    """The stock preprocessing, as far as it concerns text."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    try:
        tokens = encode(one(request, "QUERY", b"").decode())
    except UnicodeDecodeError as error:
        return pb.InferenceResponse(error=pb.TritonError(str(error)))
    ints = {
        "INPUT_ID": [tokens],
        "REQUEST_INPUT_LEN": [[len(tokens)]],
        "DECODER_INPUT_ID": [[0]],
        "REQUEST_DECODER_INPUT_LEN": [[1]],
        "REQUEST_OUTPUT_LEN": [[one(request, "REQUEST_OUTPUT_LEN", 0)]],
        "OUT_END_ID": [[one(request, "END_ID", EOS)]],
        "OUT_PAD_ID": [[one(request, "PAD_ID", EOS)]],
    }
    made = [pb.Tensor(name, np.array(value, np.int32)) for name, value in ints.items()]
    for words, ids in (("BAD_WORDS_DICT", "BAD_WORDS_IDS"), ("STOP_WORDS_DICT", "STOP_WORDS_IDS")):
        given = array(request, words)
        made.append(pb.Tensor(ids, word_list([] if given is None else given.reshape(-1))))
    made.append(pb.Tensor("EMBEDDING_BIAS", np.zeros((1, 1), np.float32)))
    made.append(pb.Tensor("OUT_PROMPT_TABLE_EXTRA_IDS", np.zeros((1, 1), np.uint64)))
    return pb.InferenceResponse(made)
