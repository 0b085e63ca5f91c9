"""The process between the supervisor and tritonserver: whatever dies, nothing is left behind.

Run by path, with the standard library alone. It starts tritonserver, waits for it, and afterwards ends
its whole process group (the Python backend's stubs and what they started), reaps all of it, and removes
its shared memory, which Triton leaves behind when it is killed. It does so when

- tritonserver ends by itself or is killed;
- one of its stubs has died: Triton goes on without, calls the model ready and fails each of its requests;
- the supervisor asks for an end (SIGTERM, or a line on stdin): SIGTERM, a grace period, then SIGKILL;
- the supervisor is gone, however it went: its end of our stdin closes, or we have another parent. Then
  there is nobody to serve, and no grace.

Should the guard itself be killed, the kernel kills tritonserver (PR_SET_PDEATHSIG), the stubs see that
their parent is gone, and the next start removes the shared memory.

stdin: one line of JSON, the order (`command`, `env`, `prefix` of its shared memory, `grace_s`); then
nothing, or a line to ask for the end. stdout: one line, tritonserver's process id; it closes when we end,
which is how the supervisor learns of it. stderr: the log. Exit status: tritonserver's own, 128 + n for a
signal n, STUB_DIED for a stub.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (the kernel's, not a temporary file of ours)
STUB_DIED = 70
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_CHECK_S = 0.5
_STUB_CHECK_S = 1.0
_REAP_LIMIT_S = 5.0


def remove_shared_memory(prefix: str) -> int:
    """Remove the regions whose names begin with `prefix`; return how many there were."""
    removed = 0
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            region.unlink()
            removed += 1
    return removed


def dead_children(pid: int) -> set[int]:
    """The children of a process that have ended without having been waited for."""
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread, or the process, has just ended
            for child in path.read_text().split():
                state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
                if state == "Z":
                    found.add(int(child))
    return found


def say(line: str) -> None:
    """One line into the log."""
    os.write(2, f"penstock: {line}\n".encode())


class Guard:
    """Watches one tritonserver from start to end."""

    def __init__(self, command: list[str], env: dict[str, str], prefix: str, grace_s: float) -> None:
        self._prefix = prefix
        self._grace_s = grace_s
        self._parent = os.getppid()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        guard = os.getpid()

        def die_with_guard() -> None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guard:  # it died before the line above took effect
                os.kill(os.getpid(), signal.SIGKILL)

        # A group of its own, so that all of it can be killed at once.
        self._child = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=2,
            preexec_fn=die_with_guard,  # noqa: PLW1509 (one thread)
            process_group=0,
        )
        os.write(1, b"%d\n" % self._child.pid)

    def run(self) -> int:
        """Wait for an end, whoever brings it, and clean up. Returns our exit status."""
        status = self._wait_for_end()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._reap_all()
        remove_shared_memory(self._prefix)
        return status if status >= 0 else 128 - status

    def _wait_for_end(self) -> int:
        deadline: float | None = None
        sources = [0, self._woken]
        check_at = time.monotonic() + _STUB_CHECK_S
        dead: set[int] = set()
        while (status := self._child.poll()) is None:
            now = time.monotonic()
            if deadline is None and now >= check_at:
                # Seen dead twice, so Triton hasn't reaped it, as it does when it unloads a model itself.
                check_at, before, dead = now + _STUB_CHECK_S, dead, dead_children(self._child.pid)
                if dead & before:
                    say(f"a model's process has died (pid {min(dead & before)}); ending Triton")
                    return STUB_DIED
            if os.getppid() != self._parent or (deadline is not None and now >= deadline):
                return -signal.SIGKILL
            wait = _PARENT_CHECK_S if deadline is None else min(_PARENT_CHECK_S, deadline - now)
            ready, _, _ = select.select(sources, [], [], wait)
            if 0 in ready:
                if not os.read(0, 64):
                    return -signal.SIGKILL
                deadline = deadline or self._ask_to_end()
            if self._woken in ready:
                numbers = os.read(self._woken, 64)
                if any(number != signal.SIGCHLD for number in numbers):
                    deadline = deadline or self._ask_to_end()
        return status

    def _ask_to_end(self) -> float:
        self._child.terminate()
        return time.monotonic() + self._grace_s

    def _reap_all(self) -> None:
        """Wait until every process of the group is gone: we are their parent once theirs has died."""
        limit = time.monotonic() + _REAP_LIMIT_S
        while time.monotonic() < limit:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                time.sleep(0.005)


def main() -> None:
    """Read the order, carry it out."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # unbuffered: what follows is for select()
        order = json.loads(stdin.readline())
    sys.exit(Guard(**order).run())


if __name__ == "__main__":
    main()
