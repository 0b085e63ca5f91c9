"""Text cut into pieces without regard to characters comes out whole."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.utf8 import Utf8Joiner


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def joined(pieces: list[bytes]) -> str:
    joiner = Utf8Joiner()
    return "".join([*map(joiner.push, pieces), joiner.finish()])


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
# Bytes that make a decoder think: starts, continuations, overlong forms, surrogates, beyond U+10FFFF.
HARD = st.lists(
    st.sampled_from(
        [
            *(b"a", b"\xc3", b"\xa9", b"\xe4\xb8\xad", b"\xf0\x9f\x98\x80", b"\xf0\x9f", b"\xed\xa0\x80"),
            *(b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xe0\x80", b"\x80"),
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(deadline=None)
@given(text=st.text(), cuts=CUTS)
def test_any_text_cut_anywhere_comes_out_the_same(text: str, cuts: list[int]) -> None:
    assert joined(pieces_of(text.encode(), cuts)) == text


@settings(deadline=None)
@given(data=st.binary() | HARD, cuts=CUTS)
def test_invalid_bytes_are_replaced_as_the_whole_would_be(data: bytes, cuts: list[int]) -> None:
    assert joined(pieces_of(data, cuts)) == data.decode(errors="replace")


@settings(deadline=None)
@given(data=HARD)
def test_byte_by_byte_is_no_different(data: bytes) -> None:
    assert joined([data[at : at + 1] for at in range(len(data))]) == data.decode(errors="replace")


def test_a_character_is_passed_on_when_its_last_byte_is_there_and_not_before() -> None:
    joiner = Utf8Joiner()
    assert [joiner.push(piece) for piece in (b"a\xf0\x9f", b"\x98", b"\x80b")] == ["a", "", "😀b"]
    assert joiner.finish() == ""


@pytest.mark.parametrize(
    ("pieces", "pushed"),
    [
        ([b"\xe4", b"a"], ["", "\ufffda"]),  # certain as soon as the next byte is no continuation
        ([b"\xff", b"a"], ["\ufffd", "a"]),  # certain at once
        ([b"", b"x"], ["", "x"]),
    ],
)
def test_a_replacement_comes_at_the_moment_that_it_is_certain(pieces: list[bytes], pushed: list[str]) -> None:
    joiner = Utf8Joiner()
    assert [joiner.push(piece) for piece in pieces] == pushed


def test_what_never_came_whole_is_replaced_at_the_end_once() -> None:
    joiner = Utf8Joiner()
    assert joiner.push(b"a\xe4\xb8") == "a"
    assert joiner.finish() == "\ufffd"
    assert joiner.finish() == ""
    assert joiner.push("中".encode()) == "中"
