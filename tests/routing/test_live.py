"""Live decisions over the file's endpoints: a table of what each does, what is refused, and what falls when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gateway.core.errors import NotFound, PenstockError
from gateway.routing import live as decisions
from gateway.routing.live import Live, apply, disable, enable, pin, reconcile, reset, set_split
from gateway.routing.resolve import route
from gateway.routing.version import Endpoint, Version

Decide = Callable[[dict[str, Endpoint], Live], Live]


def endpoint(name: str, **split: float) -> Endpoint:
    return Endpoint(name, {version: Version(name, version, "m") for version in split}, split)


FILE = {"chat": endpoint("chat", v1=90.0, v2=10.0, v3=0.0), "solo": endpoint("solo", v1=1.0)}


def do(name: str, *arguments: Any) -> Decide:
    return lambda endpoints, live: getattr(decisions, name)(endpoints, live, *arguments)


def after(*steps: Decide, file: dict[str, Endpoint] = FILE) -> Live:
    live = Live(generation=7)
    for step in steps:
        live = step(file, live)
    return live


SET = do("set_split", "chat", {"v2": 30.0})
PIN = do("pin", "chat", "v2")
OFF = do("disable", "chat", "v1")


@pytest.mark.parametrize(
    ("steps", "split"),
    [
        ((), {"v1": 90, "v2": 10, "v3": 0}),
        ((SET,), {"v1": 90, "v2": 30, "v3": 0}),
        ((SET, do("set_split", "chat", {"v1": 0.0, "v3": 5.0})), {"v1": 0, "v2": 30, "v3": 5}),
        ((PIN,), {"v1": 0, "v2": 1, "v3": 0}),
        ((PIN, do("pin", "chat", "v3")), {"v1": 0, "v2": 0, "v3": 1}),
        ((SET, PIN, do("pin", "chat", None)), {"v1": 90, "v2": 30, "v3": 0}),
        ((PIN, SET), {"v1": 90, "v2": 30, "v3": 0}),  # new weights end a pin
        ((OFF,), {"v1": 0, "v2": 10, "v3": 0}),
        ((OFF, do("enable", "chat", "v1")), {"v1": 90, "v2": 10, "v3": 0}),
        ((PIN, do("disable", "chat", "v2")), {"v1": 90, "v2": 0, "v3": 0}),  # so does the end of the pinned version
        ((PIN, OFF), {"v1": 0, "v2": 1, "v3": 0}),
        ((OFF, SET), {"v1": 0, "v2": 30, "v3": 0}),
        ((SET, PIN, OFF, do("reset", "chat")), {"v1": 90, "v2": 10, "v3": 0}),
    ],
)
def test_what_serves_after_decisions(steps: tuple[Decide, ...], split: dict[str, float]) -> None:
    effective = apply(FILE, after(*steps))
    assert effective["chat"].split == split
    assert effective["solo"] is FILE["solo"]
    assert FILE["chat"].split == {"v1": 90, "v2": 10, "v3": 0}


@pytest.mark.parametrize(
    ("steps", "refused", "status", "words"),
    [
        ((), do("set_split", "chta", {"v1": 1.0}), 404, "There is no endpoint 'chta'; did you mean 'chat'?"),
        ((), do("set_split", "zzz", {"v1": 1.0}), 404, "it is one of chat, solo."),
        ((), do("set_split", "chat", {"v11": 1.0}), 404, "has no version 'v11'; did you mean 'v1'?"),
        ((), do("set_split", "chat", {}), 400, "such as v1=90"),
        ((), do("set_split", "chat", {"v1": -1.0}), 400, "The weight of v1 is -1; it must be a number from 0"),
        ((), do("set_split", "chat", {"v1": float("nan")}), 400, "is nan"),
        ((), do("set_split", "chat", {"v1": float("inf")}), 400, "is inf"),
        ((), do("set_split", "chat", {"v1": 1e16}), 400, "to 1e+15"),
        ((), do("set_split", "chat", {"v1": 0.0, "v2": 0.0}), 400, "without a version that gets traffic"),
        ((OFF,), do("set_split", "chat", {"v1": 5.0}), 400, "'chat@v1' is disabled; enable it"),
        ((OFF,), do("set_split", "chat", {"v2": 0.0}), 400, "without a version that gets traffic"),
        ((OFF,), do("pin", "chat", "v1"), 400, "enable it before you pin it"),
        ((), do("pin", "chat", "v9"), 404, "has no version 'v9'"),
        ((), do("disable", "solo", "v1"), 400, "without a version that gets traffic"),
        ((OFF,), do("disable", "chat", "v2"), 400, "give another one a weight first"),
        ((), do("disable", "chat", "x" * 500), 404, "it is one of v1, v2, v3."),
        ((), do("enable", "chat", "v9"), 404, "has no version"),
        ((), do("reset", "nobody"), 404, "There is no endpoint"),
    ],
)
def test_refusals(steps: tuple[Decide, ...], refused: Decide, status: int, words: str) -> None:
    live = after(*steps)
    with pytest.raises(PenstockError) as error:
        refused(FILE, live)
    assert error.value.status == status
    assert words in error.value.message
    assert len(error.value.message) < 250


@pytest.mark.parametrize(
    ("steps", "again"),
    [
        ((), do("set_split", "chat", {"v1": 90.0})),
        ((), do("enable", "chat", "v1")),
        ((), do("pin", "chat", None)),
        ((), do("reset", "chat")),
        ((SET,), SET),
        ((PIN,), PIN),
        ((OFF,), OFF),
    ],
)
def test_what_changes_nothing_is_the_same_state(steps: tuple[Decide, ...], again: Decide) -> None:
    live = after(*steps)
    assert again(FILE, live) is live


def test_back_to_the_file_leaves_no_override() -> None:
    assert after(SET, do("set_split", "chat", {"v2": 10.0})).overrides == {}
    assert after(OFF, do("enable", "chat", "v1")).overrides == {}


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ({"chat": endpoint("chat", v1=90.0, v2=10.0, v3=0.0)}, ""),
        ({"chat": endpoint("chat", v1=90.0, v2=10.0, v3=0.0, v4=0.0)}, ""),  # a new version without a weight
        ({"chat": endpoint("chat", v1=90.0, v2=10.0)}, ""),  # v3 had none
        ({"chat": endpoint("chat", v1=50.0, v2=50.0, v3=0.0)}, "the file's split was changed later"),
        ({"chat": endpoint("chat", v1=90.0, v2=10.0, v3=1.0)}, "the file's split was changed later"),
        ({"solo": FILE["solo"]}, "no longer has this endpoint"),
    ],
)
def test_the_newest_decision_wins(file: dict[str, Endpoint], why: str) -> None:
    live = after(SET)
    kept, dropped = reconcile(file, live)
    if why:
        assert [drop.endpoint for drop in dropped] == ["chat"]
        assert why in dropped[0].why
        assert kept == Live(generation=7)
    else:
        assert kept is live
        assert dropped == ()
        assert {k: v for k, v in apply(file, kept)["chat"].split.items() if v} == {"v1": 90.0, "v2": 30.0}


@pytest.mark.parametrize("step", [do("pin", "chat", "v3"), do("disable", "chat", "v3")])
def test_a_decision_about_a_version_that_is_gone_falls(step: Decide) -> None:
    _, dropped = reconcile({"chat": endpoint("chat", v1=90.0, v2=10.0)}, after(step))
    assert [drop.why for drop in dropped] == ["the file no longer has version v3"]


def test_a_later_decision_is_made_over_the_file_of_its_time() -> None:
    changed = {"chat": endpoint("chat", v1=50.0, v2=50.0, v3=0.0)}
    live = set_split(changed, after(), "chat", {"v3": 1.0})
    assert reconcile(changed, live)[1] == ()
    assert len(reconcile(FILE, live)[1]) == 1


def test_a_pin_to_a_disabled_version_is_told_so() -> None:
    chat = apply(FILE, after(OFF))["chat"]
    with pytest.raises(NotFound, match=r"'chat@v1' is disabled now; ask for 'chat'") as error:
        route(chat, "v1", None, "r")
    assert error.value.code == "version_disabled"
    assert route(chat, "v3", None, "r").version.name == "v3"
    assert {route(chat, None, None, str(number)).version.name for number in range(50)} == {"v2"}


def test_the_state_survives_json() -> None:
    live = after(SET, PIN, do("disable", "chat", "v3"))
    assert msgspec.json.decode(msgspec.json.encode(live), type=Live) == live
    assert msgspec.json.encode(replace(Live(), generation=1)) == b'{"generation":1}'


def test_the_functions_take_names_as_keywords() -> None:  # admin.py binds them so
    live = pin(FILE, Live(), name="chat", version="v2")
    assert disable(FILE, live, name="chat", version="v3").overrides["chat"].disabled == ("v3",)
    assert enable(FILE, live, name="chat", version="v3") is live
    assert reset(FILE, live, name="chat").overrides == {}
