"""Peers without installing any: what they are configured with, how they are started, asked, and ended."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.bench import install
from loadtests.bench.peers import PEERS, launch, litellm, nginx, tensorzero
from loadtests.bench.upstreams import upstreams

OPENAI = "http://127.0.0.1:4321"


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The OpenAI mock, which stands in for a peer that answers rightly."""
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("needs a C compiler")
    with upstreams(tmp_path_factory.mktemp("mock"), lambda words: None, triton=False) as running:
        yield running.openai


def test_peers_have_names_of_their_own_and_pins() -> None:
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    assert set(names) | {"chart"} == set(install.PINS)
    assert all(peer.speaks == "openai" for peer in PEERS)
    assert {peer.name for peer in PEERS if peer.quick} == {"vllm-router", "litellm", "nginx"}


def test_litellm_is_told_of_one_model_and_where_it_is() -> None:
    (model,) = litellm.config(OPENAI)["model_list"]
    assert model["model_name"] == launch.MODEL
    assert model["litellm_params"] == {"model": "openai/bench", "api_base": f"{OPENAI}/v1", "api_key": "none"}


def test_tensorzero_is_told_of_one_model_and_to_keep_quiet() -> None:
    config = tomllib.loads(tensorzero.config(OPENAI))
    assert config["gateway"] == {
        "observability": {"enabled": False},
        "disable_pseudonymous_usage_analytics": True,
    }
    assert config["models"]["bench"]["providers"]["upstream"]["api_base"] == f"{OPENAI}/v1/"


@pytest.mark.parametrize(("uid", "says"), [(0, True), (1000, False)])
def test_nginx_keeps_connections_and_holds_nothing_back(uid: int, says: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "_is_root", lambda: uid == 0)
    lines = {line.strip() for line in nginx.config(OPENAI, 8765).splitlines()}
    assert {
        "worker_processes 1;",
        "server 127.0.0.1:4321;",
        "listen 127.0.0.1:8765;",
        "proxy_buffering off;",
        'proxy_set_header Connection "";',
        "access_log off;",
    } <= lines
    assert any(line.startswith("user ") for line in lines) is says


def test_a_child_sees_nothing_of_the_callers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    code = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    process = launch.launch("peer", [sys.executable, "-c", code], tmp_path, {"TOKIO_WORKER_THREADS": "1"})
    log = tmp_path / "peer.log"
    process.wait_until(lambda: log.read_text().endswith("}\n"))
    process.stop()
    seen = json.loads(log.read_text())
    assert seen["HOME"] == str(tmp_path)
    assert seen["TOKIO_WORKER_THREADS"] == "1"
    assert not {"OPENAI_API_KEY"} & set(seen)


def test_who_answers_rightly_is_running(mock: str, tmp_path: Path) -> None:
    process = launch.launch("peer", ["sleep", "60"], tmp_path)
    running = launch.running(process, f"{mock}/v1", headers={"x": "y"})
    assert (running.base_url, running.model, running.headers) == (f"{mock}/v1", "bench", {"x": "y"})
    command = Path(f"/proc/{running.pid}/cmdline")
    process.wait_until(lambda: command.read_bytes() == b"sleep\x0060\x00")  # by way of env and setpriv
    running.stop()
    assert not Path(f"/proc/{running.pid}").exists()


def test_who_ends_at_its_start_says_why(tmp_path: Path) -> None:
    process = launch.launch("peer", ["sh", "-c", "echo no such model; exit 3"], tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)ended at its start \(3\).*no such model.*asked for an answer"):
        launch.running(process, f"http://127.0.0.1:{launch.free_port()}/v1")


def test_an_interrupted_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "complaint", interrupt)
    process = launch.launch("peer", ["sleep", "60"], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        launch.running(process, OPENAI)
    assert not Path(f"/proc/{process.pid}").exists()


def test_what_is_wrong_with_an_answer(mock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.complaint(f"{mock}/v1", "bench", {}) == ""
    assert "ConnectionRefused" in launch.complaint(f"http://127.0.0.1:{launch.free_port()}/v1", "bench", {})
    answers = [(503, b"no worker")]
    monkeypatch.setattr(launch, "_post", lambda *_: answers.pop(0))
    assert launch.complaint(OPENAI, "bench", {}) == "status 503: no worker"
    answers += [(200, b'{"choices":[{"message":{"content":"w0000"}}]}')]
    assert launch.complaint(OPENAI, "bench", {}).startswith("not what the upstream said")
    right = json.dumps({"choices": [{"message": {"content": launch._WHOLE.answer(0)}}]}).encode()
    answers += [(200, right), (200, b"data: {}\n\n")]
    assert launch.complaint(OPENAI, "bench", {}).startswith("no whole stream, status 200")
    answers += [(200, b"{}")]
    assert launch.complaint(OPENAI, "bench", {}).startswith("KeyError")
