"""Exports spans: follows the journal in a thread of the control process, and holds no more than one poll of it.

What is not taken now stays where it is, in the journal, and is tried again with growing pauses; only what a receiver
will never take is dropped, and counted. Every span is exported at least once: twice, where we ended between its export
and the keeping of the position.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct
from msgspec.structs import replace

from gateway.config.settings import TracesConfig
from gateway.journal.record import Record
from gateway.journal.segments import journal_folder
from gateway.telemetry.selection import Selection
from gateway.telemetry.source import JournalSource, Source
from gateway.telemetry.spans import SpanData, spans_of

if TYPE_CHECKING:
    from gateway.telemetry.delivery import Result

log = logging.getLogger("penstock.traces")

BATCH = 512
"""Spans in one request."""
_LOOK_S = 0.5
_FIRST_PAUSE_S = 1.0
_MAX_PAUSE_S = 30.0
_STOP_S = 2.0  # within the grace that the supervisor gives the control process, twice
_FIRST_LOOK_BACK_NS = 300 * 1_000_000_000


class Deliverer(Protocol):
    """See `Delivery`."""

    where: str
    answer: str

    def send(self, spans: Sequence[SpanData]) -> Result: ...

    def stop(self) -> None: ...


class ExportStats(Struct, frozen=True):
    """Since the start. `waiting` says why nothing goes out now, "" when all is well; `tries` failed in vain."""

    records: int = 0
    exported: int = 0
    dropped: int = 0
    tries: int = 0
    waiting: str = ""


def span_export(traces: TracesConfig, state: Path, content: Callable[[str], bool]) -> SpanExport | None:
    """The export that a config asks for, to be started; None where it asks for none. `state` is the state folder.

    A state folder that has no position yet begins with what ended within the last minutes.
    """
    if not traces.otlp:
        return None
    from gateway.telemetry.delivery import Delivery  # the SDK and requests: not for those who don't export

    source = JournalSource(
        journal_folder(state),
        state / "traces.json",
        Selection(share=traces.share, slow_s=traces.slow_s),
        since=time.time_ns() - _FIRST_LOOK_BACK_NS,
    )
    return SpanExport(source, Delivery(traces.otlp), content=content)


class SpanExport:
    """Exports the spans of `source` by `delivery`, from `start` to `stop`.

    `content` tells of which endpoints prompts and answers go along. It is called from the thread.
    """

    def __init__(
        self,
        source: Source,
        delivery: Deliverer,
        *,
        content: Callable[[str], bool] = lambda _: False,
        look_s: float = _LOOK_S,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._source = source
        self._delivery = delivery
        self._content = content
        self._look_s = look_s
        self._first_pause_s = first_pause_s
        self._stats = ExportStats()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="span export", daemon=True)

    def __repr__(self) -> str:
        return f"<SpanExport to {self._delivery.where} {self._stats}>"

    @property
    def stats(self) -> ExportStats:
        """The figures of this moment."""
        return self._stats

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Export what is there by now, if it is taken at once, and end. Blocks for up to 4 seconds: not for a loop."""
        self._ending.set()
        self._thread.join(_STOP_S)
        self._delivery.stop()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._ending.wait(self._look_s):
            self._follow()
        if not self._stats.waiting:
            self._follow()  # what came in the meantime

    def _follow(self) -> None:
        """All that is new. What fails here fails for now: the position stays."""
        try:
            while self._round():
                pass
        except OSError as error:
            self._wait_for(f"the state folder ({error.strerror or error})")
        except Exception:
            if not self._stats.waiting:
                log.exception("spans are not exported, by a defect")
            self._wait_for("the end of a defect")

    def _round(self) -> bool:
        """One poll. False when there was nothing new, or it could not be delivered before the end."""
        new, records = self._source.poll()
        if not new:
            return False
        spans = (span for record in records for span in self._spans(record))
        while batch := list(islice(spans, BATCH)):
            if not self._deliver(batch):
                return False
        self._count(records=len(records))
        self._source.advance()
        if self._stats.waiting:
            log.warning("spans are exported again")
            self._stats = replace(self._stats, waiting="")
        return True

    def _spans(self, record: Record) -> list[SpanData]:
        try:
            return spans_of(record, content=self._content(record.endpoint))
        except Exception:  # a defect of ours; the records behind it are not to wait for it
            log.exception("no spans can be made of record %s", record.id)
            self._count(dropped=1)
            return []

    def _deliver(self, batch: list[SpanData]) -> bool:
        pause = self._first_pause_s
        while (result := self._delivery.send(batch)) == "later":
            self._count(tries=1)
            self._wait_for(f"{self._delivery.where} ({self._delivery.answer})")
            if self._ending.wait(pause):
                return False
            pause = min(_MAX_PAUSE_S, pause * 2)
        if result == "refused":
            log.error("%d spans were refused by %s: %s", len(batch), self._delivery.where, self._delivery.answer)
            self._count(dropped=len(batch))
        else:
            self._count(exported=len(batch))
        return True

    def _wait_for(self, what: str) -> None:
        if not self._stats.waiting:
            log.warning("spans wait in the journal for %s", what)
        self._stats = replace(self._stats, waiting=what)

    def _count(self, *, records: int = 0, exported: int = 0, dropped: int = 0, tries: int = 0) -> None:
        old = self._stats
        self._stats = replace(
            old,
            records=old.records + records,
            exported=old.exported + exported,
            dropped=old.dropped + dropped,
            tries=old.tries + tries,
        )
