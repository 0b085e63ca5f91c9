"""Facts for passages: sentences with the questions they answer.

Two sources. The *shapes* of ``shapes.toml`` are English, decorated with optional clauses. *Soups* are
rows of unrelated words with a question made of some of them: no grammar can be learned from those,
so what is learned is to find the sentence that shares the question's words and to copy it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from corpus import words
from corpus.sample import Split

_SLOT = re.compile(r"\{([a-z]+)(\d?)\}")

_BASE_VERBS = (
    "reset open close repair update install remove clean start stop restart print order check mount "
    "reach change rename copy move test"
).split()


def quote(rng: Random) -> str:
    text = " ".join(rng.choice((words.noun, words.noun, words.thing))(rng) for _ in range(rng.randint(1, 3)))
    return f'"{text}"' if rng.random() < 0.8 else f"'{text}'"


_KINDS: Mapping[str, Callable[[Random], str]] = {
    "attr": lambda rng: rng.choice(words.ATTRIBUTES) if rng.random() < 0.8 else words.noun(rng),
    "ent": words.entity,
    "value": words.value,
    "person": words.person,
    "place": words.place,
    "org": words.organisation,
    "noun": words.noun,
    "thing": words.thing,
    "things": lambda rng: f"{words.noun(rng)}s",
    "adj": lambda rng: rng.choice(words.ADJECTIVES),
    "job": lambda rng: rng.choice(words.JOBS),
    "did": lambda rng: rng.choice(words.VERBS_PAST),
    "does": lambda rng: rng.choice(words.VERBS_NOW),
    "verb": lambda rng: rng.choice(_BASE_VERBS),
    "num": words.number,
    "amount": words.amount,
    "year": words.year,
    "date": words.date,
    "day": lambda rng: rng.choice(words.DAYS),
    "clock": words.clock,
    "code": words.code,
    "quote": quote,
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence, a question that it answers, and the near misses of both."""

    sentence: str
    question: str
    distractors: tuple[str, ...]
    absent_question: str


@dataclass(frozen=True, slots=True)
class Shape:
    say: tuple[str, ...]
    ask: tuple[str, ...]
    paired: bool


@cache
def shapes(split: Split) -> tuple[Shape, ...]:
    raw = tomllib.loads((Path(__file__).parent / "shapes.toml").read_text("utf-8"))
    return tuple(
        Shape(tuple(s["say"]), tuple(s["ask"]), s.get("paired", False))
        for s in raw["seen" if split is Split.TRAIN else "unseen"]
    )


def _slots(template: str) -> list[str]:
    return [f"{kind}{index}" for kind, index in _SLOT.findall(template)]


def _draw(rng: Random, slots: list[str]) -> dict[str, str]:
    return {slot: _KINDS[slot.rstrip("0123456789")](rng) for slot in dict.fromkeys(slots)}


def _fill(template: str, values: dict[str, str]) -> str:
    text = _SLOT.sub(lambda m: values[m[1] + m[2]], template)
    return text[0].upper() + text[1:]


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:] if text.startswith(("The ", "A ", "In ", "On ", "At ", "It ", "There ")) else text


def _decorate(rng: Random, sentence: str) -> str:
    """Adds an optional clause before or behind, so that a shape has many outlines."""
    if rng.random() > 0.4:
        return sentence
    before = (
        f"In {words.year(rng)}, ", f"Since {words.date(rng)}, ", f"According to {words.person(rng)}, ",
        "Today, ", "As a rule, ", "Note that ", "In fact, ", "At the moment, ", "However, ",
        f"In {words.place(rng)}, ", f"For {words.organisation(rng)}, ", f"{words.proper(rng)}: ",
    )  # fmt: skip
    behind = (
        f", as {words.person(rng)} noted.", f" because of the {words.noun(rng)}.", f" since {words.year(rng)}.",
        f", near the {rng.choice(words.ADJECTIVES)} {words.noun(rng)}.", f" ({words.code(rng)}).",
        f", not {words.value(rng)}.", f", but not in {words.place(rng)}.", f" and {words.noun(rng)}.",
        f" after the {words.noun(rng)} {words.thing(rng)}.", f" until {words.date(rng)}.",
    )  # fmt: skip
    if rng.random() < 0.5:
        return rng.choice(before) + _lower_first(sentence)
    return sentence.removesuffix(".") + rng.choice(behind)


