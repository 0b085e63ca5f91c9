"""OpenAI bodies that are taken, and the canonical request that they become."""

from typing import Any

import orjson
import pytest

from gateway.core.request import Guide, Message, Request, Sampling
from gateway.dialects.registry import BY_PATH, DIALECTS
from tests.dialects.bodies import CHAT, COMPLETIONS, HI, chat, completion, spliced

PLAIN = Request("assistant", messages=(Message("user", "hi"),))
TEXT = Request("assistant", prompts=("hi",))


def changed(base: Request, **fields: Any) -> Request:
    return Request(**{name: fields.get(name, getattr(base, name)) for name in base.__struct_fields__})


SAMPLING = [
    ({"max_tokens": 1}, Sampling(max_tokens=1)),
    ({"max_tokens": 2**31 - 1}, Sampling(max_tokens=2**31 - 1)),
    ({"min_tokens": 3}, Sampling(min_tokens=3)),
    ({"min_tokens": 0}, Sampling()),
    ({"temperature": 0}, Sampling(temperature=0)),
    ({"temperature": 0.25}, Sampling(temperature=0.25)),
    ({"temperature": 2}, Sampling(temperature=2)),
    ({"top_p": 1}, Sampling(top_p=1)),
    ({"top_k": 5}, Sampling(top_k=5)),
    ({"top_k": 0}, Sampling()),
    ({"top_k": -1}, Sampling()),
    ({"seed": 0}, Sampling(seed=0)),
    ({"seed": -1}, Sampling(seed=2**64 - 1)),
    ({"seed": 2**64 - 1}, Sampling(seed=2**64 - 1)),  # as an answer reports the seed above
    ({"presence_penalty": -2}, Sampling(presence_penalty=-2)),
    ({"frequency_penalty": 2}, Sampling(frequency_penalty=2)),
    ({"repetition_penalty": 1.2}, Sampling(repetition_penalty=1.2)),
    ({"stop": "END"}, Sampling(stop=("END",))),
    ({"stop": ["a", "b"]}, Sampling(stop=("a", "b"))),
    ({"stop": []}, Sampling()),
    ({"stop": None}, Sampling()),
    ({"stop": ["x" * 256] * 16}, Sampling(stop=("x" * 256,) * 16)),
]


@pytest.mark.parametrize(("fields", "sampling"), SAMPLING)
def test_sampling(fields: dict[str, Any], sampling: Sampling) -> None:
    assert CHAT.parse(chat(**fields)) == changed(PLAIN, sampling=sampling)
    assert COMPLETIONS.parse(completion(**fields)) == changed(TEXT, sampling=sampling)


