"""Samples → padded batches of token ids and loss weights.

Samples of about one length share a batch, so little is padding; every process of a
training draws batches of its own, so a step sees several lengths and tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from corpus import mix
from corpus.sample import BOS, EOS, Sample
from tokenizers import Tokenizer
from torch import Tensor

PROMPT_WEIGHT = 0.5
PROMPT_SHARE = 0.1
_PAD_TO = 8
_POOL_BATCHES = 32


@dataclass(frozen=True, slots=True)
class Batch:
    """ids, weights: (rows, length). A weight of 1 marks a token of an answer."""

    ids: Tensor
    weights: Tensor
    tasks: tuple[str, ...]


class Encoder:
    """Encodes conversations: each role token, the text, the end token."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._id = self._tokenizer.get_vocab()

    def encode(self, sample: Sample) -> tuple[list[int], list[bool]]:
        """Token ids, and which of them the assistant says."""
        ids, said = [self._id[BOS]], [False]
        for message in sample.messages:
            text = self._tokenizer.encode(message.content, add_special_tokens=False).ids
            ids += [self._id[f"<|{message.role}|>"], *text, self._id[EOS]]
            said += [False] + [message.role == "assistant"] * (len(text) + 1)
        return ids, said


def _stack(rows: list[tuple[str, list[int], list[bool]]], length: int, rng: Random) -> Batch:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    weights = torch.zeros(len(rows), length)
    for i, (_, tokens, said) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        weights[i, : len(tokens)] = torch.tensor(
            [1.0 if answer else PROMPT_WEIGHT * (rng.random() < PROMPT_SHARE) for answer in said]
        )
    return Batch(ids, weights, tuple(task for task, _, _ in rows))


def _padded(length: int) -> int:
    return -(-length // _PAD_TO) * _PAD_TO


def _draw_pool(encoder: Encoder, rng: Random, budget: int, count: int, weights: dict[str, float]) -> list[Batch]:
    """About ``count`` batches of at most ``budget`` padded tokens (one row at least), in random order."""
    rows: list[tuple[str, list[int], list[bool]]] = []
    total = 0
    while total < count * budget:
        sample = mix.draw(rng, weights)
        ids, said = encoder.encode(sample)
        rows.append((sample.task, ids, said))
        total += _padded(len(ids))
    rows.sort(key=lambda row: len(row[1]))
    batches: list[Batch] = []
    start = 0
    for end in range(1, len(rows) + 1):
        full = end == len(rows) or _padded(len(rows[end][1])) * (end + 1 - start) > budget
        if full:
            batches.append(_stack(rows[start:end], _padded(len(rows[end - 1][1])), rng))
            start = end
    rng.shuffle(batches)
    return batches


def batches(encoder: Encoder, seed: str, budget: int, weights: dict[str, float] | None = None) -> Iterator[Batch]:
    """Endless batches; the same seed gives the same ones."""
    rng = Random(seed)
    while True:
        yield from _draw_pool(encoder, rng, budget, _POOL_BATCHES, weights or mix.WEIGHTS)
