"""The state folder's secret, and what is made with it: hashes that only this gateway can make again.

A sticky key is often a user's name. Its plain hash could be found by trying names; with a secret in it, it says
no more than that two requests came with the same key.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

BYTES = 32
HASH_BYTES = 8


def load_secret(state: Path) -> bytes:
    """The secret of a state folder, made when there is none. Errors: OSError; ValueError when the file is not ours."""
    path = state / "secret"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        secret = path.read_bytes()
        if len(secret) != BYTES:
            raise ValueError(f"{path} has {len(secret)} bytes where {BYTES} belong; remove it for a new one") from None
        return secret
    secret = os.urandom(BYTES)
    try:
        os.write(fd, secret)
        os.fsync(fd)
    finally:
        os.close(fd)
    return secret


def key_hasher(secret: bytes) -> Callable[[str], str]:
    """Hides a sticky key: the same 16 hex digits for the same key, as long as the secret lives."""

    def hide(key: str) -> str:
        return blake2b(key.encode("utf-8", "surrogatepass"), key=secret, digest_size=HASH_BYTES).hexdigest()

    return hide
