"""An answer over gRPC: the sink that an inference talks to, and what the call's coroutine takes from it.

The engine's callbacks put finished bytes here; the coroutine of the call, which gRPC makes anyway, writes them.
It sleeps on one future between them: no task and no queue object per token.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque

from gateway.core.answer import Finish, Head, TokenLogprob, Usage
from gateway.core.errors import Overloaded, PenstockError
from gateway.core.request import Request
from gateway.grpc_messages import finish_value, head_message, logprob_messages, usage_message
from gateway.inference import Inference
from gateway.journal.record import Outcome, cost_of
from gateway.service import Origin, Service
from penstock.v1 import inference_pb2 as pb


class Answer(ABC):
    """What whole and streamed answers share. `complete` is true after the last word, `error` says how it broke off.

    `version` is the label of the version that answers, "" before one was chosen.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = service.clock()
        self._sent = 0
        self._first_text = 0
        self._waiter: asyncio.Future[None] | None = None
        self._inference: Inference | None = None
        self.version = ""
        self.complete = False
        self.error: PenstockError | None = None

    def start(self, request: Request, origin: Origin) -> None:
        """Ask the engine. A refusal is in `error` afterwards."""
        self._inference = inference = Inference(self._service, request, origin, self)
        inference.start()
        self._sent = self._service.clock()
        self._note_version()

    def refuse(self, error: PenstockError, origin: Origin) -> None:
        """It never becomes an inference."""
        self._service.refused(error, origin)
        self.on_error(error)

    def abandon(self, outcome: Outcome = "abandoned") -> None:
        """The caller is gone; the engine's work ends. Nothing happens where all has been said."""
        if self._inference is not None:
            self._inference.abandon(outcome)
            self._inference = None

    def fail(self, error: PenstockError) -> None:
        """End it from outside."""
        if self._inference is not None:
            self._inference.fail(error)

    async def wait(self) -> None:
        """Until there is something to write, or nothing more to come."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # The sink

    @abstractmethod
    def on_start(self, head: Head) -> None: ...

    @abstractmethod
    def on_chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None: ...

    @abstractmethod
    def on_finish(self, choice: int, finish: Finish) -> None: ...

    @abstractmethod
    def on_end(self, usage: Usage) -> None: ...

    def on_error(self, error: PenstockError) -> None:
        if not self.complete:
            self.error = error
            self._close()

    # For the kinds

    def _close(self) -> None:
        self._note_version()
        self.complete = True
        self._inference = None  # it leads back here as its sink: a cycle for the collector otherwise
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _note_version(self) -> None:
        if self._inference is not None and self._inference.routed is not None:
            self.version = self._inference.routed.version.label

    def _text_came(self) -> None:
        if not self._first_text:
            self._first_text = self._service.clock()

    def _cost(self, usage: Usage) -> int | None:
        routed = self._inference.routed if self._inference is not None else None
        return cost_of(usage, routed.version.price) if routed is not None else None

    def _timings(self) -> pb.Timings:
        received = self._received
        return pb.Timings(
            sent=self._sent - received,
            first_text=self._first_text - received if self._first_text else None,
            total=self._service.clock() - received,
        )


class WholeAnswer(Answer):
    """An answer in one piece: `message` when it is complete without an error."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._head: pb.Head | None = None
        self._texts: dict[int, list[str]] = {}
        self._logprobs: dict[int, list[pb.TokenLogprob]] = {}
        self._finishes: dict[int, pb.Finish.ValueType] = {}
        self.message = b""

    def on_start(self, head: Head) -> None:
        self._head = head_message(head)

    def on_chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self._text_came()
        self._texts.setdefault(choice, []).append(text)
        if logprobs:
            self._logprobs.setdefault(choice, []).extend(logprob_messages(logprobs))

    def on_finish(self, choice: int, finish: Finish) -> None:
        self._finishes[choice] = finish_value(finish)

    def on_end(self, usage: Usage) -> None:
        choices = [
            pb.Choice(
                text="".join(self._texts.get(choice, ())),
                finish=self._finishes[choice],
                logprobs=self._logprobs.get(choice, ()),
            )
            for choice in range(len(self._finishes))
        ]
        self.message = pb.GenerateResponse(
            head=self._head,
            choices=choices,
            usage=usage_message(usage),
            timings=self._timings(),
            cost=self._cost(usage),
        ).SerializeToString()
        self._close()


class StreamedAnswer(Answer):
    """An answer in events: `take` gives the bytes of the next one, None when there is none now.

    Holds `buffer_bytes` at most: a caller that reads more slowly loses the answer, and `writer`, the task that is
    stuck in a write, is cancelled to say so. It is None until the first write is done: gRPC must not be disturbed
    in the call's initial metadata.
    """

    def __init__(self, service: Service, buffer_bytes: int) -> None:
        super().__init__(service)
        self._events: deque[bytes] = deque()
        self._size = 0
        self._buffer_bytes = buffer_bytes
        self.writer: asyncio.Task[object] | None = None
        self.overflowed = False

    def take(self) -> bytes | None:
        """The next event."""
        if not self._events:
            return None
        event = self._events.popleft()
        self._size -= len(event)
        return event

    def on_start(self, head: Head) -> None:
        self._put(pb.GenerateStreamResponse(started=head_message(head)))

    def on_chunk(self, choice: int, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        self._text_came()
        delta = pb.Delta(choice=choice, text=text, logprobs=logprob_messages(logprobs) if logprobs else ())
        self._put(pb.GenerateStreamResponse(delta=delta))
        if self._size > self._buffer_bytes:
            self._overflow()

    def on_finish(self, choice: int, finish: Finish) -> None:
        self._put(pb.GenerateStreamResponse(finished=pb.Finished(choice=choice, finish=finish_value(finish))))

    def on_end(self, usage: Usage) -> None:
        ended = pb.Ended(usage=usage_message(usage), timings=self._timings(), cost=self._cost(usage))
        self._put(pb.GenerateStreamResponse(ended=ended))
        self._close()

    def _put(self, event: pb.GenerateStreamResponse) -> None:
        data = event.SerializeToString()
        self._events.append(data)
        self._size += len(data)
        self._wake()

    def _overflow(self) -> None:
        self.overflowed = True
        self._events.clear()
        self._size = 0
        self._note_version()
        self.abandon()
        self.on_error(
            Overloaded(
                f"The answer was read too slowly: over {self._buffer_bytes} bytes of it were waiting; read faster.",
                code="client_too_slow",
            )
        )
        if self.writer is not None:
            self.writer.cancel()
