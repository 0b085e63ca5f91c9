"""The stock BLS with accumulate_tokens: every response has the whole text so far, the final flag comes alone.

As in the stock model: one request at a time per instance; nobody looks for a cancel, and `stop` with the
client's request id finds nothing, because the inner request has an id of its own; errors are tracebacks.
Seen from outside that is all there is, so nothing is called: Triton 2.51 hangs in an inner request that fails.
"""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from imitations.events import Events
from imitations.generator import Finish, Generator, Job
from imitations.plan import read_plan
from imitations.reading import array, one
from imitations.tensorrt_llm import response_tensors
from imitations.tokens import decode, encode

FINAL = pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Serves one request after the other."""

    def initialize(self, _: dict[str, str]) -> None:
        """Nothing to load."""
        self._generator = Generator(Events("tensorrt_llm_bls"))

    def execute(self, requests: list[Any]) -> None:
        """Returns when all of them are answered."""
        for request in requests:
            sender = request.get_response_sender()
            ended = threading.Event()
            try:
                job = _job(request, sender, ended)
            except UnicodeDecodeError:
                sender.send(pb.InferenceResponse(error=pb.TritonError(traceback.format_exc())))
                sender.send(flags=FINAL)
            else:
                self._generator.start(job)
                ended.wait()

    def finalize(self) -> None:
        """End what runs."""
        self._generator.close()


def _job(request: Any, sender: Any, ended: threading.Event) -> Job:
    prompt = one(request, "text_input", b"").decode()
    said = [] if one(request, "exclude_input_in_output", False) else encode(prompt)
    size = len(encode(prompt))
    stops = array(request, "stop_words")
    total = 0

    def send(tokens: Sequence[int], _: Finish | None, final: bool) -> None:
        nonlocal total
        total += len(tokens)
        said.extend(tokens)
        text = pb.Tensor("text_output", np.array([decode(said)], np.object_))
        sender.send(pb.InferenceResponse([text, *response_tensors(len(tokens), total, size)]))
        if final:
            end()

    def end() -> None:
        sender.send(flags=FINAL)
        ended.set()

    def fail(message: str) -> None:
        try:
            raise pb.TritonModelException(message)
        except pb.TritonModelException:
            sender.send(pb.InferenceResponse(error=pb.TritonError(traceback.format_exc())))
        end()

    return Job(
        request_id=str(uuid.uuid4()),
        plan=read_plan(prompt),
        max_tokens=one(request, "max_tokens", 0),
        streaming=one(request, "stream", False),
        send=send,
        end=end,
        fail=fail,
        is_cancelled=lambda: False,
        stop_lists=[] if stops is None else [encode(stop.decode()) for stop in stops.reshape(-1) if stop],
    )
