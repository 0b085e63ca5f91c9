"""Decisions over the admin socket, as they reach linked workers, the disk and the audit."""

from __future__ import annotations

import asyncio
import getpass
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.admin import NotRunning, Refused, ask
from gateway.config import ConfigError
from gateway.control import desk as desk_module
from gateway.control.store import AUDIT, LIVE, Store
from gateway.orders import ADMIN_SOCKET, LINK_SOCKET
from gateway.unix_sockets import connect_unix
from tests.control.gathering import CONFIG, gathered

SET = "/endpoints/org/chat/set"


@pytest.mark.asyncio
async def test_a_set_reaches_every_worker_the_disk_and_the_audit(tmp_path: Path) -> None:
    async with gathered(tmp_path) as here:
        answer = await here.ask(ask, here.state, "POST", SET, {"split": {"v2": 30}, "why": "it is good"})
        assert answer["changed"]
        assert answer["agreed"]
        assert [worker["applied"] for worker in answer["workers"]] == [True, True]
        assert answer["absent"] == []
        for worker in here.workers:
            assert worker.endpoints["org/chat"].split == {"v1": 90, "v2": 30}
            assert worker.link.generation == answer["generation"]
        assert here.told[-1]["org/chat"].split == {"v1": 90, "v2": 30}
        (entry,) = (await here.ask(ask, here.state, "GET", "/audit"))["entries"]
        assert entry["who"] == f"{getpass.getuser()} (process {os.getpid()})"
        assert entry["from"] == {"split": {"v1": 90, "v2": 10}, "pin": "", "disabled": []}
        assert entry["to"] == {"split": {"v1": 90, "v2": 30}, "pin": "", "disabled": []}
        assert (entry["action"], entry["endpoint"], entry["why"]) == ("set", "org/chat", "it is good")
    async with gathered(tmp_path, workers=1) as again:
        assert again.workers[0].endpoints["org/chat"].split == {"v1": 90, "v2": 30}
        status = await again.ask(ask, again.state, "GET", "/status")
        assert status["absent"] == [2]
        assert status["generation"] > answer["generation"]


@pytest.mark.asyncio
async def test_every_action_and_the_list(tmp_path: Path) -> None:
    async with gathered(tmp_path, workers=1) as here:

        async def post(action: str, **body: Any) -> Any:
            return await here.ask(ask, here.state, "POST", f"/endpoints/org/chat/{action}", body)

        async def rows() -> dict[str, Any]:
            listed = await here.ask(ask, here.state, "GET", "/endpoints")
            return {row["version"]: row for row in listed["versions"]}

        await post("pin", version="v2")
        assert {name: row["share"] for name, row in (await rows()).items()} == {"v1": 0, "v2": 1}
        assert (await rows())["v2"]["pinned"]
        await post("pin", version=None)
        await post("disable", version="v1")
        assert (await rows())["v1"]["state"] == "disabled"
        assert here.workers[0].endpoints["org/chat"].disabled == ("v1",)
        await post("enable", version="v1")
        await post("set", split={"v1": 1, "v2": 1})
        again = await post("set", split={"v1": 1, "v2": 1})
        assert not again["changed"]
        await post("reset")
        assert {name: row["weight"] for name, row in (await rows()).items()} == {"v1": 90, "v2": 10}
        actions = [e["action"] for e in (await here.ask(ask, here.state, "GET", "/audit?n=3"))["entries"]]
        assert actions == ["enable", "set", "reset"]


@pytest.mark.asyncio
async def test_refusals_change_nothing(tmp_path: Path) -> None:
    async with gathered(tmp_path, workers=1) as here:
        before = (here.state / LIVE).read_bytes()
        for path, body, words in (
            (SET, {"split": {"v9": 1}}, "has no version 'v9'"),
            (SET, {"split": {"v1": "many"}}, "Expected `float`, got `str` - at `$.split[...]`"),
            (SET, {"split": {"v1": True}}, "Expected `float`"),
            (SET, {"splitt": {}}, "splitt"),
            (SET, {"split": {"v1": 1}, "why": "x" * 1001}, "at most 1000"),
            ("/endpoints/org/chat/pin", {}, "version"),
            ("/endpoints/org/chat/pine", {}, "There is no action 'pine'"),
            ("/endpoints/nobody/reset", {}, "There is no endpoint 'nobody'"),
        ):
            with pytest.raises(Refused, match=words.replace("$", r"\$").replace("[...]", r"\[\.\.\.\]")):
                await here.ask(ask, here.state, "POST", path, body)
        with pytest.raises(Refused, match="a number from 1"):
            await here.ask(ask, here.state, "GET", "/audit?n=0")
        assert (here.state / LIVE).read_bytes() == before
        assert not (here.state / AUDIT).exists()


