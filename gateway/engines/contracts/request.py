"""From a job to the tensors of a request: what all contracts share.

Rules: only declared inputs are sent, as Triton refuses a request with any other; what has one value for ever
is part of the template; a value that its tensor cannot hold is the caller's error.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.errors import BadRequest
from gateway.core.request import Guide, Sampling
from gateway.engines.base import SAMPLING_FEATURES, Job
from gateway.engines.contracts.binding import BindError, asked, is_greedy
from gateway.engines.triton_interface import ModelInterface
from gateway.engines.triton_wire import InputTensor, RequestTemplate, WireError

# What NVIDIA's models call the kinds of guides (guided_decoding_guide_type).
_GUIDE_TYPES = {
    "json_object": b"json",
    "json_schema": b"json_schema",
    "regex": b"regex",
    "grammar": b"ebnf_grammar",
}

Form = tuple[bytes, bytes]
"""The headers of a request's tensors, and the values of those after the text."""


class Inputs:
    """The declared inputs of one model, ready to be filled. `names` maps our names to the model's."""

    def __init__(self, interface: ModelInterface, names: Mapping[str, str]) -> None:
        """Errors: BindError for an input of a type that cannot be sent."""
        self._found: dict[str, InputTensor] = {}
        for ours, theirs in names.items():
            spec = interface.inputs.get(theirs)
            if spec is not None:
                try:
                    self._found[ours] = InputTensor(theirs, spec.dtype, spec.dims, batched=interface.batched)
                except WireError as error:
                    raise BindError(str(error)) from error

    def get(self, name: str) -> InputTensor | None:
        return self._found.get(name)

    def sampling_features(self) -> set[str]:
        """The sampling features with an input of their own."""
        return {name for name in SAMPLING_FEATURES if name in self._found}


class RequestEncoder:
    """Encodes the jobs of one binding.

    `greedy` names what brings about temperature 0: "top_k" (TensorRT-LLM: top_k 1) or "temperature".
    `needs_top_p`: TensorRT-LLM ignores temperature unless top_p or top_k open the choice (both default to
    "the best token only"), so top_p 1 goes with a temperature that comes alone.
    """

    __slots__ = (
        "_default_max_tokens",
        "_greedy",
        "_guide",
        "_guide_type",
        "_inputs",
        "_logprobs",
        "_max_tokens",
        "_open",
        "_plain",
        "_stop",
        "_stream",
        "_template",
        "_text",
    )

    def __init__(
        self,
        interface: ModelInterface,
        version_of_model: str,
        inputs: Inputs,
        *,
        always_true: tuple[str, ...],
        greedy: str,
        needs_top_p: bool,
        default_max_tokens: int,
    ) -> None:
        text, max_tokens = inputs.get("text"), inputs.get("max_tokens")
        if text is None or max_tokens is None:
            raise BindError(f"model '{interface.name}' has no inputs for the prompt and max_tokens")
        self._inputs = inputs
        self._text, self._max_tokens = text, max_tokens
        self._stream = inputs.get("stream") if interface.streams else None
        self._logprobs = inputs.get("return_logprobs")
        self._stop = inputs.get("stop")
        self._guide_type, self._guide = inputs.get("guide_type"), inputs.get("guide")
        self._greedy = _greedy(inputs, greedy)
        top_p = inputs.get("top_p") if needs_top_p else None
        self._open = (top_p.header, top_p.scalar(1.0)) if top_p is not None else None
        self._default_max_tokens = default_max_tokens
        tensors = [inputs.get(name) for name in always_true]
        constants = [(tensor, tensor.scalar(True)) for tensor in tensors if tensor is not None]
        self._template = RequestTemplate(interface.name, version_of_model, constants)
        # The tensors of every request, in the order in which `encode` adds their values.
        always = [text, max_tokens] if self._stream is None else [text, max_tokens, self._stream]
        self._plain = [tensor.header for tensor in always]
        sent = {tensor.name for tensor in always} | {tensor.name for tensor, _ in constants}
        missing = [name for name, spec in interface.inputs.items() if not spec.optional and name not in sent]
        if missing:
            raise BindError(
                f"model '{interface.name}' requires inputs that the gateway does not send: " + ", ".join(missing)
            )

    def max_tokens(self, sampling: Sampling) -> int:
        return sampling.max_tokens if sampling.max_tokens is not None else self._default_max_tokens

    def streams(self, job: Job) -> bool:
        """Whether the model is asked to stream: where the client asked; for log-probabilities, which come per
        response; and for stop strings that only the gateway looks for, so that it can end the work early."""
        sampling = job.sampling
        wanted = job.stream or sampling.logprobs or bool(sampling.stop and self._stop is None)
        return self._stream is not None and wanted

    def encode(self, job: Job, form: Form) -> bytes:
        """The ModelInferRequest of a job of this form."""
        headers, values = form
        text = self._text.scalar(job.prompt.encode("utf-8", "replace"))
        return self._template.encode(job.id.encode(), (headers,), (text, values))

    def form(self, job: Job) -> Form:
        """All but the prompt and the id of a job that was checked. Errors: BadRequest."""
        sampling = job.sampling
        headers = self._plain.copy()
        try:
            values = [self._max_tokens.scalar(self.max_tokens(sampling))]
            if self._stream is not None:
                values.append(self._stream.scalar(self.streams(job)))
            self._add_sampling(sampling, headers, values)
            if sampling.stop and self._stop is not None:
                headers.append(self._stop.list_header(len(sampling.stop)))
                values.append(self._stop.strings([stop.encode("utf-8", "replace") for stop in sampling.stop]))
            if sampling.logprobs and self._logprobs is not None:
                headers.append(self._logprobs.header)
                values.append(self._logprobs.scalar(True))
            if job.guide is not None:
                self._add_guide(job.guide, headers, values)
        except WireError as error:
            raise BadRequest(f"A value is out of range: {error}.") from error
        return b"".join(headers), b"".join(values)

    def _add_sampling(self, sampling: Sampling, headers: list[bytes], values: list[bytes]) -> None:
        inputs = self._inputs
        closed = True
        for name, value in asked(sampling):
            tensor = inputs.get(name)
            if tensor is not None:
                headers.append(tensor.header)
                values.append(tensor.scalar(value))
                if name in ("top_p", "top_k"):
                    closed = False
        if is_greedy(sampling):
            if self._greedy is not None:
                headers.append(self._greedy[0])
                values.append(self._greedy[1])
        elif closed and self._open is not None and (sampling.temperature is not None or sampling.top_p is not None):
            headers.append(self._open[0])
            values.append(self._open[1])

    def _add_guide(self, guide: Guide, headers: list[bytes], values: list[bytes]) -> None:
        if self._guide_type is not None:
            headers.append(self._guide_type.header)
            values.append(self._guide_type.scalar(_GUIDE_TYPES[guide.kind]))
        if self._guide is not None and guide.kind != "json_object":
            headers.append(self._guide.header)
            values.append(self._guide.scalar(guide.source.encode("utf-8", "replace")))


def _greedy(inputs: Inputs, first: str) -> tuple[bytes, bytes] | None:
    # Header and value of the tensor that makes a request greedy, by the way that the contract prefers.
    for name in (first, "top_k", "temperature"):
        tensor = inputs.get(name)
        if tensor is not None:
            return tensor.header, tensor.scalar(1 if name == "top_k" else 0)
    return None
