"""Keys: who calls by the Authorization header, and what a key may see; over HTTP with openai's own client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from gateway.config import KeyConfig
from gateway.core.errors import Unauthenticated
from gateway.engines.scripted import HOLD
from gateway.keys import ANYONE, Key, Keyring, identify, keyring_of, visible
from tests.inprocess import WAIT_S, Gateway, endpoint

FULL = "sk-test-0123456789abcdefghij"
ONE = "team-one"
ODD = "schlüssel"


def key(name: str, secret: str, *endpoints: str) -> KeyConfig:
    return KeyConfig(name, hashlib.sha256(secret.encode()).hexdigest(), endpoints or ("*",))


KEYS = (key("full", FULL), key("one", ONE, "assistant"), key("odd", ODD, "other", "assistant"))
RING = Keyring(KEYS)

TAKEN = [
    (f"Bearer {FULL}", "full"),
    (f"bearer {FULL}", "full"),
    (f"BEARER   {FULL}  ", "full"),
    (f"Bearer {ONE}", "one"),
    (f"Bearer {ODD.encode().decode('latin-1')}", "odd"),  # a client that sends UTF-8, as headers are read
]


@pytest.mark.parametrize(("authorization", "name"), TAKEN)
def test_a_known_key(authorization: str, name: str) -> None:
    assert RING.authenticate(authorization).name == name


MISSING, WRONG = "You didn't provide an API key.", "Incorrect API key provided"
REFUSED = [
    (None, MISSING),
    ("", MISSING),
    ("Bearer", MISSING),
    ("Bearer ", MISSING),
    (f"Bearer{FULL}", MISSING),
    (FULL, MISSING),
    (f"Basic {FULL}", MISSING),
    (f"Token {FULL}", MISSING),
    (f"Bearer\t{FULL}", MISSING),
    (f"Bearer {FULL}x", f"{WRONG} (it ends in 'hijx');"),
    (f"Bearer {FULL[:-1]}", f"{WRONG} (it ends in 'fghi');"),
    (f"Bearer {FULL.upper()}", f"{WRONG} (it ends in 'GHIJ');"),
    (f"Bearer {FULL} {FULL}", f"{WRONG} (it ends in 'ghij');"),
    (f"Bearer {FULL}\0\r\n", f"{WRONG};"),
    (f"Bearer {'x' * 23}", f"{WRONG};"),
    (f"Bearer {'x' * 24}", f"{WRONG} (it ends in 'xxxx');"),
    (f"Bearer {'é' * 30}", f"{WRONG};"),
    (f"Bearer {'鍵' * 30}", f"{WRONG};"),
    (f"Bearer {hashlib.sha256(FULL.encode()).hexdigest()}", WRONG),
]


@pytest.mark.parametrize(("authorization", "says"), REFUSED)
def test_no_key_or_a_wrong_one(authorization: str | None, says: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        RING.authenticate(authorization)
    error = caught.value
    assert (error.status, error.grpc, error.type, error.code) == (401, 16, "invalid_request_error", "invalid_api_key")
    assert error.message.startswith(says)
    secret = (authorization or "").partition(" ")[2].strip()
    assert len(secret) < 5 or secret[-5:] not in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("full", {"assistant", "other", "new"}), ("one", {"assistant"}), ("odd", {"other", "assistant"})],
)
def test_what_a_key_allows(name: str, allowed: set[str]) -> None:
    found = next(one for one in (Key(k.name, k.endpoints) for k in KEYS) if one.name == name)
    assert {one for one in ("assistant", "other", "new") if found.allows(one)} == allowed


def test_no_keys_are_no_ring_and_let_anyone_in() -> None:
    assert keyring_of(()) is None
    for authorization in (None, "Bearer x", "nonsense"):
        assert identify(None, authorization) is ANYONE
    assert (ANYONE.name, ANYONE.allowed) == ("", None)
    ring = keyring_of(KEYS)
    assert identify(ring, f"Bearer {ONE}").name == "one"
    with pytest.raises(Unauthenticated):
        identify(ring, None)
    with pytest.raises(Unauthenticated):
        Keyring(()).authenticate("Bearer x")


def test_what_is_visible() -> None:
    endpoints = {"assistant": 1, "other": 2}
    assert visible(endpoints, None) is endpoints
    seen = visible(endpoints, {"other", "gone"}.__contains__)
    assert (dict(seen), list(seen), len(seen), list(seen.values())) == ({"other": 2}, ["other"], 1, [2])
    assert (seen.get("assistant"), "assistant" in seen, seen.get("gone")) == (None, False, None)


def test_no_secret_shows_itself() -> None:
    ring = Keyring(KEYS)
    assert repr(ring) == "<Keyring of 3>"
    assert repr(ring.authenticate(f"Bearer {FULL}")) == "<Key full>"
    assert repr(ANYONE) == "<Key of anyone>"


# Over HTTP


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway(("Hello", " world"), endpoint("assistant"), endpoint("other"), keyring=RING) as one:
        yield one
        one.idle()
        assert one.loop_errors == []


def client(gateway: Gateway, secret: str) -> OpenAI:
    http = httpx.Client(trust_env=False, verify=False, timeout=WAIT_S)
    return OpenAI(base_url=gateway.url + "/v1", api_key=secret, max_retries=0, http_client=http)


def ask(one: OpenAI, model: str = "assistant") -> Any:
    return one.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])


def test_the_right_key(gateway: Gateway) -> None:
    with client(gateway, FULL) as one:
        assert [model.id for model in one.models.list()] == ["assistant", "other"]
        assert ask(one, "other").choices[0].message.content == "Hello world"
        stream = one.completions.create(model="assistant", prompt="hi", stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == "Hello world"
    assert [record.api_key for record in gateway.records[-2:]] == ["full", "full"]


def test_a_wrong_key(gateway: Gateway) -> None:
    calls = len(gateway.engine.calls)
    with client(gateway, FULL + "x") as one:
        for call in (lambda: ask(one), one.models.list, lambda: one.models.retrieve("assistant")):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            error = caught.value
            assert (error.status_code, error.code, error.type) == (401, "invalid_api_key", "invalid_request_error")
            assert "it ends in 'hijx'" in error.message
            assert error.response.headers["www-authenticate"] == "Bearer"
            assert error.response.headers["x-request-id"]
    assert len(gateway.engine.calls) == calls


def test_a_refused_call_is_recorded_without_a_key(gateway: Gateway) -> None:
    with client(gateway, FULL + "x") as one, pytest.raises(openai.AuthenticationError):
        ask(one)
    record = gateway.records[-1]
    assert (record.outcome, record.api_key, record.endpoint) == ("refused", "", "")
    assert record.failure is not None
    assert (record.failure.status, record.failure.code) == (401, "invalid_api_key")
    assert FULL not in repr(record)


def test_no_key_is_refused_before_the_body_is_looked_at(gateway: Gateway) -> None:
    with gateway.client() as http:
        answer = http.post("/v1/chat/completions", content=b"no JSON", headers={"x-penstock-timeout-ms": "no number"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["error"]["message"].startswith(MISSING)
        answer = http.post("/v1/chat/completions", content=b"no JSON", headers={"authorization": f"bearer {ONE}"})
        assert (answer.status_code, gateway.records[-1].api_key) == (400, "one")
        assert http.get("/v1/models").status_code == 401
        assert http.get("/v1/models/nobody").status_code == 401  # not even what there isn't
        for path in ("/health", "/ready"):
            assert http.get(path).status_code == 200


def test_what_a_key_may_not_use_does_not_exist(gateway: Gateway) -> None:
    with client(gateway, ONE) as one:
        assert [model.id for model in one.models.list()] == ["assistant"]
        assert ask(one).model == "assistant"
        for name in ("other", "other@v1", "othr", "nobody"):
            told = []
            for call in (lambda: ask(one, name), lambda: one.models.retrieve(name)):  # noqa: B023 - called at once
                with pytest.raises(openai.NotFoundError) as caught:
                    call()
                assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
                told.append(caught.value.body["message"])  # type: ignore[index]
            assert told == [f"The model '{name}' does not exist; known models: assistant."] * 2
        record = gateway.records[-1]
        assert (record.api_key, record.outcome, record.model) == ("one", "refused", "nobody")


def test_a_ring_is_swapped_while_it_serves() -> None:
    with Gateway(("Hello",)) as one, client(one, ONE) as caller:
        assert ask(caller).model == "assistant"
        assert one.records[-1].api_key == ""
        one.on_loop(lambda: setattr(one.service, "keyring", Keyring([key("new", "another")])))
        with pytest.raises(openai.AuthenticationError):
            ask(caller)
        one.on_loop(lambda: setattr(one.service, "keyring", Keyring([key("first", ONE)])))
        assert ask(caller).model == "assistant"
        assert one.records[-1].api_key == "first"


def test_a_key_that_goes_does_not_end_its_stream() -> None:
    with Gateway(("Hel", HOLD, "lo"), keyring=RING) as one, client(one, ONE) as caller:
        stream = caller.completions.create(model="assistant", prompt="hi", stream=True)
        call = one.held()
        one.on_loop(lambda: setattr(one.service, "keyring", Keyring([key("new", "another")])))
        one.release(call)
        assert "".join(chunk.choices[0].text for chunk in stream) == "Hello"
        assert one.records[-1].api_key == "one"
