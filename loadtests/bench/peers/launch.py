"""How a peer is started: with a bare environment, and asked for a real answer until it gives one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.bench.contender import Running
from loadtests.bench.process import Process
from loadtests.bench.question import Question

MODEL = "bench"
"""The upstream's model, and what requests name where the peer has no naming of its own."""
START_S = 120.0
"""LiteLLM imports for 15 s on an idle machine."""
_ANSWER_S = 10.0
_WHOLE, _STREAM = Question("unary", 3), Question("burst", 3)
_SERIAL = 0


def launch(
    name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Starts `command` in `folder`, its output in `<folder>/<name>.log`.

    Of the caller's environment it sees the path alone: the rest may hold proxies, keys and telemetry settings.
    """
    bare = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), "LANG": "C.UTF-8", **(environment or {})}
    emptied = ["env", "-i", *[f"{name}={value}" for name, value in bare.items()]]
    return Process([*emptied, *map(str, command)], folder / f"{name}.log", folder=folder)


def running(
    process: Process, base_url: str, *, model: str = MODEL, headers: Mapping[str, str] | None = None
) -> Running:
    """Waits until it gives a whole answer and a streamed one. Raises RuntimeError, with the end of its log."""
    said = ["nothing was asked"]

    def ready() -> bool:
        said[0] = complaint(base_url, model, headers or {})
        return not said[0]

    try:
        process.wait_until(ready, START_S)
    except RuntimeError as error:
        raise RuntimeError(f"{error}\n(asked for an answer: {said[0]})") from None
    except BaseException:
        process.stop()
        raise
    return Running(base_url, model, process.pid, dict(headers or {}), partial(process.stop))


def complaint(base_url: str, model: str, headers: Mapping[str, str]) -> str:
    """What is wrong with its answer to one request and to one stream; '' when both are right."""
    try:
        status, content = _post(base_url, model, headers, _WHOLE)
        if status != 200:
            return f"status {status}: {content[:300].decode(errors='replace')}"
        if json.loads(content)["choices"][0]["message"]["content"] != _WHOLE.answer(_SERIAL):
            return f"not what the upstream said: {content[:300].decode(errors='replace')}"
        status, content = _post(base_url, model, headers, _STREAM)
        if status != 200 or b"data: [DONE]" not in content:
            return f"no whole stream, status {status}: {content[-300:].decode(errors='replace')}"
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _post(base_url: str, model: str, headers: Mapping[str, str], question: Question) -> tuple[int, bytes]:
    url = urlsplit(base_url)
    messages = [{"role": "user", "content": question.prompt(_SERIAL)}]
    body = {"model": model, "messages": messages, "max_tokens": question.tokens, "stream": question.streams}
    connection = HTTPConnection(url.netloc, timeout=_ANSWER_S)
    try:
        everything = {"Content-Type": "application/json", **headers}
        connection.request("POST", f"{url.path}/chat/completions", json.dumps(body), everything)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody has now: for what a peer insists on opening beside its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
