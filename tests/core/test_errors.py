"""The error tree: what every face reads off an error."""

import grpc
import pytest

from gateway.core import errors
from gateway.core.errors import BadRequest, Overloaded, PenstockError

INVALID, LIMIT, API = "invalid_request_error", "rate_limit_error", "api_error"
TREE = {
    "PenstockError": (500, grpc.StatusCode.INTERNAL, API, "internal_error", False),
    "BadRequest": (400, grpc.StatusCode.INVALID_ARGUMENT, INVALID, "invalid_request", False),
    "Unsupported": (400, grpc.StatusCode.INVALID_ARGUMENT, INVALID, "unsupported_feature", False),
    "Unauthenticated": (401, grpc.StatusCode.UNAUTHENTICATED, INVALID, "invalid_api_key", False),
    "NotFound": (404, grpc.StatusCode.NOT_FOUND, INVALID, "not_found", False),
    "MethodNotAllowed": (405, grpc.StatusCode.UNIMPLEMENTED, INVALID, "method_not_allowed", False),
    "RequestTimeout": (408, grpc.StatusCode.DEADLINE_EXCEEDED, INVALID, "request_timeout", False),
    "TooLarge": (413, grpc.StatusCode.INVALID_ARGUMENT, INVALID, "request_too_large", False),
    "HeadersTooLarge": (431, grpc.StatusCode.INVALID_ARGUMENT, INVALID, "headers_too_large", False),
    "Overloaded": (429, grpc.StatusCode.RESOURCE_EXHAUSTED, LIMIT, "overloaded", True),
    "Cancelled": (499, grpc.StatusCode.CANCELLED, "cancelled", "cancelled", False),
    "Internal": (500, grpc.StatusCode.INTERNAL, API, "internal_error", False),
    "EngineError": (502, grpc.StatusCode.INTERNAL, API, "engine_error", True),
    "EngineUnavailable": (503, grpc.StatusCode.UNAVAILABLE, API, "engine_unavailable", True),
    "EngineTimeout": (504, grpc.StatusCode.DEADLINE_EXCEEDED, API, "timeout", True),
}


@pytest.mark.parametrize("name", TREE)
def test_each_kind(name: str) -> None:
    error = getattr(errors, name)("said")
    code = next(code for code in grpc.StatusCode if code.value[0] == error.grpc)
    assert (error.status, code, error.type, error.code, error.retryable) == TREE[name]


def test_the_table_above_has_every_kind() -> None:
    kinds = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, PenstockError)
    }
    assert kinds == set(TREE)


@pytest.mark.parametrize("name", [name for name, row in TREE.items() if row[0] < 500])
def test_what_a_client_did_wrong_is_not_worth_another_try_except_overload(name: str) -> None:
    assert getattr(errors, name).retryable == (name == "Overloaded")


def test_an_error_shows_itself() -> None:
    error = BadRequest("n: too many.", param="n", code="odd")
    assert repr(error) == "BadRequest(400 odd, param='n': n: too many.)"
    assert (str(error), error.retry_after) == ("n: too many.", None)
    assert BadRequest("again").code == "invalid_request"  # the code above stayed with its instance
    assert Overloaded("full", retry_after=1.5).retry_after == 1.5
