"""The upstreams themselves, with nothing between: what "added" is measured against.

The peers add to the OpenAI mock, Penstock to Triton. Neither's CPU counts here: what they cost is no gateway's.
"""

from collections.abc import Callable
from pathlib import Path

from loadtests.bench.contender import Running, Upstreams
from loadtests.bench.results import DIRECT, DIRECT_TRITON
from loadtests.bench.upstreams import MODEL, triton_missing


class DirectOpenai:
    """The load client on the OpenAI mock."""

    name = DIRECT
    speaks = "openai"
    quick = True

    def obtain(self, say: Callable[[str], None]) -> str:
        return ""

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        return Running(f"{upstreams.openai}/v1", MODEL, 0, {}, _nothing)


class DirectTriton:
    """The load client on Triton's gRPC."""

    name = DIRECT_TRITON
    speaks = "triton"
    quick = True

    def obtain(self, say: Callable[[str], None]) -> str:
        return triton_missing()

    def start(self, upstreams: Upstreams, port: int, folder: Path) -> Running:
        return Running(f"grpc://{upstreams.triton}", MODEL, 0, {}, _nothing)


def _nothing() -> None:
    return None
