"""One generation of a request: hears the engine, enforces stop strings, tells the inference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.core.answer import Finish, TokenLogprob
from gateway.core.errors import PenstockError
from gateway.core.stop import StopScanner
from gateway.engines.base import Call, Result

if TYPE_CHECKING:
    from gateway.inference import Inference


class Choice:
    """The engine's receiver of one call. `texts` is what was sent to the client, for the record."""

    __slots__ = (
        "_done",
        "_inference",
        "_result",
        "_scanner",
        "_uncovered",
        "_withheld",
        "call",
        "finish",
        "first_turn",
        "index",
        "texts",
    )

    def __init__(self, inference: Inference, index: int, first_turn: bool, stops: tuple[str, ...]) -> None:
        self._inference = inference
        self._scanner = StopScanner(stops) if stops else None
        self._withheld: list[TokenLogprob] = []
        self._uncovered = 0  # characters that were shown and whose log-probabilities were not yet
        self._result: Result | None = None
        self._done = False
        self.index = index
        self.first_turn = first_turn
        self.call: Call | None = None
        self.texts: list[str] = []
        self.finish = ""

    def on_chunk(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        try:
            if self._scanner is None:
                self._inference.chunk(self, text, logprobs)
            else:
                self._scan(self._scanner, text, logprobs)
        except Exception as cause:
            self._inference.defect(cause)

    def on_finish(self, result: Result) -> None:
        self._result = result
        try:
            if self._scanner is not None:
                held = self._scanner.finish()
                if held or self._withheld:
                    self._inference.chunk(self, held, tuple(self._withheld))
            self._finish(result.finish)
        except Exception as cause:
            self._inference.defect(cause)

    def on_error(self, error: PenstockError) -> None:
        if not self._done:
            self._done = True
            try:
                self._inference.failed(error)
            except Exception as cause:
                self._inference.defect(cause)

    def _scan(self, scanner: StopScanner, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        text = scanner.push(text)
        self._inference.chunk(self, text, self._logprobs_of(text, logprobs))
        if scanner.stopped:
            # The engine missed it, or is about to stop by itself; either way no more of its text is wanted.
            self._withheld.clear()
            if self.call is not None:
                self.call.cancel()
            self._finish("stop")

    def _logprobs_of(self, shown: str, logprobs: tuple[TokenLogprob, ...]) -> tuple[TokenLogprob, ...]:
        # A token's entry goes out with the last character of its text: it must not tell what is held back or cut.
        self._uncovered += len(shown)
        self._withheld += logprobs
        count = 0
        for entry in self._withheld:
            if len(entry.token) > self._uncovered:
                break
            self._uncovered -= len(entry.token)
            count += 1
        released = tuple(self._withheld[:count])
        del self._withheld[:count]
        return released

    def _finish(self, finish: Finish) -> None:
        if not self._done:
            self._done = True
            self._inference.finished(self.index, finish)

    def cancel(self) -> None:
        if not self._done:
            self._done = True
            if self.call is not None:
                self.call.cancel()

    def counts(self) -> tuple[int | None, int | None]:
        if self._result is not None:
            return self._result.prompt_tokens, self._result.completion_tokens
        return self.call.counts() if self.call is not None else (None, None)
