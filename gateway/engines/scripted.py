"""An engine without a server, for tests of everything above engines: it says what the test tells it to.

No clock and no sleep: a script runs one step per turn of the event loop, and stops at a HOLD until the test
releases it. So a test can stand between any two chunks, look, and go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from msgspec import Struct

from gateway.core.answer import TokenLogprob
from gateway.core.errors import EngineUnavailable, PenstockError
from gateway.engines.base import SAMPLING_FEATURES, Job, Listener, Readiness, Result
from gateway.routing.version import Version


class Hold(Enum):
    """The step at which a script waits for `ScriptedCall.release`."""

    HOLD = "hold"


HOLD = Hold.HOLD


class Chunk(Struct, frozen=True, gc=False):
    """What `Listener.on_chunk` is told."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


# Text, a chunk, an end, an error, or a wait. A script without an end finishes with "stop" and counts pieces.
Step = str | Chunk | Result | PenstockError | Hold
Answer = Callable[[Version, Job], Sequence[Step]] | Mapping[str, Sequence[Step]] | Sequence[Step]


class ScriptedCall:
    """A job under way, and a test's handle on it."""

    def __init__(self, version: Version, job: Job, listener: Listener, steps: Sequence[Step]) -> None:
        self.version = version
        self.job = job
        self.cancelled = False
        self.ended = False
        self.held = False
        self._listener = listener
        self._steps = list(steps)
        self._pieces = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._run)

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled else "ended" if self.ended else "held" if self.held else "running"
        return f"<ScriptedCall {self.job.id} {state}, {len(self._steps)} steps left>"

    def cancel(self) -> None:
        """Stop the engine's work. May be called at any time and more than once."""
        self.cancelled = self.cancelled or not self.ended

    def counts(self) -> tuple[int | None, int | None]:
        """One token per word of the prompt and per chunk so far."""
        return len(self.job.prompt.split()), self._pieces

    def release(self) -> None:
        """Go on after a HOLD."""
        if self.held:
            self.held = False
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        if self.cancelled or self.ended:
            return
        step = self._steps.pop(0) if self._steps else Result("stop", *self.counts())
        if isinstance(step, Hold):
            self.held = True
            return
        if isinstance(step, (str, Chunk)):
            self._pieces += 1
            chunk = Chunk(step) if isinstance(step, str) else step
            self._listener.on_chunk(chunk.text, chunk.logprobs)
            self._loop.call_soon(self._run)
            return
        self.ended = True
        if isinstance(step, Result):
            self._listener.on_finish(step)
        else:
            self._listener.on_error(step)


class ScriptedEngine:
    """`answer` is a function of version and job, a table by prompt, or one script for all. `calls` has all
    jobs in the order of their start.

    `not_ready` maps labels (`endpoint@version`) to reasons; change it at any time.
    """

    def __init__(
        self, answer: Answer = ("Hello", " world"), *, features: frozenset[str] = frozenset(SAMPLING_FEATURES)
    ) -> None:
        self.answer = answer
        self.features = features
        self.calls: list[ScriptedCall] = []
        self.not_ready: dict[str, str] = {}
        self.versions: list[Version] = []
        self.closed = False
        self.replica = "scripted"

    def __repr__(self) -> str:
        return f"<ScriptedEngine {len(self.calls)} calls>"

    async def start(self, versions: list[Version]) -> None:
        self.versions = list(versions)

    async def watch(self, versions: list[Version]) -> None:
        """Exchange the versions."""
        self.versions = list(versions)

    def readiness(self, version: Version) -> Readiness:
        reason = self.not_ready.get(version.label, "")
        return Readiness(not reason, reason, "scripted", self.features)

    def call(self, version: Version, job: Job, listener: Listener) -> ScriptedCall:
        """Start a job. Errors: EngineUnavailable for a version that is not ready."""
        reason = self.not_ready.get(version.label)
        if reason is not None:
            raise EngineUnavailable(f"{version.label} is not ready: {reason}.")
        call = ScriptedCall(version, job, listener, self._script(version, job))
        self.calls.append(call)
        return call

    async def close(self) -> None:
        self.closed = True
        for call in self.calls:
            call.cancel()

    def _script(self, version: Version, job: Job) -> Sequence[Step]:
        answer = self.answer
        if callable(answer):
            return answer(version, job)
        if isinstance(answer, Mapping):
            if job.prompt not in answer:
                raise LookupError(f"the script has no answer to the prompt {job.prompt!r}")
            return answer[job.prompt]
        return answer
