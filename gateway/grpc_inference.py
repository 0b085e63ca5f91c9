"""The service penstock.v1.Inference on grpc.aio: admission of a call, its answer, its end.

Calls take and give bytes: messages are read and written in grpc_messages, where a bad one gets an error of the
house. Two things to know of gRPC: a caller that cancels and one whose connection is lost look the same here, as
a cancelled coroutine; and the caller's clock reaches a deadline before ours does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import grpc
from msgspec.structs import replace

from gateway.core.errors import EngineTimeout, EngineUnavailable, Internal, PenstockError, TooLarge
from gateway.grpc_answer import Answer, StreamedAnswer, WholeAnswer
from gateway.grpc_caller import Caller
from gateway.grpc_messages import decode_request, request_of
from gateway.http_head import MAX_DEADLINE_S
from gateway.keys import identify, visible
from gateway.service import Origin, Service
from penstock.v1 import inference_pb2 as pb

if TYPE_CHECKING:
    from gateway.routing.version import Endpoint

    Context = grpc.aio.ServicerContext[bytes, bytes]

log = logging.getLogger("penstock.grpc")

SERVICE = pb.DESCRIPTOR.services_by_name["Inference"].full_name
DIALECT = "penstock.v1"
DEFECT = "Internal error of the gateway; its log has the details under this request id."
# A cancel this close to the deadline is the deadline: the caller's clock runs ahead by the request's way here.
DEADLINE_SLACK_S = 0.1


class InferenceService:
    """The handlers, and the calls that are under way."""

    def __init__(self, service: Service, *, body_bytes: int, buffer_bytes: int) -> None:
        """`body_bytes` is the largest message that is taken, `buffer_bytes` what may wait for a slow reader."""
        self._service = service
        self._body_bytes = body_bytes
        self._buffer_bytes = buffer_bytes
        self._calls: set[Answer] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Generate": grpc.unary_unary_rpc_method_handler(self._generate),
                "GenerateStream": grpc.unary_stream_rpc_method_handler(self._generate_stream),
                "ListEndpoints": grpc.unary_unary_rpc_method_handler(self._list_endpoints),
            },
        )

    async def idle(self, timeout: float) -> bool:
        """Waits until no call is under way, for `timeout` seconds at most; whether it came to that."""
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def end_calls(self) -> None:
        """Our own shutdown: what is under way ends with UNAVAILABLE."""
        error = EngineUnavailable("The gateway is shutting down; try again.", code="shutting_down", retry_after=1.0)
        for answer in list(self._calls):
            answer.fail(error)

    # The methods

    async def _generate(self, data: bytes, context: Context) -> bytes:
        caller = Caller(context, self._service.next_id)
        answer = WholeAnswer(self._service)
        self._enter(answer)
        try:
            self._start(data, caller, answer, context, stream=False)
            if not answer.complete:
                await answer.wait()
            if answer.error is not None:
                await caller.abort(context, answer.error, answer.version)
            await context.send_initial_metadata(caller.initial)
            context.set_trailing_metadata(caller.trailing(answer.version))
            return answer.message
        except asyncio.CancelledError:
            self._called_off(answer, context)
            raise
        finally:
            self._leave(answer)

    async def _generate_stream(self, data: bytes, context: Context) -> None:
        caller = Caller(context, self._service.next_id)
        answer = StreamedAnswer(self._service, self._buffer_bytes)
        self._enter(answer)
        try:
            self._start(data, caller, answer, context, stream=True)
            try:
                await self._write(answer, caller, context)
            except asyncio.CancelledError:
                if not answer.overflowed or answer.writer is None or answer.writer.uncancel():
                    raise
            if answer.error is not None:
                await caller.abort(context, answer.error, answer.version)
            context.set_trailing_metadata(caller.trailing(answer.version))
        except asyncio.CancelledError:
            self._called_off(answer, context)
            raise
        finally:
            self._leave(answer)

    async def _write(self, answer: StreamedAnswer, caller: Caller, context: Context) -> None:
        while True:
            event = answer.take()
            if event is not None:
                if answer.writer is None:
                    await context.send_initial_metadata(caller.initial)
                await context.write(event)
                answer.writer = asyncio.current_task()
            elif answer.complete:
                return
            else:
                await answer.wait()

    async def _list_endpoints(self, data: bytes, context: Context) -> bytes:
        caller = Caller(context, self._service.next_id)
        try:
            key = identify(self._service.keyring, caller.header("authorization"))
        except PenstockError as error:
            await caller.abort(context, error)
        await context.send_initial_metadata(caller.initial)
        endpoints = visible(self._service.snapshot.endpoints, key.allowed).values()
        return pb.ListEndpointsResponse(endpoints=[self._endpoint(one) for one in endpoints]).SerializeToString()

    # The phases of a call

    def _start(self, data: bytes, caller: Caller, answer: Answer, context: Context, *, stream: bool) -> None:
        remaining: float | None = context.time_remaining()
        origin = Origin(
            caller.request_id,
            caller.header,
            None if remaining is None else min(remaining, MAX_DEADLINE_S),
            "grpc",
            DIALECT,
            trace=self._service.tracing.start(caller.header("traceparent"), caller.header("tracestate")),
        )
        try:
            key = identify(self._service.keyring, caller.header("authorization"))
            origin = replace(origin, api_key=key.name, allowed=key.allowed)
            if len(data) > self._body_bytes:
                raise TooLarge(
                    f"The message is {len(data)} bytes; at most {self._body_bytes} are taken (limits.body_bytes)."
                )
            asked = decode_request(data)
            request = request_of(asked, stream=stream)
            if asked.pin:
                origin = replace(origin, header=caller.header_with(asked.pin))
        except PenstockError as error:
            answer.refuse(error, origin)
            return
        except Exception:
            log.exception("request %s failed by a defect of its face", caller.request_id)
            answer.refuse(Internal(DEFECT), origin)
            return
        answer.start(request, origin)

    def _called_off(self, answer: Answer, context: Context) -> None:
        remaining: float | None = context.time_remaining()  # None without a deadline, whatever its stub says
        if remaining is not None and remaining < DEADLINE_SLACK_S:
            answer.fail(EngineTimeout("The caller's deadline passed before the answer was complete."))
        answer.abandon("cancelled")

    def _enter(self, answer: Answer) -> None:
        self._calls.add(answer)
        self._idle.clear()

    def _leave(self, answer: Answer) -> None:
        answer.abandon()  # where a write failed; else all has been said
        self._calls.discard(answer)
        if not self._calls:
            self._idle.set()

    def _endpoint(self, endpoint: Endpoint) -> pb.Endpoint:
        total = sum(endpoint.split.values())
        versions = []
        for name, version in endpoint.versions.items():
            state = self._service.engine.readiness(version)
            versions.append(
                pb.Version(
                    name=name,
                    fingerprint=version.fingerprint,
                    share=endpoint.split.get(name, 0) / total,
                    ready=state.ready,
                    reason=state.reason,
                    determinism=version.determinism,
                    features=sorted(state.features),
                )
            )
        return pb.Endpoint(name=endpoint.name, versions=versions)
