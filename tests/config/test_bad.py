"""Configs that are refused: every problem at once, with its line, its key, what was found and what would do.

The tables are tests/data/configs/bad_*.txt; what needs more than a text (bytes, folders, flags) is here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.config import Config, ConfigError, Overrides, load

TABLES = sorted((Path(__file__).parents[1] / "data" / "configs").glob("bad_*.txt"))
GOOD = '[endpoints.a.versions.v1]\nmodel = "assistant"\n'
FILES = {
    "bad.jinja": b"line one\n{% if %}",
    "latin.jinja": b"\xe9{{ x }}",
    "bad.json": b"[1]",
    "several.json": b'{"chat_template": [{"name": "a", "template": "x"}]}',
    "tokens.json": b'{"bos_token": "<s>"}',
    "bad.gguf": b"GGML1234",
    "cut.gguf": b"GGUF\x03\x00\x00\x00\x00\x00",
}
Refusal = Callable[..., ConfigError]


def cases() -> Iterator[tuple[str, str, list[str]]]:
    for table in TABLES:
        for case in table.read_text(encoding="utf-8").split("\n=== ")[1:]:
            title, _, rest = case.partition("\n")
            text, _, problems = rest.partition("---\n")
            yield f"{table.stem}: {title}", text, problems.strip().splitlines()


CASES = list(cases())


@pytest.fixture
def here(tmp_path: Path, make_gguf: Callable[..., bytes]) -> Path:
    """The folder of the config, with some files that it may name."""
    for name, data in {**FILES, "model.gguf": make_gguf({})}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_there_are_many() -> None:
    assert len(CASES) >= 170
    assert len({title for title, _, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("text", "problems"), [pytest.param(t, p, id=i) for i, t, p in CASES])
def test_refused(text: str, problems: list[str], here: Path, refusal: Refusal) -> None:
    error = refusal(text)
    told = [f"{p.line}: {p.message}".replace(str(here), "<here>") for p in error.problems]
    assert told == problems
    for problem in error.problems:
        assert problem.path == str(here / "penstock.toml")
        assert problem.message.startswith(f"{problem.key}: ")
        assert problem.message.endswith(f"; {problem.remedy}")


def test_the_report_is_one_text_with_a_place_on_every_line(refusal: Refusal, tmp_path: Path) -> None:
    error = refusal(GOOD + "zzz = 1\n[server]\nworkers = -1\n")
    path = tmp_path / "penstock.toml"
    more = "defaults, determinism, limits, model, model_version, price, text_mode, tokenizer"
    assert str(error).splitlines() == [
        "The config was refused, with 2 problems:",
        f"  {path}:3: endpoints.a.versions.v1.zzz: unknown key; the keys here are chat_template, {more}",
        f"  {path}:5: server.workers: found the integer -1; give an integer from 0 to 1024",
    ]
    assert error.problems[1].found == "the integer -1"
    assert str(refusal("")).startswith("The config was refused, with 1 problem:\n")


SECRETS = ("sk-live-0123456789", "hunter2")


@pytest.mark.parametrize("text", [text for _, text, _ in CASES if any(secret in text for secret in SECRETS)])
def test_a_secret_at_the_wrong_place_is_not_shown(text: str, refusal: Refusal) -> None:
    error = refusal(text)
    told = str(error) + repr(error.problems)
    assert not any(secret in told for secret in SECRETS)


def test_there_are_secrets_at_wrong_places() -> None:
    assert sum(any(secret in text for secret in SECRETS) for _, text, _ in CASES) == 6


SYNTAX = [
    (GOOD + "x = ", 3, 5, "invalid value; strings need quotes"),
    (GOOD + "x = yes", 3, 5, "invalid value; strings need quotes"),
    (GOOD + "x = 1\nx = 2", 4, 6, "cannot overwrite a value; give each key and each table once"),
    (GOOD + "[endpoints.a.versions.v1]\n", 3, 25, "cannot declare 'endpoints.a.versions.v1' twice; give each"),
    ('a = """\n', 2, 1, "unterminated string"),
    ('a = "b\nc"', 1, 7, "illegal character"),
    ("[a", 1, 3, "see toml.io"),
    ("= 1", 1, 1, "invalid statement"),
    ("a = {x = 1, x = 2}", 1, 18, "duplicate inline table key"),
    ("a = 2026-02-30", 1, 5, "invalid date or datetime"),
    ("a = " + "9" * 5000, 0, 0, "a number with thousands of digits"),
]


@pytest.mark.parametrize(("text", "line", "column", "piece"), SYNTAX)
def test_syntax_errors_have_line_and_column(
    text: str, line: int, column: int, piece: str, refusal: Refusal, tmp_path: Path
) -> None:
    (problem,) = refusal(text).problems
    assert (problem.line, problem.column) == (line, column)
    assert problem.message.startswith("is not TOML: ")
    assert piece in problem.message
    place = f"{tmp_path / 'penstock.toml'}:{line}:{column}: " if line else f"{tmp_path / 'penstock.toml'}: "
    assert str(problem).startswith(place)


