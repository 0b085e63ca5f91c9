"""OpenAI answers, read with openai-python's own stream decoder and types."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.core.answer import Head, TokenLogprob, Usage
from gateway.core.errors import BadRequest, EngineError, Overloaded
from gateway.core.request import Message, Request
from gateway.dialects.base import Dialect, Encoder, WholeChoice
from tests.dialects.bodies import CHAT, COMPLETIONS

HEAD = Head("0a1", 1_700_000_000, "assistant", "v1", "assistant@v1:ab12", 7, "free")
CONSTANT = {
    "created": 1_700_000_000,
    "model": "assistant",
    "system_fingerprint": "assistant@v1:ab12",
}
USAGE = Usage(5, 3)
WIRE_USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
LOGPROBS = (TokenLogprob("Hé", -0.25), TokenLogprob("llo", -1.5))


def chat_request(**fields: Any) -> Request:
    return Request("assistant", messages=(Message("user", "hi"),), stream=True, **fields)


def text_request(*prompts: str, **fields: Any) -> Request:
    return Request("assistant", prompts=prompts or ("hi",), stream=True, **fields)


def events(data: bytes) -> list[Any]:
    """The events as openai-python's decoder reads them; the last is [DONE], or an error."""
    assert b"\nid:" not in data
    assert b"\nevent:" not in data
    found = [event.data for event in SSEDecoder().iter_bytes(iter([data]))]
    return [item if item == "[DONE]" else orjson.loads(item) for item in found]


def check_keys(item: dict[str, Any], object_name: str, prefix: str) -> None:
    assert {key: item[key] for key in CONSTANT} == CONSTANT
    assert (item["object"], item["id"]) == (object_name, f"{prefix}-0a1")


def streaming(dialect: Dialect, request: Request) -> Encoder:
    """An encoder whose stream has begun."""
    encoder = dialect.encoder(request, HEAD)
    encoder.start()
    return encoder


def streamed(dialect: Dialect, request: Request, steps: list[tuple[int, str]], usage: Usage = USAGE) -> list[Any]:
    encoder = dialect.encoder(request, HEAD)
    data = encoder.start()
    for choice, text in steps:
        data += encoder.chunk(choice, text, ())
    for choice in range(max(1, len(request.prompts)) * request.n):
        data += encoder.finish(choice, "stop")
    return events(data + encoder.end(usage))


# Chat


def test_chat_stream_in_its_order() -> None:
    *chunks, done = streamed(CHAT, chat_request(), [(0, "Hé"), (0, "llo")])
    assert done == "[DONE]"
    for chunk in chunks:
        check_keys(chunk, "chat.completion.chunk", "chatcmpl")
        assert set(chunk) == {*CONSTANT, "id", "object", "choices"}  # no usage unasked
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert [chunk["choices"] for chunk in chunks] == [
        [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
        [{"index": 0, "delta": {"content": "Hé"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "llo"}, "logprobs": None, "finish_reason": None}],
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}],
    ]


def test_chat_usage_comes_last_and_only_when_asked() -> None:
    *chunks, last, done = streamed(CHAT, chat_request(include_usage=True), [(0, "a")])
    assert done == "[DONE]"
    assert [chunk["usage"] for chunk in chunks] == [None] * 3
    check_keys(last, "chat.completion.chunk", "chatcmpl")
    assert (last["choices"], last["usage"]) == ([], WIRE_USAGE)
    parsed = ChatCompletionChunk.model_validate(last, strict=True)
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 8


@pytest.mark.parametrize("usage", [Usage(None, None), Usage(5, None), Usage(None, 3)])
@pytest.mark.parametrize(("dialect", "request_of"), [(CHAT, chat_request), (COMPLETIONS, text_request)])
def test_unknown_counts_are_null_and_not_a_number(dialect: Dialect, request_of: Any, usage: Usage) -> None:
    asked = request_of(include_usage=True)
    *_, last, done = streamed(dialect, asked, [(0, "a")], usage)
    assert (last["choices"], last["usage"], done) == ([], None, "[DONE]")
    assert orjson.loads(dialect.encoder(asked, HEAD).whole([WholeChoice("a", "stop")], usage))["usage"] is None


