"""A whole gateway without a Triton: what stopped, killed and changed parts do to the rest."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli.__main__ import cli
from gateway.cli.admin import NotRunning, Refused, ask
from tests.e2e.running import Running, children, serving

CONFIG = """
[engine]
url = "127.0.0.1:1"
start_timeout_s = 0.1
[endpoints.chat]
split = { v1 = 90, v2 = 10 }
[endpoints.chat.versions]
v1 = { model = "m" }
v2 = { model = "m" }
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("live"), "--workers", "2", config=CONFIG) as running:
        yield running
        assert running.stop() == 0


def penstock(running: Running, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--state", str(running.state)])


def get(address: str, path: str) -> bytes:
    """The body of an answer of 200, over a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def process(running: Running, title: str) -> int:
    (pid,) = [pid for pid, command in children(running.process.pid).items() if command.startswith(title)]
    return pid


def ended(pid: int, act: Callable[[], None]) -> None:
    """Act, and wait until the process has ended."""
    descriptor = os.pidfd_open(pid)
    act()
    readable, _, _ = select.select([descriptor], [], [], 60)
    os.close(descriptor)
    assert readable


def until(running: Running, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status of the gateway once it is so; asks again while the control process is away."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            status: dict[str, Any] = ask(running.state, "GET", "/status")
        except (NotRunning, Refused):
            continue
        if true(status):
            return status
    raise AssertionError(f"it did not come to that:\n{running.stderr.read_text()}")


def all_applied(status: dict[str, Any]) -> bool:
    return not status["absent"] and all(worker["applied"] for worker in status["workers"])


def shares(running: Running) -> list[dict[str, float]]:
    """As clients see them, on connections enough to meet both workers."""
    models = [json.loads(get(running.http, "/v1/models"))["data"][0]["versions"] for _ in range(12)]
    return [model for index, model in enumerate(models) if model not in models[:index]]


def test_a_stopped_worker_is_replaced_and_begins_with_the_live_weights(gateway: Running) -> None:
    until(gateway, all_applied)
    done = penstock(gateway, "endpoints", "set", "chat", "v1=1", "v2=3", "--why", "a test")
    assert done.exit_code == 0
    assert done.stdout == "chat: v1=1 v2=3 (was v1=90 v2=10)\n"
    assert shares(gateway) == [{"v1": 0.25, "v2": 0.75}]
    worker = process(gateway, "penstock: worker 1")
    ended(worker, lambda: os.kill(worker, signal.SIGSTOP))
    status = until(gateway, all_applied)
    assert worker not in [one["pid"] for one in status["workers"]]
    assert "worker 1 has not answered for 5 s; it is killed" in gateway.stderr.read_text()
    assert shares(gateway) == [{"v1": 0.25, "v2": 0.75}]


def test_a_killed_control_process_is_replaced_and_nobody_waits_for_it(gateway: Running) -> None:
    before = until(gateway, all_applied)
    control = process(gateway, "penstock: control")
    ended(control, lambda: os.kill(control, signal.SIGKILL))
    assert get(gateway.http, "/health")
    after = until(gateway, all_applied)
    assert after["workers"][0]["pid"] == before["workers"][0]["pid"]
    assert b"penstock_workers 2" in get(gateway.facts["metrics"], "/metrics")
    assert process(gateway, "penstock: control") != control


def test_reload_by_command_and_by_signal(gateway: Running) -> None:
    until(gateway, all_applied)
    assert penstock(gateway, "endpoints", "reset", "chat").exit_code == 0
    file = gateway.state.parent / "penstock.toml"
    file.write_text(CONFIG.replace("v2 = 10", "v2 = 30"))
    done = penstock(gateway, "reload", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["agreed"]
    assert shares(gateway) == [{"v1": 0.75, "v2": 0.25}]
    file.write_text(CONFIG.replace("split =", "splt ="))
    refused = penstock(gateway, "reload")
    assert refused.exit_code == 2
    assert "did you mean 'split'" in refused.stderr
    assert shares(gateway) == [{"v1": 0.75, "v2": 0.25}]
    file.write_text(CONFIG)
    generation = until(gateway, all_applied)["generation"]
    gateway.process.send_signal(signal.SIGHUP)
    until(gateway, lambda status: status["generation"] > generation and all_applied(status))
    assert shares(gateway) == [{"v1": 0.9, "v2": 0.1}]
    # The file of now, and not that of the start, is what a new control process begins with.
    control = process(gateway, "penstock: control")
    file.write_text("broken")
    ended(control, lambda: os.kill(control, signal.SIGKILL))
    until(gateway, all_applied)
    assert shares(gateway) == [{"v1": 0.9, "v2": 0.1}]


def test_the_log_tells_who_and_why(gateway: Running) -> None:
    until(gateway, all_applied)
    assert penstock(gateway, "endpoints", "pin", "chat", "v2", "--why", "only [v2]").exit_code == 0
    lines = penstock(gateway, "endpoints", "log", "-n", "1", "--json").stdout.splitlines()
    (entry,) = map(json.loads, lines)
    assert (entry["action"], entry["why"], entry["to"]["pin"]) == ("pin", "only [v2]", "v2")
    said = penstock(gateway, "endpoints", "log").stdout
    assert "[v2]" in said
    listed = json.loads(penstock(gateway, "endpoints", "--json").stdout)
    assert listed["running"] is True
    assert [row["share"] for row in listed["versions"]] == [0, 1]
    assert penstock(gateway, "endpoints", "unpin", "chat").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("endpoints", "set", "chat", "v2"), "'v2' is no VERSION=WEIGHT"),
        (("endpoints", "set", "chat", "v2=nan"), "the weight of v2 is nan"),
        (("endpoints", "set", "chta", "v2=1"), "did you mean 'chat'?"),
        (("endpoints", "disable", "chat", "v9"), "has no version 'v9'"),
    ],
)
def test_refusals_are_said_on_stderr(gateway: Running, arguments: tuple[str, ...], words: str) -> None:
    refused = penstock(gateway, *arguments)
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert words in refused.stderr


def test_without_a_gateway_it_is_said_so(tmp_path: Path) -> None:
    refused = CliRunner().invoke(cli, ["reload", "--state", str(tmp_path)])
    assert refused.exit_code == 1
    assert f"no gateway runs with the state folder {tmp_path}" in refused.stderr
