"""The short way of reading a chat body is the long way, for every body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import PenstockError
from gateway.core.request import Request
from gateway.dialects.openai_chat import OpenAIChat

CHAT = OpenAIChat()
HUGE = st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 1.5, True, "1", None])
SMALL = st.sampled_from([0, 1, 2, -2, 0.5, 2.0, 2.0001, -2.1, 1e-9, True, "x", None, [], {}])
TEXT = st.sampled_from(["", "a", "a" * 256, "a" * 257, "u" * 512, "u" * 513, "\ud800", "é", None, 1, ["a"], [""]])
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "system", "assistant", "tool", "developer", "function", "robot", "", None])},
    optional={
        "content": st.sampled_from(["", "hi", None, 3, [{"type": "text", "text": "a"}], [{"type": "image_url"}]]),
        "name": TEXT,
        "tool_calls": st.sampled_from([[], [{"id": "1"}], None, "x"]),
        "tool_call_id": TEXT,
        "function_call": st.sampled_from([{"name": "f"}, None]),
        "refusal": st.none(),
    },
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["assistant", "", None, 1]),
        "messages": st.lists(MESSAGE, max_size=3) | st.sampled_from([None, {}, "hi", [[]]]),
        **dict.fromkeys(("max_tokens", "max_completion_tokens", "seed", "n", "top_k", "min_tokens"), HUGE),
        **dict.fromkeys(("temperature", "top_p", "presence_penalty", "frequency_penalty", "repetition_penalty"), SMALL),
        **dict.fromkeys(("stop", "user"), TEXT),
        "stream": st.sampled_from([True, False, None, 1, "true"]),
        "stream_options": st.sampled_from(
            [None, {}, {"include_usage": True}, {"include_usage": None}, {"include_usage": 1}, {"more": 1}]
        ),
        "response_format": st.sampled_from([None, {"type": "text"}, {"type": "json_object"}]),
        "logprobs": st.sampled_from([None, False, True]),
        "tools": st.sampled_from([None, [], [{}]]),
        "store": st.sampled_from([None, True]),
        "metadata": st.sampled_from([None, {"a": "b"}]),
    },
)
USUAL = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}


def outcome(parse: Any, body: bytes) -> Request | tuple[str, str, str | None]:
    try:
        request: Request = parse(body)
    except PenstockError as error:
        return type(error).__name__, error.message, error.param
    return request


@settings(deadline=None, max_examples=400)
@given(BODY, st.booleans())
def test_any_body(changes: dict[str, Any], usual: bool) -> None:
    body = json.dumps({**USUAL, **changes} if usual else changes).encode()
    assert outcome(CHAT.parse, body) == outcome(CHAT.parse_any, body)


@settings(deadline=None, max_examples=400)
@given(BODY, st.data())
def test_a_usual_body_with_one_unusual_field(changes: dict[str, Any], data: st.DataObject) -> None:
    one = {name: changes[name] for name in [data.draw(st.sampled_from(sorted(changes)))]} if changes else {}
    body = json.dumps(USUAL | one).encode()
    assert outcome(CHAT.parse, body) == outcome(CHAT.parse_any, body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b'"', b"\xff", b"[" * 100_000, b'{"model":"a","model":"b","messages":[]}',
        b'{"messages":[{"role":"user","content":"a"}],"model":"m","seed":1,"seed":2}',
        b'{"messages":[{"role":"user","content":"\xff"}],"model":"m"}',
        b'{"messages":[{"role":"user","content":"a"}],"model":"m","temperature":1e400}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_body(body: bytes) -> None:
    assert outcome(CHAT.parse, body) == outcome(CHAT.parse_any, body)


def test_the_short_way_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenAIChat, "parse_any", None)
    body = {**USUAL, "max_tokens": 5, "temperature": 0.5, "stream": True, "stop": "x", "seed": 1, "n": 2, "user": "me"}
    request = CHAT.parse(json.dumps(body).encode())
    assert (request.n, request.stream, request.user, request.sampling.stop) == (2, True, "me", ("x",))
