"""Questions over numbered passages, and the refusal when no passage answers.

The answer is always the number of a passage and a verbatim copy of one of its sentences. That is a rule
a tiny model can keep, and one that a reader, or a test, can check. The number comes first because it
is decided first: after it, the copy continues what stands there after the same number.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from random import Random

from corpus.passages import Fact, fact
from corpus.sample import Message, Sample, Split

REFUSAL = "The passages do not say."

_SYSTEMS = (
    "Answer from the passages and cite them.",
    "Answer only from the passages. Cite the passage number.",
    "You answer questions from the given passages and cite them like [1].",
    "Use only the context. If it does not answer, say so.",
    "You are a helpful assistant.",
    "Answer the question with the help of the numbered passages.",
)
_LAYOUTS = (
    ("Passages:\n{passages}\n\nQuestion: {question}", 8),
    ("Context:\n{passages}\n\nQuestion: {question}", 5),
    ("Context:\n{passages}\nQuestion: {question}", 3),
    ("{passages}\n\n{question}", 3),
    ("Answer from these passages.\n\n{passages}\n\nQuestion: {question}", 2),
    ("Sources:\n{passages}\n\nQ: {question}", 2),
    ("Question: {question}\n\nPassages:\n{passages}", 2),
    ("{question}\n\nContext:\n{passages}", 1),
)


@dataclass(frozen=True, slots=True)
class Library:
    """The passages of one sample and the facts hidden in them: (fact, passage number)."""

    passages: tuple[str, ...]
    facts: tuple[tuple[Fact, int], ...]

    def number(self, separator: str) -> str:
        return separator.join(f"[{i}] {text}" for i, text in enumerate(self.passages, 1))


class Size(Enum):
    """How much there is to read."""

    EASY = "one to three sentences; where a training begins, since copying is learned first"
    USUAL = "one to six passages of one to three sentences"
    LONG = "up to thirty sentences, about 700 tokens"


def _sizes(rng: Random, size: Size) -> list[int]:
    """Sentences per passage."""
    if size is Size.EASY:
        return [1] * rng.randint(1, 3)
    if size is Size.LONG:
        return [rng.randint(1, 5) for _ in range(rng.randint(4, 6))]
    count = rng.choices((1, 2, 3, 4, 5, 6), (10, 22, 30, 18, 12, 8))[0]
    return rng.choices((1, 2, 3), (14, 5, 2), k=count)


def build_library(rng: Random, split: Split, targets: int, size: Size) -> Library:
    """Hides ``targets`` facts among their distractors and other sentences."""
    sizes = _sizes(rng, size)
    count = len(sizes)
    facts = [fact(rng, split) for _ in range(targets)]
    others = [text for f in facts for text in f.distractors]
    rng.shuffle(others)
    room = max(sum(sizes) - len(facts), 0)
    others = others[: rng.randint(0, min(room, len(others)))]
    while len(others) < room:
        others.append(fact(rng, split).sentence)
    sentences: list[tuple[str, Fact | None]] = [(f.sentence, f) for f in facts]
    sentences += [(text, None) for text in others]
    rng.shuffle(sentences)
    groups: list[list[tuple[str, Fact | None]]] = [[] for _ in range(min(count, len(sentences)))]
    for i, pair in enumerate(sentences):
        groups[i if i < len(groups) else rng.randrange(len(groups))].append(pair)
    return Library(
        tuple(" ".join(text for text, _ in group) for group in groups),
        tuple((f, i) for i, group in enumerate(groups, 1) for _, f in group if f is not None),
    )


def _casual(rng: Random, question: str) -> str:
    kind = rng.random()
    if kind < 0.88:
        return question
    return question.lower() if kind < 0.94 else question.rstrip("?.")


def _lay_out(rng: Random, library: Library, question: str) -> tuple[Message, ...]:
    layout = rng.choices([text for text, _ in _LAYOUTS], [weight for _, weight in _LAYOUTS])[0]
    passages = library.number("\n\n" if rng.random() < 0.15 else "\n")
    user = Message("user", layout.format(passages=passages, question=question))
    if rng.random() < 0.3:
        return Message("system", rng.choice(_SYSTEMS)), user
    if rng.random() < 0.04:
        content = f"Answer from the passages and cite them.\n\nPassages:\n{passages}"
        return Message("system", content), Message("user", question)
    return (user,)


def grounded(rng: Random, split: Split, turns: int = 1, refuse: bool = False, size: Size = Size.USUAL) -> Sample:
    """A conversation about one library; with ``refuse`` its first question has no answer there.

    More turns than one are for training: each asks another question of the same passages, which
    buys more supervision for the same context.
    """
    while True:
        library = build_library(rng, split, turns, size)
        order = list(library.facts)
        rng.shuffle(order)
        messages: list[Message] = []
        for turn, (hidden, number) in enumerate(order):
            absent = refuse if turn == 0 else rng.random() < 0.25
            question = _casual(rng, hidden.absent_question if absent else hidden.question)
            answer = REFUSAL if absent else f"[{number}] {hidden.sentence}"
            messages += _lay_out(rng, library, question) if turn == 0 else (Message("user", question),)
            messages.append(Message("assistant", answer))
        if len({message.content for message in messages}) >= 2 * turns:
            return Sample("refusal" if refuse else "rag", tuple(messages), library.passages)


_WHERE = (
    "Which passage mentions {}?", "Where is {}?", "Find {}.", "{}?", "Which passage is about {}?",
    "In which passage is {}?", "Where do you read of {}?", "Which one has {}?",
)  # fmt: skip
_QUOTE = ("Quote the sentence about {}.", "Quote the sentence with {}.", "Which sentence mentions {}?", "Quote {}.")


def located(rng: Random, split: Split) -> Sample:
    """Many short questions about one library: in which passage is a word, and in which sentence?

    For training: the number of the passage that a word stands in is what answers with citations need most and
    show least; here every few tokens ask for it.
    """
    library = build_library(rng, split, 1, Size.USUAL)
    sentences = [(text, number) for number, text in enumerate(library.passages, 1)]
    counts = Counter(word for text, _ in sentences for word in set(_content(text)))
    messages: list[Message] = []
    for _ in range(rng.randint(5, 10)):
        text, number = rng.choice(sentences)
        content = _content(text)
        telling = [i for i, word in enumerate(content) if counts[word] == 1]
        if not telling:
            continue
        at = rng.choice(telling)
        words = " ".join(content[at : at + rng.choice((1, 1, 2))])
        if rng.random() < 0.3:
            quotes = [part for part in _sentences(text) if words in part]
            if len(quotes) != 1:
                continue
            question, answer = rng.choice(_QUOTE).format(words), f"[{number}] {quotes[0]}"
        else:
            question, answer = rng.choice(_WHERE).format(words), f"[{number}]"
        messages += (Message("user", question),) if messages else _lay_out(rng, library, question)
        messages.append(Message("assistant", answer))
    return Sample("rag", tuple(messages), library.passages) if messages else located(rng, split)


def _content(text: str) -> list[str]:
    return [word.strip(".,:;!?()\"'") for word in text.split()]


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?]) (?=[A-Z'\"])", text)
