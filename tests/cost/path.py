"""What is measured: a request in one piece, a stream beside its tokens, and a token."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.cost.meter import Cost, Meter
from tests.cost.rig import REQUESTS, TOKEN, Rig, headers_frame, token_frame, trailers_frame

WARM_UP = 20
SHORT, LONG = 10, 60


def run_unary(rig: Rig, meter: Meter) -> None:
    """An answer of 40 tokens in one piece."""
    with meter:
        rig.ask(REQUESTS[False])
    stream, job = rig.replica.request()
    frames = headers_frame(stream) + token_frame(stream, job, TOKEN * 40)
    frames += token_frame(stream, job, "", "stop") + trailers_frame(stream)
    with meter:
        rig.hear(frames)
    answer = rig.client.take()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (TOKEN * 40).encode() in answer


def run_stream(rig: Rig, meter: Meter, tokens: int) -> None:
    """Each token comes by itself, in a turn of its own."""
    with meter:
        rig.ask(REQUESTS[True])
    stream, job = rig.replica.request()
    frames = [token_frame(stream, job, TOKEN) for _ in range(tokens)]
    frames[0] = headers_frame(stream) + frames[0]
    frames.append(token_frame(stream, job, "", "stop") + trailers_frame(stream))
    for piece in frames:
        with meter:
            rig.hear(piece)
    answer = rig.client.take()
    assert answer.count(f'"content":"{TOKEN}"'.encode()) == tokens
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def measure() -> dict[str, Cost]:
    """The costs by name. `stream` is what a stream costs beside its tokens."""
    with TemporaryDirectory() as folder, Rig(Path(folder)) as rig:
        for _ in range(WARM_UP):
            run_unary(rig, Meter())
            run_stream(rig, Meter(), 3)
        unary, short, long = Meter(), Meter(), Meter()
        run_unary(rig, unary)
        run_stream(rig, short, SHORT)
        run_stream(rig, long, LONG)
        assert rig.records == 2 * WARM_UP + 3
    token = Cost(*(round((b - a) / (LONG - SHORT), 1) for a, b in zip(short.cost, long.cost, strict=True)))
    stream = Cost(*(round(a - SHORT * b) for a, b in zip(short.cost, token, strict=True)))
    return {"unary": unary.cost, "stream": stream, "token": token}
