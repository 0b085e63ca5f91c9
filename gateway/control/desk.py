"""The decisions about a running gateway. One at a time; each is recorded, then kept, then sent to the workers.

The order matters: what cannot be recorded does not happen, and what the workers serve has been kept. A refusal
changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.config import Config, ConfigError
from gateway.control.hub import Hub
from gateway.control.store import Entry, Store
from gateway.core.errors import Internal
from gateway.routing.live import Dropped, Live, apply, reconcile
from gateway.routing.version import Endpoint

# Seconds in which the workers must have taken over, before the answer says who has not. A reload may bring new
# models, which a worker looks at before it sends them traffic.
AGREE_S = 1.0
AGREE_RELOAD_S = 6.0

Decide = Callable[[Mapping[str, Endpoint], Live], Live]
Publish = Callable[[Mapping[str, Endpoint], Mapping[str, Endpoint]], None]


class Decided(Struct, frozen=True, rename={"from_": "from"}):
    """What came of a decision. `workers` are the linked ones, `absent` those that are not linked now.

    `from` and `to` are the endpoint's traffic before and after; `restart` the changed keys that a restart needs.
    """

    action: str
    endpoint: str
    changed: bool
    generation: int
    agreed: bool
    workers: list[dict[str, Any]]
    absent: list[int]
    from_: Any = None
    to: Any = None
    restart: list[str] = []
    dropped: list[str] = []


class Desk:
    """`publish` is told (endpoints of the file, endpoints as they serve) after every change."""

    def __init__(self, config: Config, store: Store, hub: Hub, *, workers: int, publish: Publish) -> None:
        self.config = config
        self.store = store
        self.hub = hub
        self.live = Live()
        self._workers = workers
        self._publish = publish
        self._one_at_a_time = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Desk generation {self.live.generation}, overrides of {', '.join(self.live.overrides) or 'nothing'}>"

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """As they serve."""
        return apply(self.config.endpoints, self.live)

    async def open(self) -> str:
        """Begin with what was decided before; what to tell the operator, "" for nothing. Errors: OSError."""
        said = ""
        try:
            live = self.store.read()
        except msgspec.DecodeError as error:
            aside = self.store.set_aside()
            said = f"the live state was damaged and is set aside as {aside}; endpoints are as the config says"
            self.store.record(self._entry("start", "set aside", "", None, None, str(error)))
            live = Live()
        kept, dropped = reconcile(self.config.endpoints, live)
        self._record_dropped("start", dropped, live)
        # A new count for every life: what a worker acknowledged to an earlier process must not pass for ours.
        self._take(replace(kept, generation=live.generation + 1))
        return said or _dropped_words(dropped)

    async def change(self, who: str, action: str, endpoint: str, decide: Decide, why: str = "") -> Decided:
        """One decision about one endpoint. Errors: those of `decide`; Internal when it could not be kept."""
        async with self._one_at_a_time:
            before = self.live
            after = decide(self.config.endpoints, before)
            old, new = self._view(endpoint, before), self._view(endpoint, after)
            changed = after is not before
            if changed:
                entry = self._entry(who, action, endpoint, old, new, why)
                after = replace(after, generation=before.generation + 1)
                await self._keep([entry], after)
            agreed = await self.hub.agreed(AGREE_S)
            return self._decided(action, endpoint, changed, agreed, from_=old, to=new)

    async def reload(self, who: str, load: Callable[[], Config]) -> Decided:
        """Take the endpoints of the config file anew. Errors: ConfigError and Internal; then nothing has changed."""
        async with self._one_at_a_time:
            try:
                config = await asyncio.to_thread(load)
            except ConfigError as error:
                why = f"{len(error.problems)} problems, the first: {error.problems[0]}"
                await self._write([self._entry(who, "reload refused", "", None, None, why)])
                raise
            restart = _other_changes(self.config, config)
            old = self.endpoints
            live, dropped = reconcile(config.endpoints, self.live)
            new = apply(config.endpoints, live)
            changed = new != old or config.endpoints != self.config.endpoints
            if changed:
                entries = [
                    self._entry(who, "reload", name, _definition(old.get(name)), _definition(new.get(name)), "")
                    for name in [*new, *(set(old) - set(new))]
                    if old.get(name) != new.get(name)
                ]
                entries += self._entries_dropped(who, dropped, self.live)
                kept = replace(self.config, endpoints=config.endpoints)
                await self._keep(entries, replace(live, generation=self.live.generation + 1), kept)
            agreed = await self.hub.agreed(AGREE_RELOAD_S)
            words = [f"{drop.endpoint}: {drop.why}" for drop in dropped]
            return self._decided("reload", "", changed, agreed, restart=restart, dropped=words)

    def status(self) -> dict[str, Any]:
        """Generation, workers, and who is missing."""
        return {"generation": self.live.generation, "workers": self.hub.workers(), "absent": self._absent()}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each version, as `penstock endpoints` shows it."""
        rows = []
        for endpoint in self.endpoints.values():
            total = sum(endpoint.split.values())
            override = self.live.overrides.get(endpoint.name)
            for version in endpoint.versions.values():
                disabled = version.name in endpoint.disabled
                pinned = override is not None and override.pin == version.name
                rows.append(
                    {
                        "endpoint": endpoint.name,
                        "version": version.name,
                        "share": endpoint.split[version.name] / total,
                        "weight": endpoint.split[version.name],
                        "file_weight": self.config.endpoints[endpoint.name].split[version.name],
                        "pinned": pinned,
                        "disabled": disabled,
                        "model": version.model,
                        "model_version": version.model_version,
                        "determinism": version.determinism,
                        "state": "disabled" if disabled else self.hub.readiness(version.label),
                    }
                )
        return rows

    async def _keep(self, entries: list[Entry], live: Live, config: Config | None = None) -> None:
        await self._write(entries, live)
        self.config = config or self.config
        self._take(live, written=True)

    async def _write(self, entries: list[Entry], live: Live | None = None) -> None:
        def write() -> None:
            for entry in entries:
                self.store.record(entry)
            if live is not None:
                self.store.write(live)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise Internal(
                f"Nothing was changed: it can't be kept in {self.store.state} ({error.strerror or error})."
            ) from error

    def _take(self, live: Live, *, written: bool = False) -> None:
        if not written:
            self.store.write(live)
        self.live = live
        endpoints = self.endpoints
        self.hub.publish(live.generation, endpoints)
        self._publish(self.config.endpoints, endpoints)

    def _view(self, name: str, live: Live) -> Any:
        return _traffic(apply(self.config.endpoints, live)[name], live)

    def _decided(self, action: str, endpoint: str, changed: bool, agreed: bool, **more: Any) -> Decided:
        workers, absent = self.hub.workers(), self._absent()
        return Decided(action, endpoint, changed, self.live.generation, agreed, workers, absent, **more)

    def _absent(self) -> list[int]:
        return [index for index in range(1, self._workers + 1) if index not in self.hub.members]

    def _record_dropped(self, who: str, dropped: Iterable[Dropped], live: Live) -> None:
        for entry in self._entries_dropped(who, dropped, live):
            self.store.record(entry)

    def _entries_dropped(self, who: str, dropped: Iterable[Dropped], live: Live) -> list[Entry]:
        return [
            self._entry(who, "override dropped", drop.endpoint, live.overrides[drop.endpoint], None, drop.why)
            for drop in dropped
        ]

    def _entry(self, who: str, action: str, endpoint: str, old: Any, new: Any, why: str) -> Entry:
        return Entry(datetime.now(UTC).isoformat(timespec="milliseconds"), who, action, endpoint, old, new, why)


def _traffic(endpoint: Endpoint, live: Live) -> dict[str, Any]:
    override = live.overrides.get(endpoint.name)
    return {
        "split": endpoint.split,
        "pin": override.pin if override is not None else "",
        "disabled": list(endpoint.disabled),
    }


def _definition(endpoint: Endpoint | None) -> dict[str, Any] | None:
    if endpoint is None:
        return None
    return {"split": endpoint.split, "versions": [version.fingerprint for version in endpoint.versions.values()]}


def _other_changes(old: Config, new: Config) -> list[str]:
    """The keys outside [endpoints] that differ, dotted."""
    changed = []
    for table in old.__struct_fields__:
        before, after = getattr(old, table), getattr(new, table)
        if table == "endpoints" or before == after:
            continue
        if isinstance(before, Struct):
            changed += [
                f"{table}.{key}" for key in before.__struct_fields__ if getattr(before, key) != getattr(after, key)
            ]
        else:
            changed.append(table)
    return changed


def _dropped_words(dropped: Iterable[Dropped]) -> str:
    return "; ".join(f"the live state of '{drop.endpoint}' is dropped: {drop.why}" for drop in dropped)
