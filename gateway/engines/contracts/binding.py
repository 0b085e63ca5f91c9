"""What a contract is, and what it makes of one model: a binding, which honours some features and not others.

A feature that a request asks for is honoured or refused by name, never dropped in silence. The rule for
"asks for": a value that changes nothing is no request, and under temperature 0 nothing that only shapes the
draw is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.core.answer import TokenLogprob
from gateway.core.errors import Unsupported
from gateway.core.request import Guide, Sampling
from gateway.engines.base import Job, Result
from gateway.engines.triton_interface import ModelInterface
from gateway.routing.version import Version


class BindError(ValueError):
    """Why a version cannot be served by a model, in words for an operator."""


class Reader(Protocol):
    """Reads the responses of one job, in order."""

    @property
    def ended(self) -> bool:
        """The last response was read: `result` may be called."""

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Of the response that was read last, where they were asked for."""

    @property
    def answer(self) -> str:
        """All text so far, kept only where tokens must be counted by the gateway."""

    def read(self, message: bytes) -> str:
        """The text that one response shows, if any. Errors: PenstockError, ModelError, WireError."""

    def counts(self) -> tuple[int | None, int | None]:
        """Prompt and completion tokens as far as the model has told."""

    def result(self, counted: tuple[int, int] | None = None) -> Result:
        """How it ended; `counted` are the gateway's own counts where the model has none."""


class Binding(Protocol):
    """One version on one model. `stop_model` is the model that `encode_stop` is for."""

    @property
    def contract(self) -> str: ...

    @property
    def label(self) -> str:
        """The version, as it is shown."""

    @property
    def model(self) -> str: ...

    @property
    def features(self) -> frozenset[str]: ...

    @property
    def counts_tokens(self) -> bool:
        """Whether the model counts tokens itself."""

    def encode(self, job: Job) -> bytes:
        """The ModelInferRequest. Errors: Unsupported for what the model cannot honour; BadRequest for a value that its
        tensor cannot hold."""

    def reader(self, job: Job) -> Reader: ...

    def encode_stop(self, job: Job) -> bytes | None:
        """A request that stops the job where cancelling its call does not; None where that is enough."""


class Contract(Protocol):
    """A kind of model interface."""

    name: str

    def matches(self, interface: ModelInterface) -> bool: ...

    def companions(self, interface: ModelInterface) -> tuple[str, ...]:
        """Other models whose interfaces `bind` wants to see, where the server has them."""

    def bind(self, interface: ModelInterface, version: Version, companions: Mapping[str, ModelInterface]) -> Binding:
        """Errors: BindError where the model cannot serve the version."""


def is_greedy(sampling: Sampling) -> bool:
    """Temperature 0: the most likely token, always."""
    return sampling.temperature == 0


def asked(sampling: Sampling) -> list[tuple[str, float]]:
    """The features that a sampling asks for, with their values, in a fixed order."""
    wants: list[tuple[str, float]] = []
    if not is_greedy(sampling):
        if sampling.temperature is not None:
            wants.append(("temperature", sampling.temperature))
        if sampling.top_p is not None and sampling.top_p != 1:
            wants.append(("top_p", sampling.top_p))
        if sampling.top_k is not None and sampling.top_k > 0:
            wants.append(("top_k", sampling.top_k))
        if sampling.seed is not None:
            wants.append(("seed", sampling.seed))
    if sampling.min_tokens:
        wants.append(("min_tokens", sampling.min_tokens))
    if sampling.presence_penalty:
        wants.append(("presence_penalty", sampling.presence_penalty))
    if sampling.frequency_penalty:
        wants.append(("frequency_penalty", sampling.frequency_penalty))
    if sampling.repetition_penalty is not None and sampling.repetition_penalty != 1:
        wants.append(("repetition_penalty", sampling.repetition_penalty))
    return wants


def check(binding: Binding, sampling: Sampling, guide: Guide | None) -> None:
    """Errors: Unsupported, naming field, model and version, for what the binding cannot honour."""
    features = binding.features
    for name, _ in asked(sampling):
        if name not in features:
            raise _unsupported(binding, name, name)
    if sampling.logprobs and "logprobs" not in features:
        raise _unsupported(binding, "logprobs", "logprobs")
    if is_greedy(sampling) and "temperature" not in features and "top_k" not in features:
        raise _unsupported(binding, "temperature", "temperature 0")
    if guide is not None and f"guide:{guide.kind}" not in features:
        raise _unsupported(binding, "response_format", f"response_format of kind {guide.kind}")


def _unsupported(binding: Binding, param: str, what: str) -> Unsupported:
    return Unsupported(
        f"{binding.label} does not support {what}: its model '{binding.model}' ({binding.contract}) cannot honour it.",
        param=param,
    )