def shaped(rng: Random, split: Split) -> Fact:
    """A fact of one of the shapes, with sentences that differ in a key and a question without answer."""
    shape = rng.choice(shapes(split))
    spot = rng.randrange(len(shape.say))
    say = shape.say[spot]
    ask = shape.ask[spot] if shape.paired else rng.choice(shape.ask)
    values = _draw(rng, _slots(say) + _slots(ask))
    keys = [slot for slot in dict.fromkeys(_slots(ask)) if slot in _slots(say)]
    others = []
    for _ in range(2):
        changed = _draw(rng, list(values))
        if len(keys) > 1 and rng.random() < 0.7:
            kept = rng.choice(keys)
            changed[kept] = values[kept]
        template = say if shape.paired or rng.random() < 0.5 else rng.choice(shape.say)
        changed |= _draw(rng, [slot for slot in _slots(template) if slot not in changed])
        others.append(_decorate(rng, _fill(template, changed)))
    absent = _draw(rng, _slots(ask))
    if len(keys) > 1 and rng.random() < 0.6:
        kept = rng.choice(keys)
        absent[kept] = values[kept]
    sentence = _decorate(rng, _fill(say, values))
    question = _fill(ask, values)
    if split is Split.TRAIN and rng.random() < 0.3:
        question = _question_of(rng, sentence, others) or question
    return Fact(sentence, question, tuple(others), _fill(ask, absent))


_GLUE = "the the a of in and to is was for with on at by from that which has are not or as it will can".split()
_MARKS = ".,:;!?()\"'"
_WH = (
    "What about {}?", "What is {}?", "Tell me about {}.", "Which {}?", "How is {}?", "Why {}?", "When {}?",
    "Where is {}?", "Who {}?", "What does it say about {}?", "What is known about {}?", "{}?", "What {}?",
    "How many {}?", "Is there something about {}?", "Find {}.", "How much {}?", "What do you know of {}?",
    "Which one has {}?", "Does it mention {}?",
)  # fmt: skip


def _soup_word(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.1:
        return words.pseudo(rng)
    if kind < 0.45:
        return rng.choice(words.COMMON)
    if kind < 0.62:
        return rng.choice(words.NOUNS)
    if kind < 0.73:
        return rng.choice(words.ADJECTIVES)
    if kind < 0.8:
        return rng.choice(words.VERBS_NOW if rng.random() < 0.5 else words.VERBS_PAST)
    if kind < 0.88:
        return rng.choice(words.THINGS)
    return rng.choice((words.proper, words.proper, words.code, words.number, words.person))(rng)


def _soup_row(rng: Random, contents: list[str]) -> str:
    row: list[str] = []
    for word in contents:
        if rng.random() < 0.45:
            row.append(rng.choice(_GLUE))
        row.append(word + ("," if rng.random() < 0.07 else ""))
    text = " ".join(row).rstrip(",")
    return text[0].upper() + text[1:] + ("." if rng.random() < 0.93 else rng.choice("!?"))


def _inflect(rng: Random, word: str) -> str:
    """Changes a word a little, as questions do: number, case."""
    kind = rng.random()
    if kind < 0.82 or not word.isalpha():
        return word
    if kind < 0.92:
        return word[:-1] if word.endswith("s") else f"{word}s"
    return word.capitalize() if word.islower() else word.lower()


def soup(rng: Random) -> Fact:
    """A row of words, and a question that shares two to four of them."""
    contents = [_soup_word(rng) for _ in range(rng.randint(3, 10))]
    shared = sorted(rng.sample(range(len(contents)), rng.randint(2, min(4, len(contents)))))
    if rng.random() < 0.5:
        start = rng.randrange(len(contents) - len(shared) + 1)
        shared = list(range(start, start + len(shared)))
    keys = [contents[i] for i in shared]
    others = []
    for _ in range(2):
        other = [_soup_word(rng) for _ in range(rng.randint(3, 9))]
        if rng.random() < 0.5:
            other[rng.randrange(len(other))] = rng.choice(keys)
        others.append(_soup_row(rng, other))
    absent = [_soup_word(rng) for _ in keys]
    if len(absent) > 2 and rng.random() < 0.3:
        absent[rng.randrange(len(absent))] = rng.choice(keys)
    return Fact(_soup_row(rng, contents), _soup_question(rng, keys), tuple(others), _soup_question(rng, absent))


def _question_of(rng: Random, sentence: str, others: list[str]) -> str | None:
    """A question in a shape of its own: some words of the sentence, one of them in no other sentence."""
    elsewhere = {word.strip(_MARKS) for other in others for word in other.split()}
    content = [word.strip(_MARKS) for word in sentence.split()]
    content = [word for word in content if len(word) > 2 and word.lower() not in _GLUE]
    telling = [i for i, word in enumerate(content) if word not in elsewhere]
    if len(content) < 2 or not telling:
        return None
    picked = {rng.choice(telling), *rng.sample(range(len(content)), min(len(content), rng.randint(2, 4)))}
    return _soup_question(rng, [content[i] for i in sorted(picked)])


def _soup_question(rng: Random, keys: list[str]) -> str:
    row: list[str] = []
    for key in keys:
        if rng.random() < 0.35:
            row.append(rng.choice(_GLUE))
        row.append(_inflect(rng, key))
    text = rng.choice(_WH).format(" ".join(row))
    return text[0].upper() + text[1:]


def fact(rng: Random, split: Split) -> Fact:
    """A fact for training (shapes and soups) or for the unseen test (unseen shapes only)."""
    if split is Split.TRAIN and rng.random() < 0.18:
        return soup(rng)
    return shaped(rng, split)
