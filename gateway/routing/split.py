"""The split: which version of an endpoint answers a key.

Weighted rendezvous hashing. Each version draws a number in (0, 1) from a hash of (salt, key, version)
and scores weight / -ln(draw); the best score wins. Two properties carry the product:

- the share of a version is weight / sum of weights, exactly in expectation;
- a version's score depends on nothing but itself: when its weight grows and the others' do not, whoever
  had it keeps it, whatever the number of versions. Cumulative ranges lack this from three versions on.

Nothing is stored, so every worker and every restart agrees.
Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from math import log

_UNIT = 2.0**-53


def draw(salt: str, key: str, version: str) -> float:
    """A number in (0, 1) that depends on its arguments only. Lengths are hashed: no two triples collide by joining."""
    a, b, c = salt.encode(), key.encode("utf-8", "surrogatepass"), version.encode()
    digest = blake2b(b"%d:%d:%b%b%b" % (len(a), len(b), a, b, c), digest_size=8).digest()
    return ((int.from_bytes(digest, "little") >> 11) + 0.5) * _UNIT


def choose(weights: Mapping[str, float], key: str, salt: str) -> str:
    """The version for `key`. `weights`: version → weight ≥ 0, at least one above 0. Errors: ValueError when none is."""
    live = [item for item in weights.items() if item[1] > 0]
    if not live:
        raise ValueError("a split needs at least one version with a weight above 0")
    if len(live) == 1:
        return live[0][0]
    best, highest = "", -1.0
    for version, weight in live:
        score = weight / -log(draw(salt, key, version))
        if score > highest or (score == highest and version > best):
            best, highest = version, score
    return best
