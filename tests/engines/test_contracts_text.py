"""Text out of responses: delta and cumulative, split characters, echoes, and which of it a model does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.utf8 import Utf8Joiner
from gateway.engines.contracts.text import CumulativeText, DetectingText, EchoText, TextMode, TextSource

FFFD = "\ufffd".encode()


def shown(source: TextSource, pieces: list[bytes]) -> list[str]:
    """What every piece shows, and what the end shows."""
    return [*map(source.push, pieces), source.finish()]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(place, len(data)) for place in cuts} | {len(data)})
    return [data[:place] for place in places]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], [""]),
        ([b"", b""], ["", "", ""]),
        ([b"a", b"ab", b"abc"], ["a", "b", "c", ""]),
        ([b"a", b"a", b"ab", b"ab"], ["a", "", "b", "", ""]),
        ([b"whole"], ["whole", ""]),
        # a character in two parts, as bytes and as a detokenizer shows it
        ([b"a\xc3", b"a\xc3\xa9!"], ["a", "é!", ""]),
        ([b"a" + FFFD, "aé!".encode()], ["a", "é!", ""]),
        ([b"a" + FFFD, b"a" + FFFD * 2, "a🙂".encode()], ["a", "", "🙂", ""]),
        # one that never resolves is shown at the end, one in the middle as it is
        ([b"a", b"a" + FFFD], ["a", "", "\ufffd"]),
        ([b"a" + FFFD, b"a" + FFFD + b"b"], ["a", "\ufffdb", ""]),
        ([b"a\xe2\x82"], ["a", "\ufffd"]),
        # a last response without text, or with less than before, takes nothing back
        ([b"ab", b""], ["ab", "", ""]),
        ([b"ab ", b"ab", b"ab c"], ["ab ", "", "c", ""]),
        # a detokenizer that changes its mind: all is shown, from the place of the change
        ([b"Hello ", b"Hello.", b"Hello. Bye"], ["Hello ", ".", " Bye", ""]),
        (["aé".encode(), "aè".encode()], ["aé", "è", ""]),
    ],
)
def test_cumulative(pieces: list[bytes], expected: list[str]) -> None:
    assert shown(CumulativeText(), pieces) == expected


@given(st.text(), st.lists(st.integers(0, 60), max_size=12))
def test_cumulative_text_arrives_whole_however_it_is_cut(text: str, cuts: list[int]) -> None:
    assert "".join(shown(CumulativeText(), cut(text.encode(), cuts))) == text


@given(st.text(st.characters(exclude_characters="\ufffd")), st.lists(st.integers(0, 60), max_size=12))
def test_cumulative_text_shown_by_a_detokenizer(text: str, cuts: list[int]) -> None:
    pieces = [piece.decode("utf-8", "replace").encode() for piece in cut(text.encode(), cuts)]
    parts = shown(CumulativeText(), pieces)
    assert "".join(parts) == text
    assert "\ufffd" not in "".join(parts)


@given(st.text(min_size=12, max_size=60), st.lists(st.integers(0, 60), max_size=12))
def test_detecting_a_cumulative_stream(text: str, cuts: list[int]) -> None:
    mode = TextMode()
    assert "".join(shown(DetectingText(mode), cut(text.encode(), cuts))) == text
    assert mode.cumulative is not False


@pytest.mark.parametrize(
    "pieces",
    [
        ["Once", " upon", " a", " time"],
        ["ha", "ha", "ha", "!"],
        ["\n", "\n", "x"],
        ["日", "本", "語"],
        ["", "", "a", "b"],
    ],
)
def test_detecting_a_delta_stream(pieces: list[str]) -> None:
    mode = TextMode()
    assert "".join(shown(DetectingText(mode), [piece.encode() for piece in pieces])) == "".join(pieces)
    assert mode.cumulative is False


def test_a_delta_stream_with_split_characters_is_detected() -> None:
    data = "ein 🙂 und 日本".encode()
    pieces = [data[at : at + 3] for at in range(0, len(data), 3)]
    assert "".join(shown(DetectingText(TextMode()), pieces)) == data.decode()


def test_streams_learn_from_each_other() -> None:
    mode = TextMode()
    shown(DetectingText(mode), [b"Once", b" upon"])
    assert repr(mode) == "TextMode(cumulative=False)"
    assert shown(DetectingText(mode), [b"1", b"12"]) == ["1", "12", ""]
    other = TextMode()
    shown(DetectingText(other), [b"Once upon", b"Once upon a"])
    assert other.cumulative is True
    assert shown(DetectingText(other), [b"ab", b"abc"]) == ["ab", "c", ""]


def test_one_response_decides_nothing() -> None:
    mode = TextMode()
    assert shown(DetectingText(mode), [b"the whole answer"]) == ["the whole answer", ""]
    assert mode.cumulative is None


@pytest.mark.parametrize(
    ("prompt", "pieces", "expected"),
    [
        ("Say hi", ["Say hi", " there"], " there"),
        ("Say hi", ["Say hi there"], " there"),
        ("Say hi", ["Say", " hi", " there"], " there"),
        (" Say hi", ["Say hi there"], " there"),
        ("Say hi", [" Say hi there"], " there"),
        ("Say hi", ["Hello"], "Hello"),
        ("Say hi", ["Say", " ho"], "Say ho"),
        ("Say hi", ["Say"], "Say"),
        ("Say hi", ["Say hi"], ""),
        ("", ["anything"], "anything"),
        ("  ", ["anything"], "anything"),
    ],
)
def test_an_echoed_prompt_is_taken_off(prompt: str, pieces: list[str], expected: str) -> None:
    source = EchoText(Utf8Joiner(), prompt)
    assert "".join(shown(source, [piece.encode() for piece in pieces])) == expected


@given(st.text(min_size=1), st.text(), st.integers(1, 5))
def test_an_echo_is_taken_off_however_it_is_cut(prompt: str, answer: str, step: int) -> None:
    data = (prompt + answer).encode()
    source = EchoText(Utf8Joiner(), prompt)
    got = "".join(shown(source, [data[at : at + step] for at in range(0, len(data), step)]))
    assert got == (answer if prompt.strip() else prompt + answer)


def test_an_echo_in_cumulative_text() -> None:
    source = EchoText(CumulativeText(), "Q: é?")
    pieces = ["Q: ", "Q: é", "Q: é? Ja", "Q: é? Ja."]
    assert shown(source, [piece.encode() for piece in pieces]) == ["", "", " Ja", ".", ""]
