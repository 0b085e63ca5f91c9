"""Real Tritons for tests: started once, used by many tests, sync or async.

    @pytest.fixture(scope="session")
    def triton(tmp_path_factory):
        with running_triton(IMITATIONS, tmp_path_factory.mktemp("triton")) as served:
            yield served

The environment is the folder that PENSTOCK_TRITON_ENV names, else .venv-triton in the checkout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.supervisor.triton import EmbeddedTriton

ROOT = Path(__file__).resolve().parents[1]
IMITATIONS = ROOT / "tests" / "models"
"""ensemble, tensorrt_llm_bls, tensorrt_llm: the classic contract. See tests/imitations."""
LLMAPI = ROOT / "tests" / "models_llmapi"
"""tensorrt_llm: the newer contract."""
EMBEDDED = ROOT / "model_repo" / "embedded"
"""The shipped repository: assistant."""


class EventFile:
    """What the models wrote down: see tests/imitations/events.py and penstock_engine/events.py."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, request_id: str | None = None) -> list[dict[str, Any]]:
        """All events so far, or those of one request."""
        if not self.path.exists():
            return []
        events = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [event for event in events if request_id in (None, event["id"])]

    def wait_for(self, event: str, request_id: str, limit_s: float = 10.0) -> dict[str, Any]:
        """The first such event, once it is there; fails the test after `limit_s` seconds."""
        deadline = time.monotonic() + limit_s
        while True:
            for found in self.read(request_id):
                if found["event"] == event:
                    return found
            assert time.monotonic() < deadline, f"no {event!r} of {request_id!r}: {self.read(request_id)}"
            time.sleep(0.005)


@dataclass(frozen=True)
class Served:
    """A Triton that is ready."""

    triton: EmbeddedTriton
    events: EventFile

    @property
    def address(self) -> str:
        """Where it serves gRPC, host:port."""
        return self.triton.address


def triton_environment() -> Path:
    """The environment that Triton runs in; whether it exists is found out at the start."""
    return Path(os.environ.get("PENSTOCK_TRITON_ENV") or ROOT / ".venv-triton")


@contextlib.contextmanager
def running_triton(repository: Path, state: Path, **options: Any) -> Iterator[Served]:
    """A Triton with the models of `repository`, its loop in a thread of its own.

    Args:
        state: an empty folder.
        options: passed to EmbeddedTriton (models, extra_models, metrics, ...).
    """
    events = EventFile(state / "events.jsonl")
    triton = EmbeddedTriton(
        environment=triton_environment(),
        repository=repository,
        state=state,
        ready_limit_s=options.pop("ready_limit_s", 110.0),
        grace_s=options.pop("grace_s", 1.0),
        variables={"PENSTOCK_TEST_EVENTS": str(events.path), **options.pop("variables", {})},
        **options,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(triton.start(), loop).result()
        try:
            yield Served(triton, events)
        finally:
            asyncio.run_coroutine_threadsafe(triton.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
