"""Ids of inferences."""

import re

from gateway.ids import id_maker
from gateway.routing.policy import derive_seed


def test_unique_within_and_between_makers() -> None:
    one, other = id_maker(), id_maker()
    made = [make() for _ in range(2000) for make in (one, other)]
    assert len(set(made)) == len(made)


def test_shape_and_order() -> None:
    next_id = id_maker()
    made = [next_id() for _ in range(100)]
    assert all(re.fullmatch("[0-9a-f]{25}", one) for one in made)
    assert len({one[11:19] for one in made}) == 1
    assert [int(one[19:], 16) for one in made] == list(range(100))
    assert [one[:11] for one in made] == sorted(one[:11] for one in made)


def test_seeds_of_neighbours_have_nothing_in_common() -> None:
    next_id = id_maker()
    seeds = [derive_seed(next_id()) for _ in range(1000)]
    assert len(set(seeds)) == 1000
    assert 400 < sum(seed & 1 for seed in seeds) < 600
