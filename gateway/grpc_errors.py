"""The one error tree as gRPC says it: a status code, and google.rpc details in the trailing metadata."""

from __future__ import annotations

import re

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from gateway.core.errors import PenstockError

DOMAIN = "penstock"
# The text travels twice, once percent-encoded: clients take 8 KiB of metadata by default.
MAX_MESSAGE_CHARS = 1000


def status_of(error: PenstockError, request_id: str) -> status_pb2.Status:
    """The status: an ErrorInfo whose reason is HTTP's code in upper case, and RetryInfo where we know when."""
    about = {"request_id": request_id, "retryable": "true" if error.retryable else "false"}
    if error.param is not None:
        about["param"] = error.param
    details = [error_details_pb2.ErrorInfo(reason=_reason(error), domain=DOMAIN, metadata=about)]
    packed = [_pack(detail) for detail in details]
    if error.retry_after is not None:
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=error.grpc, message=_cut(error.message), details=packed)


def _reason(error: PenstockError) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", (error.code or type(error).__name__).upper())


def _cut(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


def _pack(detail: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> Any:
    packed = Any()
    packed.Pack(detail)
    return packed
