"""OpenAI bodies that are refused: each error names the field, the value, and what would do."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import BadRequest, PenstockError, Unsupported
from gateway.core.request import Request
from tests.dialects.bodies import CHAT, COMPLETIONS, DROP, chat, completion, spliced

Row = tuple[dict[str, Any], str | None, list[str]]

# Fields that both dialects have: (changes, param, pieces of the message).
COMMON: list[Row] = [
    ({"model": DROP}, "model", ["'model'", "missing", "required"]),
    ({"model": None}, "model", ["expected a string", "found null"]),
    ({"model": 7}, "model", ["expected a string", "found 7"]),
    ({"model": ["a"]}, "model", ["expected a string", 'found ["a"]']),
    ({"max_tokens": 0}, "max_tokens", ["from 1 to 2147483647", "found 0"]),
    ({"max_tokens": -1}, "max_tokens", ["from 1 to", "found -1"]),
    ({"max_tokens": 2**31}, "max_tokens", ["from 1 to 2147483647", "found 2147483648"]),
    ({"max_tokens": "5"}, "max_tokens", ["an integer", 'found "5"']),
    ({"max_tokens": 1.5}, "max_tokens", ["an integer", "found 1.5"]),
    ({"max_tokens": True}, "max_tokens", ["an integer", "found true"]),
    ({"max_tokens": [1]}, "max_tokens", ["an integer", "found [1]"]),
    ({"max_tokens": {}}, "max_tokens", ["an integer", "found {}"]),
    ({"min_tokens": -1}, "min_tokens", ["from 0 to", "found -1"]),
    ({"min_tokens": "x"}, "min_tokens", ["an integer", 'found "x"']),
    ({"temperature": -0.1}, "temperature", ["from 0 to 2", "found -0.1"]),
    ({"temperature": 2.1}, "temperature", ["from 0 to 2", "found 2.1"]),
    ({"temperature": "hot"}, "temperature", ["a number", 'found "hot"']),
    ({"temperature": False}, "temperature", ["a number", "found false"]),
    ({"temperature": 1e300}, "temperature", ["from 0 to 2", "found 1e+300"]),
    ({"top_p": 0}, "top_p", ["above 0 and at most 1", "found 0"]),
    ({"top_p": 1.01}, "top_p", ["above 0 and at most 1", "found 1.01"]),
    ({"top_p": [0.5]}, "top_p", ["a number", "found [0.5]"]),
    ({"top_k": -2}, "top_k", ["from -1 to", "found -2"]),
    ({"top_k": 0.5}, "top_k", ["an integer", "found 0.5"]),
    ({"seed": 1.5}, "seed", ["an integer", "found 1.5"]),
    ({"seed": "lucky"}, "seed", ["an integer", 'found "lucky"']),
    ({"presence_penalty": 2.5}, "presence_penalty", ["from -2 to 2", "found 2.5"]),
    ({"presence_penalty": "x"}, "presence_penalty", ["a number", 'found "x"']),
    ({"frequency_penalty": -2.5}, "frequency_penalty", ["from -2 to 2", "found -2.5"]),
    ({"frequency_penalty": {}}, "frequency_penalty", ["a number", "found {}"]),
    ({"repetition_penalty": 0}, "repetition_penalty", ["above 0 and at most 10", "found 0"]),
    ({"repetition_penalty": 11}, "repetition_penalty", ["above 0 and at most 10", "found 11"]),
    ({"n": 0}, "n", ["from 1 to 128", "found 0"]),
    ({"n": -3}, "n", ["from 1 to 128", "found -3"]),
    ({"n": 129}, "n", ["from 1 to 128", "found 129"]),
    ({"n": "2"}, "n", ["an integer", 'found "2"']),
    ({"stream": "yes"}, "stream", ["true or false", 'found "yes"']),
    ({"stream": 1}, "stream", ["true or false", "found 1"]),
    ({"stream_options": True}, "stream_options", ["an object", "found true"]),
    (
        {"stream_options": {"include_usage": "x"}},
        "stream_options.include_usage",
        ["true or false", 'found "x"'],
    ),
    ({"stop": ""}, "stop", ["1 to 256 characters", 'found ""']),
    ({"stop": [""]}, "stop", ["1 to 256 characters", 'found ""']),
    ({"stop": "x" * 257}, "stop", ["1 to 256 characters", 'found "xxxx']),
    ({"stop": ["x"] * 17}, "stop", ["at most 16", "found 17"]),
    ({"stop": 5}, "stop", ["a string", "found 5"]),
    ({"stop": ["a", 5]}, "stop[1]", ["a string", "found 5"]),
    ({"stop": [["a"]]}, "stop[0]", ["a string", 'found ["a"]']),
    ({"logit_bias": {"50256": -100}}, "logit_bias", ["token ids", "leave it out"]),
    ({"logit_bias": [1]}, "logit_bias", ["an object", "found [1]"]),
    ({"user": 5}, "user", ["a string", "found 5"]),
    ({"user": "u" * 513}, "user", ["at most 512 characters", "found 513"]),
    ({"response_format": "json"}, "response_format", ["an object", 'found "json"']),
    ({"response_format": {}}, "response_format.type", ["json_schema", "found null"]),
    ({"response_format": {"type": "xml"}}, "response_format.type", ["json_object", 'found "xml"']),
    ({"response_format": {"type": ["text"]}}, "response_format.type", ["json_object", 'found ["text"]']),
    *(
        (
            {"response_format": {"type": "json_schema", **more}},
            "response_format.json_schema.schema",
            ["JSON schema object", f"found {found}"],
        )
        for more, found in [
            ({}, "null"),
            ({"json_schema": None}, "null"),
            ({"json_schema": "x"}, "null"),
            ({"json_schema": {"name": "x"}}, "null"),
            ({"json_schema": {"schema": "{}"}}, '"{}"'),
            ({"json_schema": {"schema": True}}, "true"),
        ]
    ),
    ({"response_format": {"type": "regex"}}, "response_format.regex", ["a string", "found null"]),
    ({"response_format": {"type": "regex", "regex": ""}}, "response_format.regex", ["a string", 'found ""']),
    ({"response_format": {"type": "ebnf", "ebnf": 5}}, "response_format.ebnf", ["a string", "found 5"]),
]
CHAT_ONLY: list[Row] = [
    ({"messages": DROP}, "messages", ["'messages'", "missing"]),
    ({"messages": []}, "messages", ["at least one message", "empty list"]),
    ({"messages": None}, "messages", ["a list", "found null"]),
    ({"messages": "hi"}, "messages", ["a list", 'found "hi"']),
    ({"messages": {}}, "messages", ["a list", "found {}"]),
    ({"messages": ["hi"]}, "messages[0]", ["an object", 'found "hi"']),
    ({"messages": [None]}, "messages[0]", ["an object", "found null"]),
    ({"messages": [{}]}, "messages[0].role", ["'messages[0].role'", "missing"]),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", ["missing"]),
    ({"messages": [{"role": 5, "content": "hi"}]}, "messages[0].role", ["a string", "found 5"]),
    (
        {"messages": [{"role": "robot", "content": "hi"}]},
        "messages[0].role",
        ["one of system, developer, user", 'found "robot"'],
    ),
    ({"messages": [{"role": "User", "content": "hi"}]}, "messages[0].role", ['found "User"']),
    ({"messages": [{"role": "", "content": "hi"}]}, "messages[0].role", ['found ""']),
    ({"messages": [{"role": "user"}]}, "messages[0].content", ["null", "send text"]),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", ["null", "send text"]),
    ({"messages": [{"role": "assistant", "content": None}]}, "messages[0].content", ["tool_calls"]),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", ["a string", "found 5"]),
    (
        {"messages": [{"role": "user", "content": {"text": "hi"}}]},
        "messages[0].content",
        ["a string", "a list", 'found {"text":"hi"}'],
    ),
    ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages[0].content[0]", ["an object", '"hi"']),
    (
        {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": [{}]}]},
        "messages[1].content[0].type",
        ["only text parts", "found null"],
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content[0].type",
        ["only text parts", 'found "image_url"'],
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text"}]}]},
        "messages[0].content[1].text",
        ["a string", "found null"],
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        "messages[0].content[0].text",
        ["a string", "found 5"],
    ),
    ({"messages": [{"role": "user", "content": "a", "name": 5}]}, "messages[0].name", ["a string", "5"]),
    (
        {"messages": [{"role": "assistant", "tool_calls": "x"}]},
        "messages[0].tool_calls",
        ["a list", 'found "x"'],
    ),
    ({"max_completion_tokens": 0}, "max_completion_tokens", ["from 1 to", "found 0"]),
    ({"max_completion_tokens": "5"}, "max_completion_tokens", ["an integer", 'found "5"']),
    (
        {"max_completion_tokens": 5, "max_tokens": 6},
        "max_completion_tokens",
        ["max_tokens is 6", "max_completion_tokens 5", "send one of them"],
    ),
    ({"logprobs": 3}, "logprobs", ["true or false", "found 3"]),
    ({"top_logprobs": 21}, "top_logprobs", ["from 0 to 20", "found 21"]),
    ({"top_logprobs": -1}, "top_logprobs", ["from 0 to 20", "found -1"]),
    ({"logprobs": True, "top_logprobs": 2}, "top_logprobs", ["chosen token", "leave it out"]),
    ({"tools": [{"type": "function"}]}, "tools", ["not supported", "leave it out"]),
    ({"tools": {}}, "tools", ["a list", "found {}"]),
    ({"functions": [{"name": "f"}]}, "functions", ["not supported", "leave it out"]),
    ({"modalities": ["text", "audio"]}, "modalities", ["only text", 'found ["text","audio"]']),
    ({"audio": {"voice": "x"}}, "audio", ["not supported", "leave it out"]),
    ({"web_search_options": {}}, "web_search_options", ["not supported", "leave it out"]),
    ({"reasoning_effort": "high"}, "reasoning_effort", ["not supported", "leave it out"]),
]
COMPLETIONS_ONLY: list[Row] = [
    ({"prompt": DROP}, "prompt", ["'prompt'", "missing"]),
    ({"prompt": None}, "prompt", ["a string", "found null"]),
    ({"prompt": ""}, "prompt", ["must not be empty", "send some text"]),
    ({"prompt": []}, "prompt", ["must not be empty"]),
    ({"prompt": ["a", ""]}, "prompt", ["must not be empty"]),
    ({"prompt": [1, 2]}, "prompt", ["token ids", "leave it out"]),
    ({"prompt": [0]}, "prompt", ["token ids"]),
    ({"prompt": [[1, 2]]}, "prompt", ["token ids"]),
    ({"prompt": ["a", None]}, "prompt", ["a list of strings", "found null"]),
    ({"prompt": ["a", {"b": 1}]}, "prompt", ["a list of strings", 'found {"b":1}']),
    ({"prompt": 5}, "prompt", ["a string", "found 5"]),
    ({"prompt": {}}, "prompt", ["a string", "found {}"]),
    ({"prompt": ["x"] * 65}, "prompt", ["at most 64", "found 65"]),
    ({"logprobs": True}, "logprobs", ["an integer", "found true"]),
    ({"logprobs": 6}, "logprobs", ["from 0 to 5", "found 6"]),
    ({"logprobs": 1}, "logprobs", ["chosen token", "send 0"]),
    ({"echo": True}, "echo", ["not repeated", "leave it out"]),
    ({"echo": "x"}, "echo", ["true or false", 'found "x"']),
    ({"suffix": "x"}, "suffix", ["not supported", "leave it out"]),
    ({"suffix": 5}, "suffix", ["a string", "found 5"]),
    ({"best_of": 2}, "best_of", ["use n", "leave it out"]),
]
UNSUPPORTED = [
    *("logit_bias", "tools", "functions", "modalities", "audio", "web_search_options", "reasoning_effort"),
    *("echo", "suffix", "best_of"),
]


def check(error: PenstockError, changes: dict[str, Any], param: str | None, pieces: list[str]) -> None:
    assert (error.status, error.type, error.param) == (400, "invalid_request_error", param)
    assert [piece for piece in pieces if piece not in error.message] == [], error.message
    assert len(error.message) < 400
    if isinstance(error, Unsupported):
        assert error.code == "unsupported_feature"


@pytest.mark.parametrize(("changes", "param", "pieces"), [*COMMON, *CHAT_ONLY])
def test_chat(changes: dict[str, Any], param: str | None, pieces: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        CHAT.parse(chat(**changes))
    check(caught.value, changes, param, pieces)


@pytest.mark.parametrize(("changes", "param", "pieces"), [*COMMON, *COMPLETIONS_ONLY])
def test_completions(changes: dict[str, Any], param: str | None, pieces: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        COMPLETIONS.parse(completion(**changes))
    check(caught.value, changes, param, pieces)


def test_there_are_many_and_each_is_there_once() -> None:
    rows = [repr(row) for row in (*COMMON, *CHAT_ONLY, *COMPLETIONS_ONLY)]
    assert len(set(rows)) == len(rows) >= 80


# Bodies that no JSON library would write: (raw members put into a good body, param, pieces).
RAW: list[tuple[bytes, str | None, list[str]]] = [
    (b'"max_tokens":' + b"9" * 30, "max_tokens", ["from 1 to 2147483647", "found 9999"]),
    (b'"max_tokens":' + b"9" * 5000, "max_tokens", ["out of range"]),
    (b'"max_tokens":1e400', "max_tokens", ["out of range"]),
    (b'"max_tokens":5.0', "max_tokens", ["an integer", "found 5.0"]),
    (b'"seed":18446744073709551616', "seed", ["from -9223372036854775808 to 18446744073709551615"]),
    (b'"temperature":1e999', "temperature", ["out of range"]),
    (b'"temperature":' + b"9" * 5000, "temperature", ["out of range"]),
    (b'"temperature":NaN', None, ["not valid JSON", "application/json"]),
    (b'"temperature":Infinity', None, ["not valid JSON"]),
    (b'"temperature":-', None, ["not valid JSON"]),
    (b'"temperature":01', None, ["not valid JSON"]),
    (b'"temperature":1,', None, ["not valid JSON"]),
    (b'"user":"\xff"', None, ["not UTF-8"]),
    (b'"user":"\xed\xa0\x80"', None, ["not UTF-8"]),
    (b'"user":"\\ud800"', None, ["not valid JSON"]),
    (b'"user":"\\ud800\\ud800"', None, ["not valid JSON"]),
    (b'"user":"\\q"', None, ["not valid JSON"]),
    (b'"user":"a\nb"', None, ["not valid JSON"]),
    (b'"user":"open', None, ["not valid JSON"]),
    (b"'user':'x'", None, ["not valid JSON"]),
    (b'"x":' + b"[" * 100_000, None, ["nested too deeply"]),
    (b'"x":' + b'{"a":' * 100_000, None, ["nested too deeply"]),
    (b'"stop":' + b"[" * 900 + b"]" * 900, "stop[0]", ["a string", "found [[["]),
    (
        b'"response_format":{"type":"json_schema","json_schema":{"schema":'
        + b'{"items":' * 65
        + b"{}"
        + b"}" * 65
        + b"}}",
        "response_format.json_schema.schema",
        ["deeper than 64"],
    ),
    (
        b'"response_format":{"type":"json_schema","json_schema":{"schema":{"maximum":' + b"9" * 30 + b"}}}",
        "response_format.json_schema.schema",
        ["64 bits"],
    ),
    (
        b'"response_format":{"type":' + b"[" * 900 + b"]" * 900 + b"}",
        "response_format.type",
        ["json_object", "found [[["],
    ),
]


@pytest.mark.parametrize(("members", "param", "pieces"), RAW, ids=[str(at) for at in range(len(RAW))])
def test_raw(members: bytes, param: str | None, pieces: list[str]) -> None:
    for dialect, body in ((CHAT, chat()), (COMPLETIONS, completion())):
        with pytest.raises(BadRequest) as caught:
            dialect.parse(spliced(body, members))
        check(caught.value, {}, param, pieces)


NO_JSON_OBJECT = [
    *(b"", b" ", b"{", b"hello", b"[]", b"[{}]", b'"x"', b"null", b"1", b"true"),
    *(b"\xef\xbb\xbf{}", b"\x00", b"\x1f\x8b\x08\x00"),
]


@pytest.mark.parametrize("body", NO_JSON_OBJECT)
def test_bodies_that_are_no_json_object(body: bytes) -> None:
    for dialect in (CHAT, COMPLETIONS):
        with pytest.raises(BadRequest) as caught:
            dialect.parse(body)
        assert caught.value.code == "invalid_json"


@pytest.mark.parametrize("more", [b"{}", b"x", b"]", b"\x00"])
def test_something_after_the_object(more: bytes) -> None:
    for dialect, body in ((CHAT, chat()), (COMPLETIONS, completion())):
        with pytest.raises(BadRequest) as caught:
            dialect.parse(body + more)
        assert caught.value.code == "invalid_json"


def parses(body: bytes) -> None:
    """Either a request or an error of the caller's: never another exception."""
    for dialect in (CHAT, COMPLETIONS):
        error = None
        try:
            assert isinstance(dialect.parse(body), Request)
        except PenstockError as caught:
            error = caught
        if error is not None:
            assert 400 <= error.status < 500
            wire = orjson.loads(dialect.error(error))["error"]
            assert set(wire) == {"message", "type", "param", "code"}
            assert wire["message"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted({key for row in (*COMMON, *CHAT_ONLY, *COMPLETIONS_ONLY) for key in row[0]})


def dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    parses(body)


@settings(deadline=None)
@given(JSON)
def test_any_json(value: Any) -> None:
    parses(dumped(value))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_any_values_in_the_fields_that_we_know(changes: dict[str, Any]) -> None:
    base: dict[str, Any] = {"model": "a", "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    parses(dumped(base | changes))


@settings(deadline=None)
@given(field=st.sampled_from(FIELDS), depth=st.integers(1, 3000), inner=st.sampled_from([b"1", b"9" * 25]))
def test_any_depth_in_any_field(field: str, depth: int, inner: bytes) -> None:
    body = spliced(chat(prompt="x"), b'"%b":%b%b%b' % (field.encode(), b"[" * depth, inner, b"]" * depth))
    parses(body)
    parses(body.replace(b"[", b'{"type":').replace(b"]", b"}"))


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.binary(max_size=2))
def test_a_good_body_with_a_few_bytes_changed(at: int, byte: bytes) -> None:
    body = chat(stop=["a"], temperature=0.5, response_format={"type": "text"}, stream=True, prompt="x")
    at %= len(body)
    parses(body[:at] + byte + body[at + len(byte) :])
    parses(body[:at])
