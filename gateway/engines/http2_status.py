"""How an HTTP/2 gRPC call ended, as a gRPC status code and a detail in words.

The tables are gRPC's own: "HTTP2 Transport Mapping" in PROTOCOL-HTTP2.md for RST_STREAM codes, and
http-grpc-status-mapping.md for answers that came from a proxy and not from gRPC. `grpc-status` wins over
`:status` wherever both are there. Pure functions; nothing here raises.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from gateway.engines.http2_frames import error_name

OK, CANCELLED, UNKNOWN, DEADLINE_EXCEEDED = 0, 1, 2, 4
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 7, 8, 12
INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 13, 14, 16

_OF_RESET = {0x7: UNAVAILABLE, 0x8: CANCELLED, 0xB: RESOURCE_EXHAUSTED, 0xC: PERMISSION_DENIED}
_OF_HTTP = {
    400: INTERNAL, 401: UNAUTHENTICATED, 403: PERMISSION_DENIED, 404: UNIMPLEMENTED,
    429: UNAVAILABLE, 502: UNAVAILABLE, 503: UNAVAILABLE, 504: UNAVAILABLE,
}  # fmt: skip


class Ending(NamedTuple):
    """What a call's receiver is told at its end."""

    status: int
    detail: str


class Answer(NamedTuple):
    """What one header block means, worked out once and cached with the block's bytes."""

    informational: bool  # 1xx: skip it
    refusal: Ending | None  # as response headers: None if gRPC messages may follow
    ending: Ending  # as the block that ends the stream


def of_reset(code: int) -> Ending:
    """RST_STREAM with this HTTP/2 error code."""
    if code == 0x7:
        return Ending(UNAVAILABLE, "the replica refused the stream and did not process it (REFUSED_STREAM)")
    return Ending(_OF_RESET.get(code, INTERNAL), f"the replica reset the stream: {error_name(code)}")


def of_headers(fields: list[tuple[bytes, bytes]]) -> Answer:
    """Reads one decoded header list, whichever of the two blocks of a response it is."""
    http = grpc = message = content_type = b""
    for name, value in fields:
        if name == b":status":
            http = value
        elif name == b"grpc-status":
            grpc = value
        elif name == b"grpc-message":
            message = value
        elif name == b"content-type":
            content_type = value
    return Answer(
        informational=len(http) == 3 and http[:1] == b"1",
        refusal=_refusal(http, content_type, grpc, message),
        ending=_ending(http, grpc, message),
    )


def _ending(http: bytes, grpc: bytes, message: bytes) -> Ending:
    if grpc:
        detail = unquote_to_bytes(message).decode("utf-8", "replace")
        if grpc.isdigit() and len(grpc) <= 2 and int(grpc) <= UNAUTHENTICATED:
            return Ending(int(grpc), detail)
        return Ending(UNKNOWN, f"grpc-status {_show(grpc)} is not a gRPC status: {detail}")
    if http and http != b"200":
        return _of_http(http)
    return Ending(UNKNOWN, "the replica ended the call without a grpc-status")


def _refusal(http: bytes, content_type: bytes, grpc: bytes, message: bytes) -> Ending | None:
    if not http:
        return Ending(INTERNAL, "response headers without :status")
    if http != b"200":
        return _ending(http, grpc, message) if grpc else _of_http(http)
    if content_type and not content_type.startswith(b"application/grpc"):
        return Ending(UNKNOWN, f"the answer is not gRPC: content-type {_show(content_type)}")
    return None


def _of_http(http: bytes) -> Ending:
    code = int(http) if http.isdigit() and len(http) == 3 else 0
    return Ending(_OF_HTTP.get(code, UNKNOWN), f"the replica answered with HTTP status {_show(http)}")


def _show(value: bytes) -> str:
    return value[:64].decode("ascii", "backslashreplace")
