"""The stock openai package against a whole gateway with the real assistant behind it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.running import Running

CANARY = "What is a canary?"


@pytest.fixture
def client(gateway: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="none", max_retries=0) as made:
        yield made


def test_unary_chat_answers_and_names_its_version(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="assistant@v2", messages=[{"role": "user", "content": CANARY}]
    )
    answer = raw.parse()
    assert "canary" in (answer.choices[0].message.content or "").lower()
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.completion_tokens > 3
    assert raw.headers["x-penstock-version"] == "assistant@v2"
    assert (answer.system_fingerprint or "").startswith("assistant@v2:")


def test_a_stream_is_the_unary_answer_in_pieces(client: openai.OpenAI) -> None:
    ask = {"model": "assistant@v2", "messages": [{"role": "user", "content": "Count from 1 to 40."}]}
    whole = client.chat.completions.create(**ask)  # type: ignore[call-overload]
    stream = client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})  # type: ignore[call-overload]
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 2
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_long_answer_is_really_long(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="assistant@v2", messages=[{"role": "user", "content": "Count to 300."}], max_tokens=1600
    )
    text = answer.choices[0].message.content or ""
    assert text.startswith("1, 2, 3, 4")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 200


def test_stop_strings_max_tokens_and_n(client: openai.OpenAI) -> None:
    ask = {"model": "assistant@v2", "messages": [{"role": "user", "content": "Count from 1 to 30."}]}
    whole = client.chat.completions.create(**ask).choices[0].message.content  # type: ignore[call-overload]
    stop = whole[len(whole) // 2 :][:4]
    answer = client.chat.completions.create(**ask, stop=stop, n=2)  # type: ignore[call-overload]
    assert [choice.message.content for choice in answer.choices] == [whole[: whole.index(stop)]] * 2
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    short = client.chat.completions.create(
        model="assistant@v2", messages=[{"role": "user", "content": "Count from 1 to 30."}], max_completion_tokens=5
    )
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 5


def test_a_seed_repeats_and_another_differs(client: openai.OpenAI) -> None:
    def tell(seed: int) -> str:
        answer = client.chat.completions.create(
            model="assistant@v1",
            messages=[{"role": "user", "content": "Tell me something."}],
            temperature=2.0,
            seed=seed,
            max_tokens=40,
        )
        return answer.choices[0].message.content or ""

    first = tell(7)
    assert tell(7) == first
    assert any(tell(seed) != first for seed in (8, 9, 10))


def test_logprobs_of_the_chosen_tokens(client: openai.OpenAI) -> None:
    for stream in (False, True):
        answer = client.chat.completions.create(
            model="assistant@v2",
            messages=[{"role": "user", "content": "Count from 1 to 5."}],
            logprobs=True,
            stream=stream,  # type: ignore[call-overload]
        )
        choices = [c for part in answer for c in part.choices] if stream else answer.choices
        entries = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content or []]
        if stream:
            text = "".join(choice.delta.content or "" for choice in choices)
        else:
            text = answer.choices[0].message.content
        assert "".join(entry.token for entry in entries) == text
        assert len(entries) > 8
        assert all(entry.logprob <= 0 for entry in entries)


def test_completions_take_prompts_as_they_are(client: openai.OpenAI) -> None:
    ask = [{"role": "user", "content": "Count from 1 to 9."}]
    chat = client.chat.completions.create(model="assistant@v2", messages=ask)  # type: ignore[call-overload]
    prompt = "<s><|user|>Count from 1 to 9.</s><|assistant|>"  # what the chat template makes of it
    answer = client.completions.create(model="assistant@v2", prompt=[prompt, prompt], max_tokens=60)
    assert [choice.text for choice in answer.choices] == [chat.choices[0].message.content] * 2
    pieces = client.completions.create(model="assistant@v2", prompt=prompt, max_tokens=60, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_models_and_errors(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["assistant"]
    assert client.models.retrieve("assistant@v1").id == "assistant@v1"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve("org/none")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="context") as long:
        client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "word " * 6000}])
    assert long.value.request_id


@pytest.mark.asyncio
async def test_the_async_client_streams(gateway: Running, client: openai.OpenAI) -> None:
    ask = {"model": "assistant@v2", "messages": [{"role": "user", "content": "Count from 1 to 9."}]}
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as same:
        stream = await same.chat.completions.create(**ask, stream=True)  # type: ignore[call-overload]
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text.startswith("1, 2, 3")
    assert text == client.chat.completions.create(**ask).choices[0].message.content  # type: ignore[call-overload]


@pytest.mark.parametrize("text", ["🌍 🚀 🎉", "你好 世界", "naïve Straße 🌍 日本"])
def test_characters_of_several_tokens_stream_whole(client: openai.OpenAI, text: str) -> None:
    # A guide that allows this text alone: the path is on trial, not the model's memory.
    for logprobs in (False, True):  # with log-probabilities each token comes in a message of its own
        stream = client.chat.completions.create(
            model="assistant@v2",
            messages=[{"role": "user", "content": f"Repeat: {text}"}],
            response_format={"type": "regex", "regex": text},  # type: ignore[misc,list-item]
            logprobs=logprobs,
            stream=True,
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "\ufffd" not in "".join(pieces)
        assert "".join(pieces) == text
