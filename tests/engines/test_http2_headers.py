"""Reading header blocks: the cache must never change what a block means.

The reader is compared with a plain decoder that is fed every block: the peers here use the dynamic table as
long as they may, and shrink it when they have acknowledged our SETTINGS.
"""

from __future__ import annotations

from typing import Any

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.engines.http2_frames import COMPRESSION_ERROR, ProtocolError
from gateway.engines.http2_headers import HeaderReader
from gateway.engines.http2_status import Answer, of_headers

FIELDS = st.sampled_from(
    [
        (b":status", b"200"),
        (b":status", b"404"),
        (b"grpc-status", b"0"),
        (b"grpc-status", b"5"),
        (b"grpc-message", b"one"),
        (b"grpc-message", b"two"),
        (b"content-type", b"application/grpc"),
        (b"content-type", b"text/html"),
        (b"x", b"y" * 300),
    ]
)
BLOCKS = st.lists(st.lists(FIELDS, max_size=5), min_size=1, max_size=12)


def plain(decoder: hpack.Decoder, block: bytes) -> Answer:
    return of_headers([(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BLOCKS, BLOCKS, st.integers(0, 4096))
def test_a_peer_that_uses_its_table_until_it_has_acknowledged(
    before: list[list[tuple[bytes, bytes]]], after: list[list[tuple[bytes, bytes]]], size: int
) -> None:
    encoder, decoder, reader = hpack.Encoder(), hpack.Decoder(), HeaderReader()
    for i, fields in enumerate(before):
        if i == len(before) // 2:
            encoder.header_table_size = size  # a peer may shrink its table of its own accord
        block = encoder.encode(fields)
        assert reader.read(block) == plain(decoder, block)
    reader.table_size_acknowledged()
    encoder.header_table_size = 0
    for fields in [*after, *after]:  # the second time from the cache
        block = encoder.encode(fields)
        assert reader.read(block) == plain(decoder, block)


def test_the_same_octets_may_mean_different_things_until_the_table_is_gone() -> None:
    encoder, reader = hpack.Encoder(), HeaderReader()
    reader.read(encoder.encode([(b"grpc-status", b"5")]))
    newest = b"\xbe"  # the newest entry of the dynamic table
    assert reader.read(newest).ending.status == 5
    reader.read(encoder.encode([(b"grpc-status", b"7")]))
    assert reader.read(newest).ending.status == 7
    reader.table_size_acknowledged()
    reader.read(b"\x20\x88")
    with pytest.raises(ProtocolError) as caught:
        reader.read(newest)
    assert caught.value.code == COMPRESSION_ERROR


def test_repeated_blocks_come_from_the_cache_once_the_table_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, decoded = HeaderReader(), []
    decode = reader._decoder.decode

    def count(block: bytes, raw: bool = False) -> Any:
        decoded.append(block)
        return decode(block, raw)

    monkeypatch.setattr(reader._decoder, "decode", count)
    for _ in range(3):
        reader.read(b"\x88")
    assert decoded == [b"\x88"] * 3, "nothing is remembered while the table may matter"
    reader.table_size_acknowledged()
    reader.read(b"\x20\x88")
    for _ in range(3):
        reader.read(b"\x88")
    assert decoded == [b"\x88"] * 3 + [b"\x20\x88", b"\x88"]


def test_long_blocks_are_not_kept() -> None:
    reader = HeaderReader()
    reader.table_size_acknowledged()
    reader.read(b"\x20\x88")
    reader.read(b"\x00\x01x\x7f\xe9\x07" + b"y" * 1128)
    reader.read(b"\x88")
    assert list(reader._cache) == [b"\x88"]
