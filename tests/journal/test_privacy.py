"""What of the content is written."""

from __future__ import annotations

import hashlib
import re

import pytest

from gateway.core.request import Message, Sampling
from gateway.journal.privacy import CHECKED_CHARS, REDACTED, digest, protect
from gateway.journal.record import Choice, Failure, Record, encode_record
from tests.journal.records import make_record

SECRET = "4242 4242"
PATTERNS = (re.compile(r"\d{4} \d{4}"), re.compile(r"(?i)hunter\d"))


def full(content: str = "full") -> Record:
    return make_record(
        content=content,
        model=f"assistant {SECRET}",
        messages=(
            Message("system", "Be kind."),
            Message("user", f"My card is {SECRET}.", name=SECRET),
            Message("assistant", "", tool_calls=[{"function": {"arguments": f'{{"card": "{SECRET}"}}'}, SECRET: 1}]),
            Message("tool", SECRET, tool_call_id=SECRET),
        ),
        prompts=(f"prompt {SECRET}",),
        choices=(Choice(f"I saw {SECRET} and Hunter2", "stop"), Choice("", "length")),
        sampling=Sampling(seed=7, stop=(SECRET, "\n")),
        failure=Failure("bad", f"The value '{SECRET}' is no model.", 404, "model"),
    )


def test_full_without_patterns_is_the_record_itself() -> None:
    record = full()
    assert protect(record, ()) is record


@pytest.mark.parametrize("content", ["full", "hashed", "none"])
def test_no_secret_is_left(content: str) -> None:
    written = encode_record(protect(full(content), PATTERNS))
    assert SECRET.encode() not in written
    assert b"Hunter2" not in written


@pytest.mark.parametrize("patterns", [(), PATTERNS])
def test_none_keeps_figures_roles_and_finishes(patterns: tuple[re.Pattern[str], ...]) -> None:
    record = protect(full("none"), patterns)
    assert record.messages == tuple(Message(role, "") for role in ("system", "user", "assistant", "tool"))
    assert record.prompts == ()
    assert record.choices == (Choice("", "stop"), Choice("", "length"))
    assert record.sampling == Sampling(seed=7)
    assert (record.cost, record.first_text, record.id) == (full().cost, full().first_text, full().id)


def test_hashed_tells_equal_texts_and_nothing_else() -> None:
    record = protect(full("hashed"), ())
    hashed = f"sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}"
    assert record.messages[3] == Message("tool", hashed, tool_call_id=hashed)
    assert record.messages[1].name == hashed
    assert record.messages[0].content == digest("Be kind.") != digest("Be kind")
    assert record.messages[2].content == ""
    calls = record.messages[2].tool_calls
    assert calls is not None
    assert re.fullmatch("sha256:[0-9a-f]{64}", calls[0])
    assert record.choices[1] == Choice("", "length")
    assert record.sampling is not None
    assert record.sampling.stop == (hashed, digest("\n"))
    assert encode_record(record).count(b"Be kind") == 0


def test_patterns_black_out_what_matches_and_leave_the_rest() -> None:
    record = protect(full(), PATTERNS)
    assert record.messages[0] == Message("system", "Be kind.")
    assert record.messages[1] == Message("user", f"My card is {REDACTED}.", name=REDACTED)
    assert record.messages[2].tool_calls == [
        {"function": {"arguments": f'{{"card": "{REDACTED}"}}'}, REDACTED: 1},
    ]
    assert record.choices[0] == Choice(f"I saw {REDACTED} and {REDACTED}", "stop")
    assert record.model == f"assistant {REDACTED}"
    assert record.failure == Failure("bad", f"The value '{REDACTED}' is no model.", 404, "model")


@pytest.mark.parametrize("before", [-200, -9, -5, -1, 0, 1, 200])
def test_beyond_the_checked_length_nothing_is_kept(before: int) -> None:
    # A secret before, across and behind the cut; the second text has no share left.
    text = "x" * (CHECKED_CHARS + before) + SECRET + "y" * 5000
    record = protect(make_record(messages=(Message("user", text), Message("user", "late"))), PATTERNS)
    kept = record.messages[0].content
    assert kept.startswith("x" * (CHECKED_CHARS - 2000))
    assert kept.endswith(REDACTED)
    assert "4242" not in kept
    assert "y" not in kept
    assert record.messages[1].content == REDACTED


def test_a_text_just_as_long_as_may_be_checked_is_kept_whole() -> None:
    text = "x" * (CHECKED_CHARS - 10)
    record = protect(make_record(messages=(Message("user", text),), choices=()), PATTERNS)
    assert record.messages[0].content == text


@pytest.mark.parametrize("content", ["full", "hashed"])
def test_surrogates_do_not_stop_it(content: str) -> None:
    record = make_record(content=content, messages=(Message("user", "\ud800", tool_calls=["\udfff", {"\ud800": 1}]),))
    encode_record(protect(record, PATTERNS))
