"""What was decided about endpoints while the gateway runs: weights, a pinned version, disabled versions.

The config file is the ground; a decision is an `Override` of one endpoint, and `apply` puts the one over the
other. Rules, all in one sentence: the newest decision wins.

- `set_split` ends a pin, for its weights would have no effect; so does `disable` of the pinned version.
- An override remembers the file's split of its time. When the file is loaded again and that split is another,
  the file was changed later: the override falls, and `reconcile` says so.
- Nothing may leave an endpoint without a version that gets traffic.

Refusals are of the one error tree and name field, value and remedy.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from gateway.core.errors import BadRequest, NotFound
from gateway.routing.version import Endpoint

Endpoints = Mapping[str, Endpoint]

MAX_WEIGHT = 1e15  # as in the config


class Override(Struct, frozen=True, omit_defaults=True):
    """The decisions about one endpoint. `base` is the file's split when the last of them was made.

    `split` None is the file's; `pin` is the version that gets all traffic without a pin of its own, "" for none.
    """

    base: dict[str, float]
    split: dict[str, float] | None = None
    pin: str = ""
    disabled: tuple[str, ...] = ()


class Live(Struct, frozen=True, omit_defaults=True):
    """All decisions, by endpoint. `generation` counts what was ever sent to the workers."""

    generation: int = 0
    overrides: dict[str, Override] = {}


class Dropped(NamedTuple):
    """An override that fell, and why."""

    endpoint: str
    override: Override
    why: str


def apply(endpoints: Endpoints, live: Live) -> dict[str, Endpoint]:
    """The endpoints as they serve: `split` is the effective one."""
    return {name: _effective(endpoint, live.overrides.get(name)) for name, endpoint in endpoints.items()}


def set_split(endpoints: Endpoints, live: Live, name: str, weights: Mapping[str, float]) -> Live:
    """New weights; versions that are not named keep theirs. Ends a pin. Errors: NotFound, BadRequest."""
    endpoint, before = _find(endpoints, live, name)
    if not weights:
        raise BadRequest(f"No weight was given; give some, such as {next(iter(endpoint.versions))}=90.", param="split")
    for version, weight in weights.items():
        _check_version(endpoint, version, "split")
        if not math.isfinite(weight) or not 0 <= weight <= MAX_WEIGHT:
            raise BadRequest(
                f"The weight of {version} is {weight:g}; it must be a number from 0 to {MAX_WEIGHT:g}.", param="split"
            )
        if weight and version in before.disabled:
            raise BadRequest(f"'{name}@{version}' is disabled; enable it before it gets a weight.", param="split")
    split = {**_split(endpoint, before), **weights}
    return _put(endpoint, live, replace(before, split=split, pin=""), "split")


def pin(endpoints: Endpoints, live: Live, name: str, version: str | None) -> Live:
    """All traffic to one version, whatever the weights; None ends that. Errors: NotFound, BadRequest."""
    endpoint, before = _find(endpoints, live, name)
    if version is not None:
        _check_version(endpoint, version, "version")
        if version in before.disabled:
            raise BadRequest(f"'{name}@{version}' is disabled; enable it before you pin it.", param="version")
    return _put(endpoint, live, replace(before, pin=version or ""), "version")


def disable(endpoints: Endpoints, live: Live, name: str, version: str) -> Live:
    """No traffic to a version, not even to those who pin it. Errors: NotFound, BadRequest for the last one."""
    endpoint, before = _find(endpoints, live, name)
    _check_version(endpoint, version, "version")
    disabled = tuple(sorted({*before.disabled, version}))
    pinned = "" if before.pin == version else before.pin
    return _put(endpoint, live, replace(before, disabled=disabled, pin=pinned), "version")


def enable(endpoints: Endpoints, live: Live, name: str, version: str) -> Live:
    """The version has its weight again. Errors: NotFound."""
    endpoint, before = _find(endpoints, live, name)
    _check_version(endpoint, version, "version")
    return _put(endpoint, live, replace(before, disabled=_without(before.disabled, version)), "version")


def reset(endpoints: Endpoints, live: Live, name: str) -> Live:
    """As the file says. Errors: NotFound."""
    endpoint, _ = _find(endpoints, live, name)
    return _put(endpoint, live, Override(endpoint.split), "endpoint")


def reconcile(endpoints: Endpoints, live: Live) -> tuple[Live, tuple[Dropped, ...]]:
    """After the file was loaded: the decisions that still hold, and those that fell."""
    kept, dropped = {}, []
    for name, override in live.overrides.items():
        why = _why_drop(endpoints.get(name), override)
        if why:
            dropped.append(Dropped(name, override, why))
        else:
            kept[name] = override
    return (replace(live, overrides=kept) if dropped else live), tuple(dropped)


def _why_drop(endpoint: Endpoint | None, override: Override) -> str:
    if endpoint is None:
        return "the file no longer has this endpoint"
    if _weighted(override.base) != _weighted(endpoint.split):
        return "the file's split was changed later, so the file wins"
    named = {*_weighted(override.split or {}), *override.disabled, *filter(None, (override.pin,))}
    gone = sorted(named - endpoint.versions.keys())
    if gone:
        return f"the file no longer has version {', '.join(gone)}"
    return ""


def _find(endpoints: Endpoints, live: Live, name: str) -> tuple[Endpoint, Override]:
    endpoint = endpoints.get(name)
    if endpoint is None:
        raise NotFound(f"There is no endpoint '{name[:80]}'; {_near(name, endpoints)}", param="endpoint")
    return endpoint, live.overrides.get(name, Override(endpoint.split))


def _check_version(endpoint: Endpoint, version: str, param: str) -> None:
    if version not in endpoint.versions:
        raise NotFound(
            f"The endpoint '{endpoint.name}' has no version '{version[:80]}'; {_near(version, endpoint.versions)}",
            param=param,
        )


def _near(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name[:100], known, 1)
    return f"did you mean '{near[0]}'?" if near else f"it is one of {', '.join(known)}."


def _put(endpoint: Endpoint, live: Live, override: Override, param: str) -> Live:
    if override.split is not None and _weighted(override.split) == _weighted(endpoint.split):
        override = replace(override, split=None)
    override = replace(override, base=endpoint.split)
    if not any(_effective(endpoint, override).split.values()):
        raise BadRequest(
            f"That would leave '{endpoint.name}' without a version that gets traffic; give another one a weight first.",
            param=param,
        )
    overrides = {**live.overrides, endpoint.name: override}
    if override == Override(endpoint.split):
        del overrides[endpoint.name]
    if overrides == live.overrides:
        return live
    return replace(live, overrides=overrides)


def _effective(endpoint: Endpoint, override: Override | None) -> Endpoint:
    if override is None:
        return endpoint
    split = _split(endpoint, override)
    if override.pin:
        split = {version: float(version == override.pin) for version in split}
    split = {version: 0.0 if version in override.disabled else weight for version, weight in split.items()}
    return replace(endpoint, split=split, disabled=override.disabled)


def _split(endpoint: Endpoint, override: Override) -> dict[str, float]:
    """The weights under pin and disabled versions, for every version of the endpoint."""
    given = endpoint.split if override.split is None else override.split
    return {version: given.get(version, 0.0) for version in endpoint.versions}


def _weighted(split: Mapping[str, float]) -> dict[str, float]:
    # A version that is added to the file without a weight is no new decision about the others.
    return {version: weight for version, weight in split.items() if weight}


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(one for one in names if one != name)
