"""What a broken or hostile replica may send: each ends its call or the connection, and nothing else happens.

No exception leaves `receive`, no memory grows with what the peer sends, and a receiver hears its end once.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.engines import http2_frames as wire
from gateway.engines.http2 import Connection, Method

METHOD = Method("/p.S/M")
GREETING = wire.settings({}) + wire.SETTINGS_ACK
EMPTIED = b"\x20"  # HPACK: the dynamic table is now of size 0
OK_BLOCK = EMPTIED + b"\x88"  # :status 200, of the static table
ANSWER = wire.frame(wire.HEADERS, wire.END_HEADERS, 1, OK_BLOCK)


class Ears:
    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.ends: list[tuple[int, str]] = []

    def on_message(self, message: bytes) -> None:
        assert not self.ends, "a message after the end"
        self.messages.append(message)

    def on_close(self, status: int, detail: str) -> None:
        assert not self.ends, "a second end"
        self.ends.append((status, detail))


def call(greeting: bytes = GREETING, *, max_message: int = 1 << 20, prompt: bytes = b"q") -> tuple[Connection, Ears]:
    """A connection with one call in flight, and that call's ears."""
    connection, ears = Connection(b"x:1", max_message=max_message), Ears()
    connection.initiate()
    connection.receive(greeting)
    connection.open(METHOD, prompt, ears)
    connection.data_to_send()
    return connection, ears


def frames_in(octets: bytes) -> list[tuple[int, int, bytes]]:
    """(type, stream id, payload) of each frame sent."""
    found = []
    while octets:
        size = int.from_bytes(octets[:3], "big")
        found.append((octets[3], int.from_bytes(octets[5:9], "big"), octets[9 : 9 + size]))
        octets = octets[9 + size :]
    return found


def data(payload: bytes, *, flags: int = 0, stream: int = 1) -> bytes:
    return wire.frame(wire.DATA, flags, stream, payload)


def headers(block: bytes, *, flags: int = wire.END_HEADERS, stream: int = 1) -> bytes:
    return wire.frame(wire.HEADERS, flags, stream, block)


