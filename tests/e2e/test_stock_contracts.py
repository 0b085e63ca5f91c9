"""The stock TensorRT-LLM contracts behind a whole gateway, as a Triton that someone else runs.

The models are imitations (tests/imitations): they answer with the words of the prompt, then count.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.running import Running, serving
from tests.triton_server import IMITATIONS, Served, running_triton

CONFIG = """
[engine]
url = "{address}"
"""
ENDPOINT = """
[endpoints.{name}.versions.only]
model = "{model}"
chat_template = "{{{{ messages[-1]['content'] }}}}"
limits = {{ max_tokens = 100000 }}
"""
TEXT = "alpha 日本 🙂"
REPLY = "alpha 日本 🙂 1 2 3 4 5"
NOTICED_S = 0.2
DEADLINE_S = 2.0  # enough for a first chunk on a busy machine

# A client that is killed: streams one answer and prints each delta.
CLIENT = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
ask = [{"role": "user", "content": "count=100000 pace=10"}]
for chunk in client.chat.completions.create(model="ensemble", messages=ask, stream=True, max_tokens=90000):
    print(chunk.id, flush=True)
"""


def config_for(served: Served, **endpoints: str) -> str:
    parts = [ENDPOINT.format(name=name, model=model) for name, model in endpoints.items()]
    return CONFIG.format(address=served.address) + "".join(parts)


@pytest.fixture(scope="module")
def older(classic: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Served]]:
    config = config_for(classic, ensemble="ensemble", bls="tensorrt_llm_bls")
    with serving(tmp_path_factory.mktemp("gateway"), "--workers", "1", config=config) as running:
        yield running, classic


@pytest.fixture(scope="module")
def newer(llmapi: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Served]]:
    config = config_for(llmapi, newer="tensorrt_llm")
    with serving(tmp_path_factory.mktemp("gateway"), "--workers", "1", config=config) as running:
        yield running, llmapi


@pytest.mark.parametrize("model", ["ensemble", "bls", "newer"])
def test_the_contracts_answer_the_same_requests_alike(model: str, request: pytest.FixtureRequest) -> None:
    running, _ = request.getfixturevalue("newer" if model == "newer" else "older")
    with openai.OpenAI(base_url=running.url, api_key="none", max_retries=0) as client:
        messages = [{"role": "user", "content": TEXT}]
        whole = client.chat.completions.create(model=model, messages=messages)  # type: ignore[call-overload]
        assert whole.choices[0].message.content == REPLY
        assert whole.choices[0].finish_reason == "stop"
        stream = client.chat.completions.create(model=model, messages=messages, stream=True)  # type: ignore[call-overload]
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
        assert "".join(pieces) == REPLY
        assert not any("\ufffd" in piece for piece in pieces)
        short = client.chat.completions.create(model=model, messages=messages, max_tokens=3, stream=True)  # type: ignore[call-overload]
        assert [chunk.choices[0].finish_reason for chunk in short][-1] == "length"
        stopped = client.chat.completions.create(model=model, messages=messages, stop="2 3", stream=True)  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stopped) == "alpha 日本 🙂 1 "
        for fault in ("fault=error", "fault=traceback"):
            with pytest.raises(openai.APIStatusError) as failed:
                client.chat.completions.create(model=model, messages=[{"role": "user", "content": fault}])
            assert failed.value.status_code in {500, 502}
            assert "Traceback" not in str(failed.value)


def test_what_a_contract_cannot_honour_is_refused_by_name(newer: tuple[Running, Served]) -> None:
    with openai.OpenAI(base_url=newer[0].url, api_key="none", max_retries=0) as client:
        for field, value in (("logprobs", True), ("response_format", {"type": "json_object"})):
            with pytest.raises(openai.BadRequestError, match="newer@only") as refused:
                client.chat.completions.create(
                    model="newer",
                    messages=[{"role": "user", "content": "x"}],
                    **{field: value},  # type: ignore[arg-type]
                )
            assert refused.value.param == field


