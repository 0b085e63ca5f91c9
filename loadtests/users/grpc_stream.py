"""A user of penstock.v1: GenerateStream, timed piece by piece."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import gevent
import grpc
import grpc.experimental.gevent
from locust import User, task
from locust.exception import StopTest

from loadtests.users.ask import Ask, authorization
from loadtests.users.grpc_reply import read_grpc_stream
from loadtests.users.reply import WrongReply
from loadtests.users.rows import Rows
from penstock.v1 import inference_pb2 as pb
from penstock.v1 import inference_pb2_grpc


@functools.cache
def use_gevent() -> None:
    """Lets gRPC's waits give way to other greenlets. Once in a process, and after Locust has forked its workers."""
    grpc.experimental.gevent.init_gevent()


class GrpcStream(User):
    """Streams chats over gRPC, on a connection of its own."""

    name = "grpc stream"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        try:
            self.ask = Ask.of(self.host or "", environment.parsed_options)
        except ValueError as error:
            raise StopTest(str(error)) from None
        use_gevent()
        self.rows = Rows(environment, "RPC", self.name)
        key = authorization()
        self.metadata = () if key is None else (("authorization", key),)
        # Channels to one address share a connection unless told not to, and would all meet one worker.
        own = (("grpc.use_local_subchannel_pool", 1),)
        self.channel = grpc.insecure_channel(self.ask.grpc_host, options=own)
        self.stub = inference_pb2_grpc.InferenceStub(self.channel)

    def on_stop(self) -> None:
        """Locust's hook."""
        self.channel.close()

    def wait_time(self) -> float:
        """Locust's hook: seconds until the next request."""
        return self.ask.pause()

    @task
    def generate(self) -> None:
        """One stream, into Locust's table."""
        request = pb.GenerateRequest(
            model=self.ask.model,
            messages=[pb.Message(role="user", content=self.ask.words())],
            max_tokens=self.ask.max_tokens,
            temperature=0,
        )
        began = time.perf_counter()
        call = self.stub.GenerateStream(request, metadata=self.metadata)
        patience = Patience(call, self.ask.idle_timeout)
        try:
            seen, size = read_grpc_stream(patience.events(), time.perf_counter)
        except WrongReply as wrong:
            self.rows.wrong(began, time.perf_counter(), str(wrong))
        except grpc.RpcError as error:
            silent = f"no event for {self.ask.idle_timeout:g} s"
            self.rows.wrong(began, time.perf_counter(), silent if patience.ended else f"gRPC {error.code().name}")
        else:
            self.rows.right(began, time.perf_counter(), size, seen, streamed=True)
        finally:
            call.cancel()  # what was left unread; nothing for a call that is over


class Patience:
    """Cancels a call that is silent for too long: gRPC's own deadline is for the whole, however lively."""

    def __init__(self, call: Any, seconds: float) -> None:
        self.ended = False
        self._call = call
        self._timer = gevent.get_hub().loop.timer(seconds, repeat=seconds)

    def events(self) -> Iterator[pb.GenerateStreamResponse]:
        """The call's events. Errors: those of the call; it is cancelled, and `ended` true, when patience ran out."""
        try:
            self._timer.again(self._give_up)
            for event in self._call:
                self._timer.again(self._give_up)
                yield event
        finally:
            self._timer.stop()
            self._timer.close()

    def _give_up(self) -> None:
        self.ended = True
        self._timer.stop()
        gevent.spawn(self._call.cancel)  # the loop itself may not wait for gRPC's lock