BREACHES = {
    "data on stream 0": (data(b"x", stream=0), wire.PROTOCOL_ERROR),
    "data on a stream never opened": (data(b"x", stream=3), wire.PROTOCOL_ERROR),
    "data on a stream of the server's": (data(b"x", stream=2), wire.PROTOCOL_ERROR),
    "data with more padding than frame": (data(b"\x05abcd", flags=wire.PADDED), wire.PROTOCOL_ERROR),
    "padded data without a pad length": (data(b"", flags=wire.PADDED), wire.PROTOCOL_ERROR),
    "headers on stream 0": (headers(OK_BLOCK, stream=0), wire.PROTOCOL_ERROR),
    "headers on a stream never opened": (headers(OK_BLOCK, stream=9), wire.PROTOCOL_ERROR),
    "a block begun on a stream never opened": (headers(b"", flags=0, stream=9), wire.PROTOCOL_ERROR),
    "headers with half a priority": (headers(b"\x00" * 3, flags=wire.PRIORITISED | 4), wire.FRAME_SIZE_ERROR),
    "headers padded beyond their end": (headers(b"\xff", flags=wire.PADDED | 4), wire.PROTOCOL_ERROR),
    "an index beyond the tables": (headers(EMPTIED + b"\xff\x80\x01"), wire.COMPRESSION_ERROR),
    "an index of 0": (headers(EMPTIED + b"\x80"), wire.COMPRESSION_ERROR),
    "a literal cut short": (headers(EMPTIED + b"\x00\x05abc"), wire.COMPRESSION_ERROR),
    "an integer without end": (headers(EMPTIED + b"\x7f" + b"\xff" * 5000), wire.COMPRESSION_ERROR),
    "a Huffman code that is none": (headers(EMPTIED + b"\x00\x84" + b"\xff" * 4), wire.COMPRESSION_ERROR),
    "a table larger than we allow": (headers(b"\x3f\xe1\x1f\x88"), wire.COMPRESSION_ERROR),
    "a table not shrunk after the acknowledgement": (headers(b"\x88"), wire.COMPRESSION_ERROR),
    "continuation of nothing": (wire.frame(wire.CONTINUATION, 4, 1, b""), wire.PROTOCOL_ERROR),
    "continuation of another stream": (
        headers(b"", flags=0) + wire.frame(wire.CONTINUATION, 4, 3, b""),
        wire.PROTOCOL_ERROR,
    ),
    "data in the middle of a header block": (headers(b"", flags=0) + data(b"x"), wire.PROTOCOL_ERROR),
    "an unknown frame in the middle of a header block": (
        headers(b"", flags=0) + wire.frame(0xEE, 0, 0, b""),
        wire.PROTOCOL_ERROR,
    ),
    "a frame that is too large": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", wire.FRAME_SIZE_ERROR),
    "a huge frame that has not even come": (b"\xff\xff\xff\xee\x00\x00\x00\x00\x01", wire.FRAME_SIZE_ERROR),
    "settings of a broken length": (wire.frame(wire.SETTINGS, 0, 0, b"12345"), wire.FRAME_SIZE_ERROR),
    "settings on a stream": (wire.frame(wire.SETTINGS, 0, 1, b""), wire.PROTOCOL_ERROR),
    "an acknowledgement with a payload": (wire.frame(wire.SETTINGS, 1, 0, bytes(6)), wire.FRAME_SIZE_ERROR),
    "a window of 2**31": (wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31}), wire.FLOW_CONTROL_ERROR),
    "a frame size of 16383": (wire.settings({wire.MAX_FRAME_SIZE: 16383}), wire.PROTOCOL_ERROR),
    "a frame size of 2**24": (wire.settings({wire.MAX_FRAME_SIZE: 2**24}), wire.PROTOCOL_ERROR),
    "a server that enables push": (wire.settings({wire.ENABLE_PUSH: 1}), wire.PROTOCOL_ERROR),
    "an initial window that lifts a stream's too far": (
        wire.window_update(1, 2**31 - 1 - 65535) + wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31 - 1}),
        wire.FLOW_CONTROL_ERROR,
    ),
    "the connection's window beyond 2**31-1": (wire.window_update(0, 2**31 - 1) * 2, wire.FLOW_CONTROL_ERROR),
    "a window update of 0": (wire.window_update(0, 0), wire.PROTOCOL_ERROR),
    "a window update of 3 octets": (wire.frame(wire.WINDOW_UPDATE, 0, 0, b"123"), wire.FRAME_SIZE_ERROR),
    "a window update of a stream never opened": (wire.window_update(5, 1), wire.PROTOCOL_ERROR),
    "push": (wire.frame(wire.PUSH_PROMISE, 4, 1, b"\x00\x00\x00\x02" + OK_BLOCK), wire.PROTOCOL_ERROR),
    "ping on a stream": (wire.frame(wire.PING, 0, 1, bytes(8)), wire.PROTOCOL_ERROR),
    "ping of 7 octets": (wire.frame(wire.PING, 0, 0, bytes(7)), wire.FRAME_SIZE_ERROR),
    "goaway on a stream": (wire.frame(wire.GOAWAY, 0, 1, bytes(8)), wire.PROTOCOL_ERROR),
    "goaway of 7 octets": (wire.frame(wire.GOAWAY, 0, 0, bytes(7)), wire.FRAME_SIZE_ERROR),
    "a reset of 5 octets": (wire.frame(wire.RST_STREAM, 0, 1, bytes(5)), wire.FRAME_SIZE_ERROR),
    "a reset of stream 0": (wire.rst_stream(0, 8), wire.PROTOCOL_ERROR),
    "a reset of a stream never opened": (wire.rst_stream(7, 8), wire.PROTOCOL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize(("octets", "code"), BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_of_the_protocol_ends_the_connection(octets: bytes, code: int) -> None:
    connection, ears = call()
    connection.receive(octets)
    assert connection.closed
    assert not connection.available
    assert connection.in_flight == 0
    assert wire.error_name(code) in connection.error
    [(status, detail)] = ears.ends
    assert status == 14  # nothing had been answered: another replica may be asked
    assert wire.error_name(code) in detail
    kind, stream, payload = frames_in(connection.data_to_send())[-1]
    assert (kind, stream, int.from_bytes(payload[4:8], "big")) == (wire.GOAWAY, 0, code)
    connection.receive(octets)
    assert connection.data_to_send() == b""


def test_a_breach_after_the_answer_has_begun_is_internal() -> None:
    connection, ears = call()
    connection.receive(ANSWER + data(b"\x00\x00\x00\x00\x01a") + data(b"x", stream=0))
    assert ears.messages == [b"a"]
    assert [status for status, _ in ears.ends] == [13]
    assert connection.closed


def test_a_whole_message_in_the_middle_of_a_header_block_is_a_breach_too() -> None:
    connection, ears = call()
    connection.receive(ANSWER + headers(b"", flags=0) + data(b"\x00\x00\x00\x00\x01a"))
    assert connection.closed
    assert ears.messages == []


STREAM_BREACHES = {
    "data before headers": (data(b"\x00\x00\x00\x00\x00"), 13),
    "headers without :status": (headers(EMPTIED + b"\x00\x01a\x01b"), 13),
    "trailers that don't end the stream": (ANSWER + headers(b"\x88"), 13),
    "a compressed message": (ANSWER + data(b"\x01\x00\x00\x00\x01a"), 13),
    "a compression flag of 255": (ANSWER + data(b"\xff\x00\x00\x00\x01a"), 13),
    "a message one octet too long": (ANSWER + data(b"\x00\x00\x10\x00\x01"), 8),
    "a message of 4 GiB": (ANSWER + data(b"\x00\xff\xff\xff\xffabc"), 8),
    "a stream's window beyond 2**31-1": (wire.window_update(1, 2**31 - 1), 13),
    "a stream's window update of 0": (wire.window_update(1, 0), 13),
}


@pytest.mark.parametrize(("octets", "status"), STREAM_BREACHES.values(), ids=STREAM_BREACHES.keys())
def test_a_breach_within_a_stream_ends_that_call_only(octets: bytes, status: int) -> None:
    connection, ears = call()
    other = Ears()
    connection.open(METHOD, b"q", other)
    connection.data_to_send()
    connection.receive(octets)
    assert [end[0] for end in ears.ends] == [status]
    assert other.ends == []
    assert not connection.closed
    resets = [stream for kind, stream, _ in frames_in(connection.data_to_send()) if kind == wire.RST_STREAM]
    assert resets == [1]
    connection.receive(octets.replace(ANSWER, b"") + data(b"what was still under way"))
    assert not connection.closed


def test_a_message_of_the_limit_passes_and_one_more_octet_does_not() -> None:
    for size, heard in ((100, ([bytes(100)], [])), (101, ([], [8]))):
        connection, ears = call(max_message=100)
        connection.receive(ANSWER + data(b"\x00" + size.to_bytes(4, "big") + bytes(size)))
        assert (ears.messages, [status for status, _ in ears.ends]) == heard


def test_an_end_in_the_middle_of_a_message_is_internal_even_with_status_0() -> None:
    trailers = headers(b"\x00\x0bgrpc-status\x010", flags=wire.END_HEADERS | wire.END_STREAM)
    connection, ears = call()
    connection.receive(ANSWER + data(b"\x00\x00\x00\x00\x09abc") + trailers)
    assert [status for status, _ in ears.ends] == [13]
    assert ears.messages == []


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        wire.PREFACE,
        data(b"x"),
        wire.SETTINGS_ACK,
        wire.ping(bytes(8)),
        b"\x15\x03\x01\x00\x02\x02\x50\x00\x00\x00",  # a TLS alert
    ],
)
def test_a_peer_that_does_not_speak_http2(octets: bytes) -> None:
    connection, ears = call(greeting=b"")
    connection.receive(octets)
    assert connection.closed
    assert not connection.greeted
    assert [status for status, _ in ears.ends] == [14]
    assert "no HTTP/2 here" in connection.error