def test_a_killed_client_is_noticed_by_the_model(older: tuple[Running, Served]) -> None:
    running, served = older
    with subprocess.Popen([sys.executable, "-c", CLIENT, running.url], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        job = client.stdout.readline().strip().removeprefix("chatcmpl-") + "-0"
        killed = time.monotonic()
        client.send_signal(signal.SIGKILL)
    assert served.events.wait_for("cancelled", job)["at"] - killed < NOTICED_S


def test_a_clients_deadline_is_noticed_by_the_model(older: tuple[Running, Served]) -> None:
    running, served = older
    ask = {
        "model": "ensemble",
        "stream": True,
        "max_tokens": 90000,
        "messages": [{"role": "user", "content": "count=100000 pace=10"}],
    }
    # The client's own time-out: it stops reading and closes.
    seen: list[str] = []
    with httpx.Client() as client, client.stream("POST", f"{running.url}/chat/completions", json=ask) as answer:
        for line in answer.iter_lines():
            seen.append(line)
            if len(seen) > 10:
                break
    closed = time.monotonic()
    job = seen[0].partition('"id":"chatcmpl-')[2].partition('"')[0] + "-0"
    assert served.events.wait_for("cancelled", job)["at"] - closed < NOTICED_S
    # The deadline that it tells the gateway: before the first text a 504, after it an error in the stream.
    headers = {"x-penstock-timeout-ms": str(int(DEADLINE_S * 1000))}
    began = time.monotonic()
    with httpx.stream("POST", f"{running.url}/chat/completions", json=ask, headers=headers) as answer:
        text = answer.read().decode()
    assert '"code":"timeout"' in text
    assert "[DONE]" not in text
    job = text.partition('"id":"chatcmpl-')[2].partition('"')[0] + "-0"
    assert served.events.wait_for("cancelled", job)["at"] - (began + DEADLINE_S) < NOTICED_S
    mute = ask | {"messages": [{"role": "user", "content": "fault=hang"}]}
    refused = httpx.post(f"{running.url}/chat/completions", json=mute, headers=headers)
    assert refused.status_code == 504


def test_triton_killed_under_load(tmp_path: Path) -> None:
    with running_triton(IMITATIONS, tmp_path / "triton") as served:
        config = config_for(served, ensemble="ensemble")
        with serving(tmp_path / "gateway", "--workers", "2", config=config) as running:

            def ask(words: str, pinned: dict[str, object] | None = None) -> tuple[int, str]:
                body = {"model": "ensemble", "messages": [{"role": "user", "content": words}], **(pinned or {})}
                answer = httpx.post(f"{running.url}/chat/completions", json=body, timeout=60)
                return answer.status_code, answer.text

            endless = {"stream": True, "max_tokens": 90000}
            with ThreadPoolExecutor(40) as pool:
                streams = [pool.submit(ask, "count=100000 pace=10", endless) for _ in range(20)]
                whole = [pool.submit(ask, "count=100000 pace=10", {"max_tokens": 90000}) for _ in range(20)]
                _until(lambda: len([e for e in served.events.read() if e["event"] == "started"]) >= 40)
                assert served.triton.pid is not None
                subprocess.run(["kill", "-9", str(served.triton.pid)], check=True)
                ended = [future.result(timeout=60) for future in [*streams, *whole]]
            for status, text in ended[:20]:
                assert status in {200, 502, 503}
                assert '"error":{"message"' in text
                assert "[DONE]" not in text
            for status, text in ended[20:]:
                assert status in {502, 503}
                assert '"error":{"message"' in text
            # Each worker finds it again by itself, so only the answer that was a 200 is looked at.
            answers: list[tuple[int, str]] = []
            _until(lambda: answers.append(ask("alpha")) or answers[-1][0] == 200)  # type: ignore[func-returns-value]
            assert "alpha 1 2 3" in answers[-1][1]


def _until(true: Callable[[], bool], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
