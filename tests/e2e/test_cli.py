"""The commands, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import __version__
from gateway.cli.__main__ import cli
from tests.e2e.running import ROOT, Running


def penstock(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


ENDPOINTS = ("set", "pin", "unpin", "disable", "enable", "reset", "log")
COMMANDS = [
    *[(command,) for command in ("serve", "check", "endpoints", "journal", "reload", "version")],
    *[("endpoints", command) for command in ENDPOINTS],
    *[("journal", command) for command in ("tail", "show", "stats", "verify")],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_helps_with_an_example(command: tuple[str, ...]) -> None:
    helped = CliRunner().invoke(cli, [*command, "--help"], prog_name="penstock")
    assert helped.exit_code == 0
    assert f"Example: penstock {' '.join(command)}" in helped.stdout
    assert command[-1] in CliRunner().invoke(cli, [*command[:-1], "--help"]).stdout


def test_version() -> None:
    assert penstock("version").stdout.startswith(f"penstock {__version__}")
    assert json.loads(penstock("version", "--json").stdout)["penstock"] == __version__


def test_check_says_what_a_config_means() -> None:
    said = penstock("check")
    assert said.returncode == 0
    assert "assistant@v1: 90 % of callers" in said.stdout
    assert set(json.loads(penstock("check", "--json").stdout)["endpoints"]) == {"assistant"}


def test_a_bad_config_is_refused_whole_with_lines(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('[endpoints.a]\nsplitt = { v1 = 1 }\n[endpoints.a.versions.v1]\nmodel = 7\ndeterminism = "none"\n')
    for command in ("check", "serve", "endpoints"):
        refused = penstock(command, "--config", str(bad))
        assert refused.returncode == 2
        assert refused.stdout == ""
        for piece in (":2", "did you mean 'split'", ":4", ":5", '"seeded"'):
            assert piece in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--http", "nonsense"), "--http"),
        (("--workers", "-1"), "--workers"),
        (("--config", "/nowhere/at/all.toml"), "/nowhere/at/all.toml"),
    ],
)
def test_bad_flags_are_named(arguments: tuple[str, str], words: str) -> None:
    refused = penstock("serve", *arguments)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_endpoints_asks_the_running_gateway(gateway: Running) -> None:
    listed = json.loads(penstock("endpoints", "--json", "--http", gateway.http).stdout)
    assert listed["running"] is True
    shares = {row["version"]: row["share"] for row in listed["versions"]}
    assert shares == pytest.approx({"v1": 0.9, "v2": 0.1})
    assert {row["state"] for row in listed["versions"]} == {"ready"}
    away = json.loads(penstock("endpoints", "--json", "--http", "127.0.0.1:1").stdout)
    assert away["running"] is False
    assert "assistant" in penstock("endpoints", "--http", gateway.http).stdout
