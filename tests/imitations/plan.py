"""What an imitated model answers to a prompt, and what goes wrong on the way.

The answer is the prompt's words in order (markup like <|user|> left out), then the numbers from 1 to 5. Words
of the form key=value in the prompt aren't echoed, they steer:

    count=300        count so far instead of to 5
    huge=1000000     an answer of so many bytes, streamed in chunks of 4096 tokens
    pace=20          so many milliseconds before each response
    chunk=4          tokens per streamed response (stock: one)
    final=empty      the final flag comes in a response of its own, without outputs
    after=3          the fault comes after so many tokens; by default before the first. In the ensemble an
                     error overtakes responses that are still in postprocessing: give it a pace
    fault=error      an error
    fault=traceback  an error whose text is a Python traceback
    fault=nothing    the final flag at once, without a response
    fault=no-final   silence instead of the final flag
    fault=hang       silence until cancelled (no-final and hang end by themselves after 30 s)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HANG_LIMIT_S = 30.0
_STEERING = re.compile(r"\b(count|huge|pace|chunk|final|after|fault)=([\w.-]+)")
_MARKUP = re.compile(r"<[^<>\s]*>")


@dataclass(frozen=True)
class Plan:
    """One answer. `after` is in tokens, `pace_s` in seconds."""

    text: str
    pace_s: float = 0.0
    chunk: int = 1
    final_alone: bool = False
    fault: str = ""
    after: int = 0


def read_plan(prompt: str) -> Plan:
    """The answer to a prompt."""
    steering = dict(_STEERING.findall(prompt))
    words = _STEERING.sub(" ", _MARKUP.sub(" ", prompt)).split()
    numbers = [str(number) for number in range(1, int(steering.get("count", 5)) + 1)]
    text = " ".join([*words, *numbers])
    if "huge" in steering:
        size = int(steering["huge"])
        text = (text + " ") * (size // (len(text.encode()) + 1) + 1)
        text = text.encode()[:size].decode("utf-8", "ignore")
    return Plan(
        text=text,
        pace_s=float(steering.get("pace", 0)) / 1000,
        chunk=max(1, int(steering.get("chunk", 4096 if "huge" in steering else 1))),
        final_alone=steering.get("final") == "empty",
        fault=steering.get("fault", ""),
        after=int(steering.get("after", 0)),
    )