def test_half_a_frame_waits_for_the_other_half() -> None:
    connection, ears = call()
    octets = ANSWER + data(b"\x00\x00\x00\x00\x01a")
    for i in range(len(octets)):
        assert ears.messages == []
        connection.receive(octets[i : i + 1])
    assert ears.messages == [b"a"]


# ---------------------------------------------------------------------- floods: memory stays bounded


@pytest.mark.parametrize(
    "octets",
    [
        wire.ping(bytes(8)),
        wire.settings({wire.INITIAL_WINDOW_SIZE: 0}),
        headers(b"", flags=0) + wire.frame(wire.CONTINUATION, 0, 1, b"") * 100,
        headers(b"", flags=0) + wire.frame(wire.CONTINUATION, 0, 1, bytes(16384)) * 3,
    ],
    ids=["pings", "settings", "empty continuations", "long continuations"],
)
def test_a_flood_ends_the_connection(octets: bytes) -> None:
    connection, ears = call()
    flood = octets * max(1, 300_000 // len(octets))
    connection.receive(flood)
    assert connection.closed
    assert "ENHANCE_YOUR_CALM" in connection.error
    assert [status for status, _ in ears.ends] == [14]
    assert connection.unsent < 30_000


def test_pings_that_are_answered_in_time_are_no_flood() -> None:
    connection, ears = call()
    for _ in range(5000):
        connection.receive(wire.ping(bytes(8)))
        assert connection.data_to_send() == wire.ping(bytes(8), wire.ACK)
    assert ears.ends == []


@pytest.mark.parametrize(
    "octets",
    [
        wire.frame(wire.PRIORITY, 0, 1, bytes(5)),
        wire.frame(0x77, 0, 0, bytes(100)),
        wire.rst_stream(1, 8),
        wire.window_update(1, 1),
        wire.window_update(0, 1),
        data(b""),
        data(b"\x00\x00\x00\x00\x00" * 3),
        ANSWER + data(b"\x00\x00\x0f\xff\xff"),
        headers(EMPTIED + b"\x8a", flags=wire.END_HEADERS),
        wire.goaway(1, 0, "x" * 100),
        headers(b"\x88" + b"\x00\x01x\x7f\x80\x01" + b"y" * 255, flags=wire.END_HEADERS | wire.END_STREAM),
        wire.ping(b"unasked!", wire.ACK),
    ],
)
def test_a_flood_of_anything_else_leaves_nothing_behind(octets: bytes) -> None:
    connection, _ = call()
    connection.receive(octets)
    connection.data_to_send()
    tracemalloc.start()
    try:
        for _ in range(3000):
            connection.receive(octets)
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 64 * 1024
    assert connection.unsent < 1024


def test_a_header_bomb_is_defused() -> None:
    """4,000 octets in the table, then 16,000 references to them: 64 MB if it went off. Before the peer has
    acknowledged our table size of 0 it may use its table."""
    connection, ears = call(greeting=wire.settings({}))
    bomb = b"\x40\x01a\x7f" + b"\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    tracemalloc.start()
    try:
        connection.receive(headers(bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert connection.closed
    assert "COMPRESSION_ERROR" in connection.error
    assert [status for status, _ in ears.ends] == [14]
    assert peak < 1 << 20


def test_a_message_that_is_announced_but_never_comes_holds_what_came_only() -> None:
    connection, ears = call(max_message=1 << 30)
    tracemalloc.start()
    try:
        connection.receive(ANSWER + data(b"\x00\x3f\xff\xff\xff" + bytes(1000)))
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ears.ends == []
    assert current < 32 * 1024


def test_many_different_headers_fill_no_cache_without_end() -> None:
    connection, _ = call()
    connection.receive(ANSWER)
    for i in range(3000):
        block = b"\x88" + b"\x00\x01n\x08%08d" % i
        connection.open(METHOD, b"", Ears())
        connection.receive(headers(block, stream=3 + 2 * i) + wire.rst_stream(3 + 2 * i, 8))
        connection.data_to_send()
    assert len(connection._headers._cache) == 64
    assert not connection.closed


# ---------------------------------------------------------------------- anything at all

KINDS = st.integers(0, 12)
FRAMES = st.builds(
    lambda kind, flags, stream, payload: wire.frame(kind, flags, stream, payload),
    KINDS,
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 0x20, 0x24, 0x2C, 0xFF]),
    st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 2**31 - 1]),
    st.binary(max_size=40)
    | st.sampled_from([bytes(4), bytes(8), OK_BLOCK, b"\x88", b"\x00\x0bgrpc-status\x010", b"\x00\x00\x00\x00\x01a"])
    | st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "big")),
)
OCTETS = st.lists(FRAMES | st.just(ANSWER) | st.binary(max_size=30), max_size=12).map(b"".join)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([b"", GREETING, GREETING + ANSWER]), OCTETS, st.integers(1, 50), st.booleans())
def test_any_octets_do_no_harm(greeting: bytes, octets: bytes, step: int, take: bool) -> None:
    connection = Connection(b"x:1", max_message=1000)
    connection.initiate()
    connection.receive(greeting[: len(GREETING)])
    ears = [Ears() for _ in range(3)]
    for ear in ears:
        connection.open(METHOD, b"q" * 30_000, ear)
    connection.receive(greeting[len(GREETING) :])
    for start in range(0, len(octets), step):
        connection.receive(octets[start : start + step])
        if take:
            connection.data_to_send()
    assert connection.in_flight == sum(not ear.ends for ear in ears)
    if connection.closed:
        assert connection.in_flight == 0
        assert not connection.available
    connection.fail(14, "over")
    assert all(len(ear.ends) == 1 and 0 <= ear.ends[0][0] <= 16 for ear in ears)
    assert connection.unsent < 200_000
