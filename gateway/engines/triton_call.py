"""One job on its way: hears the gRPC call, tells the listener.

The rules: the listener hears its end exactly once, and nothing after `cancel`; after the last response the
call is left to end by itself (a client that breaks a finished call off made Triton's shutdown hang); bytes
that cannot be read end this job alone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from gateway.core.errors import CANCELLED, DEADLINE_EXCEEDED, EngineError, EngineUnavailable, PenstockError
from gateway.engines.base import Job, Listener
from gateway.engines.contracts.binding import Reader
from gateway.engines.tokenizer import TokenCounter
from gateway.engines.triton_errors import FAILED, of_message, of_status
from gateway.engines.triton_models import Served
from gateway.engines.triton_reader import ModelError
from gateway.engines.triton_wire import WireError

logger = logging.getLogger(__name__)

_LOGGED = 2000  # characters of a model's own error


class Cancellable(Protocol):
    def cancel(self) -> None: ...


class Owner(Protocol):
    """What a call asks of its engine."""

    where: str

    def send_stop(self, message: bytes) -> None: ...

    def suspect(self) -> None:
        """A model turned out to be away: look at the server."""


class TritonCall:
    """A job under way; the receiver of its gRPC call."""

    __slots__ = ("_counting", "_job", "_listener", "_open", "_owner", "_reader", "_served", "_upstream")

    def __init__(self, owner: Owner, served: Served, job: Job, listener: Listener) -> None:
        self._owner = owner
        self._served = served
        self._job = job
        self._listener = listener
        self._reader: Reader | None = None
        self._upstream: Cancellable | None = None
        self._open = True  # the listener is still to be told of an end
        self._counting: asyncio.Future[tuple[int, int]] | None = None

    def __repr__(self) -> str:
        return f"<TritonCall {self._job.id} on '{self._model}' open={self._open} {self._reader!r}>"

    def begin(self, upstream: Cancellable) -> None:
        """The gRPC call is open."""
        self._upstream = upstream

    def read_with(self, reader: Reader) -> None:
        self._reader = reader

    def cancel(self) -> None:
        """Stop the engine's work. May be called at any time and more than once."""
        if self._open:
            self._open = False
            if self._counting is None:
                self._break_off()

    def counts(self) -> tuple[int | None, int | None]:
        """Prompt and completion tokens so far. Counts here and now where the model doesn't."""
        reader = self._reader
        if reader is None:
            return None, None
        if self._served.counter is not None:
            return self._served.counter.count(self._job.prompt, reader.answer)
        return reader.counts()

    def fail(self, error: PenstockError) -> None:
        """Tell the listener, unless it knows an end already."""
        if self._open:
            self._open = False
            self._listener.on_error(error)

    # The receiver's side.

    def on_message(self, message: bytes) -> None:
        reader = self._reader
        if not self._open or reader is None or self._counting is not None:
            return
        try:
            text = reader.read(message)
        except ModelError as failure:
            self.fail(self._model_failed(failure.text))
            return
        except WireError as error:
            logger.warning("job %s: unreadable response of model '%s': %s", self._job.id, self._model, error)
            self._break_off()
            self.fail(EngineError("The engine's answer could not be read."))
            return
        except PenstockError as error:
            if not reader.ended:
                self._break_off()
            self.fail(error)
            return
        if text or reader.logprobs:
            self._listener.on_chunk(text, reader.logprobs)
        if reader.ended and self._open:
            self._finish(reader)

    def on_close(self, status: int, detail: str) -> None:
        self._upstream = None
        if not self._open or self._counting is not None:
            return
        if status:
            logger.info(
                "job %s: call to %s ended with %d: %s",
                self._job.id,
                self._owner.where,
                status,
                detail[:_LOGGED],
            )
        if status in (CANCELLED, DEADLINE_EXCEEDED):
            self._stop_engine()
        self.fail(of_status(status, detail, self._owner.where))

    # How it ends.

    def _finish(self, reader: Reader) -> None:
        counter = self._served.counter
        if counter is None:
            self._open = False
            self._listener.on_finish(reader.result())
        else:
            self._count(counter, reader)

    def _count(self, counter: TokenCounter, reader: Reader) -> None:
        # A long prompt takes milliseconds: not on the loop.
        loop = asyncio.get_running_loop()
        self._counting = loop.run_in_executor(None, counter.count, self._job.prompt, reader.answer)
        self._counting.add_done_callback(self._counted)

    def _counted(self, counting: asyncio.Future[tuple[int, int]]) -> None:
        if counting.cancelled() or not self._open or self._reader is None:
            return
        error = counting.exception()
        if error is not None:
            logger.error("job %s: counting tokens failed", self._job.id, exc_info=error)
        self._open = False
        self._listener.on_finish(self._reader.result(None if error else counting.result()))

    def _break_off(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()
            self._stop_engine()

    def _stop_engine(self) -> None:
        # For models that go on when their call is over, be it by a cancel or by its deadline.
        stop = self._served.binding.encode_stop(self._job)
        if stop is not None:
            self._owner.send_stop(stop)

    def _model_failed(self, text: str) -> PenstockError:
        error = of_message(text, self._model)
        if isinstance(error, EngineUnavailable):
            self._owner.suspect()
        if error.message == FAILED:
            logger.warning("job %s: model '%s' failed: %s", self._job.id, self._model, text[:_LOGGED])
        return error

    @property
    def _model(self) -> str:
        return self._served.binding.model
