"""One error tree for every face.

Each class fixes what the faces need: the HTTP status, the gRPC code, OpenAI's `type` and `code`, and
whether a client may try again. The message is for the caller: it names the field, the value and the
remedy; it never carries a prompt, a secret or a traceback.
"""

from __future__ import annotations

from typing import ClassVar

# gRPC status codes by number, so that this floor needs no grpc import (grpc/status.md of the gRPC project).
CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 7, 8, 12
INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 13, 14, 16


class PenstockError(Exception):
    """Base of all errors that a caller may see.

    `param` is the request field at fault, in dotted form, or None.
    `retry_after` is in seconds, or None when the gateway has no advice.
    """

    status: ClassVar[int] = 500
    grpc: ClassVar[int] = INTERNAL
    type: ClassVar[str] = "api_error"
    code: str | None = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.status} {self.code}, param={self.param!r}: {self.message})"


class BadRequest(PenstockError):
    """The request can never succeed as it is."""

    status, grpc, type, code = 400, INVALID_ARGUMENT, "invalid_request_error", "invalid_request"


class Unsupported(BadRequest):
    """A known feature that this endpoint's model cannot honour; refused, never dropped in silence."""

    code = "unsupported_feature"


class Unauthenticated(PenstockError):
    """No key, or one that nobody has. The message names no more of a key than its last characters."""

    status, grpc, type, code = 401, UNAUTHENTICATED, "invalid_request_error", "invalid_api_key"


class NotFound(PenstockError):
    """No such route, endpoint or version."""

    status, grpc, type, code = 404, NOT_FOUND, "invalid_request_error", "not_found"


class MethodNotAllowed(PenstockError):
    """The route exists, the method does not."""

    status, grpc, type, code = 405, UNIMPLEMENTED, "invalid_request_error", "method_not_allowed"


class RequestTimeout(PenstockError):
    """The client was too slow to send its request."""

    status, grpc, type, code = 408, DEADLINE_EXCEEDED, "invalid_request_error", "request_timeout"


class TooLarge(PenstockError):
    """The body is over the configured limit."""

    status, grpc, type, code = 413, INVALID_ARGUMENT, "invalid_request_error", "request_too_large"


class HeadersTooLarge(PenstockError):
    """The header block is over the configured limit."""

    status, grpc, type, code = 431, INVALID_ARGUMENT, "invalid_request_error", "headers_too_large"


class Overloaded(PenstockError):
    """More work than the gateway or the engine takes now."""

    status, grpc, type, code, retryable = 429, RESOURCE_EXHAUSTED, "rate_limit_error", "overloaded", True


class Cancelled(PenstockError):
    """The client went away. Nobody reads it over HTTP; 499 is what logs call it."""

    status, grpc, type, code = 499, CANCELLED, "cancelled", "cancelled"


class Internal(PenstockError):
    """A defect of ours. The message says nothing of the inside; the request id leads to the log."""


class EngineError(PenstockError):
    """The engine answered with an error or broke off."""

    status, grpc, code, retryable = 502, INTERNAL, "engine_error", True


class EngineUnavailable(PenstockError):
    """No engine can be reached, or the model is not ready."""

    status, grpc, code, retryable = 503, UNAVAILABLE, "engine_unavailable", True


class EngineTimeout(PenstockError):
    """The request's deadline passed before the answer was complete."""

    status, grpc, code, retryable = 504, DEADLINE_EXCEEDED, "timeout", True
