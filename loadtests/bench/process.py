"""A process that the bench started: its log, its readiness, its end. It never outlives the bench."""

import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

_LOOK_S = 0.05
_TAIL = 3000
_CALL_S = 5.0


class Process:
    """Runs `command` in a session of its own, with what it prints in the file `log`.

    `environment` is added to ours. Raises OSError when the command can't be run.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log = log
        leash = [setpriv, "--pdeathsig", "TERM", "--"] if (setpriv := shutil.which("setpriv")) else []
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*leash, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until(self, ready: Callable[[], bool], limit_s: float = 60.0) -> Self:
        """Asks `ready` until it says yes. Raises RuntimeError, and ends the process, when it died or took too long."""
        deadline = time.monotonic() + limit_s
        while not ready():
            status = self._process.poll()
            if status is None and time.monotonic() < deadline:
                time.sleep(_LOOK_S)
                continue
            self.stop()
            what = f"was not ready after {limit_s:g} s" if status is None else f"ended at its start ({status})"
            raise RuntimeError(f"{what}; {self.log} ends with:\n{self.tail()}")
        return self

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-_TAIL:].decode("utf-8", "replace").strip() or "(nothing)"

    def stop(self, grace_s: float = 10.0) -> None:
        """SIGTERM, up to `grace_s` seconds, then SIGKILL for all of its session; returns when it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def answers(port: int, path: str, *, headers: Mapping[str, str] | None = None) -> bool:
    """Whether GET `path` on 127.0.0.1:`port` gives 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CALL_S)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