SCHEMA = {"type": "object", "properties": {"größe": {"type": "integer"}}}
COMMON = [
    ({"n": 3}, {"n": 3}),
    ({"stream": True}, {"stream": True}),
    ({"stream": False}, {}),
    ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True, "include_usage": True}),
    ({"stream_options": {"include_usage": False}}, {}),
    ({"stream_options": {"include_usage": True, "continuous_usage_stats": True}}, {"include_usage": True}),
    ({"user": "u1"}, {"user": "u1"}),
    ({"user": "ü" * 512}, {"user": "ü" * 512}),
    ({"user": ""}, {}),
    ({"model": "org/assistant@v2"}, {"model": "org/assistant@v2"}),
    ({"response_format": {"type": "text"}}, {}),
    ({"response_format": {"type": "json_object"}}, {"guide": Guide("json_object")}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
        {"guide": Guide("json_schema", orjson.dumps(SCHEMA).decode())},
    ),
    ({"response_format": {"type": "regex", "regex": "a|b"}}, {"guide": Guide("regex", "a|b")}),
    (
        {"response_format": {"type": "ebnf", "ebnf": 'root ::= "a"'}},
        {"guide": Guide("grammar", 'root ::= "a"')},
    ),
    ({"logit_bias": {}}, {}),
    # Known to clients, unknown to us, and harmless.
    ({"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "ignore_eos": True}, {}),
    ({"parallel_tool_calls": False, "prediction": None, "safety_identifier": "x", "extra": [{}]}, {}),
]


@pytest.mark.parametrize(("fields", "expected"), COMMON)
def test_what_chat_and_completions_share(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert CHAT.parse(chat(**fields)) == changed(PLAIN, **expected)
    assert COMPLETIONS.parse(completion(**fields)) == changed(TEXT, **expected)


EVERY_OPTIONAL = [
    *("max_tokens", "min_tokens", "temperature", "top_p", "top_k", "n", "stream", "stream_options", "stop"),
    *("seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "user"),
    *("response_format", "logprobs"),
]


@pytest.mark.parametrize("field", EVERY_OPTIONAL)
def test_null_is_the_same_as_leaving_out(field: str) -> None:
    assert CHAT.parse(chat(**{field: None})) == PLAIN
    assert COMPLETIONS.parse(completion(**{field: None})) == TEXT


CALLS = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
CHAT_ONLY = [
    ({"max_completion_tokens": 7}, {"sampling": Sampling(max_tokens=7)}),
    ({"max_completion_tokens": 7, "max_tokens": 7}, {"sampling": Sampling(max_tokens=7)}),
    ({"logprobs": True}, {"sampling": Sampling(logprobs=True)}),
    ({"logprobs": True, "top_logprobs": 0}, {"sampling": Sampling(logprobs=True)}),
    ({"logprobs": False}, {}),
    ({"tools": []}, {}),
    ({"tools": [{"type": "function"}], "tool_choice": "none"}, {}),
    ({"tool_choice": "auto"}, {}),
    ({"functions": []}, {}),
    ({"modalities": ["text"]}, {}),
    ({"reasoning_effort": "none"}, {}),
]


@pytest.mark.parametrize(("fields", "expected"), CHAT_ONLY)
def test_chat_only(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert CHAT.parse(chat(**fields)) == changed(PLAIN, **expected)


MESSAGES = [
    ({"role": "system", "content": "be brief"}, Message("system", "be brief")),
    ({"role": "developer", "content": "be brief"}, Message("developer", "be brief")),
    ({"role": "user", "content": ""}, Message("user", "")),
    ({"role": "user", "content": "hi", "name": "Ann"}, Message("user", "hi", "Ann")),
    ({"role": "user", "content": []}, Message("user", "")),
    (
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        Message("user", "ab"),
    ),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, Message("assistant", "no")),
    (
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        Message("assistant", "", tool_calls=CALLS),
    ),
    ({"role": "assistant", "tool_calls": CALLS}, Message("assistant", "", tool_calls=CALLS)),
    (
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        Message("assistant", ""),
    ),
    (
        {"role": "tool", "content": "42", "tool_call_id": "c1"},
        Message("tool", "42", tool_call_id="c1"),
    ),
    ({"role": "function", "content": "42", "name": "f"}, Message("function", "42", "f")),
    ({"role": "user", "content": "日本\u0000🙂", "refusal": None, "x": 1}, Message("user", "日本\u0000🙂")),
]


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_messages(message: dict[str, Any], expected: Message) -> None:
    assert CHAT.parse(chat(messages=[*HI, message])).messages == (Message("user", "hi"), expected)


COMPLETIONS_ONLY = [
    ({"prompt": ["a", "b"]}, {"prompts": ("a", "b")}),
    ({"prompt": ["x"] * 64}, {"prompts": ("x",) * 64}),
    ({"prompt": "日本"}, {"prompts": ("日本",)}),
    ({"logprobs": 0}, {"sampling": Sampling(logprobs=True)}),
    ({"echo": False, "suffix": "", "best_of": 1}, {}),
    ({"echo": None, "suffix": None, "best_of": None}, {}),
]


@pytest.mark.parametrize(("fields", "expected"), COMPLETIONS_ONLY)
def test_completions_only(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert COMPLETIONS.parse(completion(**fields)) == changed(TEXT, **expected)


def test_json_as_json_may_be_written() -> None:
    spaced = b' \r\n\t{"model" : "assistant","messages":[ {"role":"user","content":"h\\u0069"} ]}\n '
    assert CHAT.parse(spaced) == PLAIN
    assert CHAT.parse(spliced(chat(temperature=1), b'"temperature":0.5')).sampling.temperature == 0.5
    surrogates = chat(messages=DOUBLE).replace(b"PLACE", b"\\ud83d\\ude42")
    assert CHAT.parse(surrogates).messages[0].content == "🙂"


DOUBLE = [{"role": "user", "content": "PLACE"}]


def test_the_registry_has_each_by_its_path() -> None:
    assert {dialect.path: dialect.name for dialect in DIALECTS} == {
        b"/v1/chat/completions": "openai_chat",
        b"/v1/completions": "openai_completions",
    }
    assert list(BY_PATH.values()) == list(DIALECTS)
