"""What a right stream of penstock.v1 is: its head, text, one finish, the end, in this order. Pure, as reply.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from loadtests.users.reply import Seen, WrongReply
from penstock.v1 import inference_pb2 as pb

FINISHES = {pb.FINISH_STOP: "stop", pb.FINISH_LENGTH: "length"}


def read_grpc_stream(events: Iterable[pb.GenerateStreamResponse], clock: Callable[[], float]) -> tuple[Seen, int]:
    """What was seen, and its size in bytes. Errors: WrongReply, and whatever `events` raises."""
    seen = Seen()
    size = 0
    last = None
    for event in events:
        now = clock()
        size += event.ByteSize()
        kind = event.WhichOneof("event")
        if (kind == "started") != (last is None):
            raise WrongReply("the head is missing, or not the first")
        if last == "ended":
            raise WrongReply("an event after the end")
        if kind == "delta":
            if event.delta.choice:
                raise WrongReply("a choice that was not asked for")
            seen.text(event.delta.text, now)
        elif kind == "finished":
            seen.finished(FINISHES.get(event.finished.finish))
        elif kind == "ended" and event.ended.usage.HasField("completion_tokens"):
            seen.tokens = event.ended.usage.completion_tokens
        last = kind
    if last != "ended":
        raise WrongReply("cut off before the end")
    return seen.complete(), size
