"""One request's answer in the making: tokens in, text out.

Puts detokenizer, stop words and counts together, and keeps what has not been sent yet. A `Delta` is
what one response carries. Pure: the loop feeds it, `responses` turns its deltas into tensors.

A token counts as generated when it carries the answer: the end-of-text token doesn't. With stop
words, tokens count up to the one that completed the stop word, though the text ends before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from penstock_engine.admission import Prompt
from penstock_engine.detokenize import Detokenizer
from penstock_engine.stopping import StopMatcher

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Delta:
    """What one response carries; counts and log-probabilities are of this response alone."""

    text: str
    tokens: int
    log_probs: tuple[float, ...]
    token_bytes: tuple[bytes, ...]
    total_log_prob: float
    finish: Finish | None = None


class Sequence:
    """The answer to one prompt.

    Attributes:
        input_tokens: of the prompt.
        output_tokens: generated so far.
        finish: why it ended, None while it goes on.
    """

    def __init__(
        self,
        prompt: Prompt,
        input_tokens: int,
        eos_ids: frozenset[int],
        detokenizer: Detokenizer,
        token_bytes: Callable[[int], bytes],
    ) -> None:
        self.prompt = prompt
        self.input_tokens = input_tokens
        self.output_tokens = 0
        self.finish: Finish | None = None
        self.eos_ids = eos_ids
        self._detokenizer = detokenizer
        self._token_bytes = token_bytes
        self._stops = StopMatcher(prompt.stop_words)
        self._text = [prompt.text] if prompt.echo else []
        self._tokens = 0
        self._log_probs: list[float] = []
        self._bytes: list[bytes] = []
        self._total_log_prob = 0.0

    def __repr__(self) -> str:
        return f"Sequence({self.input_tokens} in, {self.output_tokens} out, {self.finish})"

    def feed(self, tokens: Iterable[int], log_probs: Iterable[float]) -> None:
        """Take new tokens. Sets `finish` to "stop" when a stop word is complete."""
        for token, log_prob in zip(tokens, log_probs, strict=True):
            if self.finish is not None or token in self.eos_ids:
                return
            self.output_tokens += 1
            self._tokens += 1
            if self.prompt.log_probs:
                self._log_probs.append(log_prob)
                self._bytes.append(self._token_bytes(token))
                self._total_log_prob += log_prob
            text = self._detokenizer.push(token)
            if not text:
                continue
            if self.output_tokens >= self.prompt.min_tokens:
                text, stopped = self._stops.push(text)
                if stopped:
                    self.finish = "stop"
            if text:
                self._text.append(text)

    def end(self, finish: Finish) -> None:
        """The engine is done with it. Text held back for a stop word that never came is let go."""
        if self.finish is None:
            self.finish = finish
            self._text.append(self._stops.flush())

    @property
    def is_due(self) -> bool:
        """Whether it streams and has generated text that has not been sent."""
        return self.prompt.stream and bool(self._text) and self.output_tokens > 0

    def take(self) -> Delta:
        """Everything since the last delta."""
        delta = Delta(
            text="".join(self._text),
            tokens=self._tokens,
            log_probs=tuple(self._log_probs),
            token_bytes=tuple(self._bytes),
            total_log_prob=self._total_log_prob,
            finish=self.finish,
        )
        self._text, self._tokens, self._log_probs, self._bytes = [], 0, [], []
        return delta
