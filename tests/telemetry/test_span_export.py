"""The export that a config asks for."""

from __future__ import annotations

import time
from pathlib import Path

from gateway.config.settings import TracesConfig
from gateway.telemetry.exporter import span_export
from tests.telemetry.otlp_receiver import Receiver
from tests.telemetry.test_source import Journal


def test_without_a_receiver_there_is_none(tmp_path: Path) -> None:
    assert span_export(TracesConfig(), tmp_path, lambda _: False) is None


def test_a_new_state_folder_begins_with_the_last_minutes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("long ago")
    journal.write("just now", at=time.time_ns())
    with Receiver() as receiver:
        export = span_export(TracesConfig(otlp=receiver.url), tmp_path, lambda _: False)
        assert export is not None
        export.start()
        receiver.wait_for(2)
        export.stop()
    ids = [span.attributes.get("gen_ai.response.id") for span in receiver.spans]
    assert ids == ["just now", None]
    assert (tmp_path / "traces.json").exists()