def test_deep_nesting(refusal: Refusal) -> None:
    assert "nested too deeply" in refusal("a = " + "[" * 20_000).problems[0].message
    assert "nested too deeply" in refusal("a = " + "{b=" * 20_000).problems[0].message


BYTES = [
    (b"a = 1\nb = '\xff'", 2, 6, "is not UTF-8: found the byte 0xff; save the file as UTF-8"),
    (b"\xfe\xff\x00a", 1, 1, "is not UTF-8"),
    (b"a = 1\x00", 1, 6, "is not TOML"),
    (b"\x00" * 2000, 1, 1, "is not TOML"),
    (b"#" * (1 << 18) + b"#", 0, 0, "is larger than 262144 bytes"),
]


@pytest.mark.parametrize(("data", "line", "column", "piece"), BYTES, ids=range(len(BYTES)))
def test_bytes(data: bytes, line: int, column: int, piece: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert piece in problem.message


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file; write one with .*default > penstock\.toml"):
        load(tmp_path / "nowhere.toml")


def test_a_folder_a_device_and_a_huge_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; name the file in it, such as .*/penstock\.toml"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="is not a regular file"):
        load(Path("/dev/zero"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("a\0b"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / ("x" * 300))
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(ConfigError, match="is larger than"):
        load(tmp_path / "huge.toml")


FLAGS = [
    (Overrides(http="8080"), "--http", 'found the string "8080"; give "HOST:PORT"'),
    (Overrides(grpc="http://x:1"), "--grpc", 'leave "http://" out'),
    (Overrides(metrics="127.0.0.1:70000"), "--metrics", "a port from 0 to 65535"),
    (Overrides(workers="many"), "--workers", 'found the string "many"; give an integer from 0 to 1024'),
    (Overrides(workers="-1"), "--workers", 'found the string "-1"; give an integer from 0 to 1024'),
    (Overrides(workers=5000), "--workers", "found the integer 5000; give an integer from 0 to 1024"),
    (Overrides(state="a\nb"), "--state", "give a path, on one line"),
    (Overrides(http="127.0.0.1:8082"), "--http", "found 127.0.0.1:8082, where metrics listens too"),
    (Overrides(metrics="127.0.0.1:8080"), "--metrics", "found 127.0.0.1:8080, where http listens too"),
    (Overrides(http="127.0.0.1:9", grpc="127.0.0.1:9"), "--grpc", "found 127.0.0.1:9, where http listens too"),
    (Overrides(http="0.0.0.0:9"), "--http", "there are no [[keys]]: anyone could call; add [[keys]] to the config, or"),
    (Overrides(grpc="[::]:9"), "--grpc", "found [::]:9, which other machines can reach"),
]


@pytest.mark.parametrize(("overrides", "flag", "piece"), FLAGS)
def test_flags_are_named(overrides: Overrides, flag: str, piece: str, refusal: Refusal) -> None:
    (problem,) = refusal(GOOD, overrides=overrides).problems
    assert (problem.path, problem.line, problem.key) == ("command line", 0, flag)
    assert piece in problem.message
    assert str(problem).startswith(f"command line: {flag}: ")


def test_a_good_flag_does_not_hide_a_bad_file(refusal: Refusal) -> None:
    (problem,) = refusal(GOOD + '[server]\nhttp = "x"\n', overrides=Overrides(http="127.0.0.1:0")).problems
    assert (problem.key, problem.line) == ("server.http", 4)


def test_a_missing_repository_is_told(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match=re.escape(f"there are no shipped models in {tmp_path / 'none'}")):
        load(path, repository=tmp_path / "none")


def test_a_version_with_its_own_template_needs_no_repository(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD + 'chat_template = "{{ x }}"\n')
    assert load(path, repository=tmp_path / "none").endpoints["a"].versions["v1"].chat_template == "{{ x }}"


def test_a_broken_repository_is_told(tmp_path: Path) -> None:
    (tmp_path / "repository" / "assistant" / "1").mkdir(parents=True)
    config = tmp_path / "repository" / "assistant" / "1" / "tokenizer_config.json"
    config.write_text("not JSON")
    path = tmp_path / "penstock.toml"
    path.write_text(GOOD)
    with pytest.raises(ConfigError, match=re.escape(f"{config} is not a JSON object; mend the file, or")):
        load(path, repository=tmp_path / "repository")


def test_nothing_is_kept_between_loads(load_text: Callable[..., Config], refusal: Refusal) -> None:
    before = load_text(GOOD)
    refusal(GOOD + "zzz = 1")
    assert load_text(GOOD) == before
