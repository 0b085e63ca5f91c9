"""Who calls over gRPC: the metadata of a call and its request id, and how a refusal is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Never

from grpc_status import rpc_status

from gateway.core.errors import BadRequest, PenstockError
from gateway.dialects.openai_fields import shown
from gateway.grpc_errors import status_of
from gateway.http_reply import make_request_id

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[bytes, bytes]

PIN = "x-penstock-version"


class Caller:
    """What a call says beside its message. `header` looks metadata up by its lower-case name."""

    def __init__(self, context: Context, next_id: Callable[[], str]) -> None:
        pairs = context.invocation_metadata() or ()
        metadata = {key: value for key, value in pairs if isinstance(value, str)}
        self.header: Callable[[str], str | None] = metadata.get
        self.request_id = make_request_id(next_id, metadata.get("x-request-id"))

    @property
    def initial(self) -> tuple[tuple[str, str], ...]:
        """Our initial metadata."""
        return (("x-request-id", self.request_id),)

    def trailing(self, version: str) -> tuple[tuple[str, str], ...]:
        """Our trailing metadata. `version` is the one that answers, "" where none was chosen."""
        return (*self.initial, (PIN, version)) if version else self.initial

    def header_with(self, pin: str) -> Callable[[str], str | None]:
        """`header`, with a message's pin in place of the metadata's. Errors: BadRequest where they differ."""
        header = self.header
        other = header(PIN)
        if other and other.rpartition("@")[2] != pin.rpartition("@")[2]:
            raise BadRequest(
                f"pin: is {shown(pin)}, but the metadata {PIN} says {shown(other)}; send one of them.", param="pin"
            )
        return lambda name: pin if name == PIN else header(name)

    async def abort(self, context: Context, error: PenstockError, version: str = "") -> Never:
        """End the call with an error; `version` as for `trailing`."""
        status = rpc_status.to_status(status_of(error, self.request_id))
        await context.abort(status.code, status.details, (*status.trailing_metadata, *self.trailing(version)))
