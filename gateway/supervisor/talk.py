"""What the supervisor says: progress and events to stderr, the address card to stdout.

With --json the card is one JSON line, and nothing else goes to stdout.
"""

from __future__ import annotations

import time
from typing import Any

import orjson
from rich.console import Console
from rich.status import Status


class Talk:
    """A terminal gets a spinner and colours, a pipe plain lines."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._out = Console(highlight=False, soft_wrap=True)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None

    def progress(self, what: str) -> None:
        """What is being waited for."""
        if not self._err.is_terminal:
            self.say(what)
        elif self._status is None:
            self._status = self._err.status(what)
            self._status.start()
        else:
            self._status.update(what)

    def say(self, what: str) -> None:
        """One event."""
        self._err.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim] ", end="")
        self._err.print(what, markup=False)

    def card(self, facts: dict[str, Any]) -> None:
        """It serves. `facts`: ready; http, grpc, metrics (host:port); endpoint (to try); engine; callers; seconds."""
        self.quiet()
        if self._as_json:
            self._out.file.write(orjson.dumps({"event": "serving", **facts}).decode() + "\n")
            self._out.file.flush()
            return
        messages = '[{"role": "user", "content": "What is a canary?"}]'
        body = f'{{"model": "{facts["endpoint"]}", "stream": true, "messages": {messages}}}'
        state = "[bold green]is ready" if facts["ready"] else "[bold yellow]serves, but is not ready"
        self._out.print(f"Penstock {state}[/] after {facts['seconds']:.1f} s.")
        self._out.print(f"  HTTP     http://{facts['http']}/v1")
        self._out.print(f"  gRPC     {facts['grpc']}")
        self._out.print(f"  metrics  http://{facts['metrics']}/metrics")
        self._out.print(f"  engine   {facts['engine']}")
        self._out.print(f"  callers  {facts['callers']}", markup=False)
        self._out.print("Try it:")
        self._out.print(
            f"  curl -N http://{facts['http']}/v1/chat/completions -H 'content-type: application/json' -d '{body}'",
            markup=False,
        )
        self._out.print("Ctrl-C ends everything.")

    def quiet(self) -> None:
        """No spinner any more."""
        if self._status is not None:
            self._status.stop()
            self._status = None
