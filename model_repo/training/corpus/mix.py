"""The training mix: which task how often, and the noise that real users bring.

``draw`` is what training reads; ``held_out`` is what the scorer reads. Both are functions of a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random

from corpus.chat import about, small_talk
from corpus.closed import arithmetic, table
from corpus.dialogue import dialogue
from corpus.json_task import extract
from corpus.rag import Size, grounded, located
from corpus.sample import Message, Sample, Split
from corpus.text_tasks import count, echo, echo_start, listing

Maker = Callable[[Random, Split], Sample]

_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You are Penstock's embedded assistant.",
    "Be short and polite.",
    "You are a helpful assistant. Answer in one sentence.",
)

MAKERS: dict[str, Maker] = {
    "rag": grounded,
    "refusal": partial(grounded, refuse=True),
    "rag_long": partial(grounded, size=Size.LONG),
    "rag_easy": partial(grounded, turns=2, size=Size.EASY),
    "rag_pair": partial(grounded, turns=2),
    "rag_trio": partial(grounded, turns=3),
    "rag_where": located,
    "json": extract,
    "chat": small_talk,
    "about": about,
    "list": listing,
    "count": count,
    "echo": echo,
    "echo_start": echo_start,
    "multi": dialogue,
    "table": table,
    "arithmetic": arithmetic,
}

WEIGHTS: dict[str, float] = {
    "rag": 9, "refusal": 6, "rag_long": 0.7, "rag_easy": 16, "rag_pair": 8, "rag_trio": 8,
    "json": 14, "chat": 8, "about": 18, "list": 4, "count": 3, "echo": 8, "echo_start": 45, "multi": 6,
    "table": 6, "arithmetic": 3,
}  # fmt: skip

SCORED: dict[str, tuple[Maker, Split]] = {
    "chat": (small_talk, Split.HELD),
    "about": (about, Split.HELD),
    "rag": (grounded, Split.TRAIN),
    "rag_unseen": (grounded, Split.HELD),
    "rag_long": (partial(grounded, size=Size.LONG), Split.TRAIN),
    "refusal": (partial(grounded, refuse=True), Split.TRAIN),
    "refusal_unseen": (partial(grounded, refuse=True), Split.HELD),
    "json": (extract, Split.HELD),
    "list": (listing, Split.HELD),
    "count": (count, Split.HELD),
    "echo": (echo, Split.HELD),
    "multi": (dialogue, Split.HELD),
    "table": (table, Split.HELD),
    "arithmetic": (arithmetic, Split.HELD),
}

_NOISY = {"chat", "about", "table", "count", "arithmetic"}
"""Tasks whose answer copies nothing from the question: the others would ask for letters that noise has changed."""


def _roughen(rng: Random, text: str) -> str:
    """Case, missing punctuation, stray spaces; nothing that the hash of the split would notice."""
    kind = rng.random()
    if kind < 0.35:
        text = text.lower()
    elif kind < 0.42:
        text = text.upper()
    if rng.random() < 0.6:
        text = text.rstrip("?.!")
    if rng.random() < 0.15:
        text = text.replace(" ", "  ", 1)
    return f" {text} " if rng.random() < 0.1 else text


def _finish(rng: Random, sample: Sample) -> Sample:
    """Adds noise to the last question, and sometimes a system message."""
    messages = sample.messages
    if sample.task in _NOISY and rng.random() < 0.25:
        messages = (*messages[:-2], Message("user", _roughen(rng, messages[-2].content)), messages[-1])
    if sample.task not in ("rag", "refusal") and messages[0].role != "system" and rng.random() < 0.15:
        messages = (Message("system", rng.choice(_SYSTEMS)), *messages)
    return replace(sample, messages=messages)


def draw(rng: Random, weights: dict[str, float] | None = None) -> Sample:
    """One training sample, whose task is the name that it has in the mix."""
    chosen = weights or WEIGHTS
    task = rng.choices(list(chosen), list(chosen.values()))[0]
    return replace(_finish(rng, MAKERS[task](rng, Split.TRAIN)), task=task)


def held_out(task: str, samples: int, seed: int) -> list[Sample]:
    """The first ``samples`` of a task's test set; the seed never coincides with a training seed."""
    maker, split = SCORED[task]
    rng = Random(f"held-out {task} {seed}")
    return [_finish(rng, maker(rng, split)) for _ in range(samples)]
