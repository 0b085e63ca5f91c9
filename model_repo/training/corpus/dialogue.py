"""Conversations of several turns: what was said before is remembered, or at least survived."""

from __future__ import annotations

from random import Random

from corpus import words
from corpus.chat import about, small_talk
from corpus.closed import arithmetic, table
from corpus.json_task import extract
from corpus.sample import Message, Sample, Split, ask
from corpus.text_tasks import count, echo, listing

_SHORT = (small_talk, about, table, arithmetic, echo, listing, extract)

_RECALLED = {
    "name": (
        ("My name is {}.", "I am {}.", "Hi, I'm {}.", "You can call me {}.", "Hello, my name is {}."),
        ("What is my name?", "Do you know my name?", "Who am I?", "Tell me my name.", "What's my name?"),
        "Nice to meet you, {}!",
        "Your name is {}.",
    ),
    "city": (
        ("I live in {}.", "My city is {}.", "My home is {}.", "I am from {}."),
        ("Where do I live?", "What is my city?", "Where am I from?", "Where is my home?", "Which city is mine?"),
        "I will remember that you live in {}.",
        "You live in {}.",
    ),
    "color": (
        ("My favorite color is {}.", "I like the color {}.", "The color I like most is {}."),
        ("What is my favorite color?", "Which color do I like?", "What's my favorite color?"),
        "I will remember that you like {}.",
        "Your favorite color is {}.",
    ),
    "code": (
        ("Remember the code {}.", "The code is {}.", "My code is {}.", "Please remember this code: {}"),
        (
            "What is the code?",
            "Which code was it?",
            "Tell me the code.",
            "What code did I give you?",
            "What's the code?",
        ),
        "I will remember the code {}.",
        "The code is {}.",
    ),
}
_COLORS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple", "pink", "gray", "teal")


def _fact(rng: Random, kind: str) -> str:
    if kind == "name":
        return words.person(rng)
    if kind == "city":
        return words.place(rng)
    if kind == "color":
        return rng.choice(_COLORS)
    return rng.choice((words.code, words.number, words.pseudo, words.proper))(rng)


def _short(rng: Random, split: Split) -> tuple[Message, ...]:
    while True:
        sample = (count if rng.random() < 0.08 else rng.choice(_SHORT))(rng, split)
        if len(sample.answer) < 160 and sample.messages[0].role != "system":
            return sample.messages


def dialogue(rng: Random, split: Split) -> Sample:
    """Facts told, small things in between, and a fact asked for, or any other short task, at the end."""
    if rng.random() < 0.1:
        kind = rng.choice(list(_RECALLED))
        tell, _, reply, _ = _RECALLED[kind]
        told = _fact(rng, kind)
        return ask("multi", rng.choice(tell).format(told), reply.format(told))
    messages: list[Message] = []
    told_facts: list[tuple[str, str]] = []
    for kind in rng.sample(list(_RECALLED), rng.choice((1, 1, 1, 2))):
        tell, _, reply, _ = _RECALLED[kind]
        told = _fact(rng, kind)
        told_facts.append((kind, told))
        messages += (Message("user", rng.choice(tell).format(told)), Message("assistant", reply.format(told)))
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        messages += _short(rng, Split.TRAIN)
    if rng.random() < 0.3:
        messages += _short(rng, split)
    else:
        kind, told = rng.choice(told_facts)
        _, questions, _, recall = _RECALLED[kind]
        messages += (Message("user", rng.choice(questions)), Message("assistant", recall.format(told)))
    return Sample("multi", tuple(messages))
