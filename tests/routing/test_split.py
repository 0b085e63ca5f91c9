"""The split: shares, stickiness under growth, and agreement between processes."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.split import choose, draw

KEYS = [f"user-{number}" for number in range(10_000)]


def shares(weights: dict[str, float], keys: list[str] = KEYS, salt: str = "assistant") -> dict[str, float]:
    counts = Counter(choose(weights, key, salt) for key in keys)
    return {version: counts[version] / len(keys) for version in weights}


def assignment(weights: dict[str, float], keys: list[str], salt: str = "assistant") -> dict[str, str]:
    return {key: choose(weights, key, salt) for key in keys}


def test_ten_thousand_keys_at_90_to_10_share_within_one_point() -> None:
    assert shares({"v1": 90, "v2": 10})["v2"] == pytest.approx(0.10, abs=0.01)


def test_when_a_canary_grows_from_10_to_30_no_key_leaves_it() -> None:
    before = assignment({"v1": 90, "v2": 10}, KEYS)
    after = assignment({"v1": 70, "v2": 30}, KEYS)
    assert [key for key in KEYS if before[key] == "v2" and after[key] != "v2"] == []
    assert shares({"v1": 70, "v2": 30})["v2"] == pytest.approx(0.30, abs=0.015)


@pytest.mark.parametrize("position", [0, 1, 2, 3])
def test_with_four_versions_too_a_growing_one_only_gains(position: int) -> None:
    names = ["a", "b", "c", "d"]
    weights = dict(zip(names, (10.0, 20.0, 30.0, 40.0), strict=True))
    keys = KEYS[:3000]
    before = assignment(weights, keys)
    weights[names[position]] *= 2.5
    after = assignment(weights, keys)
    moved = [(before[key], after[key]) for key in keys if before[key] != after[key]]
    assert moved
    assert {to for _, to in moved} == {names[position]}
    assert len({since for since, _ in moved}) == 3  # it gains from all the others


def test_a_version_that_comes_takes_and_one_that_goes_gives_back() -> None:
    two = assignment({"a": 1, "b": 1}, KEYS[:2000])
    three = assignment({"a": 1, "b": 1, "c": 1}, KEYS[:2000])
    assert all(three[key] in (two[key], "c") for key in two)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"a": 1, "b": 1, "c": 2}, {"a": 0.25, "b": 0.25, "c": 0.5}),
        ({"a": 0.001, "b": 0.003}, {"a": 0.25, "b": 0.75}),
        ({"a": 1e6, "b": 3e6}, {"a": 0.25, "b": 0.75}),
        ({"a": 1, "b": 99}, {"a": 0.01, "b": 0.99}),
    ],
)
def test_shares_are_relative_to_the_sum(weights: dict[str, float], expected: dict[str, float]) -> None:
    got = shares(weights)
    assert got == {version: pytest.approx(share, abs=0.015) for version, share in expected.items()}


def test_a_common_factor_changes_nothing() -> None:
    assert assignment({"a": 1, "b": 3}, KEYS[:2000]) == assignment({"a": 25, "b": 75}, KEYS[:2000])


def test_the_order_of_the_versions_changes_nothing() -> None:
    assert assignment({"a": 1, "b": 3, "c": 2}, KEYS[:1000]) == assignment({"c": 2, "b": 3, "a": 1}, KEYS[:1000])


def test_zero_weight_is_never_chosen() -> None:
    assert shares({"a": 0, "b": 1})["a"] == 0
    assert shares({"a": 0, "b": 1, "c": 1})["a"] == 0


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": 0.0, "b": 0.0}])
def test_no_live_version_is_an_error(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one version"):
        choose(weights, "key", "salt")


def test_another_salt_is_another_draw_of_the_same_shares() -> None:
    weights = {"a": 1.0, "b": 1.0}
    one, other = (assignment(weights, KEYS[:4000], salt) for salt in ("endpoint-1", "endpoint-2"))
    same = sum(one[key] == other[key] for key in one) / len(one)
    assert same == pytest.approx(0.5, abs=0.03)  # independent: an even canary is not the same people twice


# Recorded once: a change of these is a change of who sees which version, everywhere, at the next restart.
PINNED = {"": "b", "user-1": "a", "ключ": "b", "🙂": "b", "a\x00b": "b", "\ud800": "a"}


def test_the_assignment_is_the_recorded_one() -> None:
    assert assignment({"a": 1, "b": 1}, list(PINNED)) == PINNED


SCRIPT = """
import json, sys
from gateway.routing.split import choose
weights, keys = json.load(sys.stdin)
print(json.dumps([choose(weights, key, "assistant") for key in keys]))
"""


def test_three_processes_agree_whatever_their_hash_seed() -> None:
    weights = {"v1": 70, "v2": 20, "v3": 10}
    keys = [*KEYS[:990], "", " ", "é", "e\u0301", "日本", "🙂", "a,b", "a:b", '"', "\n"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("0", "1", "4242")
    ]
    order = json.dumps([weights, keys])
    answers = [json.loads(process.communicate(order, timeout=60)[0]) for process in processes]
    here = [choose(weights, key, "assistant") for key in keys]
    assert len(here) == 1000
    assert answers == [here] * 3
    assert set(here) == set(weights)


@settings(deadline=None)
@given(salt=st.text(), key=st.text(), version=st.text())
def test_a_draw_is_a_number_between_0_and_1_and_depends_on_nothing_else(salt: str, key: str, version: str) -> None:
    assert 0 < draw(salt, key, version) < 1
    assert draw(salt, key, version) == draw(salt, key, version)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b", "c"), ("ab", "", "c")), (("", "ab", "c"), ("", "a", "bc")), (("1", "2", "3"), ("", "12", "3"))],
)
def test_draws_do_not_collide_by_joining(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert draw(*one) != draw(*other)
