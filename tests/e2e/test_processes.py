"""Processes: what a gateway leaves behind (nothing), and what a killed part does to the rest (little)."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.running import ROOT, Running, alive, children, serving

ASK = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}]}


def shared_memory(running: Running) -> list[str]:
    """The regions of this gateway; others may run beside it."""
    return [path.name for path in Path("/dev/shm").glob(f"penstock_*_{running.process.pid}_*")]


def can_bind(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_after_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path, "--workers", "2") as running:
        family = children(running.process.pid)
        assert any("tritonserver" in command for command in family.values())
        assert sum(command.startswith("penstock: worker") for command in family.values()) == 2
        assert shared_memory(running)
        assert running.stop(number) == 0
        assert alive(list(family)) == []
        assert not shared_memory(running)
        assert all(can_bind(running.facts[face]) for face in ("http", "grpc", "metrics"))


def test_a_killed_supervisor_takes_all_with_it(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1") as running:
        assert shared_memory(running)
        family = children(running.process.pid)
        descriptors = [os.pidfd_open(pid) for pid in family]
        running.process.kill()
        running.process.wait()
        for descriptor in descriptors:
            _wait_for_end(descriptor)
        assert alive(list(family)) == []
    assert not shared_memory(running)


def test_a_killed_worker_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1") as running:
        (worker,) = [
            pid for pid, command in children(running.process.pid).items() if command.startswith("penstock: worker")
        ]
        descriptor = os.pidfd_open(worker)
        os.kill(worker, signal.SIGKILL)
        _wait_for_end(descriptor)
        # The supervisor holds the listening socket: this connection waits for the next worker.
        answer = httpx.get(f"http://{running.http}/health", timeout=30)
        assert answer.status_code == 200
        assert "is started again" in running.stderr.read_text()


def test_two_gateways_run_side_by_side_and_keep_apart(gateway: Running, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1") as second:
        for running in (gateway, second):
            assert httpx.post(f"{running.url}/chat/completions", json=ASK, timeout=30).status_code == 200
    for flag, value, words in (
        ("--http", gateway.http, "choose another with --http"),
        ("--state", str(gateway.state), "choose another with --state"),
    ):
        chosen = {"--http": "127.0.0.1:0", "--grpc": "127.0.0.1:0", "--metrics": "127.0.0.1:0"}
        chosen |= {"--state": str(tmp_path / "third"), flag: value}
        command = [sys.executable, "-m", "gateway.cli", "serve", *[part for pair in chosen.items() for part in pair]]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_missing_environment_is_said_in_words(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[engine]\nenvironment = "{tmp_path}/none"\n[endpoints.a.versions.v1]\nmodel = "assistant"\n')
    ports = [part for flag in ("--http", "--grpc", "--metrics") for part in (flag, "127.0.0.1:0")]
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "serve",
        "--config",
        str(config),
        "--state",
        str(tmp_path / "s"),
        *ports,
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "make triton-env" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_metrics_and_health_are_served(gateway: Running) -> None:
    assert httpx.post(f"{gateway.url}/chat/completions", json=ASK, timeout=30).status_code == 200
    assert httpx.get(f"http://{gateway.http}/ready").json()["ready"] is True
    with grpc.insecure_channel(gateway.facts["grpc"]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "assistant"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    page = httpx.get(f"http://{gateway.facts['metrics']}/metrics").text
    assert "penstock_workers 2" in page


def _wait_for_end(descriptor: int) -> None:
    # A pidfd becomes readable when its process has ended.
    readable, _, _ = select.select([descriptor], [], [], 60)
    os.close(descriptor)
    assert readable
