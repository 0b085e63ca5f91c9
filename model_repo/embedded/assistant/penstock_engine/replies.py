"""How the loop talks to whoever asked, without knowing that it is Triton."""

from __future__ import annotations

from typing import Literal, Protocol

from penstock_engine.sequence import Delta, Sequence

FailureKind = Literal["invalid", "unavailable", "internal"]


class Reply(Protocol):
    """Where the answer to one request goes. After `finish` or `fail`, call nothing."""

    @property
    def request_id(self) -> str:
        """The client's id for the request; may be empty."""

    def send(self, delta: Delta, sequence: Sequence) -> None:
        """Send a part of the answer."""

    def finish(self, delta: Delta, sequence: Sequence) -> None:
        """Send the rest of the answer, which names the reason why it ended."""

    def fail(self, message: str, kind: FailureKind) -> None:
        """End with an error; the message is for the client."""

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