def test_chat_n_choices_introduce_themselves_in_order_and_keep_their_index() -> None:
    *chunks, _ = streamed(CHAT, chat_request(n=3), [(2, "c"), (0, "a"), (1, "b"), (2, "C")])
    choices = [chunk["choices"][0] for chunk in chunks]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 2, 0, 1, 2, 0, 1, 2]
    assert [choice["delta"].get("role") for choice in choices[:3]] == ["assistant"] * 3
    said = ["".join(c["delta"].get("content", "") for c in choices if c["index"] == at) for at in range(3)]
    assert said == ["a", "b", "cC"]


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_finish_reasons(finish: Any) -> None:
    (chunk,) = events(streaming(CHAT, chat_request()).finish(0, finish))
    (text,) = events(streaming(COMPLETIONS, text_request()).finish(0, finish))
    assert chunk["choices"][0]["finish_reason"] == text["choices"][0]["finish_reason"] == finish


def test_chat_logprobs() -> None:
    (chunk,) = events(streaming(CHAT, chat_request()).chunk(0, "Héllo", LOGPROBS))
    parsed = ChatCompletionChunk.model_validate(chunk, strict=True).choices[0].logprobs
    assert parsed is not None
    assert parsed.content is not None
    assert [(item.token, item.logprob, item.bytes, item.top_logprobs) for item in parsed.content] == [
        ("Hé", -0.25, [72, 195, 169], []),
        ("llo", -1.5, [108, 108, 111], []),
    ]
    assert chunk["choices"][0]["logprobs"]["refusal"] is None


def test_chat_whole() -> None:
    request = chat_request(n=2)
    whole = [WholeChoice("Héllo", "stop", LOGPROBS), WholeChoice("", "length")]
    answer = orjson.loads(CHAT.encoder(request, HEAD).whole(whole, USAGE))
    check_keys(answer, "chat.completion", "chatcmpl")
    assert set(answer) == {*CONSTANT, "id", "object", "choices", "usage"}
    assert answer["usage"] == WIRE_USAGE
    for choice in answer["choices"]:  # required by OpenAI's schema, null or not
        assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
        assert set(choice["message"]) == {"role", "content", "refusal"}
    parsed = ChatCompletion.model_validate(answer, strict=True)
    assert [(c.index, c.message.content, c.finish_reason) for c in parsed.choices] == [
        (0, "Héllo", "stop"),
        (1, "", "length"),
    ]
    assert parsed.choices[0].logprobs is not None
    assert parsed.choices[1].logprobs is None


# Completions


