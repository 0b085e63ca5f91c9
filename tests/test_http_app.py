"""The Starlette side of the port, and openai-python's own clients against the whole."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from gateway.core.errors import EngineError, EngineUnavailable
from gateway.engines.scripted import HOLD
from tests.inprocess import STARTED, WAIT_S, Gateway, endpoint

SCRIPTS: dict[str, Any] = {
    "hi": ("Hél", "lo", " 🙂"),
    "fail": (EngineError("the engine broke"),),
    "away": (EngineUnavailable("no engine"),),
    "break": ("one", EngineError("the engine broke")),
    "wait": ("one", HOLD),
}


def script(_: Any, job: Any) -> Any:
    return SCRIPTS.get(job.prompt, (f"echo {job.prompt}",))


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    assistant = endpoint("assistant", "v1", "v2", split={"v1": 3.0, "v2": 1.0})
    odd = endpoint("org/team@corp")
    with Gateway(script, assistant, odd) as one:
        yield one
        one.idle()
        assert one.loop_errors == []


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with sdk(gateway) as one:
        yield one


def sdk(gateway: Gateway) -> OpenAI:
    # verify=False: there is no TLS here, and reading the certificates takes longer than all these tests
    http = httpx.Client(trust_env=False, verify=False, timeout=WAIT_S)
    return OpenAI(base_url=gateway.url + "/v1", api_key="none", max_retries=0, http_client=http)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


# Routes


def model(name: str, **versions: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "penstock", "versions": versions}


def test_models(http: httpx.Client) -> None:
    answer = http.get("/v1/models")
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "list",
        "data": [model("assistant", v1=0.75, v2=0.25), model("org/team@corp", v1=1.0)],
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("assistant", "assistant"),
        ("assistant@v2", "assistant@v2"),
        ("org/team@corp", "org/team@corp"),
        ("org%2Fteam%40corp", "org/team@corp"),
        ("org%2Fteam@corp@v1", "org/team@corp@v1"),
    ],
)
def test_one_model(http: httpx.Client, path: str, name: str) -> None:
    answer = http.get(f"/v1/models/{path}")
    assert (answer.status_code, answer.json()["id"]) == (200, name)


@pytest.mark.parametrize("path", ["nobody", "assistant@v9", "assistant@", "org", "org/", "", "%00", "%ff", "a" * 5000])
def test_no_such_model(http: httpx.Client, path: str) -> None:
    answer = http.get(f"/v1/models/{path}")
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert len(error["message"]) < 300


def test_health_and_readiness(gateway: Gateway, http: httpx.Client) -> None:
    assert http.get("/health").json() == {"status": "ok"}
    answer = http.get("/ready")
    state = {"ready": True, "reason": "", "contract": "scripted"}
    versions = {"assistant@v1": state, "assistant@v2": state, "org/team@corp@v1": state}
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "versions": versions})
    gateway.engine.not_ready["assistant@v2"] = "loading"
    answer = http.get("/ready")
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert answer.json()["versions"]["assistant@v2"]["reason"] == "loading"
    gateway.engine.not_ready.clear()
    assert http.get("/health").status_code == 200


def test_a_version_without_weight_need_not_be_ready() -> None:
    with Gateway((), endpoint("e", "v1", "v2", split={"v1": 1.0, "v2": 0.0})) as one, one.client() as http:
        one.engine.not_ready["e@v2"] = "loading"
        assert http.get("/ready").status_code == 200
        one.engine.not_ready["e@v1"] = "loading"
        assert http.get("/ready").status_code == 503


ROUTES = ["/v1/models", "/v1/models/assistant", "/health", "/ready", "/v1/chat/completions", "/v1/completions"]
POSTS = {"/v1/chat/completions", "/v1/completions"}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "POST", "TRACE", "PROPFIND"])
def test_methods(http: httpx.Client, path: str, method: str) -> None:
    taken = {"POST"} if path in POSTS else {"GET", "HEAD"}
    answer = http.request(method, path, content=b"" if method in ("POST", "PUT", "PATCH") else None)
    if method in taken:
        assert answer.status_code in (200, 400)
        return
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == taken
    if method == "HEAD":
        assert answer.content == b""
        return
    error = error_of(answer)
    assert error["code"] == "method_not_allowed"
    assert method in error["message"]
    assert path in error["message"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/models", "/v1/embeddings", "/metrics", "/docs", "/openapi.json", "//"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_route(http: httpx.Client, path: str, method: str) -> None:
    answer = http.request(method, f"{http.base_url}".rstrip("/") + path)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "not_found"


def test_a_defect_in_a_route_is_a_proper_500(gateway: Gateway, http: httpx.Client, caplog: Any) -> None:
    gateway.engine.readiness, kept = None, gateway.engine.readiness  # type: ignore[assignment,method-assign]
    answer = http.get("/ready")
    gateway.engine.readiness = kept  # type: ignore[method-assign]
    assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
    assert "TypeError" not in answer.text
    gateway.until(lambda: "TypeError" in caplog.text)  # Starlette raises it again once the answer is out
    assert http.get("/ready").status_code == 200


# openai-python


def ask(prompt: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "assistant@v1", "messages": [{"role": "user", "content": prompt}], **fields}


def test_chat(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**ask(n=2, seed=7))
    answer = raw.parse()
    assert [choice.message.content for choice in answer.choices] == ["Héllo 🙂"] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 6)
    assert answer.model == "assistant@v1"
    assert str(answer.system_fingerprint).startswith("assistant@v1:")
    assert raw.headers["x-penstock-seed"] == "7"
    assert raw.request_id == raw.headers["x-request-id"]


def test_chat_stream(client: OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ask(), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Héllo 🙂"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


def test_chat_stream_with_usage_through_the_clients_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(**ask(), stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Héllo 🙂"
    assert final.usage is not None
    assert final.usage.completion_tokens == 3


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(model="assistant", prompt=["a", "b"])
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "echo a"), (1, "echo b")]
    chunks = list(client.completions.create(model="assistant", prompt="hi", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Héllo 🙂"


def test_model_list_and_retrieval(client: OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["assistant", "org/team@corp"]
    assert client.models.retrieve("org/team@corp").id == "org/team@corp"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/none")
    assert caught.value.code == "model_not_found"


ERRORS: list[tuple[dict[str, Any], type[openai.APIStatusError], int, str]] = [
    (ask(model="nobody"), openai.NotFoundError, 404, "model_not_found"),
    (ask(temperature=9), openai.BadRequestError, 400, "invalid_request"),
    (ask("fail"), openai.InternalServerError, 502, "engine_error"),
    (ask("away"), openai.InternalServerError, 503, "engine_unavailable"),
    (ask("fail", stream=True), openai.InternalServerError, 502, "engine_error"),
    (ask("wait", extra_headers={"x-penstock-timeout-ms": "1"}), openai.InternalServerError, 504, "timeout"),
]


@pytest.mark.parametrize(("asked", "kind", "status", "code"), ERRORS)
def test_errors_become_the_clients_own(
    client: OpenAI, asked: dict[str, Any], kind: type[openai.APIStatusError], status: int, code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**asked)
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id is not None
    assert error.request_id.startswith("req-")
    assert error.type in ("invalid_request_error", "api_error")


def test_too_many_requests_become_the_clients_own() -> None:
    with (
        Gateway(script, concurrent_requests=0) as full,
        sdk(full) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(**ask(model="assistant"))
    assert caught.value.code == "overloaded"


def test_an_error_in_mid_stream_reaches_the_reader(client: OpenAI) -> None:
    stream = client.chat.completions.create(**ask("break"), stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "one"]
    with pytest.raises(openai.APIError, match="the engine broke"):
        next(stream)


def test_a_stream_that_is_closed_early_cancels_the_engines_work(gateway: Gateway, client: OpenAI) -> None:
    gateway.on_loop(gateway.engine.calls.clear)
    stream = client.chat.completions.create(**ask("wait"), stream=True)
    assert next(stream).choices[0].delta.role == "assistant"
    call = gateway.held()
    stream.close()
    gateway.until(lambda: call.cancelled)


@pytest.mark.asyncio
async def test_the_async_client(gateway: Gateway) -> None:
    async with (
        httpx.AsyncClient(trust_env=False, verify=False, timeout=WAIT_S) as http,
        AsyncOpenAI(base_url=gateway.url + "/v1", api_key="none", max_retries=0, http_client=http) as client,
    ):
        answer = await client.chat.completions.create(**ask("async"))
        assert answer.choices[0].message.content == "echo async"
        stream = await client.chat.completions.create(**ask(), stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Héllo 🙂"
        assert [one.id async for one in client.models.list()] == ["assistant", "org/team@corp"]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**ask(n=0))
        assert caught.value.param == "n"


def test_the_sdk_reads_our_json_as_we_wrote_it(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(**ask())
    assert json.loads(raw.text)["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Héllo 🙂",
        "refusal": None,
    }
