"""The load tests in steps, up and down: where does the gateway bend, and does it come back?

.venv-load/bin/locust -f loadtests/ramp.py --headless --steps 5,10,20,40,20,5 --step-time 30s
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from locust import LoadTestShape, events
from locust.argument_parser import timespan
from locust.exception import StopTest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from loadtests.locustfile import ChatStream, ChatUnary, GrpcStream
from loadtests.users.summary import Summary, show

__all__ = ["ChatStream", "ChatUnary", "GrpcStream", "Ramp"]

STEPS = "5,10,20,40,20,10,5"
RISE_S = 2.0


def steps(value: str) -> tuple[int, ...]:
    """Users of each step. Errors: ValueError."""
    try:
        users = tuple(int(part) for part in value.split(","))
    except ValueError:
        users = ()
    if not users or min(users) < 1:
        raise ValueError(f"steps {value!r} will not do: write numbers of users, 1 or more, like {STEPS}")
    return users


def step_time(value: str | int) -> int:
    """Seconds, 1 or more, also written like 90s or 5m. Errors: ValueError."""
    seconds = timespan(str(value))
    if seconds < 1:
        raise ValueError(f"step-time {value!r} will not do: write 1 or more seconds, like 30s")
    return int(seconds)


@events.init_command_line_parser.add_listener
def add_arguments(parser: Any) -> None:
    """The arguments of the ramp."""

    def checked(value: str) -> str:
        try:
            steps(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    def checked_time(value: str) -> int:
        try:
            return step_time(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument("--steps", type=checked, default=STEPS, metavar="<users,users,...>", help="Users of each step")
    parser.add_argument("--step-time", type=checked_time, default=30, metavar="<time>", help="How long a step lasts")


class Ramp(LoadTestShape):
    """Each step's users at once (within two seconds), and its own table when it is over."""

    def __init__(self) -> None:
        super().__init__()
        self._step = -1
        self._summary: Summary | None = None

    def tick(self) -> tuple[int, float] | None:
        """Locust's hook: users and how many of them start or stop in a second; None at the end."""
        options = self.runner.environment.parsed_options
        try:  # for the web UI, which takes what is typed as it is
            users, seconds = steps(options.steps), step_time(options.step_time)
        except ValueError as error:
            raise StopTest(str(error)) from None
        step = int(self.get_run_time() // seconds)
        if step < self._step:  # the web UI started another run
            self._step = -1
        if step > self._step:
            self._turn(step, users, seconds)
        if step >= len(users):
            return None
        before = users[step - 1] if step else 0
        return users[step], max(1.0, abs(users[step] - before) / RISE_S)

    def _turn(self, step: int, users: tuple[int, ...], seconds: int) -> None:
        if self._step < 0 or self._summary is None:
            self._summary = Summary(self.runner.stats)
        else:
            title = f"step {self._step + 1} of {len(users)}: {users[self._step]} users for {seconds} s, in ms"
            show(title, self._summary.take(seconds))
        self._step = step