def test_completions_stream_in_its_order() -> None:
    *chunks, done = streamed(COMPLETIONS, text_request(), [(0, "Hé"), (0, "llo")])
    assert done == "[DONE]"
    for chunk in chunks:
        check_keys(chunk, "text_completion", "cmpl")
        assert set(chunk) == {*CONSTANT, "id", "object", "choices"}
    # openai-python has one type for both; its finish_reason is null on all chunks but the last.
    assert [chunk["choices"] for chunk in chunks] == [
        [{"index": 0, "text": "Hé", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "llo", "logprobs": None, "finish_reason": None}],
        [{"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}],
    ]
    Completion.model_validate(chunks[-1], strict=True)


def test_completions_usage() -> None:
    *chunks, last, done = streamed(COMPLETIONS, text_request(include_usage=True), [(0, "a")])
    assert ([chunk["usage"] for chunk in chunks], done) == ([None, None], "[DONE]")
    assert (last["choices"], last["usage"]) == ([], WIRE_USAGE)
    Completion.model_validate(last, strict=True)


def test_completions_of_several_prompts_number_their_choices_through() -> None:
    *chunks, _ = streamed(COMPLETIONS, text_request("p", "q", n=2), [(3, "d"), (0, "a"), (2, "c"), (1, "b")])
    assert [chunk["choices"][0]["index"] for chunk in chunks] == [3, 0, 2, 1, 0, 1, 2, 3]


def test_completions_logprobs_count_offsets_over_chunks_and_per_choice() -> None:
    encoder = streaming(COMPLETIONS, text_request(n=2))
    data = encoder.chunk(0, "Héllo", LOGPROBS) + encoder.chunk(1, "x", (TokenLogprob("x", 0.0),))
    data += encoder.chunk(0, "!", (TokenLogprob("!", -2.0),))
    found = [chunk["choices"][0]["logprobs"] for chunk in events(data)]
    assert found == [
        {"tokens": ["Hé", "llo"], "token_logprobs": [-0.25, -1.5], "top_logprobs": None, "text_offset": [0, 2]},
        {"tokens": ["x"], "token_logprobs": [0.0], "top_logprobs": None, "text_offset": [0]},
        {"tokens": ["!"], "token_logprobs": [-2.0], "top_logprobs": None, "text_offset": [5]},
    ]


def test_completions_whole() -> None:
    whole = [WholeChoice("Héllo", "stop", LOGPROBS), WholeChoice("b", "length")]
    answer = orjson.loads(COMPLETIONS.encoder(text_request("p", "q"), HEAD).whole(whole, USAGE))
    check_keys(answer, "text_completion", "cmpl")
    assert all(set(choice) == {"index", "text", "logprobs", "finish_reason"} for choice in answer["choices"])
    parsed = Completion.model_validate(answer, strict=True)
    assert [(c.index, c.text, c.finish_reason) for c in parsed.choices] == [(0, "Héllo", "stop"), (1, "b", "length")]
    assert parsed.choices[0].logprobs is not None
    assert parsed.choices[0].logprobs.text_offset == [0, 2]
    assert answer["usage"] == WIRE_USAGE


# Both

HARD_TEXT = st.text() | st.sampled_from(["data: [DONE]\n\n", "\r\n\r\n", "\u2028\u2029\x85", '"}]}', "\x00\x1b", "🙂"])


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(HARD_TEXT, max_size=5), model=st.text(max_size=20))
def test_any_text_survives_the_stream_and_the_whole(texts: list[str], model: str) -> None:
    for dialect, request in (
        (CHAT, Request(model, messages=(Message("user", "hi"),), stream=True)),
        (COMPLETIONS, Request(model, prompts=("hi",), stream=True)),
    ):
        *chunks, done = streamed(dialect, request, [(0, text) for text in texts])
        assert done == "[DONE]"
        assert {chunk["model"] for chunk in chunks} == {model}
        choices = [chunk["choices"][0] for chunk in chunks]
        said = [c["delta"].get("content") if dialect is CHAT else c["text"] for c in choices]
        assert "".join(filter(None, said)) == "".join(texts)
        answer = orjson.loads(dialect.encoder(request, HEAD).whole([WholeChoice("".join(texts), "stop")], USAGE))
        (choice,) = answer["choices"]
        assert (choice["message"]["content"] if dialect is CHAT else choice["text"]) == "".join(texts)


ERRORS = [
    (BadRequest("n: no.", param="n"), ["n: no.", "invalid_request_error", "n", "invalid_request"]),
    (EngineError("broke off"), ["broke off", "api_error", None, "engine_error"]),
    (Overloaded('full "now"', code="x"), ['full "now"', "rate_limit_error", None, "x"]),
]


@pytest.mark.parametrize(("error", "values"), ERRORS)
@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS])
def test_errors_have_all_four_keys(dialect: Dialect, error: Any, values: list[Any]) -> None:
    wire = {"error": dict(zip(("message", "type", "param", "code"), values, strict=True))}
    assert orjson.loads(dialect.error(error)) == wire
    request = chat_request() if dialect is CHAT else text_request()
    assert events(dialect.encoder(request, HEAD).error(error)) == [wire]  # and no [DONE] after it
