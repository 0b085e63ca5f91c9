"""The binding that all contracts make: an encoder, a way to read text, and what of it all can be honoured."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.request import Sampling
from gateway.core.utf8 import Utf8Joiner
from gateway.engines.base import Job
from gateway.engines.contracts.binding import check
from gateway.engines.contracts.reader import OUTPUTS, AnswerReader
from gateway.engines.contracts.request import Form, RequestEncoder
from gateway.engines.contracts.text import CumulativeText, DetectingText, EchoText, TextMode, TextSource
from gateway.engines.triton_reader import Layouts
from gateway.routing.version import TextMode as TextSetting

_KEPT_FORMS = 64


class ModelBinding:
    """One version on one model. `echoes`: the model repeats the prompt, and the reader takes it off again."""

    __slots__ = (
        "_checked",
        "_echoes",
        "_encoder",
        "_layouts",
        "_stop",
        "_text",
        "contract",
        "counts_tokens",
        "features",
        "label",
        "model",
    )

    def __init__(
        self,
        contract: str,
        label: str,
        model: str,
        features: frozenset[str],
        encoder: RequestEncoder,
        *,
        text: Callable[[], TextSource],
        counts_tokens: bool,
        echoes: bool = False,
        stop: Callable[[Job], bytes] | None = None,
    ) -> None:
        self.contract = contract
        self.label = label
        self.model = model
        self.features = features
        self.counts_tokens = counts_tokens
        self._encoder = encoder
        self._layouts = Layouts(OUTPUTS)
        self._text = text
        self._echoes = echoes
        self._stop = stop
        self._checked: dict[tuple[Sampling, bool], Form] = {}

    def __repr__(self) -> str:
        features = ", ".join(sorted(self.features)) or "no features"
        return f"<ModelBinding {self.contract} of '{self.model}': {features}>"

    def encode(self, job: Job) -> bytes:
        """The ModelInferRequest. Errors: Unsupported for what the model cannot honour; BadRequest for a value that its
        tensor cannot hold."""
        sampling = job.sampling
        if job.guide is not None or sampling.seed is not None:  # of their own kind each time
            check(self, sampling, job.guide)
            return self._encoder.encode(job, self._encoder.form(job))
        # Applications send the same few samplings again and again.
        form = self._checked.get((sampling, job.stream))
        if form is None:
            check(self, sampling, None)
            form = self._encoder.form(job)
            if len(self._checked) >= _KEPT_FORMS:
                self._checked.clear()
            self._checked[sampling, job.stream] = form
        return self._encoder.encode(job, form)

    def reader(self, job: Job) -> AnswerReader:
        encoder = self._encoder
        streams = encoder.streams(job)
        text = self._text() if streams else Utf8Joiner()
        return AnswerReader(
            job,
            self._layouts,
            EchoText(text, job.prompt) if self._echoes else text,
            max_tokens=encoder.max_tokens(job.sampling),
            streams=streams,
            keep_text=not self.counts_tokens,
        )

    def encode_stop(self, job: Job) -> bytes | None:
        """A request that stops the job where cancelling its call does not; None where that is enough."""
        return self._stop(job) if self._stop is not None else None


def text_source(setting: TextSetting, detected: Callable[[], TextSource]) -> Callable[[], TextSource]:
    """How a version's answers are read: as it says, or as the contract knows (`auto`)."""
    if setting == "delta":
        return Utf8Joiner
    if setting == "cumulative":
        return CumulativeText
    return detected


def detecting() -> Callable[[], TextSource]:
    """For models of which it is not known: the streams of one binding learn from each other."""
    mode = TextMode()
    return lambda: DetectingText(mode)
