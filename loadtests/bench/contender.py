"""What the bench needs of everything that it measures: how it is had, how it is started, what it costs.

A contender is a gateway between the load client and one of two upstreams. It is started once, warmed up before each
row, measured from outside by way of its process tree, and stopped at the end; it never learns that it is measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Where the two upstreams listen."""

    openai: str
    """`http://127.0.0.1:PORT`, without `/v1`: the OpenAI mock."""
    triton: str
    """`127.0.0.1:PORT` of Triton's gRPC."""


@dataclass(frozen=True, slots=True)
class Running:
    """A started contender that is ready to answer."""

    base_url: str
    """`http://127.0.0.1:PORT/v1`."""
    model: str
    """What requests must name as their `model`."""
    pid: int
    """The root of the process tree whose CPU and memory count; 0 counts nothing."""
    headers: Mapping[str, str]
    """Sent with every request, for instance the key."""
    stop: Callable[[], None]
    """Ends exactly these processes and waits for them."""


class Contender(Protocol):
    """One gateway under measurement."""

    @property
    def name(self) -> str:
        """As in the table: 'penstock', 'vllm-router', 'litellm', 'nginx', 'direct'."""
        ...

    @property
    def speaks(self) -> str:
        """Which of the two upstreams stands behind it: 'triton' or 'openai'."""
        ...

    @property
    def quick(self) -> bool:
        """Whether it is part of `--quick`."""
        ...

    def obtain(self, say: Callable[[str], None]) -> str:
        """Installs what is missing; answers '' or, in a sentence, why it can't be had here. Never raises for that."""
        ...

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        """Starts one worker, one thread, on 127.0.0.1:`port`; returns when it is ready to answer.

        `folder` exists and is scratch for its configuration, state and logs.
        Raises RuntimeError, with the end of its log, when it doesn't come up.
        """
        ...
