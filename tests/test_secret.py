"""The state folder's secret and the hashes made with it."""

from pathlib import Path

import pytest

from gateway.secret import key_hasher, load_secret


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    secret = load_secret(tmp_path)
    assert len(secret) == 32
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert load_secret(tmp_path) == secret


def test_two_folders_have_two(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert load_secret(tmp_path / "a") != load_secret(tmp_path / "b")


@pytest.mark.parametrize("data", [b"", b"short", b"x" * 33])
def test_a_file_that_is_not_ours(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "secret").write_bytes(data)
    with pytest.raises(ValueError, match=rf"{len(data)} bytes where 32 belong; remove it"):
        load_secret(tmp_path)


def test_hashes_are_of_key_and_secret() -> None:
    hide = key_hasher(b"s" * 32)
    assert hide("ana") == key_hasher(b"s" * 32)("ana")
    assert len({hide("ana"), hide("ben"), key_hasher(b"t" * 32)("ana")}) == 3
    assert all(len(hide(key)) == 16 for key in ("", "ana", "\ud800", "x" * 10_000))
