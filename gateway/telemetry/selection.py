"""Which records become spans: errors, slow ones, those whose caller samples, and a share of the rest. Pure."""

from __future__ import annotations

from msgspec import Struct

from gateway.journal.record import Outcome, Trace
from gateway.trace_context import sampled


class Glance(Struct, frozen=True, gc=False):
    """As much of a record as the choice needs: most records are not kept, so they are not read in full."""

    id: str
    at: int
    outcome: Outcome
    ended: int = 0
    trace: Trace | None = None


def is_error(outcome: Outcome) -> bool:
    """Whether it ended badly on our side or the engine's. A request at fault, or called off, is no error of ours."""
    return outcome in ("failed", "shed")


class Selection(Struct, frozen=True):
    """`share` is in 0 to 1, `slow_s` in seconds."""

    share: float
    slow_s: float

    def keeps(self, record: Glance) -> bool:
        """Whether it is exported; one without a trace never is, since nothing links it to a request."""
        trace = record.trace
        if trace is None:
            return False
        return is_error(record.outcome) or record.ended >= self.slow_s * 1_000_000_000 or sampled(trace, self.share)
