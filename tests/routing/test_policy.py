"""From the sampling that was asked to the sampling that is used."""

import pytest

from gateway.core.errors import BadRequest
from gateway.core.request import Request, Sampling
from gateway.routing.policy import apply_policy, derive_seed
from gateway.routing.version import Determinism, SamplingDefaults, SamplingLimits, Version

DEFAULTS = SamplingDefaults(max_tokens=64, temperature=0.7, top_p=0.9, top_k=40, repetition_penalty=1.1, stop=("END",))

LIMITS = SamplingLimits(max_tokens=100, temperature=1.5, n=2)


def version(
    determinism: Determinism = "free",
    defaults: SamplingDefaults = DEFAULTS,
    limits: SamplingLimits = LIMITS,
) -> Version:
    return Version("assistant", "v1", "m", determinism=determinism, defaults=defaults, limits=limits)


def used(asked: Sampling, of: Version | None = None, n: int = 1, request_id: str = "r") -> Sampling:
    return apply_policy(Request("assistant", sampling=asked, n=n), of or version(), request_id)


ALL_DEFAULTS = Sampling(max_tokens=64, temperature=0.7, top_p=0.9, top_k=40, repetition_penalty=1.1, stop=("END",))


def test_defaults_stand_where_nothing_was_asked() -> None:
    assert used(Sampling()) == ALL_DEFAULTS


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 1),
        ("max_tokens", 100),
        ("temperature", 0.0),  # zero was asked, and is not "nothing"
        ("temperature", 1.5),
        ("top_p", 0.1),
        ("top_k", 1),
        ("repetition_penalty", 1.0),
        ("stop", ("###",)),
        ("seed", 0),
        ("min_tokens", 64),
        ("presence_penalty", -1.0),
        ("frequency_penalty", 0.5),
        ("logprobs", True),
    ],
)
def test_what_was_asked_is_used_and_the_rest_stays(field: str, value: object) -> None:
    asked = used(Sampling(**{field: value}))
    for name in Sampling.__struct_fields__:
        assert getattr(asked, name) == (value if name == field else getattr(ALL_DEFAULTS, name))


def test_engine_defaults_stay_unsaid() -> None:
    plain = used(Sampling(), version(defaults=SamplingDefaults()))
    assert (plain.temperature, plain.top_p, plain.top_k, plain.repetition_penalty) == (None, None, None, None)


def test_a_default_above_the_limit_gives_way_in_silence() -> None:
    limited = version(defaults=SamplingDefaults(max_tokens=256), limits=SamplingLimits(max_tokens=100))
    assert used(Sampling(), limited).max_tokens == 100


@pytest.mark.parametrize(
    ("asked", "n", "param", "pieces"),
    [
        (Sampling(max_tokens=101), 1, "max_tokens", ["101", "assistant@v1", "at most 100", "fewer"]),
        (Sampling(temperature=1.51), 1, "temperature", ["1.51", "assistant@v1", "at most 1.5"]),
        (Sampling(), 3, "n", ["3", "assistant@v1", "at most 2"]),
        (Sampling(min_tokens=11, max_tokens=10), 1, "min_tokens", ["11", "max_tokens 10"]),
        (Sampling(min_tokens=65), 1, "min_tokens", ["65", "max_tokens 64"]),  # against the default too
    ],
)
def test_beyond_the_limits(asked: Sampling, n: int, param: str, pieces: list[str]) -> None:
    with pytest.raises(BadRequest) as caught:
        used(asked, n=n)
    assert caught.value.param == param
    assert [piece for piece in pieces if piece not in caught.value.message] == []


def test_greedy_sets_aside_what_draws() -> None:
    asked = Sampling(temperature=1.0, top_p=0.5, top_k=5, seed=7, max_tokens=9, stop=("x",))
    greedy = used(asked, version("greedy"))
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.seed) == (0.0, None, None, None)
    assert (greedy.max_tokens, greedy.stop, greedy.repetition_penalty) == (9, ("x",), 1.1)


@pytest.mark.parametrize("determinism", ["free", "greedy"])
def test_only_seeded_makes_a_seed(determinism: Determinism) -> None:
    assert used(Sampling(), version(determinism)).seed is None


def test_a_seed_comes_from_the_id_and_repeats() -> None:
    seeds = [used(Sampling(), version("seeded"), request_id=f"r{number}").seed for number in range(100)]
    again = [used(Sampling(), version("seeded"), request_id=f"r{number}").seed for number in range(100)]
    assert seeds == again
    assert len(set(seeds)) == 100
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)


def test_a_seed_that_was_given_is_kept() -> None:
    assert used(Sampling(seed=0), version("seeded")).seed == 0
    assert used(Sampling(seed=2**64 - 1), version("seeded")).seed == 2**64 - 1


def test_the_derived_seed_is_the_recorded_one() -> None:
    assert derive_seed("r") == 8713952079825542501  # a change of it changes answers that people rely on
