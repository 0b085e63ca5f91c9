"""Endpoint and version of a request: by name, by pin, or by the split."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal, NamedTuple

from gateway.core.errors import BadRequest, NotFound
from gateway.routing.split import choose
from gateway.routing.version import Endpoint, Version

Reason = Literal["pin", "sticky", "weight"]


class Routed(NamedTuple):
    """The version that answers, and why this one."""

    version: Version
    reason: Reason


def find_endpoint(endpoints: Mapping[str, Endpoint], model: str) -> tuple[Endpoint, str | None]:
    """The endpoint that `model` names and the version it pins, if any. Errors: NotFound."""
    endpoint = endpoints.get(model)
    if endpoint is not None:
        return endpoint, None
    name, at, version = model.rpartition("@")
    endpoint = endpoints.get(name) if at else None
    if endpoint is None:
        near = get_close_matches((name if at else model)[:100], endpoints, 1)  # its cost grows with the length
        hint = f"did you mean '{near[0]}'?" if near else f"known models: {', '.join(sorted(endpoints)) or 'none'}."
        raise NotFound(f"The model '{model[:80]}' does not exist; {hint}", param="model", code="model_not_found")
    return endpoint, version


def route(endpoint: Endpoint, pin: str | None, sticky_key: str | None, request_id: str) -> Routed:
    """The version of `endpoint` that answers. A request without a sticky key is split by its own id."""
    if pin is not None:
        version = endpoint.versions.get(pin)
        if version is None:
            raise NotFound(
                f"The model '{endpoint.name}' has no version '{pin[:80]}'; it has {', '.join(endpoint.versions)}.",
                param="model",
                code="model_not_found",
            )
        if pin in endpoint.disabled:
            raise NotFound(
                f"The version '{version.label}' is disabled now; ask for '{endpoint.name}', or pin another version.",
                param="model",
                code="version_disabled",
            )
        return Routed(version, "pin")
    chosen = choose(endpoint.split, sticky_key or request_id, endpoint.salt or endpoint.name)
    return Routed(endpoint.versions[chosen], "sticky" if sticky_key else "weight")


def one_pin(endpoint: str, in_model: str | None, in_header: str | None) -> str | None:
    """A pin may come in the model's name or in a header; two that differ are refused.

    The header may carry the version or, as answers do, `endpoint@version`. An empty header is none; an empty
    pin in the name (`assistant@`) stays one, and names no version.
    """
    if in_header is not None:
        in_header = in_header.removeprefix(f"{endpoint}@")
    if in_model is not None and in_header and in_model != in_header:
        raise BadRequest(
            f"The model pins version '{in_model[:80]}' and the header x-penstock-version '{in_header[:80]}'; "
            "send one of them.",
            param="model",
        )
    return in_model if in_model is not None else in_header or None
