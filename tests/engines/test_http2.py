"""The HTTP/2 core against `h2`, an independent implementation, on the server's side. No sockets.

h2 checks what we send as a server would (it raises on a breach of the protocol or of flow control), and what
it sends is its own idea of HTTP/2. Where h2 won't produce a frame, the frame is written out by hand.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.engines import http2_frames as wire
from gateway.engines.http2 import Connection, ConnectionUnusable, Method

METHOD = Method("/inference.GRPCInferenceService/ModelInfer")
OK_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
Codes = h2.settings.SettingCodes


class Ears:
    """Keeps what a call heard; `then` is called after each event."""

    def __init__(self, then: Callable[[str], None] = lambda _: None) -> None:
        self.messages: list[bytes] = []
        self.ends: list[tuple[int, str]] = []
        self.then = then

    def on_message(self, message: bytes) -> None:
        assert not self.ends, "a message after the end"
        self.messages.append(message)
        self.then("message")

    def on_close(self, status: int, detail: str) -> None:
        self.ends.append((status, detail))
        self.then("close")

    @property
    def status(self) -> int | None:
        assert len(self.ends) < 2, "more than one end"
        return self.ends[0][0] if self.ends else None


class Server:
    """h2 as a gRPC server without a socket, joined to a Connection."""

    def __init__(self, **first_settings: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values={Codes[key.upper()]: value for key, value in first_settings.items()}
        )
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.credit = True  # give back the window for what was read
        self.client = Connection(b"replica:8001")
        self.client.initiate()
        self.run()

    def run(self, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
        """Passes octets to and fro until nobody has any."""
        while True:
            up, down = self.client.data_to_send(), self.h2.data_to_send()
            if not up and not down:
                return
            for event in self.h2.receive_data(up):
                self._note(event)
            for piece in cut(down):
                self.client.receive(piece)

    def _note(self, event: h2.events.Event) -> None:
        self.events.append(event)
        if isinstance(event, h2.events.DataReceived):
            assert event.data is not None
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            if self.credit:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def headers(self, stream: int) -> None:
        self.h2.send_headers(stream, OK_HEADERS)

    def trailers(self, stream: int, status: int = 0, detail: str = "") -> None:
        self.h2.send_headers(stream, [(b"grpc-status", b"%d" % status), (b"grpc-message", detail)], end_stream=True)

    def raw(self, data: bytes) -> None:
        """Octets from the server that h2 knows nothing of."""
        self.client.receive(data)


def prefixed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message


# ---------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("timeout", "sent"),
    [
        (None, None),
        (0.0000001, b"1u"),
        (-3.0, b"1u"),
        (0.25, b"250000u"),
        (60.0, b"60000000u"),
        (99.9999995, b"100000m"),
        (3600.0, b"3600000m"),
        (1e6, b"1000000S"),
        (1e12, b"99999999S"),
    ],
)
def test_the_request_as_a_server_reads_it(timeout: float | None, sent: bytes | None) -> None:
    server = Server()
    server.client.open(METHOD, b"prompt", Ears(), timeout=timeout, metadata=[(b"traceparent", b"00-a-b-01")])
    server.run()
    [request] = server.seen(h2.events.RequestReceived)
    headers = dict(request.headers)
    assert headers.pop(b"grpc-timeout", None) == sent
    assert headers == {
        b":method": b"POST",
        b":scheme": b"http",
        b":authority": b"replica:8001",
        b":path": b"/inference.GRPCInferenceService/ModelInfer",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
        b"traceparent": b"00-a-b-01",
    }
    assert server.bodies == {1: prefixed(b"prompt")}
    assert server.ended == {1}


def test_long_names_and_values_survive_the_header_block() -> None:
    server = Server()
    metadata = [(b"k%d" % size, b"v" * size) for size in (0, 126, 127, 128, 254, 255, 2000)]
    server.client.open(Method("/p" + "a" * 300 + "/M"), b"", Ears(), metadata=metadata)
    server.run()
    [request] = server.seen(h2.events.RequestReceived)
    assert dict(metadata).items() <= dict(request.headers).items()
    assert server.bodies == {1: prefixed(b"")}


@pytest.mark.parametrize(
    "field",
    [
        (b"X-Upper", b"a"),
        (b":path", b"/x"),
        (b"grpc-timeout", b"1S"),
        (b"a", b"b\r\nc: d"),
        (b"", b"x"),
        (b"a", b"\xff"),
    ],
)
def test_metadata_that_grpc_forbids_is_refused_before_anything_is_sent(field: tuple[bytes, bytes]) -> None:
    server = Server()
    with pytest.raises(ValueError, match="metadata"):
        server.client.open(METHOD, b"", Ears(), metadata=[field])
    assert server.client.data_to_send() == b""
    assert server.client.in_flight == 0


def test_too_much_metadata_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        Server().client.open(METHOD, b"", Ears(), metadata=[(b"a", b"b" * 9000)])


@pytest.mark.parametrize("path", ["", "p.S/M", "/p.S/M\r\n", "/ü"])
def test_a_method_needs_a_path(path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        Method(path)


# ---------------------------------------------------------------------- answers


def test_one_call_from_begin_to_end() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    assert server.client.in_flight == 1
    server.run()
    server.headers(stream)
    server.h2.send_data(stream, prefixed(b"one"))
    server.h2.send_data(stream, prefixed(b""))
    server.run()
    assert ears.messages == [b"one", b""]
    assert ears.status is None
    server.trailers(stream, 0)
    server.run()
    assert ears.ends == [(0, "")]
    assert server.client.in_flight == 0
    assert server.client.available


@pytest.mark.parametrize(
    ("fields", "ending"),
    [
        (
            [(b":status", b"200"), (b"grpc-status", b"5"), (b"grpc-message", b"no model%20%C3%BC")],
            (5, "no model ü"),
        ),
        ([(b":status", b"200"), (b"grpc-status", b"5"), (b"grpc-message", b"%zz%C3")], (5, "%zz\ufffd")),
        ([(b":status", b"200"), (b"grpc-status", b"99")], (2, "grpc-status 99 is not a gRPC status: ")),
        ([(b":status", b"200"), (b"grpc-status", b"-1")], (2, "grpc-status -1 is not a gRPC status: ")),
        ([(b":status", b"200")], (2, "the replica ended the call without a grpc-status")),
        ([(b":status", b"503"), (b"grpc-status", b"8")], (8, "")),
        ([(b":status", b"400")], (13, "the replica answered with HTTP status 400")),
        ([(b":status", b"401")], (16, "the replica answered with HTTP status 401")),
        ([(b":status", b"403")], (7, "the replica answered with HTTP status 403")),
        ([(b":status", b"404")], (12, "the replica answered with HTTP status 404")),
        ([(b":status", b"429")], (14, "the replica answered with HTTP status 429")),
        ([(b":status", b"502")], (14, "the replica answered with HTTP status 502")),
        ([(b":status", b"503")], (14, "the replica answered with HTTP status 503")),
        ([(b":status", b"504")], (14, "the replica answered with HTTP status 504")),
        ([(b":status", b"500")], (2, "the replica answered with HTTP status 500")),
    ],
)
def test_a_trailers_only_answer(fields: list[tuple[bytes, bytes]], ending: tuple[int, str]) -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.h2.send_headers(stream, fields, end_stream=True)
    server.run()
    assert ears.ends == [ending]
    assert ears.messages == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b":status", b"502"), (b"content-type", b"text/html")], 14),
        ([(b":status", b"200"), (b"content-type", b"text/html")], 2),
        ([(b":status", b"404"), (b"grpc-status", b"7")], 7),
    ],
)
def test_an_answer_that_is_not_grpc_ends_the_call_at_its_headers(
    fields: list[tuple[bytes, bytes]], status: int
) -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.h2.send_headers(stream, fields)
    server.h2.send_data(stream, prefixed(b"<html>"))
    server.run()
    assert ears.status == status
    assert ears.messages == []
    [reset] = server.seen(h2.events.StreamReset)
    assert reset.error_code == h2.errors.ErrorCodes.CANCEL
    assert not server.client.closed


def test_informational_headers_are_skipped_and_an_unknown_content_type_is_not_required() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.h2.send_headers(stream, [(b":status", b"103")])
    server.h2.send_headers(stream, [(b":status", b"200")])
    server.h2.send_data(stream, prefixed(b"a"))
    server.trailers(stream)
    server.run()
    assert (ears.messages, ears.ends) == ([b"a"], [(0, "")])


def test_data_that_ends_the_stream_without_trailers_is_internal() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(stream)
    server.h2.send_data(stream, prefixed(b"a"), end_stream=True)
    server.run()
    assert ears.messages == [b"a"]
    assert ears.status == 13


def test_trailers_too_long_for_one_frame_come_with_continuation() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(stream)
    server.trailers(stream, 13, "~" * 18_000)  # 13 bits a character in Huffman's code: h2 has to split it
    server.run()
    assert ears.ends == [(13, "~" * 18_000)]


def test_padding_and_priority_in_headers_are_skipped() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    block = server.h2.encoder.encode(OK_HEADERS)
    flags = wire.END_HEADERS | wire.PADDED | wire.PRIORITISED
    server.raw(wire.frame(wire.HEADERS, flags, stream, b"\x03" + b"\x00\x00\x00\x00\x10" + block + b"\x00" * 3))
    server.raw(wire.frame(wire.PRIORITY, 0, stream, b"\x00\x00\x00\x00\x10"))
    server.raw(wire.frame(0xFA, 0xFF, 77, b"a frame type that nobody knows"))
    server.raw(wire.frame(wire.DATA, wire.PADDED, stream, b"\x02" + prefixed(b"a") + b"\x00\x00"))
    assert ears.messages == [b"a"]
    assert not server.client.closed


def test_the_rest_of_a_message_may_look_like_a_whole_one() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(stream)
    whole = prefixed(b"abc" + prefixed(b"inside"))
    server.h2.send_data(stream, whole[:8])
    server.h2.send_data(stream, whole[8:])
    server.run()
    assert ears.messages == [b"abc" + prefixed(b"inside")]


MESSAGES = st.lists(st.binary(max_size=60) | st.integers(0, 40_000).map(bytes), max_size=6)
SIZES = st.lists(st.integers(1, 20_000), min_size=1, max_size=5)


def chopped(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` in pieces of the given sizes, over and over."""
    pieces, i = [], 0
    while data:
        pieces.append(data[: sizes[i % len(sizes)]])
        data = data[sizes[i % len(sizes)] :]
        i += 1
    return pieces


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MESSAGES, min_size=1, max_size=5), SIZES, SIZES, st.integers(0, 2**32))
def test_messages_arrive_whole_and_in_order_however_they_are_cut_and_mixed(
    calls: list[list[bytes]], frame_sizes: list[int], read_sizes: list[int], seed: int
) -> None:
    server, dice = Server(), random.Random(seed)
    ears = [Ears() for _ in calls]
    streams = [server.client.open(METHOD, b"q", ear) for ear in ears]
    server.run()
    frames = {}
    for stream, messages in zip(streams, calls, strict=True):
        body = b"".join(map(prefixed, messages))
        frames[stream] = chopped(body, [min(16_000, max(size, len(body) // 30)) for size in frame_sizes])
        server.headers(stream)
    while frames:
        stream = dice.choice(sorted(frames))
        if frames[stream]:
            server.h2.send_data(stream, frames[stream].pop(0), pad_length=dice.choice([None, None, 0, 1, 99]))
        else:
            del frames[stream]
            server.trailers(stream, stream % 17, f"end of {stream}")
    server.run(lambda octets: chopped(octets, [max(size, len(octets) // 300) for size in read_sizes]))
    for stream, ear, messages in zip(streams, ears, calls, strict=True):
        assert ear.messages == messages
        assert ear.ends == [(stream % 17, f"end of {stream}")]
    assert server.client.in_flight == 0


# ---------------------------------------------------------------------- flow control


def test_a_prompt_beyond_the_window_waits_and_goes_on() -> None:
    server = Server()
    server.credit = False
    prompt = bytes(range(256)) * 1000
    server.client.open(METHOD, prompt, Ears())
    server.run()
    assert len(server.bodies[1]) == 65535
    assert server.client.unsent == len(prompt) + 5 - 65535
    server.h2.increment_flow_control_window(10)
    server.run()
    assert len(server.bodies[1]) == 65535, "the connection's window alone is not enough"
    server.h2.increment_flow_control_window(1_000_000, 1)
    server.run()
    assert len(server.bodies[1]) == 65545, "the stream's window alone is not enough"
    server.h2.increment_flow_control_window(1_000_000)
    server.run()
    assert server.bodies[1] == prefixed(prompt)
    assert server.ended == {1}
    assert server.client.unsent == 0


def test_a_start_with_no_window_at_all() -> None:
    server = Server(initial_window_size=0)
    server.credit = False
    server.client.open(METHOD, b"tiny", Ears())
    server.run()
    assert len(server.seen(h2.events.RequestReceived)) == 1
    assert server.bodies == {}
    server.h2.increment_flow_control_window(3, 1)
    server.run()
    assert server.bodies == {1: prefixed(b"tiny")[:3]}
    server.h2.increment_flow_control_window(100, 1)
    server.run()
    assert server.bodies == {1: prefixed(b"tiny")}


def test_a_smaller_initial_window_makes_windows_negative_and_they_recover() -> None:
    server = Server(initial_window_size=1000)
    server.credit = False
    server.client.open(METHOD, b"x" * 3000, Ears())
    server.run()
    assert len(server.bodies[1]) == 1000
    server.h2.update_settings({Codes.INITIAL_WINDOW_SIZE: 200})
    server.run()
    server.h2.increment_flow_control_window(800, 1)  # from -800 to 0
    server.run()
    assert len(server.bodies[1]) == 1000
    server.h2.increment_flow_control_window(1, 1)
    server.run()
    assert len(server.bodies[1]) == 1001
    server.h2.update_settings({Codes.INITIAL_WINDOW_SIZE: 5000})
    server.run()
    assert server.bodies[1] == prefixed(b"x" * 3000)


def test_a_prompt_longer_than_a_frame_is_cut() -> None:
    server = Server()
    server.client.open(METHOD, b"x" * 40_000, Ears())
    server.run()
    assert [len(event.data) for event in server.seen(h2.events.DataReceived)] == [16_384, 16_384, 7237]


def test_a_larger_frame_size_is_used_when_allowed() -> None:
    server = Server()
    server.h2.update_settings({Codes.MAX_FRAME_SIZE: 60_000})
    server.run()
    server.client.open(METHOD, b"x" * 59_995, Ears())
    server.run()
    assert [len(event.data) for event in server.seen(h2.events.DataReceived)] == [60_000]


def test_a_large_prompt_does_not_hold_up_the_next() -> None:
    server = Server(initial_window_size=20_000)
    server.credit = False
    server.client.open(METHOD, b"x" * 1_000_000, Ears())
    server.client.open(METHOD, b"small", Ears())
    server.client.open(METHOD, b"y" * 25_000, Ears())
    server.run()
    assert server.ended == {3}
    assert (len(server.bodies[1]), len(server.bodies[5])) == (20_000, 20_000)


def test_a_call_that_ends_before_its_prompt_is_sent_drops_the_rest() -> None:
    server, ears = Server(initial_window_size=10), Ears()
    server.credit = False
    first, second = (server.client.open(METHOD, b"x" * 500, ear) for ear in (ears, Ears()))
    server.run()
    server.h2.send_headers(first, [(b":status", b"200"), (b"grpc-status", b"8")], end_stream=True)
    server.run()
    assert ears.status == 8
    [reset] = server.seen(h2.events.StreamReset)
    assert reset.stream_id == first
    server.client.cancel(second)
    assert server.client.unsent == len(wire.rst_stream(second, wire.CANCEL))
    server.h2.increment_flow_control_window(1000)
    server.run()
    assert len(server.bodies[first]) == 10


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 120_000), min_size=1, max_size=6), st.data())
def test_every_prompt_arrives_whatever_the_windows_do(sizes: list[int], data: Any) -> None:
    """h2 raises FlowControlError if we ever send beyond a window that it gave."""
    server = Server(initial_window_size=data.draw(st.integers(0, 70_000)))
    server.credit = False
    prompts = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    streams: list[int] = []
    granted = 65_535
    for _ in range(30):
        step = data.draw(st.sampled_from(["open", "connection", "stream", "settings"]))
        if step == "open" and len(streams) < len(prompts):
            streams.append(server.client.open(METHOD, prompts[len(streams)], Ears()))
        elif step == "connection":
            granted += (more := data.draw(st.integers(1, 50_000)))
            server.h2.increment_flow_control_window(more)
        elif step == "stream" and streams:
            stream = data.draw(st.sampled_from(streams))
            if stream not in server.ended:
                server.h2.increment_flow_control_window(data.draw(st.integers(1, 50_000)), stream)
        elif step == "settings":
            server.h2.update_settings({Codes.INITIAL_WINDOW_SIZE: data.draw(st.integers(0, 70_000))})
        server.run()
        assert sum(map(len, server.bodies.values())) <= granted
    streams += [server.client.open(METHOD, prompt, Ears()) for prompt in prompts[len(streams) :]]
    server.run()
    server.h2.increment_flow_control_window(10_000_000)
    server.h2.update_settings({Codes.INITIAL_WINDOW_SIZE: 2_000_000})
    server.run()
    assert server.bodies == {stream: prefixed(prompt) for stream, prompt in zip(streams, prompts, strict=True)}
    assert server.ended == set(streams)
    assert server.client.unsent == 0


def test_the_server_never_runs_out_of_window() -> None:
    """90 MB on one stream, in messages below and above the stream's window of 16 MiB: h2 refuses to send more
    than it was given, so a missing WINDOW_UPDATE of stream or connection shows as a stall."""
    server, total = Server(), 0
    ears = Ears(lambda _: ears.messages.clear())
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(stream)
    frame = bytes(16_384)
    large = prefixed(bytes(20 << 20))
    for body in (prefixed(bytes(16_379)) * 1536, large, prefixed(bytes(16_379)) * 1536, large):
        total += len(body)
        for start in range(0, len(body), 16_384):
            if server.h2.local_flow_control_window(stream) < len(frame):
                server.run()
            server.h2.send_data(stream, body[start : start + 16_384])
    assert total > 90_000_000
    server.trailers(stream)
    server.run()
    assert ears.ends == [(0, "")]


def test_streams_that_are_over_still_give_back_the_connections_window() -> None:
    server = Server()
    stream = server.client.open(METHOD, b"q", Ears())
    server.run()
    server.headers(stream)
    server.run()
    before = server.client.data_to_send()
    server.client.cancel(stream)
    server.client.data_to_send()
    for _ in range(2049):  # 33 MB of what was already under way
        server.raw(wire.frame(wire.DATA, 0, stream, bytes(16_384)))
    assert before == b""
    assert server.client.data_to_send() == wire.window_update(0, 2049 * 16_384)


# ---------------------------------------------------------------------- resets, limits, goodbyes


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, 13),
        (1, 13),
        (2, 13),
        (3, 13),
        (4, 13),
        (5, 13),
        (6, 13),
        (7, 14),
        (8, 1),
        (9, 13),
        (10, 13),
        (11, 8),
        (12, 7),
        (13, 13),
        (999, 13),
    ],
)
def test_reset_by_the_server(code: int, status: int) -> None:
    server, ears, other = Server(), Ears(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.client.open(METHOD, b"q", other)
    server.run()
    server.h2.reset_stream(stream, code)
    server.run()
    assert ears.status == status
    assert wire.error_name(code) in ears.ends[0][1]
    assert other.ends == []
    assert server.client.in_flight == 1


def test_cancel_is_heard_by_the_server_and_by_nobody_else() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(stream)
    server.h2.send_data(stream, prefixed(b"late"))
    server.trailers(stream)
    server.client.cancel(stream)
    server.client.cancel(stream)
    server.client.cancel(4711)
    server.run()
    assert (ears.messages, ears.ends) == ([], [])
    resets = server.seen(h2.events.StreamReset)
    assert len(resets) <= 1  # h2 may have closed the stream before the reset came
    assert server.client.in_flight == 0
    assert not server.client.closed


def test_cancel_reaches_a_server_that_is_still_working() -> None:
    server = Server()
    stream = server.client.open(METHOD, b"q", Ears())
    server.run()
    server.client.cancel(stream)
    server.run()
    [reset] = server.seen(h2.events.StreamReset)
    assert (reset.stream_id, reset.error_code) == (stream, h2.errors.ErrorCodes.CANCEL)


def test_expire_tells_both_sides() -> None:
    server, ears = Server(), Ears()
    stream = server.client.open(METHOD, b"q", ears)
    server.run()
    server.client.expire(stream)
    server.client.expire(stream)
    server.run()
    assert ears.status == 4
    assert len(server.seen(h2.events.StreamReset)) == 1


def test_a_cancel_from_within_stops_the_messages_of_the_same_frame_and_of_the_same_read() -> None:
    for body in (prefixed(b"a") + prefixed(b"b"), prefixed(b"a")):
        server = Server()
        ears = Ears(lambda _, server=server: server.client.cancel(1))  # type: ignore[misc]
        server.client.open(METHOD, b"q", ears)
        server.run()
        server.headers(1)
        server.h2.send_data(1, body)
        server.h2.send_data(1, body)
        server.run()
        assert ears.messages == [b"a"]
        assert ears.ends == []


def test_a_receiver_may_open_the_next_call_from_its_end() -> None:
    server, second = Server(), Ears()
    first = Ears(lambda what: what == "close" and server.client.open(METHOD, b"again", second))
    server.client.open(METHOD, b"q", first)
    server.run()
    server.h2.send_headers(1, [(b":status", b"200"), (b"grpc-status", b"14")], end_stream=True)
    server.run()
    assert first.status == 14
    assert server.bodies[3] == prefixed(b"again")


def test_a_cancel_from_within_the_frame_that_ends_the_stream() -> None:
    server = Server()
    ears = Ears(lambda _: server.client.cancel(1))
    server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(1)
    server.h2.send_data(1, prefixed(b"a") + prefixed(b"b"), end_stream=True)
    server.run()
    assert (ears.messages, ears.ends) == ([b"a"], [])
    assert not server.client.closed


@pytest.mark.parametrize("split", [False, True])
def test_a_receiver_that_raises_ends_its_own_call_only(split: bool, caplog: pytest.LogCaptureFixture) -> None:
    def burst(what: str) -> None:
        if what == "message":
            raise RuntimeError("a bug in the caller")

    server, bad, good = Server(), Ears(burst), Ears()
    for ear in (bad, good):
        server.client.open(METHOD, b"q", ear)
    server.run()
    for stream in (1, 3):
        server.headers(stream)
        body = prefixed(b"one")
        for piece in (body[:4], body[4:]) if split else (body,):
            server.h2.send_data(stream, piece)
        server.h2.send_data(stream, prefixed(b"two"))
        server.trailers(stream)
    server.run()
    assert (bad.messages, bad.status) == ([b"one"], 13)
    assert (good.messages, good.ends) == ([b"one", b"two"], [(0, "")])
    assert "a bug in the caller" in caplog.text


def test_an_on_close_that_raises_is_logged_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def burst(_: str) -> None:
        raise RuntimeError("a bug in the caller")

    server, good = Server(), Ears()
    server.client.open(METHOD, b"q", Ears(burst))
    server.client.open(METHOD, b"q", good)
    server.client.fail(14, "lost")
    assert good.ends == [(14, "lost")]
    assert "a bug in the caller" in caplog.text


def test_the_servers_stream_limit() -> None:
    server = Server(max_concurrent_streams=2)
    ears = [Ears(), Ears()]
    for ear in ears:
        server.client.open(METHOD, b"q", ear)
    assert not server.client.available
    assert server.client.saturated
    with pytest.raises(ConnectionUnusable, match="limit"):
        server.client.open(METHOD, b"q", Ears())
    server.client.cancel(1)
    assert server.client.available
    server.client.open(METHOD, b"q", Ears())
    server.run()
    assert len(server.seen(h2.events.RequestReceived)) == 3
    server.h2.update_settings({Codes.MAX_CONCURRENT_STREAMS: 10})
    server.run()
    assert server.client.available


def test_stream_ids_run_out() -> None:
    server, ears = Server(), Ears()
    server.client._calls.next_id = 2**31 - 1
    stream = server.client.open(METHOD, b"q", ears)
    assert stream == 2**31 - 1
    assert server.client.draining
    assert not server.client.available
    with pytest.raises(ConnectionUnusable, match="out of stream ids"):
        server.client.open(METHOD, b"q", Ears())
    server.run()
    server.headers(stream)
    server.trailers(stream)
    server.run()
    assert ears.ends == [(0, "")]


def test_goaway_ends_what_the_server_never_saw_and_leaves_the_rest() -> None:
    server = Server()
    ears = [Ears() for _ in range(3)]
    for ear in ears:
        server.client.open(METHOD, b"q", ear)
    server.run()
    server.raw(wire.goaway(3, wire.NO_ERROR, "going down"))
    assert [ear.status for ear in ears] == [None, None, 14]
    assert "never processed" in ears[2].ends[0][1]
    assert "going down" in ears[2].ends[0][1]
    assert server.client.draining
    assert not server.client.closed
    with pytest.raises(ConnectionUnusable, match="GOAWAY"):
        server.client.open(METHOD, b"q", Ears())
    server.headers(1)
    server.h2.send_data(1, prefixed(b"still here"))
    server.trailers(1)
    server.run()
    assert (ears[0].messages, ears[0].ends) == ([b"still here"], [(0, "")])
    assert server.client.in_flight == 1


def test_the_reserved_bits_of_ids_are_ignored() -> None:
    server, ears = Server(), [Ears(), Ears()]
    for ear in ears:
        server.client.open(METHOD, b"q", ear)
    server.run()
    server.raw(wire.rst_stream(1 | 1 << 31, wire.REFUSED_STREAM))
    assert [ear.status for ear in ears] == [14, None]
    server.raw(wire.goaway(1 | 1 << 31, wire.NO_ERROR, ""))
    assert [ear.status for ear in ears] == [14, 14]
    assert not server.client.closed


def test_goaway_in_two_steps_as_grpc_servers_say_it() -> None:
    server, ears = Server(), [Ears(), Ears()]
    for ear in ears:
        server.client.open(METHOD, b"q", ear)
    server.run()
    server.raw(wire.goaway(2**31 - 1, wire.NO_ERROR, "") + wire.ping(b"goaway!!"))
    assert [ear.status for ear in ears] == [None, None]
    assert server.client.data_to_send() == wire.ping(b"goaway!!", wire.ACK)
    server.raw(wire.goaway(1, wire.NO_ERROR, ""))
    assert [ear.status for ear in ears] == [None, 14]


def test_pings_go_both_ways() -> None:
    server = Server()
    server.client.ping()
    server.client.ping()
    assert server.client.pings == 2
    server.h2.ping(b"12345678")
    server.run()
    assert server.client.pings == 0
    assert len(server.seen(h2.events.PingReceived)) == 2
    assert [event.ping_data for event in server.seen(h2.events.PingAckReceived)] == [b"12345678"]
    server.raw(wire.ping(b"not ours", wire.ACK))
    assert not server.client.closed


def test_outstanding_pings_are_few() -> None:
    server = Server()
    for _ in range(1000):
        server.client.ping()
    assert server.client.pings == 16
    assert len(server.client.data_to_send()) == 16 * 17


def test_fail_ends_every_call_once_and_for_all() -> None:
    server = Server()
    ears: list[Ears] = []
    ears.append(Ears(lambda _: server.client.cancel(5)))
    ears += [Ears(), Ears()]
    for ear in ears:
        server.client.open(METHOD, b"q" * 100_000, ear)
    server.client.fail(14, "the cable is gone")
    assert [ear.ends for ear in ears] == [[(14, "the cable is gone")], [(14, "the cable is gone")], []]
    server.client.fail(14, "again")
    assert server.client.closed
    assert server.client.in_flight == 0
    assert not server.client.available
    with pytest.raises(ConnectionUnusable, match="the cable is gone"):
        server.client.open(METHOD, b"q", Ears())
    server.client.receive(wire.frame(wire.DATA, 0, 0, b"never read"))
    server.client.ping()
    assert server.client.pings == 0


def test_close_says_goodbye_in_order() -> None:
    server, ears = Server(), Ears()
    server.client.open(METHOD, b"q", ears)
    server.run()
    server.client.close(1, "bye")
    server.run()
    assert ears.ends == [(1, "bye")]
    assert len(server.seen(h2.events.StreamReset)) == 1
    [goodbye] = server.seen(h2.events.ConnectionTerminated)
    assert goodbye.error_code == h2.errors.ErrorCodes.NO_ERROR


@pytest.mark.parametrize("rest", [None, wire.frame(wire.DATA, 0, 0, b"a breach")])
def test_a_receiver_may_close_the_connection_from_within(rest: bytes | None) -> None:
    server = Server()
    ears = Ears(lambda what: what == "message" and server.client.fail(14, "enough"))
    server.client.open(METHOD, b"q", ears)
    server.run()
    server.headers(1)
    server.h2.send_data(1, prefixed(b"a"))
    after = rest if rest is not None else wire.frame(wire.DATA, 0, 1, prefixed(b"b"))
    server.client.receive(server.h2.data_to_send() + after)
    assert (ears.messages, ears.ends) == ([b"a"], [(14, "enough")])
    assert server.client.error == "enough"
    assert server.client.data_to_send() == b""


def test_the_repr_is_fit_for_a_log() -> None:
    server = Server()
    server.client.open(METHOD, b"q" * 100_000, Ears())
    server.client.data_to_send()
    assert repr(server.client) == "<Connection open in_flight=1 unsent=34470 ''>"
    server.raw(wire.goaway(1, wire.ENHANCE_YOUR_CALM, "too_many_pings"))
    assert repr(server.client) == (
        "<Connection draining in_flight=1 unsent=34470 'GOAWAY ENHANCE_YOUR_CALM too_many_pings'>"
    )
    assert repr(METHOD) == "Method('/inference.GRPCInferenceService/ModelInfer')"
