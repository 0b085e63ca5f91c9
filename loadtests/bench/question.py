"""What is asked and what must come back: `upstream/answer.h` in Python.

The upstreams find "[bench MODE TOKENS SERIAL]" in the prompt. The serial makes every answer of a run its own, so that
text of one reply in another is found; some tokens begin with what JSON must escape, or with a character of two bytes.
"""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["unary", "step", "burst"]

PROMPT_BYTES = 300
_FILLER = "The river gives what the gate allows, and the turbine takes what the river gives. " * 4
_BEFORE = {7: '"', 11: "é", 15: "\n"}


@dataclass(frozen=True, slots=True)
class Question:
    """`step`: a token per tick of 5 ms, all streams on one clock; `burst`: back to back; `unary`: not streamed."""

    mode: Mode
    tokens: int

    @property
    def streams(self) -> bool:
        """Whether the answer is asked for as a stream."""
        return self.mode != "unary"

    def prompt(self, serial: int) -> str:
        """300 bytes of prompt; all serials below 10 million give the same length."""
        return f"[bench {self.mode} {self.tokens} {serial:07d}] {_FILLER}"[:PROMPT_BYTES]

    def answer(self, serial: int) -> str:
        """The text that the upstream sends for that prompt."""
        return "".join([self._token(serial, index) for index in range(self.tokens)])

    def _token(self, serial: int, index: int) -> str:
        word = (serial * 2654435761 + index * 40503 & 0xFFFFFFFF) >> 12 & 0xFFFF
        return f"{_BEFORE.get(index % 16, ' ') if index else ''}w{word:04x}"