@pytest.mark.asyncio
async def test_a_worker_that_stands_still_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "AGREE_S", 0.05)
    async with gathered(tmp_path) as here:
        here.workers[1].gate.clear()
        answer = await here.ask(ask, here.state, "POST", SET, {"split": {"v2": 30}})
        assert not answer["agreed"]
        assert [worker["applied"] for worker in answer["workers"]] == [True, False]
        here.workers[1].gate.set()
        await here.linked(2)
        assert here.workers[1].endpoints["org/chat"].split["v2"] == 30


@pytest.mark.asyncio
async def test_what_cannot_be_recorded_does_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with gathered(tmp_path, workers=1) as here:
        monkeypatch.setattr(Store, "record", full)
        with pytest.raises(Refused, match=r"Nothing was changed: .*No space left"):
            await here.ask(ask, here.state, "POST", SET, {"split": {"v2": 30}})
        assert here.desk.endpoints["org/chat"].split["v2"] == 10
        assert here.workers[0].endpoints["org/chat"].split["v2"] == 10


@pytest.mark.asyncio
async def test_a_reload_brings_endpoints_names_the_rest_and_lets_the_newest_decision_win(tmp_path: Path) -> None:
    async with gathered(tmp_path, workers=1) as here:
        await here.ask(ask, here.state, "POST", SET, {"split": {"v2": 30}})
        kept = await here.ask(ask, here.state, "POST", "/reload")
        assert not kept["changed"]
        here.file.write_text(CONFIG + "v3 = { model = 'o' }\n[limits]\nrequest_timeout_s = 5\n")
        answer = await here.ask(ask, here.state, "POST", "/reload")
        assert answer["restart"] == ["limits.request_timeout_s"]
        assert answer["dropped"] == []
        assert here.workers[0].endpoints["org/chat"].split == {"v1": 90, "v2": 30, "v3": 0}
        here.file.write_text(CONFIG.replace("v2 = 10", "v2 = 11"))
        answer = await here.ask(ask, here.state, "POST", "/reload")
        assert answer["dropped"] == ["org/chat: the file's split was changed later, so the file wins"]
        assert here.workers[0].endpoints["org/chat"].split == {"v1": 90, "v2": 11}
        entries = (await here.ask(ask, here.state, "GET", "/audit"))["entries"]
        assert [entry["action"] for entry in entries] == ["set", "reload", "reload", "override dropped"]


@pytest.mark.asyncio
async def test_a_bad_file_is_refused_whole_with_the_configs_own_report(tmp_path: Path) -> None:
    async with gathered(tmp_path, workers=1) as here:
        here.file.write_text(CONFIG.replace("v2 = 10", "v2 = 50").replace("[engine]", "[engin]"))
        with pytest.raises(ConfigError) as report:
            here.load()
        with pytest.raises(Refused) as refused:
            await here.ask(ask, here.state, "POST", "/reload")
        assert refused.value.bad_config
        assert str(refused.value) == str(report.value)
        assert here.workers[0].endpoints["org/chat"].split["v2"] == 10
        (entry,) = (await here.ask(ask, here.state, "GET", "/audit"))["entries"]
        assert entry["action"] == "reload refused"


@pytest.mark.asyncio
async def test_workers_link_again_and_are_counted_once(tmp_path: Path) -> None:
    async with gathered(tmp_path, workers=1) as here:
        (member,) = here.hub.members.values()
        member.writer.transport.abort()
        async with asyncio.timeout(60):
            while here.hub.members.get(1) in (None, member):
                await asyncio.sleep(0.01)
        await here.linked(1)
        assert "penstock_workers 1" in here.totals.render()


@pytest.mark.asyncio
async def test_who_does_not_speak_the_link_is_sent_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with gathered(tmp_path, workers=1) as here:
        for line in (b"hello\n", b'{"stats": {}}\n', b'{"hello": "one"}\n'):
            reader, writer = await asyncio.open_unix_connection(sock=connect_unix(here.state / LINK_SOCKET, 0))
            writer.write(line)
            assert await asyncio.wait_for(reader.read(), 60) == b""
            writer.close()
        assert len(caplog.records) == 3
        assert set(here.hub.members) == {1}


@pytest.mark.asyncio
async def test_sockets_are_ours_alone_and_lie_as_deep_as_they_must(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    async with gathered(tmp_path, workers=1, state=deep) as here:
        for name in (ADMIN_SOCKET, LINK_SOCKET):
            assert stat.S_IMODE((deep / name).stat().st_mode) == 0o600
        assert (await here.ask(ask, deep, "GET", "/status"))["absent"] == [2]
        assert here.workers[0].endpoints
    for folder in (deep, tmp_path / "nowhere"):  # one with a socket that nobody listens on, one without a folder
        with pytest.raises(NotRunning, match="no gateway runs with the state folder"):
            ask(folder, "GET", "/status")
