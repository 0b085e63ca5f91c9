"""Tokens to text, each response by itself: a character that spans two responses arrives in halves."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from imitations.reading import array
from imitations.tokens import decode


class TritonPythonModel:
    """The stock postprocessing. OUTPUT has shape [batch * beams], that is [1]."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return [_answer(request) for request in requests]


def _answer(request: Any) -> Any:
    tokens = array(request, "TOKENS_BATCH")
    length = array(request, "SEQUENCE_LENGTH")
    assert tokens is not None
    assert length is not None
    text = decode(tokens.reshape(-1)[: int(length.reshape(-1)[0])].tolist())
    return pb.InferenceResponse([pb.Tensor("OUTPUT", np.array([text], np.object_))])
