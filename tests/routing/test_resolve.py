"""Which endpoint and version a request means: by name, by pin, or by the split."""

import tracemalloc

import pytest

from gateway.core.errors import BadRequest, NotFound, PenstockError
from gateway.routing.resolve import find_endpoint, one_pin, route
from gateway.routing.split import choose
from gateway.routing.version import Endpoint, Version


def endpoint(name: str, *versions: str, **fields: object) -> Endpoint:
    return Endpoint(
        name,
        {version: Version(name, version, "m") for version in versions},
        dict.fromkeys(versions, 1.0),
        **fields,
    )


ENDPOINTS = {
    one.name: one
    for one in (
        endpoint("assistant", "v1", "v2"),
        endpoint("org/big-model", "v1"),
        endpoint("team@corp", "v1"),
        endpoint("org/a@b/c", "v9"),
    )
}


@pytest.mark.parametrize(
    ("model", "name", "pin"),
    [
        ("assistant", "assistant", None),
        ("assistant@v2", "assistant", "v2"),
        ("assistant@v3", "assistant", "v3"),  # whether it exists is for route to say
        ("assistant@", "assistant", ""),
        ("org/big-model", "org/big-model", None),
        ("org/big-model@v1", "org/big-model", "v1"),
        ("team@corp", "team@corp", None),
        ("team@corp@v1", "team@corp", "v1"),
        ("org/a@b/c", "org/a@b/c", None),
        ("org/a@b/c@v9", "org/a@b/c", "v9"),
    ],
)
def test_found(model: str, name: str, pin: str | None) -> None:
    found, version = find_endpoint(ENDPOINTS, model)
    assert (found.name, version) == (name, pin)


@pytest.mark.parametrize(
    ("model", "pieces"),
    [
        ("asistant", ["'asistant'", "did you mean 'assistant'?"]),
        ("asistant@v1", ["'asistant@v1'", "did you mean 'assistant'?"]),
        ("big-model", ["did you mean 'org/big-model'?"]),
        ("gpt-4o", ["known models: assistant, org/a@b/c, org/big-model, team@corp."]),
        ("", ["''"]),
        ("@", ["'@'"]),
        ("@v1", ["'@v1'"]),
        ("@assistant", ["'@assistant'"]),
        ("Assistant", ["did you mean 'assistant'?"]),
        ("assistant ", ["did you mean 'assistant'?"]),
        ("assistant@v1@v2", ["'assistant@v1@v2'"]),
        ("x" * 500, ["'" + "x" * 80 + "'"]),
    ],
)
def test_unknown(model: str, pieces: list[str]) -> None:
    with pytest.raises(NotFound) as caught:
        find_endpoint(ENDPOINTS, model)
    error = caught.value
    assert (error.status, error.param, error.code) == (404, "model", "model_not_found")
    assert [piece for piece in pieces if piece not in error.message] == []
    assert len(error.message) < 250


def test_unknown_where_nothing_is_known() -> None:
    with pytest.raises(NotFound, match="known models: none"):
        find_endpoint({}, "assistant")


def test_looking_for_a_near_name_does_not_read_megabytes() -> None:
    model = "assistant" + "x" * 4_000_000
    tracemalloc.start()
    try:
        with pytest.raises(NotFound):
            find_endpoint(ENDPOINTS, model)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # an index of all of it takes 32 MB and a second
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("in_model", "in_header", "pin"),
    [
        (None, None, None),
        ("v1", None, "v1"),
        (None, "v2", "v2"),
        ("v1", "v1", "v1"),
        (None, "", None),
        ("v1", "", "v1"),
        ("", None, ""),
        (None, "chat@v2", "v2"),
        ("v1", "chat@v1", "v1"),
        (None, "other@v2", "other@v2"),
    ],
)
def test_one_pin(in_model: str | None, in_header: str | None, pin: str | None) -> None:
    assert one_pin("chat", in_model, in_header) == pin


@pytest.mark.parametrize(("in_model", "in_header"), [("v1", "v2"), ("", "v2"), ("v" * 200, "w" * 200)])
def test_two_pins(in_model: str, in_header: str) -> None:
    with pytest.raises(BadRequest) as caught:
        one_pin("chat", in_model, in_header)
    message = caught.value.message
    assert f"'{in_model[:80]}'" in message
    assert f"'{in_header[:80]}'" in message
    assert "send one of them" in message
    assert "v" * 81 not in message


def test_a_pin_wins_over_the_split_even_at_weight_zero() -> None:
    one = Endpoint("e", ENDPOINTS["assistant"].versions, {"v1": 1.0, "v2": 0.0})
    assert {route(one, None, f"k{number}", "r").version.name for number in range(50)} == {"v1"}
    pinned = route(one, "v2", "k", "r")
    assert (pinned.version.name, pinned.reason) == ("v2", "pin")


@pytest.mark.parametrize("pin", ["v3", "", "V1", "v1 ", "v1@v2"])
def test_an_unknown_pin_names_what_there_is(pin: str) -> None:
    with pytest.raises(NotFound) as caught:
        route(ENDPOINTS["assistant"], pin, None, "r")
    assert f"no version '{pin}'; it has v1, v2." in caught.value.message
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_a_sticky_key_decides_and_the_id_only_without_one() -> None:
    assistant = ENDPOINTS["assistant"]
    by_key = {route(assistant, None, "someone", f"r{number}") for number in range(50)}
    assert {(routed.version.name, routed.reason) for routed in by_key} == {
        (choose(assistant.split, "someone", "assistant"), "sticky")
    }
    for empty in (None, ""):
        by_id = {route(assistant, None, empty, f"r{number}").version.name for number in range(50)}
        assert by_id == {"v1", "v2"}
        assert route(assistant, None, empty, "r1").reason == "weight"


def test_the_salt_is_the_endpoints_name_unless_it_has_one() -> None:
    keys = [f"k{number}" for number in range(200)]

    def assigned(one: Endpoint) -> list[str]:
        return [route(one, None, key, "r").version.name for key in keys]

    plain, other = endpoint("a", "v1", "v2"), endpoint("b", "v1", "v2")
    assert assigned(plain) != assigned(other)
    assert assigned(endpoint("b", "v1", "v2", salt="a")) == assigned(plain)


def test_errors_are_of_the_tree() -> None:
    assert issubclass(NotFound, PenstockError)


def test_equal_fingerprints_mean_equal_definitions() -> None:
    one, same = Version("e", "v1", "m"), Version("e", "v1", "m")
    other = Version("e", "v1", "m", chat_template="x")
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert one.fingerprint.startswith("e@v1:")
    assert one.label == "e@v1"
