"""The stock `llmapi` model: cumulative text, 32 tokens unless told otherwise, no token counts.

Shapes are without a batch dimension. `finish_reason` and `stop_reason` come only when asked for, and are the
string "None" until the end. `stop` with the id of a running request drops that one without another word, and
answers with an error of its own, as the stock model does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from imitations.events import Events
from imitations.generator import Finish, Generator, Job
from imitations.plan import read_plan
from imitations.reading import array, one
from imitations.tokens import decode, encode

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL
DEFAULT_MAX_TOKENS = 32
_CANCELLED = "Request cancelled by client"
_CACHE = ("kv_cache_reused_block", "kv_cache_alloc_new_blocks", "kv_cache_alloc_total_blocks",
          "kv_cache_missed_block")  # fmt: skip
_TIMES = ("arrival_time_ns", "first_scheduled_time_ns", "first_token_time_ns", "last_token_time_ns")


class TritonPythonModel:
    """The PyTorch-based model, seen from outside."""

    def initialize(self, _: dict[str, str]) -> None:
        """Nothing to load."""
        self._events = Events("tensorrt_llm")
        self._generator = Generator(self._events)

    def execute(self, requests: list[Any]) -> None:
        """Start each request, or stop one."""
        for request in requests:
            sender = request.get_response_sender()
            if one(request, "stop", False):
                found = self._generator.stop(request.request_id())
                self._events.write("stop", request.request_id(), found=found)
                _fail(sender, _CANCELLED, pb.TritonError.CANCELLED)
                continue
            try:
                job = _job(request, sender)
            except UnicodeDecodeError as error:
                _fail(sender, f"Error generating request: {error}", pb.TritonError.INTERNAL)
            else:
                self._generator.start(job)

    def finalize(self) -> None:
        """End what runs."""
        self._generator.close()


def _fail(sender: Any, message: str, code: Any) -> None:
    sender.send(pb.InferenceResponse(error=pb.TritonError(message, code)), flags=FINAL)


def _job(request: Any, sender: Any) -> Job:
    prompt = one(request, "text_input", b"").decode()
    streaming = one(request, "streaming", False)
    wants = {
        name: one(request, f"return_{name}", False) for name in ("finish_reason", "stop_reason", "cumulative_logprob")
    }
    perf = one(request, "sampling_param_return_perf_metrics", False)
    said: list[int] = []
    shown = [] if one(request, "sampling_param_exclude_input_from_output", False) else encode(prompt)

    def send(tokens: Sequence[int], finish: Finish | None, final: bool) -> None:
        if finish == "cancelled":
            _fail(sender, _CANCELLED, pb.TritonError.CANCELLED)
            return
        said.extend(tokens)
        text = decode([*shown, *said]).decode("utf-8", "ignore")
        made = [pb.Tensor("text_output", np.array([text.encode()], np.object_))]
        values = {
            "finish_reason": str(finish),
            "stop_reason": "None",
            "cumulative_logprob": str(-0.25 * len(said)),
        }
        # The stock model sends all three as strings, whatever config.pbtxt says of the last.
        made += [pb.Tensor(name, np.array([values[name].encode()], np.object_)) for name, on in wants.items() if on]
        if perf:
            made += _metrics()
        sender.send(pb.InferenceResponse(made), flags=FINAL if final else 0)

    stops = array(request, "sampling_param_stop")
    return Job(
        request_id=request.request_id(),
        plan=read_plan(prompt),
        max_tokens=one(request, "sampling_param_max_tokens", DEFAULT_MAX_TOKENS),
        streaming=streaming,
        send=send,
        end=lambda: sender.send(flags=FINAL),
        fail=lambda message: _fail(sender, f"Error generating request: {message}", pb.TritonError.INTERNAL),
        is_cancelled=sender.is_cancelled,
        stop_lists=[] if stops is None else [encode(stop.decode()) for stop in stops.reshape(-1)],
        looked_at=time.monotonic(),
    )


def _metrics() -> list[Any]:
    made = [pb.Tensor(name, np.array([1], np.int32)) for name in _CACHE]
    made += [pb.Tensor(name, np.array([time.monotonic_ns()], np.int64)) for name in _TIMES]
    made.append(pb.Tensor("kv_cache_hit_rate", np.array([0.5], np.float32)))
    made.append(pb.Tensor("acceptance_rate", np.array([0.0], np.float32)))
    made.append(pb.Tensor("total_accepted_draft_tokens", np.array([0], np.int32)))
    made.append(pb.Tensor("total_draft_tokens", np.array([0], np.int32)))
    return made
