"""What happened to which request, for tests that must see a cancel arrive at the model.

Off unless PENSTOCK_TEST_EVENTS names a file; then one JSON object a line is appended to it: {"event":
started | cancelled | finished | failed, "model", "id", "at", ...}. `at` is CLOCK_MONOTONIC in seconds, which
all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import time

VARIABLE = "PENSTOCK_TEST_EVENTS"


class Events:
    """Writes the events of one model version."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._path = os.environ.get(VARIABLE)

    def write(self, event: str, request_id: str, **more: object) -> None:
        """Append one event; a single write, so that lines of several processes don't mix."""
        if not self._path:
            return
        line = {"event": event, "model": self._model, "id": request_id, "at": time.monotonic(), **more}
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
