"""Environments by made-up installers: kept when whole, made anew when not, and why they can't be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loadtests.bench import facts, install


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Environments in a folder of the test; nothing on the PATH but what a test puts there, and a shell."""
    monkeypatch.setattr(install, "ENVIRONMENTS", tmp_path / "envs")
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in ("cp", "env", "mkdir", "sh", "sleep", "touch"):
        (programs / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setenv("PATH", str(programs))
    return programs


def put(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\necho $0 $* >> {programs}/calls\n{script}\n")
    (programs / name).chmod(0o755)


def calls(programs: Path) -> list[str]:
    log = programs / "calls"
    return log.read_text().splitlines() if log.exists() else []


def test_uv_makes_it_once(place: Path, said: list[str]) -> None:
    put(place, "uv", "case $1 in venv) mkdir -p $5 ;; pip) echo Resolved 30 packages in 1s ;; esac")
    assert install.python_environment("vllm-router", said.append) == ""
    venv, pip = calls(place)
    folder = install.ENVIRONMENTS / "vllm-router"
    assert venv.endswith(f" {folder}")
    assert pip.endswith(f"pip install --python {folder}/bin/python vllm-router==0.1.17")
    assert said == [
        f"vllm-router: installing vllm-router 0.1.17 into {folder}",
        "vllm-router: Resolved 30 packages in 1s",
        "vllm-router: ready",
    ]
    assert install.python_environment("vllm-router", said.append) == ""
    assert len(calls(place)) == 2


def test_another_version_makes_it_anew(place: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "uv", "case $1 in venv) mkdir -p $5 ;; esac")
    assert install.python_environment("vllm-router", said.append) == ""
    left = install.ENVIRONMENTS / "vllm-router" / "left"
    left.touch()
    monkeypatch.setitem(install.PINS, "vllm-router", {"vllm-router": "0.1.18"})
    assert install.python_environment("vllm-router", said.append) == ""
    assert not left.exists()
    assert calls(place)[-1].endswith("vllm-router==0.1.18")


def test_what_failed_is_tried_again_and_says_why_without_addresses(place: Path, said: list[str]) -> None:
    put(
        place,
        "uv",
        "case $1 in venv) mkdir -p $5 ;; pip) echo error: nothing at https://index/x; echo bye; exit 7 ;; esac",
    )
    for _ in range(2):
        reason = install.python_environment("vllm-router", said.append)
        assert reason.startswith("could not be installed: error: nothing at … (exit code 7, log in ")
    assert len(calls(place)) == 4
    assert "https://index/x" in (install.ENVIRONMENTS / "vllm-router.log").read_text()


def test_without_uv_pip_does_it(place: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "python", 'case "$1 $2" in "-m venv") mkdir -p $3/bin; cp $0 $3/bin/python ;; esac; echo Collecting $5')
    monkeypatch.setattr(install.sys, "executable", str(place / "python"))
    assert install.python_environment("vllm-router", said.append) == ""
    python = install.ENVIRONMENTS / "vllm-router" / "bin" / "python"
    assert calls(place) == [
        f"{place}/python -m venv {python.parents[1]}",
        f"{python} -m pip install --no-input --progress-bar off vllm-router==0.1.17",
    ]


def test_without_ensurepip_the_base_pip_does_it(place: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "python", "mkdir -p $4")
    put(place, "base", "")
    monkeypatch.setattr(install, "find_spec", lambda name: None)
    monkeypatch.setattr(install.sys, "executable", str(place / "python"))
    monkeypatch.setattr(install, "_base_python", lambda: str(place / "base"))
    assert install.python_environment("vllm-router", said.append) == ""
    venv, pip = calls(place)
    folder = install.ENVIRONMENTS / "vllm-router"
    assert venv == f"{place}/python -m venv --without-pip {folder}"
    assert pip.startswith(f"{place}/base -m pip --python {folder}/bin/python install ")


def test_npm_holds_what_is_below(place: Path, said: list[str]) -> None:
    assert install.node_environment("portkey", said.append) == "needs node and npm on the PATH"
    put(place, "node", "echo v20.1.0")
    put(place, "npm", "echo added 95 packages")
    assert install.node_environment("portkey", said.append) == ""
    manifest = json.loads((install.ENVIRONMENTS / "portkey" / "package.json").read_text())
    assert manifest["dependencies"] == {"@portkey-ai/gateway": "1.15.2"}
    assert manifest["overrides"] == {"@hono/node-server": "1.14.1"}
    assert "--ignore-scripts" in calls(place)[-1]
    assert facts.machine()["node"] == "20.1.0"


def test_a_program_on_the_path_needs_nothing(place: Path, said: list[str]) -> None:
    put(place, "nginx", "echo nginx version: nginx/1.22.1 >&2")
    assert install.distribution_program("nginx", said.append) == ""
    assert said == []
    assert install.version("nginx") == "nginx 1.22.1"
    assert facts.versions(["nginx", "penstock", "litellm"]) == {
        "nginx": "nginx 1.22.1",
        "litellm": "litellm[proxy] 1.106.0",
    }


def test_a_program_is_unpacked_without_root(place: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(install.PINS, "gatekeeper", {})
    reason = install.distribution_program("gatekeeper", said.append)
    assert reason == "is not on the PATH, and there is no apt-get and no dpkg to unpack it with"
    put(place, "apt-get", "echo E: Unable to locate package $2; exit 100")
    put(place, "dpkg", f"mkdir -p $3/usr/sbin; cp {place}/made-up $3/usr/sbin/gatekeeper")
    reason = install.distribution_program("gatekeeper", said.append)
    assert reason.startswith("could not be installed: E: Unable to locate package gatekeeper (exit code 100")
    put(place, "made-up", "exit 0")
    put(place, "apt-get", "touch gatekeeper_1.deb")
    assert install.distribution_program("gatekeeper", said.append) == ""
    assert install.program("gatekeeper") == install.ENVIRONMENTS / "gatekeeper" / "usr" / "sbin" / "gatekeeper"


def test_an_installer_that_never_ends_is_ended(place: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, "node", "")
    put(place, "npm", "exec sleep 60")
    monkeypatch.setattr(install, "PATIENCE_S", 0.2)
    assert "npm said nothing (exit code -9" in install.node_environment("portkey", said.append)


def test_a_machine_has_its_facts() -> None:
    known = facts.machine()
    assert known["cores"] >= 1
    assert known["python"].startswith("3.")
    assert "node" not in known  # none on this PATH
