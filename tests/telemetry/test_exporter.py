"""The exporter against a real OTLP/HTTP receiver: what arrives, and what becomes of what can't."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.journal.record import Record, Trace
from gateway.telemetry.delivery import Delivery
from gateway.telemetry.exporter import BATCH, ExportStats, SpanExport
from gateway.telemetry.source import Source
from tests.telemetry.otlp_receiver import Receiver
from tests.telemetry.records import AT, CALLER, ENGINES, FAILED, MS, OUR, TRACE, answered, refused
from tests.telemetry.test_source import Journal

SERVER, CLIENT = 2, 3
UNSET, ERROR = 0, 2
WAIT_S = 60.0


class Records:
    """A source in memory: one list per poll."""

    def __init__(self, *polls: list[Record]) -> None:
        self.left = list(polls)
        self.done = threading.Event()

    def poll(self) -> tuple[bool, list[Record]]:
        return (True, self.left[0]) if self.left else (False, [])

    def advance(self) -> None:
        self.left.pop(0)
        if not self.left:
            self.done.set()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@contextlib.contextmanager
def exporting(
    source: Source, url: str, content: Callable[[str], bool] = lambda _: False, timeout_s: float = 0.5
) -> Iterator[SpanExport]:
    # Within half a second the SDK does not try again by itself, so each try is one of ours.
    delivery = Delivery(url, timeout_s=timeout_s)
    export = SpanExport(source, delivery, content=content, look_s=0.01, first_pause_s=0.01)
    export.start()
    try:
        yield export
    finally:
        export.stop()


def test_what_arrives(receiver: Receiver) -> None:
    with exporting(Records([answered()]), receiver.url):
        request, engine = receiver.wait_for(2)
    assert (request.name, request.kind, request.service, request.scope) == (
        "chat assistant",
        SERVER,
        "penstock",
        "penstock",
    )
    assert (request.trace, request.span, request.parent, request.state) == (TRACE, OUR, CALLER, "a=1")
    assert (request.start, request.end, request.status) == (AT, AT + 52 * MS, UNSET)
    assert request.attributes["gen_ai.usage.output_tokens"] == 4
    assert request.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert request.attributes["gen_ai.request.stream"] is True
    assert (engine.name, engine.kind, engine.span, engine.parent) == ("triton assistant@v2", CLIENT, ENGINES, OUR)
    assert engine.events == (("penstock.first_text", AT + 20 * MS), ("penstock.last_text", AT + 50 * MS))


def test_an_error(receiver: Receiver) -> None:
    with exporting(Records([answered(outcome="failed", failure=FAILED)]), receiver.url):
        spans = receiver.wait_for(2)
    assert [(span.status, span.message) for span in spans] == [(ERROR, "The engine failed.")] * 2
    assert [span.attributes["error.type"] for span in spans] == ["engine_error"] * 2


def test_a_root_has_no_parent(receiver: Receiver) -> None:
    with exporting(Records([refused(trace=Trace(TRACE, OUR))]), receiver.url):
        (span,) = receiver.wait_for(1)
    assert (span.parent, span.state) == ("", "")


def test_content_of_the_endpoints_that_say_so(receiver: Receiver) -> None:
    records = [answered(), answered(endpoint="open")]
    with exporting(Records(records), receiver.url, content=lambda endpoint: endpoint == "open"):
        spans = receiver.wait_for(4)
    assert [span.name for span in spans if "gen_ai.input.messages" in span.attributes] == ["chat open"]


def test_many_go_in_batches(receiver: Receiver) -> None:
    records = [refused(id=f"{number}") for number in range(BATCH + 1)]
    source = Records(records[:10], records[10:])
    with exporting(source, receiver.url) as export:
        receiver.wait_for(len(records))
        assert source.done.wait(WAIT_S)
        assert export.stats == ExportStats(records=len(records), exported=len(records))
    assert [span.attributes["gen_ai.response.id"] for span in receiver.spans] == [record.id for record in records]


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_busy_receiver_is_asked_again(receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture) -> None:
    receiver.refuse = [status] * 3
    source = Records([answered()], [refused()])
    with caplog.at_level(logging.WARNING, "penstock.traces"), exporting(source, receiver.url) as export:
        receiver.wait_for(3)
        assert source.done.wait(WAIT_S)
    assert len(receiver.spans) == 3, "each once"
    assert export.stats == ExportStats(records=2, exported=3, tries=3)
    where = receiver.url.removeprefix("http://")
    assert [record.message for record in caplog.records] == [
        f"spans wait in the journal for {where} (status {status})",
        "spans are exported again",
    ], "once for the outage"


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_what_is_refused_is_dropped_and_counted(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.refuse = [status]
    source = Records([answered()], [refused()])
    with caplog.at_level(logging.WARNING, "penstock.traces"), exporting(source, receiver.url) as export:
        (span,) = receiver.wait_for(1)
        assert source.done.wait(WAIT_S)
    assert span.attributes["error.type"] == "invalid_request"
    assert export.stats == ExportStats(records=2, exported=1, dropped=2)
    (said,) = [record.message for record in caplog.records]
    assert f"2 spans were refused by {receiver.url.removeprefix('http://')}: status {status}" in said


def test_what_cannot_be_sent_is_dropped_and_counted(receiver: Receiver) -> None:
    source = Records([refused(endpoint="\ud800")], [refused()])
    with exporting(source, receiver.url) as export:
        receiver.wait_for(1)
        assert source.done.wait(WAIT_S)
    assert export.stats == ExportStats(records=2, exported=1, dropped=1)


def test_a_record_of_which_no_spans_can_be_made(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    def content(endpoint: str) -> bool:
        if endpoint == "odd":
            raise LookupError
        return False

    source = Records([refused(id="x", endpoint="odd"), refused(id="y")])
    with exporting(source, receiver.url, content) as export:
        (span,) = receiver.wait_for(1)
        assert source.done.wait(WAIT_S)
    assert span.attributes["gen_ai.response.id"] == "y"
    assert export.stats.dropped == 1
    assert "no spans can be made of record x" in caplog.text


def test_nothing_of_the_content_is_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.refuse = [503, 400]
    with caplog.at_level(logging.DEBUG), exporting(Records([answered()]), receiver.url, lambda _: True) as export:
        receiver.wait_refused(2)
    assert export.stats.dropped == 2
    assert caplog.records
    assert "How high" not in caplog.text
    assert "300 m" not in caplog.text


def test_a_receiver_that_is_away_costs_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("a")
    with Receiver() as gone:
        url = gone.url
    with exporting(journal.source(), url) as export:
        until(lambda: export.stats.tries > 1)
        assert "no answer" in export.stats.waiting
        assert export.stats.exported == export.stats.dropped == 0
    journal.write("b")
    with Receiver() as receiver, exporting(journal.source(), receiver.url):
        spans = receiver.wait_for(4)
    assert [span.attributes.get("gen_ai.response.id") for span in spans] == ["a", None, "b", None]


def test_a_restart_exports_nothing_twice_and_skips_nothing(tmp_path: Path, receiver: Receiver) -> None:
    journal = Journal(tmp_path)
    journal.write("a")
    with exporting(journal.source(), receiver.url):
        receiver.wait_for(2)
    journal.write("b")
    journal.write("c", worker=2)
    with exporting(journal.source(), receiver.url):
        receiver.wait_for(6)
    with exporting(journal.source(), receiver.url) as export:
        journal.write("d")
        receiver.wait_for(8)
    assert export.stats.records == 1
    assert [i for span in receiver.spans if (i := span.attributes.get("gen_ai.response.id"))] == ["a", "b", "c", "d"]


def test_stopping_takes_along_what_is_there(tmp_path: Path, receiver: Receiver) -> None:
    journal = Journal(tmp_path)
    export = SpanExport(journal.source(), Delivery(receiver.url), look_s=WAIT_S)
    export.start()
    journal.write("a")
    export.stop()
    assert len(receiver.spans) == 2


def test_a_state_folder_that_fails(tmp_path: Path, receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    journal.kept.with_name("traces.json.new").mkdir()  # in the way of the position
    journal.write("a")
    with exporting(journal.source(), receiver.url) as export:
        until(lambda: bool(export.stats.waiting))
        assert "Is a directory" in export.stats.waiting
        journal.kept.with_name("traces.json.new").rmdir()
        journal.write("b")
        until(lambda: not export.stats.waiting)
    assert len(receiver.spans) == 4
    assert journal.kept.exists()


def test_a_defect_is_said_once_and_does_not_end_it(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    source = Records([refused()])
    polls = iter(range(5))
    usual = source.poll

    def poll() -> tuple[bool, list[Record]]:
        if next(polls, None) is not None:
            raise LookupError
        return usual()

    source.poll = poll  # type: ignore[method-assign]
    with exporting(source, receiver.url):
        receiver.wait_for(1)
    assert caplog.text.count("spans are not exported, by a defect") == 1


@pytest.mark.parametrize(
    ("url", "where"),
    [("http://user:secret@host:4318", "host:4318"), ("https://host/base", "host"), ("http://[::1]:4318", "::1:4318")],
)
def test_where_tells_no_secret(url: str, where: str) -> None:
    delivery = Delivery(url)
    assert delivery.where == where
    delivery.stop()


def until(true: Callable[[], bool]) -> None:
    """Wait for what the exporter's thread does; it is looked for, not slept for."""
    ticker = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if true():
            return
        ticker.wait(0.01)
    raise AssertionError("it did not come to that")
