"""The bytes of HTTP/2 frames (RFC 9113, sections 4 and 6): numbers, builders, and reading of small payloads.

Why by hand: the token path sends four and reads two kinds of frame, millions of times; a library's frame
object costs more than the rest of a call. The rules of the file: it keeps no state, it does no I/O, and a
payload that breaks the RFC becomes a `ProtocolError`, which names the HTTP/2 error code to answer with.
"""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

ERROR_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

LARGEST = 2**31 - 1  # of windows and of stream ids
DEFAULT_WINDOW = 65535
DEFAULT_FRAME = 16384  # octets of payload; what we accept, and what every peer must accept
SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"

_U32 = struct.Struct(">L")
_SETTING = struct.Struct(">HL")


class ProtocolError(Exception):
    """The peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def error_name(code: int) -> str:
    """The RFC's name of an HTTP/2 error code, for details and logs."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"error {code:#x}"


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One whole frame."""
    return b"".join((len(payload).to_bytes(3, "big"), bytes((kind, flags)), stream_id.to_bytes(4, "big"), payload))


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def rst_stream(stream_id: int, code: int) -> bytes:
    return b"\x00\x00\x04\x03\x00" + stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")


def window_update(stream_id: int, octets: int) -> bytes:
    return b"\x00\x00\x04\x08\x00" + stream_id.to_bytes(4, "big") + octets.to_bytes(4, "big")


def ping(payload: bytes, flags: int = 0) -> bytes:
    return frame(PING, flags, 0, payload)


def goaway(last_stream_id: int, code: int, detail: str) -> bytes:
    return frame(GOAWAY, 0, 0, _U32.pack(last_stream_id) + _U32.pack(code) + detail.encode()[:128])


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """The (identifier, value) pairs of a SETTINGS payload, each checked as section 6.5.2 wants it."""
    if len(payload) % 6:
        raise ProtocolError(FRAME_SIZE_ERROR, "SETTINGS of a broken length")
    pairs: list[tuple[int, int]] = list(_SETTING.iter_unpack(payload))
    for key, value in pairs:
        if key == INITIAL_WINDOW_SIZE and value > LARGEST:
            raise ProtocolError(FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value} is too large")
        if key == MAX_FRAME_SIZE and not DEFAULT_FRAME <= value < 2**24:
            raise ProtocolError(PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value} is out of range")
        if key == ENABLE_PUSH and value:
            raise ProtocolError(PROTOCOL_ERROR, "a server may not enable push")
    return pairs


def read_u32(payload: bytes, what: str) -> int:
    """A payload that is one 32-bit number: an error code or a window increment."""
    if len(payload) != 4:
        raise ProtocolError(FRAME_SIZE_ERROR, f"{what} of {len(payload)} octets")
    return int.from_bytes(payload, "big")


def read_goaway(payload: bytes) -> tuple[int, int, str]:
    """(last stream id, error code, debug text of at most 256 characters)"""
    if len(payload) < 8:
        raise ProtocolError(FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} octets")
    last, code = _U32.unpack_from(payload)[0] & LARGEST, _U32.unpack_from(payload, 4)[0]
    return last, code, payload[8:264].decode("utf-8", "replace")


def strip_padding(payload: bytes) -> bytes:
    """The payload of a PADDED frame without its pad length octet and its padding."""
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
