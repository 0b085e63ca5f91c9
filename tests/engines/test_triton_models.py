"""The table of served versions against a server that is played by the test."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from gateway.engines.tokenizer import TokenCounter
from gateway.engines.triton_interface import ModelInterface, TensorSpec
from gateway.engines.triton_metadata import NotReady
from gateway.engines.triton_models import ModelTable
from gateway.routing.version import Version

ONE = TensorSpec("BYTES", (1,))
NUMBER = TensorSpec("INT32", (1,))
MODEL = ModelInterface("m", "", {"text_input": ONE, "max_tokens": NUMBER}, {"text_output": ONE})
LLMAPI = ModelInterface("m", "", {"text_input": ONE, "sampling_param_max_tokens": NUMBER}, {"text_output": ONE})
V1 = Version(endpoint="chat", name="v1", model="m")
V2 = Version(endpoint="chat", name="v2", model="n", model_version="3")
DOWN = NotReady("Triton at x cannot be reached", server=True)
SILENT = NotReady("Triton at x did not answer", server=True, silent=True)


class Server:
    """`models` has an interface or an error per model; `asked` what was asked for; `then` runs at every question."""

    def __init__(self, **models: ModelInterface | Exception) -> None:
        self.models = models
        self.asked: list[tuple[str, str]] = []
        self.then: Callable[[], Awaitable[None]] | None = None

    async def read(self, model: str, version: str) -> ModelInterface:
        self.asked.append((model, version))
        if self.then is not None:
            await self.then()
        return self._answer(model)

    async def describe(self, model: str, version: str = "") -> ModelInterface:
        self.asked.append((model, version))
        return self._answer(model)

    def _answer(self, model: str) -> ModelInterface:
        answer = self.models.get(model, NotReady(f"no {model}"))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.asyncio
async def test_before_the_first_look_nothing_is_served() -> None:
    table = ModelTable(Server(m=MODEL), [V1])
    assert table.served(V1) is None
    assert table.readiness(V1).reason == "its model was not looked at yet"
    assert repr(table) == "<ModelTable 0 of 1 versions served>"


@pytest.mark.asyncio
async def test_a_look_binds_every_version_to_its_model() -> None:
    server = Server(m=MODEL, n=replace(MODEL, name="n"))
    table = ModelTable(server, [V1, V2])
    assert await table.look()
    assert server.asked == [("m", ""), ("tensorrt_llm", ""), ("n", "3"), ("tensorrt_llm", "")]
    assert table.readiness(V1).ready
    assert table.readiness(V1).contract == "trtllm-ensemble"
    served = table.served(V2)
    assert served is not None
    assert served.binding.model == "n"


@pytest.mark.asyncio
async def test_one_version_that_is_away_does_not_take_the_other_along() -> None:
    table = ModelTable(Server(m=MODEL), [V1, V2])
    assert not await table.look()
    assert table.readiness(V1).ready
    assert table.readiness(V2).reason == "no n"


@pytest.mark.asyncio
async def test_a_server_that_is_down_takes_all_along(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(m=MODEL, n=MODEL)
    table = ModelTable(server, [V1, V2])
    assert await table.look()
    server.models["m"] = DOWN
    with caplog.at_level(logging.WARNING):
        assert not await table.look()
        assert not await table.look()
    assert table.readiness(V1).reason == table.readiness(V2).reason == "Triton at x cannot be reached"
    assert len(caplog.records) == 2, "a change is logged, a state is not"
    server.models["m"] = MODEL
    assert await table.look()
    assert table.readiness(V2).ready


@pytest.mark.asyncio
async def test_a_silent_server_keeps_its_models_for_three_rounds() -> None:
    server = Server(m=MODEL)
    table = ModelTable(server, [V1])
    assert await table.look()
    server.models["m"] = SILENT
    for _ in range(3):
        assert not await table.look()
        assert table.readiness(V1).ready
    await table.look()
    assert not table.readiness(V1).ready


@pytest.mark.asyncio
async def test_a_model_that_did_not_change_keeps_its_binding() -> None:
    server = Server(m=MODEL)
    table = ModelTable(server, [V1])
    await table.look()
    before = table.served(V1)
    server.models["m"] = replace(MODEL)
    await table.look()
    assert table.served(V1) is before
    server.models["m"] = replace(MODEL, inputs={**MODEL.inputs, "seed": TensorSpec("UINT64", (1,), True)})
    await table.look()
    assert "seed" in table.readiness(V1).features


@pytest.mark.asyncio
async def test_companions_are_looked_at_too() -> None:
    server = Server(m=MODEL)
    table = ModelTable(server, [V1])
    await table.look()
    first = table.served(V1)
    stop = {
        "input_ids": NUMBER,
        "input_lengths": NUMBER,
        "request_output_len": NUMBER,
        "stop": TensorSpec("BOOL", (1,)),
    }
    server.models["tensorrt_llm"] = ModelInterface("tensorrt_llm", "", stop, {})
    await table.look()
    second = table.served(V1)
    assert second is not first
    assert second is not None
    assert list(second.companions) == ["tensorrt_llm"]
    server.models["tensorrt_llm"] = DOWN
    assert not await table.look()
    assert not table.readiness(V1).ready


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("version", "model", "reason"),
    [
        (replace(V1, determinism="seeded"), MODEL, "has no seed input"),
        (V1, ModelInterface("m", "", {}, {}), "speaks no contract of ours"),
        (replace(V1, tokenizer="/nowhere/tokenizer.json"), LLMAPI, "tokenizer /nowhere/tokenizer.json"),
    ],
)
async def test_what_cannot_be_bound_is_a_reason_in_words(version: Version, model: ModelInterface, reason: str) -> None:
    table = ModelTable(Server(m=model), [version])
    assert not await table.look()
    assert reason in table.readiness(version).reason
    assert "Traceback" not in table.readiness(version).reason


@pytest.mark.asyncio
async def test_a_defect_of_ours_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    table = ModelTable(Server(m=RuntimeError("boom")), [V1])
    with caplog.at_level(logging.ERROR):
        assert not await table.look()
    assert "see the gateway's log" in table.readiness(V1).reason
    assert "boom" in caplog.text


@pytest.mark.asyncio
async def test_a_tokenizer_is_loaded_once_and_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(path: str) -> TokenCounter:
        loaded.append(path)
        return TokenCounter(None, path)

    monkeypatch.setattr("gateway.engines.triton_models.load_counter", load)
    versions = [replace(V1, tokenizer="t"), replace(V2, model="m", tokenizer="t")]
    server = Server(m=LLMAPI)
    table = ModelTable(server, versions)
    assert await table.look()
    assert loaded == ["t"]
    served = table.served(versions[1])
    assert served is not None
    assert repr(served.counter) == "TokenCounter(t)"
    counting = dict.fromkeys(("return_num_input_tokens", "return_num_output_tokens"), TensorSpec("BOOL", (1,), True))
    counts = dict.fromkeys(("num_input_tokens", "num_output_tokens"), NUMBER)
    server.models["m"] = replace(MODEL, inputs={**MODEL.inputs, **counting}, outputs={**MODEL.outputs, **counts})
    assert await table.look()
    served = table.served(versions[0])
    assert served is not None
    assert served.counter is None


@pytest.mark.asyncio
async def test_a_version_that_this_engine_does_not_have() -> None:
    table = ModelTable(Server(m=MODEL), [V1])
    await table.look()
    changed = replace(V1, text_mode="delta")
    assert table.served(changed) is None
    assert table.readiness(changed).reason == "chat@v1 is not among the versions of this engine"
    assert table.readiness(V2).reason == "chat@v2 is not among the versions of this engine"
    assert table.served(replace(V1)) is not None


@pytest.mark.asyncio
async def test_the_loop_asks_again_until_all_is_there_and_when_it_is_woken() -> None:
    server = Server()
    looks = 0
    enough = asyncio.Event()

    async def count() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            server.models["m"] = MODEL
        if looks == 4:
            enough.set()

    server.then = count
    table = ModelTable(server, [V1], interval=3600.0, rng=random.Random(1))
    task = asyncio.create_task(table.run())
    async with asyncio.timeout(10):
        while not table.readiness(V1).ready:
            await asyncio.sleep(0.01)
    assert looks == 3
    table.look_soon()  # else the fourth look is an hour away
    await asyncio.wait_for(enough.wait(), 5)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.asyncio
async def test_versions_are_exchanged_without_a_gap() -> None:
    server = Server(m=MODEL, n=MODEL)
    table = ModelTable(server, [V1])
    await table.look()
    changed = replace(V1, text_mode="delta")
    kept = table.served(V1)
    await table.watch([V1, V2])
    assert table.served(V1) is kept
    assert table.readiness(V2).ready, "looked at before the exchange is complete"
    await table.watch([changed])
    assert table.readiness(changed).ready
    assert table.readiness(V1).ready, "what leaves can be served until the next exchange"
    assert table.readiness(V2).ready
    await table.watch([changed])
    assert table.served(V1) is None
    assert table.served(V2) is None
    assert table.readiness(changed).ready


@pytest.mark.asyncio
async def test_a_version_that_is_exchanged_while_it_is_looked_at_is_not_taken_for_the_new_one() -> None:
    server = Server(m=MODEL)
    table = ModelTable(server, [V1])
    changed = replace(V1, text_mode="delta")

    async def exchange() -> None:
        server.then = None
        await table.watch([changed, V2])

    server.then = exchange
    await table.look()
    assert table.served(V1) is None
    assert table.readiness(changed).ready
    assert not table.readiness(V2).ready
