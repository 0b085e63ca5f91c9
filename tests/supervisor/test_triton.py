"""The embedded Triton's life: started, killed in every way, and nothing left behind. Real Triton, small models."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.supervisor import triton as triton_module
from gateway.supervisor.triton import EmbeddedTriton, EnvironmentMissing, StartFailed, TritonError
from gateway.supervisor.triton_guard import SHARED_MEMORY
from tests.triton_client import Client
from tests.triton_server import LLMAPI, ROOT, triton_environment

LIMIT_S = 30.0

SUPERVISOR = """
import asyncio, signal, sys
from pathlib import Path
from gateway.supervisor.triton import EmbeddedTriton

async def main():
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    environment, repository, state = map(Path, sys.argv[1:])
    async with EmbeddedTriton(environment=environment, repository=repository, state=state) as triton:
        print(triton.pid, flush=True)
        await asked.wait()

asyncio.run(main())
"""


def make(state: Path, **options: Any) -> EmbeddedTriton:
    """A Triton with one small model."""
    defaults: dict[str, Any] = {"environment": triton_environment(), "repository": LLMAPI, "grace_s": 1.0}
    return EmbeddedTriton(state=state, **(defaults | options))


def eventually(true: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.02)


def group_is_gone(pid: int) -> bool:
    """Whether no process of tritonserver's group is left: it leads the group that its stubs are in."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def regions(triton: EmbeddedTriton) -> list[str]:
    """Shared memory of this state folder."""
    return [path.name for path in SHARED_MEMORY.glob(f"{triton.shm_family}_*")]


async def works(triton: EmbeddedTriton) -> bool:
    """Whether a request is answered."""
    async with Client(triton.address, batched=False) as client:
        return "abc" in (await client.infer("tensorrt_llm", {"text_input": "abc"})).text


@contextlib.contextmanager
def supervisor(state: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A supervisor in a process of its own, and its tritonserver's process id."""
    arguments = [str(triton_environment()), str(LLMAPI), str(state)]
    process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, *arguments], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.asyncio
async def test_starts_listens_on_loopback_and_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    async with make(tmp_path, on_progress=said.append) as triton:
        pid = triton.pid
        assert pid is not None
        assert triton.state == "ready"
        assert await works(triton)
        assert regions(triton)
        hosts = listening(pid)
        assert hosts
        assert set(hosts) <= {"0100007F", "0000000000000000FFFF00000100007F"}, "127.0.0.1, ::ffff:127.0.0.1"
    assert "Triton is loading tensorrt_llm version 1" in said
    assert triton.state == "stopped"
    assert group_is_gone(pid)
    assert regions(triton) == []


def listening(pid: int) -> list[str]:
    """The addresses on which a process listens, in /proc's hexadecimal."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(str(link.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1].split(":")[0])
    return found


@pytest.mark.asyncio
async def test_killed_it_comes_back_on_the_same_port(tmp_path: Path) -> None:
    events: list[str] = []
    async with make(tmp_path, on_event=events.append) as triton:
        address, pid = triton.address, triton.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        while triton.state == "ready":
            await asyncio.sleep(0.01)
        await asyncio.wait_for(triton.wait_ready(), LIMIT_S)
        assert (triton.address, triton.restarts) == (address, 1)
        assert triton.pid != pid
        assert group_is_gone(pid)
        assert await works(triton)
    assert "signal 9" in events[0]
    assert str(triton.log) in events[0]
    assert events[-1] == "Triton is ready again"


@pytest.mark.asyncio
async def test_a_dead_model_process_counts_as_death(tmp_path: Path) -> None:
    events: list[str] = []
    async with make(tmp_path, on_event=events.append) as triton:
        for stub in children(triton.pid):
            os.kill(stub, signal.SIGKILL)
        while triton.state == "ready":
            await asyncio.sleep(0.01)
        await asyncio.wait_for(triton.wait_ready(), LIMIT_S)
        assert await works(triton)
    assert "the process of one of its models died" in events[0]


def children(pid: int | None) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in found for child in path.read_text().split()]


@pytest.mark.asyncio
async def test_two_side_by_side(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a"), make(tmp_path / "b", metrics=False)
    try:
        await asyncio.gather(one.start(), other.start())
        assert one.address != other.address
        assert other.metrics_address is None
        assert await works(one)
        assert await works(other)
    finally:
        await asyncio.gather(one.stop(), other.stop())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_supervisor_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    with supervisor(tmp_path) as (process, pid):
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 0
        assert group_is_gone(pid)
        assert regions(make(tmp_path)) == []


@pytest.mark.asyncio
async def test_supervisor_killed(tmp_path: Path) -> None:
    with supervisor(tmp_path) as (process, pid):
        process.kill()
        eventually(lambda: group_is_gone(pid), "tritonserver and its stubs are gone")
        eventually(lambda: not regions(make(tmp_path)), "its shared memory is gone")


@pytest.mark.asyncio
async def test_supervisor_and_guard_killed(tmp_path: Path) -> None:
    with supervisor(tmp_path) as (process, pid):
        guard = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(guard, signal.SIGKILL)
        process.kill()
        eventually(lambda: group_is_gone(pid), "the kernel and the stubs themselves have ended them")
    (SHARED_MEMORY / f"{make(tmp_path).shm_family}_1_1_left").write_bytes(b"")
    async with make(tmp_path) as triton:
        assert f"{triton.shm_family}_1_1_left" not in regions(triton)
        assert await works(triton)
    assert regions(triton) == []


@pytest.mark.asyncio
async def test_broken_model_is_a_clear_error(tmp_path: Path) -> None:
    model = tmp_path / "models" / "broken"
    (model / "1").mkdir(parents=True)
    config = (LLMAPI / "tensorrt_llm" / "config.pbtxt").read_text()
    (model / "config.pbtxt").write_text(config.replace('name: "tensorrt_llm"', 'name: "broken"'))
    (model / "1" / "model.py").write_text("raise RuntimeError('the weights are missing')")
    triton = make(tmp_path / "state", repository=tmp_path / "models")
    with pytest.raises(StartFailed) as caught:
        await triton.start()
    message = str(caught.value)
    assert "failed to load 'broken' version 1: Internal: RuntimeError: the weights are missing" in message
    assert str(triton.log) in message
    assert len(message.splitlines()) < 15
    assert (triton.state, triton.pid, regions(triton)) == ("stopped", None, [])


@pytest.mark.asyncio
async def test_not_ready_in_time(tmp_path: Path) -> None:
    triton = make(tmp_path, ready_limit_s=0.01)
    with pytest.raises(StartFailed, match=r"not ready after 0\.01 s"):
        await triton.start()
    assert regions(triton) == []


@pytest.mark.asyncio
async def test_missing_environment_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="`make triton-env`"):
        await make(tmp_path, environment=tmp_path).start()


@pytest.mark.asyncio
async def test_one_triton_a_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_module, "_LOCK_LIMIT_S", 0.1)
    async with make(tmp_path) as triton:
        with pytest.raises(TritonError, match=f"started by process {os.getpid()}"):
            await make(tmp_path).start()
        assert await works(triton)
