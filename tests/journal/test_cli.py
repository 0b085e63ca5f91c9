"""`penstock journal`, as it is typed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.__main__ import cli
from gateway.cli.journal_view import plain
from gateway.core.request import Message
from gateway.journal.frame import frame, header
from gateway.journal.record import Choice, Failure, Trace, decode_record, encode_record
from gateway.journal.segments import journal_folder
from tests.journal.records import AT, make_record, write_segment

ROOT = Path(__file__).parents[2]
RECORDS = [make_record(number, worker=number % 2, version=f"v{1 + number % 4 // 3}") for number in range(40)]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, ["journal", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def state(tmp_path: Path) -> str:
    for worker in range(2):
        write_segment(journal_folder(tmp_path), RECORDS[worker::2], worker=worker)
    return str(tmp_path)


@pytest.mark.parametrize("command", ["", "tail", "show", "stats", "verify"])
def test_help_has_an_example(command: str) -> None:
    helped = run(*filter(None, [command]), "--help")
    assert helped.exit_code == 0
    assert f"Example: penstock journal {command}".rstrip() in helped.stdout


@pytest.mark.parametrize("count", [0, 1, 10, 40, 1000])
def test_tail_as_json_is_one_record_a_line_the_newest_last(state: str, count: int) -> None:
    shown = run("tail", "-n", str(count), "--state", state, "--json")
    assert shown.exit_code == 0
    assert [decode_record(line.encode()) for line in shown.stdout.splitlines()] == RECORDS[40 - min(count, 40) :]


def test_tail_for_a_person(state: str) -> None:
    shown = run("tail", "-n", "3", "--state", state)
    lines = shown.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("received (UTC)")
    for line, record in zip(lines[1:], RECORDS[-3:], strict=True):
        for word in (
            record.id,
            f"assistant@{record.version}",
            "finished",
            "20.0 ms",
            "61.0 ms",
            record.choices[0].text,
        ):
            assert word in line


@pytest.mark.parametrize("wanted", [RECORDS[7].id, f"chatcmpl-{RECORDS[7].id}", "req-7"])
def test_show(state: str, wanted: str) -> None:
    assert decode_record(run("show", wanted, "--state", state, "--json").stdout.encode()) == RECORDS[7]
    shown = run("show", wanted, "--state", state)
    assert shown.exit_code == 0
    for word in (RECORDS[7].id, "Question 7?", "Answer 7.", "seed=7", "1007 nano-USD, price p1", "10 in, 5 out"):
        assert word in shown.stdout


def test_show_of_what_is_not_there(state: str) -> None:
    shown = run("show", "chatcmpl-nothing", "--state", state)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "No record with the id or request id 'chatcmpl-nothing'" in shown.stderr


def test_stats(state: str) -> None:
    figures = json.loads(run("stats", "--state", state, "--json").stdout)
    assert figures["records"] == 40
    assert {row["version"]: row["share"] for row in figures["versions"]} == {"v1": 0.75, "v2": 0.25}
    assert sum(row["cost_nano_usd"] for row in figures["versions"]) == sum(record.cost or 0 for record in RECORDS)
    shown = run("stats", "--state", state)
    for word in ("assistant@v1", "75.0%", "30 finished", "40 records"):
        assert word in shown.stdout


def test_figures_of_slow_answers_are_whole_milliseconds(tmp_path: Path) -> None:
    write_segment(journal_folder(tmp_path), [make_record(ended=1_234_567 * 10**6)])
    total = run("stats", "--state", str(tmp_path)).stdout.splitlines()[4].split()[-1]
    assert all(int(part) == pytest.approx(1_234_567, rel=0.02) for part in total.split("/"))


@pytest.mark.parametrize(
    ("since", "code"), [("1h", 0), ("1.5d", 0), ("90", 2), ("-1h", 2), ("", 2), ("1y", 2), ("١h", 2)]
)
def test_since(state: str, since: str, code: int) -> None:
    shown = run("stats", "--since", since, "--state", state, "--json")
    assert shown.exit_code == code
    if code:
        assert "--since" in shown.stderr
        assert repr(since) in shown.stderr
        assert "90m or 7d" in shown.stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize("command", ["tail", "stats", "verify"])
def test_nothing_there_is_a_sentence_and_no_error(tmp_path: Path, command: str, as_json: list[str]) -> None:
    shown = run(command, "--state", str(tmp_path / "away"), *as_json)
    assert shown.exit_code == 0
    assert shown.stderr.startswith("No ")
    assert shown.stderr.count("\n") == 1
    if as_json and command != "tail":
        assert json.loads(shown.stdout)
    else:
        assert shown.stdout == ""


def test_the_state_is_found_by_the_config(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text(
        '[server]\nstate = "kept"\n[engine]\nurl = "127.0.0.1:1"\n[endpoints.a.versions.v1]\nmodel = "m"\n'
    )
    write_segment(journal_folder(tmp_path / "kept"), RECORDS)
    assert run("tail", "-n", "1", "--json", "--config", str(config)).stdout.count("\n") == 1
    away = run("tail", "--config", str(config), "--state", str(tmp_path / "away"))
    assert "No records" in away.stderr


def test_verify_finds_a_flipped_byte_and_a_cut_tail_and_nothing_else(state: str) -> None:
    assert run("verify", "--state", state).exit_code == 0
    first, second = sorted(journal_folder(Path(state)).iterdir())
    data = bytearray(first.read_bytes())
    data[200] ^= 4
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-3])
    found = run("verify", "--state", state, "--json")
    assert found.exit_code == 1
    verdicts = json.loads(found.stdout)
    assert verdicts["sound"] is False
    one, two = verdicts["segments"]
    assert (len(one["damaged"]), one["frames"], one["torn"]) == (1, 19, 0)
    assert (two["damaged"], two["frames"], two["sound"]) == ([], 19, False)
    shown = run("verify", "--state", state)
    assert shown.exit_code == 1
    assert f"bytes damaged at offset {one['damaged'][0][0]}" in shown.stdout
    assert f"{two['torn']} bytes torn at the end" in shown.stdout
    left = run("tail", "-n", "99", "--state", state, "--json")
    assert left.stdout.count("\n") == 38
    assert left.stderr.startswith("Skipped: 1 damaged place, 1 torn tail")
    assert json.loads(run("stats", "--state", state, "--json").stdout)["records"] == 38


def test_a_journal_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    journal_folder(tmp_path).write_text("no folder")
    for command in (["tail"], ["show", "x"], ["stats"], ["verify"]):
        shown = run(*command, "--state", str(tmp_path))
        assert shown.exit_code == 1
        assert "can't be read: Not a directory" in shown.stderr
    assert run("tail", "--state", "").exit_code == 2


def test_text_of_clients_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    evil = "\x1b[2J\x9b31m\x07[red]\u202eabc\r\n"
    record = make_record(
        endpoint="",
        version="",
        model=evil,
        request_id=evil,
        outcome="refused",
        messages=(Message("user", evil, name=evil), Message("assistant", "", tool_calls=[{evil: [evil, 10**30]}])),
        prompts=(evil,),
        choices=(Choice(evil, ""),),
        failure=Failure("not_found", evil, 404),
        trace=Trace("a" * 32, "b" * 16, state=evil),
    )
    write_segment(journal_folder(tmp_path), [record])
    for command in (["tail"], ["show", record.id], ["stats"]):
        shown = run(*command, "--state", str(tmp_path))
        assert shown.exit_code == 0
        assert not set(shown.stdout) & set("\x1b\x9b\x07\u202e\r")
    assert "[red]" in run("show", record.id, "--state", str(tmp_path)).stdout
    assert len(run("tail", "--state", str(tmp_path)).stdout.splitlines()) == 2
    assert plain("a\tb\nc") == "a\tb\nc"


def test_tail_follows_until_it_is_interrupted(tmp_path: Path) -> None:
    folder = journal_folder(tmp_path)
    path = write_segment(folder, RECORDS[:2])
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "journal",
        "tail",
        "-f",
        "-n",
        "1",
        "--json",
        "--state",
        str(tmp_path),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert decode_record(process.stdout.readline().encode()) == RECORDS[1]
        with path.open("ab") as file:
            file.write(frame(encode_record(RECORDS[2])))
        assert decode_record(process.stdout.readline().encode()) == RECORDS[2]
        write_segment(folder, [RECORDS[3]], worker=1, start=AT // 1000 + 1)
        assert decode_record(process.stdout.readline().encode()) == RECORDS[3]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("", "", 0)


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    write_segment(journal_folder(tmp_path), []).write_bytes(header(2) + b"whatever")
    found = run("verify", "--state", str(tmp_path))
    assert found.exit_code == 1
    assert "a format that this Penstock does not know" in found.stdout
    assert "1 segment of an unknown format" in run("tail", "--state", str(tmp_path)).stderr
