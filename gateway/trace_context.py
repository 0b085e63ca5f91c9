"""W3C Trace Context: the caller's headers read strictly, our own ids, and what Triton is sent. Pure.

Three rules:

- A request has a trace when its caller sent a valid traceparent, or when we export spans. Otherwise it has none, and
  nothing is spent on it.
- Whether a trace is sampled is the caller's word if it has one; else it follows from the trace id and the configured
  share, so that every worker, and the exporter later, says the same.
- Triton traces every request that brings a traceparent, whatever the sampled flag in it says (2.51, tried). So only
  sampled requests bring one.
"""

from __future__ import annotations

import re
from random import Random

from gateway.journal.record import Trace

MAX_STATE = 512
"""Characters of a tracestate that are carried; W3C asks for no more. A longer one is dropped whole."""
MAX_MEMBERS = 32

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII).fullmatch
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_\-*/@]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
).fullmatch
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_RANDOM_BITS = 56
_FIRST_BIT_SET = {digit: f"{int(digit, 16) | 8:x}" for digit in "0123456789abcdef"}

Metadata = tuple[tuple[bytes, bytes], ...]


def parse_traceparent(traceparent: str) -> tuple[str, str, bool] | None:
    """Trace id, span id and the sampled flag; None for what is no valid traceparent.

    Versions above 00 are read as 00 is, and may have more after the flags.
    """
    match = _PARENT(traceparent)
    if match is None:
        return None
    version, trace, span, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None) or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    return trace, span, int(flags, 16) & 1 == 1


def parse_tracestate(tracestate: str | None) -> str:
    """The list as it is sent on, "" for one that is empty, invalid or too long."""
    if not tracestate or len(tracestate) > MAX_STATE:
        return ""
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    matches = [_MEMBER(member) for member in members]
    keys = {match[1] for match in matches if match is not None}
    if len(members) > MAX_MEMBERS or len(keys) < len(members):  # an invalid member or a repeated key
        return ""
    return ",".join(members)


def sampled(trace: Trace, share: float) -> bool:
    """The caller's word, else whether the trace id falls into `share` (0 to 1), by OpenTelemetry's rule for ids."""
    if trace.sampled is not None:
        return trace.sampled
    # The last 56 bits are the random ones; those at or above the threshold are in.
    return int(trace.trace[-_RANDOM_BITS // 4 :], 16) >= (1.0 - share) * (1 << _RANDOM_BITS)


def engine_span(span: str) -> str:
    """The id of the span that stands for the engine's part, below our own `span`.

    Derived, so that what is sent upstream needs no place in the record: our own ids begin with a 0 bit, these with 1.
    """
    return _FIRST_BIT_SET[span[0]] + span[1:]


def traceparent_of(trace: str, span: str, *, sampled: bool) -> bytes:
    """A traceparent of version 00."""
    return f"00-{trace}-{span}-{'01' if sampled else '00'}".encode()


class Tracing:
    """How a worker traces. `exports` says that spans are made of the records, `share` (0 to 1) how many of those of
    callers who don't trace."""

    __slots__ = ("_bits", "_exports", "_share")

    def __init__(self, *, exports: bool = False, share: float = 0.0, random: Random | None = None) -> None:
        self._exports = exports
        self._share = share
        self._bits = (random or Random()).getrandbits  # seeded by the system; ids need no secrecy

    def start(self, traceparent: str | None, tracestate: str | None) -> Trace | None:
        """The span that a request is, by its headers; None where nobody traces."""
        caller = parse_traceparent(traceparent) if traceparent is not None else None
        if caller is not None:
            trace, parent, flag = caller
            return Trace(trace, self._span(), parent, flag, parse_tracestate(tracestate) if tracestate else "")
        if self._exports:
            return Trace(f"{self._bits(128) or 1:032x}", self._span())
        return None

    def metadata(self, trace: Trace | None) -> Metadata:
        """What a call to Triton carries. Its parent is a span that we export, else the caller's own."""
        if trace is None or not sampled(trace, self._share):
            return ()
        span = engine_span(trace.span) if self._exports else trace.parent
        parent = (b"traceparent", traceparent_of(trace.trace, span, sampled=True))
        return (parent, (b"tracestate", trace.state.encode())) if trace.state else (parent,)

    def _span(self) -> str:
        return f"{self._bits(63) or 1:016x}"
