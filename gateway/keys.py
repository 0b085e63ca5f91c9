"""Who calls: from an Authorization header to a key, and what that key may use.

Only the sha256 of a key is known here. It is looked up by the sha256 of what the caller sent, so what the time of a
lookup tells is about a hash that the caller cannot steer; the last word is a comparison in constant time. What a key
may not use looks as if it did not exist, in lists, in answers and in the hints of errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Protocol, TypeVar

from gateway.core.errors import Unauthenticated

EVERY_ENDPOINT = "*"
# Of a key that is long enough for it, so much may be shown; a shorter one would be given away by its end.
SHOWN = 4
LONG = 24

_Any = TypeVar("_Any")


class KeyLike(Protocol):
    """A key as the config has it: `sha256` in hex; "*" among `endpoints` is all of them."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def endpoints(self) -> tuple[str, ...]: ...


class Key:
    """A known caller. `allowed` tells of an endpoint's name whether it may be used; None where all may."""

    __slots__ = ("allowed", "name")

    def __init__(self, name: str, endpoints: Iterable[str]) -> None:
        named = frozenset(endpoints)
        self.name = name
        self.allowed: Callable[[str], bool] | None = None if EVERY_ENDPOINT in named else named.__contains__

    def __repr__(self) -> str:
        return f"<Key {self.name or 'of anyone'}>"

    def allows(self, endpoint: str) -> bool:
        """Whether `endpoint` may be used."""
        return self.allowed is None or self.allowed(endpoint)


ANYONE = Key("", (EVERY_ENDPOINT,))
"""The caller of a gateway that has no keys."""


class Keyring:
    """The keys of a gateway that has some. Immutable: other keys are another ring."""

    def __init__(self, keys: Iterable[KeyLike]) -> None:
        """Errors: ValueError for a sha256 that is not hex."""
        digests = [(bytes.fromhex(key.sha256), Key(key.name, key.endpoints)) for key in keys]
        self._keys = {digest: (digest, key) for digest, key in digests}

    def __repr__(self) -> str:
        return f"<Keyring of {len(self._keys)}>"

    def authenticate(self, authorization: str | None) -> Key:
        """The key that the value of an Authorization header shows. Errors: Unauthenticated."""
        scheme, _, secret = (authorization or "").partition(" ")
        secret = secret.strip()
        if not secret or scheme.lower() != "bearer":
            raise Unauthenticated(
                "You didn't provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_KEY'."
            )
        try:
            # Headers are read as latin-1, whatever they are: this gives the bytes that were sent.
            digest = sha256(secret.encode("latin-1")).digest()
        except UnicodeEncodeError:
            raise _incorrect(secret) from None
        known, key = self._keys.get(digest, (b"", ANYONE))
        if not compare_digest(known, digest):
            raise _incorrect(secret)
        return key


def keyring_of(keys: Iterable[KeyLike]) -> Keyring | None:
    """The ring of a config's keys; None, which is open to anyone, where there are none. Errors: as of Keyring."""
    keys = tuple(keys)
    return Keyring(keys) if keys else None


def identify(keyring: Keyring | None, authorization: str | None) -> Key:
    """Who calls: ANYONE where there is no ring. Errors: Unauthenticated."""
    return ANYONE if keyring is None else keyring.authenticate(authorization)


class Visible(Mapping[str, _Any]):
    """A mapping by endpoint without those that may not be used. A look costs little; nothing is copied."""

    def __init__(self, endpoints: Mapping[str, _Any], allowed: Callable[[str], bool]) -> None:
        self._endpoints = endpoints
        self._allowed = allowed

    def __getitem__(self, name: str) -> _Any:
        if not self._allowed(name):
            raise KeyError(name)
        return self._endpoints[name]

    def __iter__(self) -> Iterator[str]:
        return filter(self._allowed, self._endpoints)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def visible(endpoints: Mapping[str, _Any], allowed: Callable[[str], bool] | None) -> Mapping[str, _Any]:
    """`endpoints` as a caller sees them; `allowed` as in Key."""
    return endpoints if allowed is None else Visible(endpoints, allowed)


def _incorrect(secret: str) -> Unauthenticated:
    end = secret[-SHOWN:] if len(secret) >= LONG else ""
    which = f" (it ends in '{end}')" if end.isascii() and end.isalnum() else ""
    return Unauthenticated(f"Incorrect API key provided{which}; ask who runs this gateway for one.")
