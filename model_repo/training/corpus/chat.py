"""Small talk, questions about Penstock, and the honest answer to everything else."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from corpus import words
from corpus.passages import fact
from corpus.sample import Sample, Split, ask, in_split

UNKNOWN = "I am a tiny model and I don't know that. Give me passages and I will answer from them."

_IS = (
    "What is {}?", "What's {}?", "Explain {}.", "What does {} mean?", "Define {}.", "Tell me about {}.", "{}?",
    "Can you explain {}?", "What do you mean by {}?", "What is meant by {}?", "Please explain {}.",
    "Describe {}.", "Do you know what {} is?", "In Penstock, what is {}?", "I don't understand {}.",
    "What exactly is {}?", "Could you tell me what {} is?", "Give me a definition of {}.", "So what is {}?",
    "What is {} in Penstock?", "{}: what is that?", "Help me understand {}.",
)  # fmt: skip
_HOW = (
    "How do I {}?", "How can I {}?", "How to {}?", "Tell me how to {}.", "How does one {}?", "I want to {}.",
    "What do I do to {}?", "Can you explain how to {}?", "How would I {}?", "What is the way to {}?",
    "Show me how to {}.", "How should I {}?", "I need to {}.", "Please tell me how to {}.", "How could I {}?",
)  # fmt: skip
_WHERE = (
    "Where is {}?", "Where do I find {}?", "Where can I find {}?", "In which place is {}?", "Where does one find {}?",
    "Tell me where {} is.", "Where would I look for {}?", "Do you know where {} is?",
)  # fmt: skip
_WHY = (
    "Why {}?", "Why should I {}?", "Why does one {}?", "What is the reason to {}?", "Why would I {}?",
    "Why do you {}?", "What is it good for to {}?", "Why do people {}?", "Tell me why to {}.",
)  # fmt: skip
_ASK = (
    "{}", "Please tell me: {}", "Quick question: {}", "I have a question. {}", "Hi! {}", "Can you tell me? {}",
    "{} Thanks!", "One more thing: {}", "I wonder: {}", "Question: {}", "Tell me, {}", "In Penstock: {}",
)  # fmt: skip
_SAY = ("{}", "{}, please", "Well, {}", "So, {}", "Now: {}", "Assistant, {}", "{} :)")
_TEMPLATES = {"say": _SAY, "is": _IS, "how": _HOW, "where": _WHERE, "why": _WHY, "ask": _ASK}

_OPEN = (
    "Who is {person}?", "What is the weather in {place}?", "Write a poem about {noun}.", "Explain {adj} {noun} theory.",
    "Who won the {noun} cup in {year}?", "Translate {noun} into French.", "What is the population of {place}?",
    "How old is {person}?", "When was {place} founded?", "What happened in {year}?", "Who invented the {noun}?",
    "What is {pseudo}?", "What is a {pseudo}?", "Tell me about {place}.", "Tell me about {person}.",
    "Explain {pseudo}.",
    "How do I cook {noun}?", "How do I repair a {noun}?", "Why is the {noun} {adj}?",
    "What is the capital of {proper}?",
    "Write an essay about {noun} and {noun}.", "Write a {adj} letter to {person}.", "What is the best {noun}?",
    "What does {pseudo} mean?", "Where is {place}?", "Where is the {adj} {noun}?", "How far is {place} from {place}?",
    "Write code for a {noun}.", "Write a Python program.", "Explain quantum mechanics.", "What is the meaning of life?",
    "Who is the president of {proper}?", "How many {noun}s are there in {place}?", "What is the price of {noun}?",
    "Which {noun} is the most {adj}?", "What do you think about {noun}s?", "Can you recommend a {noun}?",
    "What is the news today?", "What time is it?", "What day is today?", "Who wrote {proper}?", "Define {pseudo}.",
    "Do you like {noun}s?", "How tall is the {noun} of {place}?", "Is {person} a {noun}?", "Who built {place}?",
    "Plan a trip to {place}.", "Give me advice about {noun}s.", "What is the square root of {num}?",
    "Solve {num} + {num}.",
)  # fmt: skip


@cache
def _read(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((Path(__file__).parent / name).read_text("utf-8"))


@cache
def wordings(name: str, split: Split) -> dict[str, tuple[str, ...]]:
    """Topic → the wordings of its questions in one split, paraphrase templates applied."""
    return {topic: tuple(in_split(_paraphrases(entry), split)) for topic, entry in _read(name).items()}


def _paraphrases(entry: dict[str, Any]) -> list[str]:
    found = []
    for kind, templates in _TEMPLATES.items():
        for phrase in entry.get(kind, ()):
            texts = [template.format(phrase) for template in templates]
            found += [text[0].upper() + text[1:] for text in texts]
    return list(dict.fromkeys(found))


def _from_file(rng: Random, name: str, task: str, split: Split) -> Sample:
    while True:
        topic = rng.choice(list(_read(name)))
        if fitting := wordings(name, split)[topic]:
            return ask(task, rng.choice(fitting), _read(name)[topic]["answer"])


def about(rng: Random, split: Split) -> Sample:
    return _from_file(rng, "about.toml", "about", split)


def small_talk(rng: Random, split: Split) -> Sample:
    if rng.random() < 0.35:
        return ask("chat", _open_question(rng, split), UNKNOWN)
    return _from_file(rng, "chat.toml", "chat", split)


def _open_question(rng: Random, split: Split) -> str:
    """A question that only the world, or passages that aren't there, could answer."""
    if rng.random() < 0.3:
        return fact(rng, split).question
    while True:
        template = rng.choice(_OPEN)
        fillers = {
            "person": words.person(rng), "place": words.place(rng), "noun": words.noun(rng), "year": words.year(rng),
            "adj": rng.choice(words.ADJECTIVES), "pseudo": words.pseudo(rng), "proper": words.proper(rng),
            "num": str(rng.randint(100, 9999)),
        }  # fmt: skip
        text = template.format(**fillers)
        if "{" in template or split is Split.TRAIN:
            return text
