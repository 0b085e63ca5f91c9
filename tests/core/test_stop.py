"""Stop strings against a naive reference that sees the whole text at once."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.core.stop import StopScanner

# Few letters, so that stops overlap themselves, each other and the borders of chunks.
LETTERS = st.text("ab", min_size=1, max_size=4)
CHUNKS = st.lists(st.text("abc", max_size=5), max_size=12)


def naive(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    # Character by character: the first end of a match decides, and of those that end there the longest.
    for end in range(len(text) + 1):
        matches = [stop for stop in stops if text[:end].endswith(stop)]
        if matches:
            return text[: end - max(map(len, matches))], True
    return text, False


def scan(chunks: list[str], stops: tuple[str, ...]) -> tuple[list[str], bool]:
    scanner = StopScanner(stops)
    shown = [scanner.push(chunk) for chunk in chunks]
    return [*shown, scanner.finish()], scanner.stopped


@settings(max_examples=300, deadline=None)
@given(chunks=CHUNKS, stops=st.lists(LETTERS, min_size=1, max_size=4).map(tuple))
@example(chunks=["a", "b", "a"], stops=("aba", "b"))
@example(chunks=["aba"], stops=("aba", "b"))
def test_chunks_show_what_the_whole_would(chunks: list[str], stops: tuple[str, ...]) -> None:
    shown, stopped = scan(chunks, stops)
    assert ("".join(shown), stopped) == naive("".join(chunks), stops)


@settings(deadline=None)
@given(chunks=CHUNKS, stops=st.lists(LETTERS, min_size=1, max_size=4).map(tuple))
def test_what_was_shown_is_never_taken_back(chunks: list[str], stops: tuple[str, ...]) -> None:
    scanner = StopScanner(stops)
    shown = text = ""
    for chunk in chunks:
        shown += scanner.push(chunk)
        text += chunk
        cut, stopped = naive(text, stops)
        assert cut.startswith(shown)
        if not stopped:  # no more is held back than the longest stop could still need
            assert len(text) - len(shown) < max(map(len, stops))


@pytest.mark.parametrize(
    ("stops", "chunks", "shown", "stopped"),
    [
        (("END",), ["one", "END", "two"], ["one", "", "", ""], True),
        (("END",), ["oneE", "N", "Dtwo"], ["one", "", "", ""], True),
        (("END",), ["oneE", "N", "X"], ["one", "", "ENX", ""], False),
        (("END",), ["oneEN"], ["one", "EN"], False),  # held text is flushed at the end
        (("aab",), ["a", "a", "a", "b"], ["", "", "a", "", ""], True),  # a false start inside a match
        (("abc", "b"), ["a", "b", "c"], ["", "a", "", ""], True),  # the first to be complete decides
        (("abc", "b"), ["abc"], ["a", ""], True),  # and in one chunk it is no different
        (("abc", "c"), ["xabc"], ["x", ""], True),  # complete at once: the longer is hidden whole
        (("\n\n",), ["a\n", "b\n", "\n"], ["a", "\nb", "", ""], True),
        (("日本",), ["日", "日", "本語"], ["", "日", "", ""], True),
        (("x",), [], [""], False),
        (("x",), ["", ""], ["", "", ""], False),
        ((), ["text"], ["text", ""], False),
    ],
)
def test_table(stops: tuple[str, ...], chunks: list[str], shown: list[str], stopped: bool) -> None:
    assert scan(chunks, stops) == (shown, stopped)


def test_after_a_match_nothing_is_shown() -> None:
    scanner = StopScanner(("stop",))
    assert scanner.push("go stop go") == "go "
    assert (scanner.push("more"), scanner.finish()) == ("", "")
