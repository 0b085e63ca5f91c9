"""From the sampling that a client asked for to the sampling that is used: defaults, limits, determinism."""

from __future__ import annotations

from hashlib import blake2b

from msgspec.structs import replace

from gateway.core.errors import BadRequest
from gateway.core.request import Request, Sampling
from gateway.routing.version import Version


def derive_seed(request_id: str) -> int:
    """The seed of a `seeded` version for a request that gave none: 63 bits of a hash of its id."""
    return int.from_bytes(blake2b(request_id.encode(), digest_size=8).digest(), "little") >> 1


def apply_policy(request: Request, version: Version, request_id: str) -> Sampling:
    """The sampling as used.

    `greedy` wins over what the client asked: temperature and seed are set aside, the answer is the model's
    most likely one. `seeded` derives a seed where none was given. `free` leaves all to client and engine.
    Errors: BadRequest where the client asks for more than the version's limits allow.
    """
    asked, defaults, limits = request.sampling, version.defaults, version.limits
    max_tokens = asked.max_tokens
    if max_tokens is None:
        max_tokens = min(defaults.max_tokens, limits.max_tokens)
    elif max_tokens > limits.max_tokens:
        raise BadRequest(
            f"max_tokens is {max_tokens}, but {version.label} allows at most {limits.max_tokens}; ask for fewer.",
            param="max_tokens",
        )
    if asked.temperature is not None and asked.temperature > limits.temperature:
        raise BadRequest(
            f"temperature is {asked.temperature}, but {version.label} allows at most {limits.temperature}.",
            param="temperature",
        )
    if request.n > limits.n:
        raise BadRequest(f"n is {request.n}, but {version.label} allows at most {limits.n}.", param="n")
    if asked.min_tokens is not None and asked.min_tokens > max_tokens:
        raise BadRequest(f"min_tokens is {asked.min_tokens}, above max_tokens {max_tokens}.", param="min_tokens")
    used = replace(
        asked,
        max_tokens=max_tokens,
        temperature=defaults.temperature if asked.temperature is None else asked.temperature,
        top_p=defaults.top_p if asked.top_p is None else asked.top_p,
        top_k=defaults.top_k if asked.top_k is None else asked.top_k,
        repetition_penalty=(
            defaults.repetition_penalty if asked.repetition_penalty is None else asked.repetition_penalty
        ),
        stop=asked.stop or defaults.stop,
    )
    if version.determinism == "greedy":
        return replace(used, temperature=0.0, top_p=None, top_k=None, seed=None)
    if version.determinism == "seeded" and used.seed is None:
        return replace(used, seed=derive_seed(request_id))
    return used
