"""What a generator returns: a conversation, and the split it was drawn for."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import Enum

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
ROLES = ("system", "user", "assistant", "tool")


class Split(Enum):
    """Which half of the wordings and shapes a sample may use."""

    TRAIN = "train"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A conversation whose last message is the assistant's answer.

    ``sources`` holds the numbered passages of a retrieval question, for the tests.
    """

    task: str
    messages: tuple[Message, ...]
    sources: tuple[str, ...] = field(default=())

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    @property
    def question(self) -> str:
        return self.messages[-2].content


def ask(task: str, question: str, answer: str) -> Sample:
    """The usual sample: one user message and its answer."""
    return Sample(task, (Message("user", question), Message("assistant", answer)))


def prompt_text(messages: tuple[Message, ...]) -> str:
    """Renders a conversation as the shipped chat template does, ready for the assistant's turn."""
    turns = "".join(f"<|{m.role}|>{m.content}{EOS}" for m in messages)
    return f"{BOS}{turns}<|assistant|>"


def is_held(wording: str, one_in: int = 8) -> bool:
    """Whether a wording belongs to the held-out split.

    The hash is taken after dropping case, punctuation and spaces, so that the noise which
    ``mix`` adds to training questions can't smuggle a held-out wording back in.
    """
    return zlib.crc32(letters(wording).encode()) % one_in == 0


def letters(wording: str) -> str:
    """A wording without what noise may change."""
    return "".join(c for c in wording.casefold() if c.isalnum())


def in_split(wordings: list[str], split: Split) -> list[str]:
    """The wordings of one question that a split may use; the first is always for training."""
    first = letters(wordings[0])
    held = [text for text in wordings if is_held(text) and letters(text) != first]
    return held if split is Split.HELD else [text for text in wordings if text not in held]
