"""Extraction of small JSON objects. The answer is always ``json.dumps`` with its default spacing."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from corpus import words
from corpus.sample import Message, Sample, Split, ask

Value = str | int | bool | list[str]

_NUMERIC = "age amount quantity count size year floor room price weight score port total stock level".split()
_BOOLEAN = "active paid open ready enabled urgent public valid shipped approved".split()
_LISTED = "items tags colors tools names parts topics files".split()
_TEXTUAL = "name city owner color status country product customer job title brand version material".split()
_STYLES = (
    "Extract {keys} as JSON: {text}",
    "Extract {keys} as JSON.\n\n{text}",
    "Return JSON with {keys}: {text}",
    "Reply in JSON with keys {keys}. {text}",
    "{text}\n\nReply in JSON with keys {keys}.",
    "{text}\nExtract {keys} as JSON.",
    "Write a JSON object with the keys {keys} for this text: {text}",
    "Answer in JSON with {keys}. Text: {text}",
    "From the text, give {keys} as a JSON object.\n\nText: {text}",
)


def _join(rng: Random, keys: list[str]) -> str:
    shown = [f'"{key}"' for key in keys] if rng.random() < 0.1 else keys
    if len(shown) == 1:
        return shown[0]
    return ", ".join(shown[:-1]) + rng.choice((" and ", ", ", ", and ")) + shown[-1]


def _person(rng: Random) -> tuple[str, dict[str, Value]]:
    name, age, city = words.person(rng), rng.randint(1, 99), words.place(rng)
    text = rng.choice((
        f"{name} is {age} years old and lives in {city}.", f"{name}, aged {age}, lives in {city}.",
        f"{name} lives in {city} and is {age} years old.", f"Meet {name} from {city}, who is {age}.",
        f"In {city} lives {name}, {age} years old.", f"{name} ({age}) is from {city}.",
        f"My name is {name}, I am {age} and I live in {city}.", f"{name}, {age}, {city}",
        f"At the age of {age}, {name} moved to {city}.", f"{city}: {name} turned {age} today.",
    ))  # fmt: skip
    return text, {"name": name, "age": age, "city": city}


def _order(rng: Random) -> tuple[str, dict[str, Value]]:
    order = rng.choice((words.code(rng), str(rng.randint(100, 99999)), words.proper(rng)))
    amount, customer = rng.randint(1, 9999), words.person(rng)
    product = words.noun(rng)
    text = rng.choice((
        f"Order {order}: {customer} pays {amount} for a {product}.",
        f"{customer} ordered a {product} for {amount} (order {order}).",
        f"The order {order} by {customer} has the amount {amount} and the product {product}.",
        f"{customer} placed order {order} for one {product}; the amount is {amount}.",
        f"For order {order} we received {amount} from {customer} for the {product}.",
    ))  # fmt: skip
    return text, {"order": order, "amount": amount, "customer": customer, "product": product}


def _value(rng: Random, key: str) -> Value:
    if key in _NUMERIC:
        return rng.randint(0, 9999) if rng.random() < 0.4 else rng.randint(0, 99)
    if key in _BOOLEAN:
        return rng.random() < 0.5
    if key in _LISTED:
        return [words.noun(rng) for _ in range(rng.randint(1, 4))]
    if key in ("name", "owner", "customer"):
        return words.person(rng)
    if key == "city":
        return words.place(rng)
    return rng.choice((words.noun, words.noun, words.proper, words.code))(rng)


def _in_words(rng: Random, key: str, value: Value) -> str:
    if isinstance(value, bool):
        return f"{key} is {rng.choice(('yes', 'true')) if value else rng.choice(('no', 'false'))}"
    if isinstance(value, list):
        return f"{key}{rng.choice((': ', ' are '))}{', '.join(value)}"
    return f"{key}{rng.choice((' is ', ': ', ' ', ' = '))}{value}"


def _free(rng: Random) -> tuple[str, dict[str, Value]]:
    """Any keys, stated one after another in prose."""
    pool = [*_NUMERIC, *_BOOLEAN, *_LISTED, *_TEXTUAL, *rng.sample(words.ATTRIBUTES, 8), words.pseudo(rng)]
    keys = list(dict.fromkeys(rng.sample(pool, rng.randint(1, 6))))
    record = {key: _value(rng, key) for key in keys}
    parts = [_in_words(rng, key, value) for key, value in record.items()]
    rng.shuffle(parts)
    joint = rng.choice(("; ", ". The ", ", the ", "\n"))
    return rng.choice(("The ", "", f"About {words.proper(rng)}: the ")) + joint.join(parts) + ".", record


_MAKERS: tuple[Callable[[Random], tuple[str, dict[str, Value]]], ...] = (_person, _person, _order, _free, _free)


def extract(rng: Random, split: Split) -> Sample:
    """An object with the asked keys, in the asked order."""
    text, record = rng.choice(_MAKERS)(rng)
    keys = list(record)
    if rng.random() < 0.4:
        keys = rng.sample(keys, rng.randint(1, min(5, len(keys))))
    keys = keys[:5]
    answer = json.dumps({key: record[key] for key in keys}, ensure_ascii=False)
    if rng.random() < 0.12:
        order = Message("system", f"Reply in JSON with keys {_join(rng, keys)}.")
        return Sample("json", (order, Message("user", text), Message("assistant", answer)))
    return ask("json", rng.choice(_STYLES).format(keys=_join(rng, keys), text=text), answer)
