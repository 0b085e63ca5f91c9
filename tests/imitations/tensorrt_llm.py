"""The engine behind the ensemble: tokens in, tokens out, one response per token when streaming.

A request with `stop` = true and the id of a running one ends that one. Every declared output is in every
response, as from the C++ backend; what wasn't asked for is zero.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from imitations.events import Events
from imitations.generator import Finish, Generator, Job
from imitations.plan import read_plan
from imitations.reading import array, one, word_lists
from imitations.tokens import decode

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
_ZEROS = {
    "context_logits": ((1, 1, 1), np.float32),
    "generation_logits": ((1, 1, 1, 1), np.float32),
    "batch_index": ((1, 1), np.int32),
    "sequence_index": ((1, 1), np.int32),
    "kv_cache_alloc_new_blocks": ((1, 1), np.int32),
    "kv_cache_reused_blocks": ((1, 1), np.int32),
    "kv_cache_alloc_total_blocks": ((1, 1), np.int32),
    "arrival_time_ns": ((1, 1), np.int64),
    "first_scheduled_time_ns": ((1, 1), np.int64),
    "first_token_time_ns": ((1, 1), np.int64),
    "last_token_time_ns": ((1, 1), np.int64),
    "acceptance_rate": ((1, 1), np.float32),
    "total_accepted_draft_tokens": ((1, 1), np.int32),
    "total_draft_tokens": ((1, 1), np.int32),
}
LOG_PROB = -0.25
"""Of every token."""


class TritonPythonModel:
    """The stock C++ model, seen from outside."""

    def initialize(self, args: dict[str, str]) -> None:
        """Nothing to load."""
        self._name = json.loads(args["model_config"])["name"]
        self._events = Events(self._name)
        self._generator = Generator(self._events)

    def execute(self, requests: list[Any]) -> None:
        """Start each request, or stop one."""
        for request in requests:
            sender = request.get_response_sender()
            if one(request, "stop", False):
                found = self._generator.stop(request.request_id())
                self._events.write("stop", request.request_id(), found=found)
                sender.send(flags=FINAL)
            else:
                self._generator.start(_job(request, sender))

    def finalize(self) -> None:
        """End what runs."""
        self._generator.close()


def _job(request: Any, sender: Any) -> Job:
    given = array(request, "input_ids")
    prompt = [] if given is None else given.reshape(-1).tolist()
    plan = read_plan(decode(prompt).decode())
    echo = not one(request, "exclude_input_in_output", False)
    total = 0

    def send(tokens: Sequence[int], _: Finish | None, final: bool) -> None:
        nonlocal total, echo
        total += len(tokens)
        shown = [*(prompt if echo else []), *tokens]
        echo = False
        made = [
            pb.Tensor("output_ids", np.array([[shown]], np.int32)),
            pb.Tensor("sequence_length", np.array([[len(shown)]], np.int32)),
            *response_tensors(len(tokens), total, len(prompt)),
        ]
        sender.send(pb.InferenceResponse(made), flags=FINAL if final else 0)

    def fail(message: str) -> None:
        sender.send(pb.InferenceResponse(error=pb.TritonError(message)), flags=FINAL)

    return Job(
        request_id=request.request_id(),
        plan=plan,
        max_tokens=one(request, "request_output_len", 0),
        streaming=one(request, "streaming", False),
        send=send,
        end=lambda: sender.send(flags=FINAL),
        fail=fail,
        is_cancelled=sender.is_cancelled,
        stop_lists=word_lists(array(request, "stop_words_list")),
        looked_at=time.monotonic(),
    )


def response_tensors(count: int, total: int, prompt: int) -> list[Any]:
    """What is in every response beside the tokens: `count` of this response, `total` so far."""
    made = {
        "cum_log_probs": np.array([[LOG_PROB * total]], np.float32),
        "output_log_probs": np.full((1, 1, count), LOG_PROB, np.float32),
        "num_input_tokens": np.array([[prompt]], np.int32),
        "num_output_tokens": np.array([[count]], np.int32),
    }
    made |= {name: np.zeros(shape, kind) for name, (shape, kind) in _ZEROS.items()}
    return [pb.Tensor(name, value) for name, value in made.items()]
