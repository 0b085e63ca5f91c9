"""Reads the responses of one job, whatever the contract: text, finish, counts and log-probabilities.

The contracts differ in which outputs there are; a missing one is simply None. Facts that this leans on, all
of NVIDIA's models: `num_output_tokens` is per response, so it is summed; `num_input_tokens` repeats; the
finish reason of the PyTorch model is the string "None" until the end; the ensemble has none, and then the
token count tells.
"""

from __future__ import annotations

import struct

from gateway.core.answer import Finish, TokenLogprob
from gateway.core.errors import EngineError, EngineTimeout, PenstockError
from gateway.engines.base import Job, Result
from gateway.engines.contracts.text import TextSource
from gateway.engines.triton_reader import Layouts, ResponseReader
from gateway.engines.triton_response import elements, first_element

# The outputs that are looked at, in the order of ResponseReader.values.
OUTPUTS = (
    "text_output",
    "finish_reason",
    "num_input_tokens",
    "num_output_tokens",
    "output_log_probs",
    "output_tokens",
)


class AnswerReader:
    """One job's responses. `keep_text` where the gateway must count the tokens itself."""

    __slots__ = (
        "_finish",
        "_input_tokens",
        "_keep",
        "_max_tokens",
        "_output_tokens",
        "_responses",
        "_streams",
        "_text",
        "_tokens",
        "_wanted",
        "_wire",
        "ended",
        "logprobs",
    )

    def __init__(
        self, job: Job, layouts: Layouts, text: TextSource, *, max_tokens: int, streams: bool, keep_text: bool
    ) -> None:
        self._wire = ResponseReader(layouts, job.id.encode())
        self._text = text
        self._max_tokens = max_tokens
        self._streams = streams
        self._wanted = job.sampling.logprobs
        self._keep: list[str] | None = [] if keep_text else None
        self._finish: Finish | None = None
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._responses = 0  # those with text: each has at least one token
        self._tokens = 0  # of the response that was read the long way last
        self.logprobs: tuple[TokenLogprob, ...] = ()
        self.ended = False

    def __repr__(self) -> str:
        return f"<AnswerReader responses={self._responses} tokens={self._output_tokens} ended={self.ended}>"

    @property
    def answer(self) -> str:
        return "".join(self._keep or ())

    def read(self, message: bytes) -> str:
        wire = self._wire
        data = wire.read_text(message)
        if data is None or self._wanted:
            return self._read_all(message)
        self._responses += 1
        if self._tokens:
            self._output_tokens = self._tokens + (self._output_tokens or 0)
        text = self._text.push(data)
        if self._keep is not None:
            self._keep.append(text)
        return text

    def _read_all(self, message: bytes) -> str:
        wire = self._wire
        wire.read(message)
        text_raw, finish_raw, in_raw, out_raw, logprobs_raw, tokens_raw = wire.values
        text = ""
        if text_raw:
            data = first_element(text_raw)
            if data:
                self._responses += 1
                text = self._text.push(data)
        tokens = self._tokens = 0
        if out_raw:
            tokens = self._tokens = int.from_bytes(out_raw[:4], "little", signed=True)
            self._output_tokens = tokens + (self._output_tokens or 0)
        if in_raw and self._input_tokens is None:
            self._input_tokens = int.from_bytes(in_raw[:4], "little", signed=True)
        if finish_raw:
            self._note_finish(first_element(finish_raw))
        if wire.final:
            self.ended = True
            text += self._text.finish()
        if self._keep is not None:
            self._keep.append(text)
        if self._wanted:
            self.logprobs = _logprobs(text, tokens, logprobs_raw, tokens_raw) if logprobs_raw else ()
        return text

    def counts(self) -> tuple[int | None, int | None]:
        return self._input_tokens, self._output_tokens

    def result(self, counted: tuple[int, int] | None = None) -> Result:
        """`length` is inferred from the count of tokens where the model gives no reason; without counts, a
        stream of as many responses as tokens were allowed."""
        prompt, completion = self._input_tokens, self._output_tokens
        if counted is not None:
            prompt = counted[0] if prompt is None else prompt
            completion = counted[1] if completion is None else completion
        finish = self._finish
        if finish is None:
            tokens = completion if completion is not None else self._responses if self._streams else 0
            finish = "length" if tokens >= self._max_tokens else "stop"
        return Result(finish, prompt, completion)

    def _note_finish(self, reason: bytes) -> None:
        if reason == b"stop":
            self._finish = "stop"
        elif reason == b"length":
            self._finish = "length"
        elif reason in (b"timeout", b"cancelled"):
            raise _broken_off(reason)
        # "None", "" and what is not known yet say nothing


def _broken_off(reason: bytes) -> PenstockError:
    if reason == b"timeout":
        return EngineTimeout("The engine's own time limit passed before the answer was complete.")
    return EngineError("The engine broke the request off.")


def _logprobs(text: str, count: int, raw: bytes, tokens: bytes | None) -> tuple[TokenLogprob, ...]:
    """One entry per token where the model tells tokens apart (`output_tokens`), else one for the response.

    An engine may give the log-probabilities of all tokens so far; the last `count` are this response's.
    """
    size = len(raw) // 4
    values = struct.unpack_from(f"<{size}f", raw)
    if 0 < count < size:
        values = values[-count:]
    if not values:
        return ()
    if tokens is not None:
        pieces = elements(tokens)
        if len(pieces) == len(values):
            pairs = zip(pieces, values, strict=True)
            return tuple([TokenLogprob(piece.decode("utf-8", "replace"), value) for piece, value in pairs])
    return (TokenLogprob(text, sum(values)),)
