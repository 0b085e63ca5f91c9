"""response_format: what comes back fits the schema, for fifty prompts."""

from __future__ import annotations

import asyncio
import json

import jsonschema
import openai
import pytest

from tests.e2e.running import Running

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "city": {"type": "string", "maxLength": 30},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}
NAMES = ["Ana Silva", "Ben Okafor", "Chloé Dubois", "Deniz Kaya", "Eva Novák"]
CITIES = ["Lisbon", "Lagos", "Lyon", "Izmir", "Brno"]


def prompts() -> list[str]:
    # A guide holds any model to the syntax; the tiny one must still come to an end, so the prompts are of its kind.
    return [
        f"Extract name, age and city as JSON: {name}{middle} lives in {city}.".replace("#", str(20 + 7 * i + j))
        for i, name in enumerate(NAMES)
        for j, city in enumerate(CITIES)
        for middle in (" is # years old and", ", aged #,")
    ]


@pytest.mark.asyncio
async def test_fifty_answers_fit_their_schema(gateway: Running) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:

        async def ask(prompt: str) -> None:
            answer = await client.chat.completions.create(
                model="assistant@v2",
                messages=[{"role": "user", "content": prompt}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "it", "schema": PERSON, "strict": True},
                },
            )
            assert answer.choices[0].finish_reason == "stop", prompt
            jsonschema.validate(json.loads(answer.choices[0].message.content or ""), PERSON)

        asked = prompts()
        assert len(asked) == 50
        await asyncio.gather(*[ask(prompt) for prompt in asked])


BOUNDED = [
    PERSON,
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["b"]},
    {"type": "array", "items": {"enum": ["red", "grün", 'a "b"', None]}, "minItems": 1, "maxItems": 4},
    {"type": "integer", "minimum": -12, "maximum": 1045},
    {
        "type": "object",
        "properties": {
            "kind": {"const": "point"},
            "at": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
            "note": {"anyOf": [{"type": "string", "maxLength": 8}, {"type": "null"}]},
        },
        "required": ["kind", "at", "note"],
        "additionalProperties": False,
    },
]


@pytest.mark.asyncio
async def test_even_hot_answers_fit_and_come_to_an_end(gateway: Running) -> None:
    """At temperature 2 the model knows nothing: what holds the answer is the guide alone."""
    async with openai.AsyncOpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:

        async def ask(schema: dict[str, object], seed: int) -> None:
            answer = await client.chat.completions.create(
                model="assistant@v1",
                messages=[{"role": "user", "content": "Write something as JSON."}],
                temperature=2.0,
                seed=seed,
                max_tokens=400,
                response_format={"type": "json_schema", "json_schema": {"name": "it", "schema": schema}},
            )
            text = answer.choices[0].message.content or ""
            assert answer.choices[0].finish_reason == "stop", text
            jsonschema.validate(json.loads(text), schema)

        await asyncio.gather(*[ask(schema, seed) for schema in BOUNDED for seed in range(6)])


def test_json_object_and_a_schema_that_is_none(gateway: Running) -> None:
    with openai.OpenAI(base_url=gateway.url, api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="assistant@v2",
            messages=[
                {
                    "role": "user",
                    "content": "Extract name, age and city as JSON: Ana is 31 years old and lives in Lyon.",
                }
            ],
            response_format={"type": "json_object"},
        )
        assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
        with pytest.raises(openai.BadRequestError, match="no-such-type"):
            client.chat.completions.create(
                model="assistant@v2",
                messages=[{"role": "user", "content": "x"}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "it", "schema": {"type": "no-such-type"}},
                },
            )
