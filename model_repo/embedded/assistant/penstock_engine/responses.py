"""Text, counts and log-probabilities as Triton tensors, in the shapes of the stock ensemble.

- text_output [1]
- finish_reason [1], in the final response only
- num_input_tokens [1, 1]; num_output_tokens [1, 1], of this response
- with return_log_probs: output_log_probs [1, 1, n] and output_tokens [1, n] (bytes) of the n tokens of this
  response, cum_log_probs [1, 1] of the answer so far
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from penstock_engine.replies import FailureKind
from penstock_engine.sequence import Delta, Sequence

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_CODES = {"invalid": "INVALID_ARG", "unavailable": "UNAVAILABLE", "internal": "INTERNAL"}
"""Names in pb.TritonError, which Triton adds to its module only after ours has been imported."""


class TritonReply:
    """A `Reply` over one Triton response sender."""

    def __init__(self, sender: Any, request_id: str) -> None:
        self._sender = sender
        self.request_id = request_id

    def send(self, delta: Delta, sequence: Sequence) -> None:
        """See `Reply.send`."""
        self._sender.send(pb.InferenceResponse(tensors(delta, sequence)))

    def finish(self, delta: Delta, sequence: Sequence) -> None:
        """See `Reply.finish`."""
        self._sender.send(pb.InferenceResponse(tensors(delta, sequence)), flags=FINAL)

    def fail(self, message: str, kind: FailureKind) -> None:
        """See `Reply.fail`."""
        error = pb.TritonError(message, getattr(pb.TritonError, _CODES[kind]))
        self._sender.send(pb.InferenceResponse(error=error), flags=FINAL)

    def is_cancelled(self) -> bool:
        """See `Reply.is_cancelled`. Costs a round trip to the server process."""
        return bool(self._sender.is_cancelled())


def tensors(delta: Delta, sequence: Sequence) -> list[Any]:
    """The outputs of one response."""
    prompt = sequence.prompt
    made = [_strings("text_output", [delta.text.encode()])]
    if delta.finish is not None:
        made.append(_strings("finish_reason", [delta.finish.encode()]))
    if prompt.count_input:
        made.append(pb.Tensor("num_input_tokens", np.array([[sequence.input_tokens]], np.int32)))
    if prompt.count_output:
        made.append(pb.Tensor("num_output_tokens", np.array([[delta.tokens]], np.int32)))
    if prompt.log_probs:
        log_probs = np.array([[delta.log_probs]], np.float32)
        total = np.array([[delta.total_log_prob]], np.float32)
        made.append(pb.Tensor("output_log_probs", log_probs))
        made.append(pb.Tensor("cum_log_probs", total))
        made.append(pb.Tensor("output_tokens", np.array([delta.token_bytes], np.object_)))
    return made


def _strings(name: str, values: list[bytes]) -> Any:
    return pb.Tensor(name, np.array(values, np.object_))
