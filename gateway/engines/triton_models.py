"""Keeps what is known of one server's models: which versions can be served, and by which binding.

A loop asks the server every few seconds, and five times a second while something is missing, for a minute: it
may be about to come. Each pause is drawn at random between half and whole, so that many gateways don't ask in
step. A model that changed is bound anew; one that did not keeps its binding, and with it what the binding has
learnt. A server that is merely silent keeps its models for three rounds: it may be busy with them.

The versions may be exchanged at any time (`watch`). Those that leave can be served until the next exchange, so
that the caller may go on using them until it has taken over the new ones.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from gateway.engines.base import Readiness
from gateway.engines.contracts.binding import BindError, Binding
from gateway.engines.contracts.registry import bind, find_contract
from gateway.engines.tokenizer import TokenCounter, TokenizerError, load_counter
from gateway.engines.triton_interface import ModelInterface
from gateway.engines.triton_metadata import NotReady
from gateway.routing.version import Version

logger = logging.getLogger(__name__)

# Seconds.
_FIRST_PAUSE = 0.1
_AWAY_PAUSE = 0.2
_HOPE = 60.0
_NOT_YET = "its model was not looked at yet"
_SILENT_ROUNDS = 3


class Metadata(Protocol):
    """Where the interfaces come from; see triton_metadata.MetadataClient. Errors of both: NotReady."""

    async def read(self, model: str, version: str) -> ModelInterface: ...

    async def describe(self, model: str, version: str = "") -> ModelInterface: ...


class Served(Struct, frozen=True):
    """A version that is bound to its model. `counter` only where the gateway must count tokens itself."""

    version: Version
    binding: Binding
    interface: ModelInterface
    companions: Mapping[str, ModelInterface]
    counter: TokenCounter | None
    readiness: Readiness


class ModelTable:
    """The versions of one engine. `served` and `readiness` are for the request path: a look-up each."""

    def __init__(
        self,
        metadata: Metadata,
        versions: list[Version],
        *,
        interval: float = 2.0,
        rng: random.Random | None = None,
    ) -> None:
        self._metadata = metadata
        self._versions = {_key(version): version for version in versions}
        self._interval = interval
        self._rng = rng or random.Random()  # jitter only
        self._served: dict[tuple[str, str], Served] = {}
        self._leaving: dict[tuple[str, str], Served] = {}
        self._reasons = dict.fromkeys(self._versions, _NOT_YET)
        self._counters: dict[str, TokenCounter] = {}
        self._silent = 0
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ModelTable {len(self._served)} of {len(self._versions)} versions served>"

    def served(self, version: Version) -> Served | None:
        """What serves the version now, or None."""
        key = _key(version)
        served = self._served.get(key)
        if served is not None and (served.version is version or served.version == version):
            return served
        served = self._leaving.get(key)
        return served if served is not None and served.version == version else None

    def readiness(self, version: Version) -> Readiness:
        served = self.served(version)
        if served is not None:
            return served.readiness
        if self._versions.get(_key(version)) != version:
            return Readiness(False, f"{version.label} is not among the versions of this engine")
        return Readiness(False, self._reasons[_key(version)])

    async def watch(self, versions: list[Version]) -> None:
        """Exchange the versions; returns when each new one has been looked at once, whatever came of it."""
        before = self._versions
        self._versions = {_key(version): version for version in versions}
        new = {key: version for key, version in self._versions.items() if before.get(key) != version}
        self._leaving = {k: served for k, served in self._served.items() if self._versions.get(k) != served.version}
        self._served = {k: served for k, served in self._served.items() if k not in self._leaving}
        self._reasons = {key: _NOT_YET if key in new else self._reasons[key] for key in self._versions}
        for key, version in new.items():
            await self._update(key, version)
        if new:
            self.look_soon()  # the loop may be in the middle of a long pause, and a new model on its way

    def look_soon(self) -> None:
        """Something suggests that the server has changed: ask now."""
        self._wake.set()

    async def run(self) -> None:
        """Ask for ever; cancel the task to end it."""
        clock = asyncio.get_running_loop().time
        missing_since: float | None = None
        while True:
            if await self.look():
                missing_since, pause = None, self._interval
            else:
                now = clock()
                if missing_since is None:
                    missing_since = now
                pause = min(_AWAY_PAUSE if now - missing_since < _HOPE else self._interval, self._interval)
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        spread = self._rng.uniform(0.5, 1.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds * spread):
                await self._wake.wait()
                await asyncio.sleep(_FIRST_PAUSE * spread)  # a thousand jobs may fail at once: one look for all
        self._wake.clear()

    async def look(self) -> bool:
        """One round over all versions; True if all can be served. Errors become reasons."""
        for key, version in self._versions.items():  # an exchange replaces the table, it never changes it
            if not await self._update(key, version):
                return False
        return len(self._served) == len(self._versions)

    async def _update(self, key: tuple[str, str], version: Version) -> bool:
        """Look at one version; False when the server itself could not be asked."""
        try:
            served = await self._look_at(version)
        except NotReady as error:
            if error.silent and self._silent < _SILENT_ROUNDS:
                self._silent += 1
                return False
            # A server that was never there is no news: whoever waits for it reads the reason.
            self._lose(list(self._versions) if error.server else [key], error.reason, news=not error.server)
            return not error.server
        except (BindError, TokenizerError) as error:
            self._lose([key], str(error))
        except Exception:
            logger.exception("looking at the model of %s failed", version.label)
            self._lose([key], "the gateway failed to read its model's interface; see the gateway's log")
        else:
            self._silent = 0
            if self._versions.get(key) == version:  # else it was exchanged meanwhile
                if key not in self._served:
                    logger.info("%s is served: %r", version.label, served.binding)
                self._served[key] = served
        return True

    async def _look_at(self, version: Version) -> Served:
        interface = await self._metadata.read(version.model, version.model_version)
        companions = {}
        for name in find_contract(interface).companions(interface):
            try:
                companions[name] = await self._metadata.describe(name)
            except NotReady as error:
                if error.server:
                    raise
        before = self._served.get(_key(version))
        if (
            before is not None
            and before.version == version
            and before.interface == interface
            and before.companions == companions
        ):
            return before
        binding = bind(interface, version, companions)
        counter = None
        if version.tokenizer and not binding.counts_tokens:
            counter = await self._load_counter(version.tokenizer)
        ready = Readiness(True, "", binding.contract, binding.features)
        return Served(version, binding, interface, companions, counter, ready)

    async def _load_counter(self, path: str) -> TokenCounter:
        if path not in self._counters:
            self._counters[path] = await asyncio.to_thread(load_counter, path)
        return self._counters[path]

    def _lose(self, keys: list[tuple[str, str]], reason: str, *, news: bool = True) -> None:
        for key in keys:
            if key not in self._versions:
                continue  # exchanged meanwhile
            if self._served.pop(key, None) is not None or (news and self._reasons[key] != reason):
                logger.warning("%s@%s cannot be served: %s", *key, reason)
            self._reasons[key] = reason


def _key(version: Version) -> tuple[str, str]:
    return version.endpoint, version.name
