"""Users of the OpenAI API: a streamed chat, timed piece by piece, and a chat in one piece.

geventhttpclient is used bare and not through Locust's FastHttpUser: that one reports a stream when its head has
come, and by default trusts any certificate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPConnectionClosed, HTTPSocketPoolResponse
from locust import User, task
from locust.exception import StopTest

from loadtests.users.ask import Ask, authorization
from loadtests.users.reply import WrongReply, read_chat, read_chat_stream, refusal
from loadtests.users.rows import Rows

PATH = "/v1/chat/completions"


class ChatUser(User):
    """A client with one connection that it keeps, as a client's pool does."""

    abstract = True
    name = ""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        try:
            self.ask = Ask.of(self.host or "", environment.parsed_options)
        except ValueError as error:
            raise StopTest(str(error)) from None
        self.rows = Rows(environment, "POST", self.name)
        self.headers = {"content-type": "application/json"}
        if (key := authorization()) is not None:
            self.headers["authorization"] = key
        timeout = self.ask.idle_timeout
        self.http = HTTPClient.from_url(self.ask.host, connection_timeout=timeout, network_timeout=timeout)

    def on_stop(self) -> None:
        """Locust's hook."""
        self.http.close()

    def wait_time(self) -> float:
        """Locust's hook: seconds until the next request."""
        return self.ask.pause()

    def body(self, **more: object) -> bytes:
        """The request; greedy, so that runs compare."""
        message = {"role": "user", "content": self.ask.words()}
        asked = {"model": self.ask.model, "messages": [message], "max_tokens": self.ask.max_tokens, "temperature": 0}
        return json.dumps({**asked, **more}).encode()

    def once(self, body: bytes, *, streamed: bool) -> None:
        """One request from its first byte to the reply's last, into Locust's table."""
        began = time.perf_counter()
        size = 0

        def lines(response: HTTPSocketPoolResponse) -> Iterator[bytes]:
            nonlocal size
            while line := response.readline(b"\n"):
                size += len(line)
                yield line

        try:
            with self.http.request("POST", PATH, body=body, headers=self.headers) as response:
                if response.status_code != 200:
                    raise refusal(response.status_code, response.read())
                if streamed:
                    if not str(response.get("content-type", "")).startswith("text/event-stream"):
                        raise WrongReply("the content type is not text/event-stream")
                    seen = read_chat_stream(lines(response), time.perf_counter)
                else:
                    whole = response.read()
                    size = len(whole)
                    seen = read_chat(whole, time.perf_counter())
        except WrongReply as wrong:
            self.rows.wrong(began, time.perf_counter(), str(wrong))
        except (OSError, HTTPException) as fault:
            self.rows.wrong(began, time.perf_counter(), fault_in_words(fault, self.ask.idle_timeout))
        else:
            self.rows.right(began, time.perf_counter(), size, seen, streamed=streamed)


class ChatStream(ChatUser):
    """Streams chats: TTFT, TPOT and gaps beside the whole."""

    name = "chat stream"

    @task
    def chat(self) -> None:
        """One streamed chat."""
        self.once(self.body(stream=True, stream_options={"include_usage": True}), streamed=True)


class ChatUnary(ChatUser):
    """Asks for chats in one piece."""

    name = "chat unary"

    @task
    def chat(self) -> None:
        """One chat."""
        self.once(self.body(), streamed=False)


def fault_in_words(fault: OSError | HTTPException, timeout: float) -> str:
    """A reason that is the same for all faults of a kind, so that Locust counts them in one line."""
    match fault:
        case TimeoutError():
            return f"no byte for {timeout:g} s"
        case ConnectionRefusedError():
            return "connection refused"
        case HTTPConnectionClosed() | ConnectionResetError() | BrokenPipeError():
            return "connection closed before the reply's end"
        case HTTPException():
            return "cut off in the middle, or no HTTP"
        case _:
            return f"connection failed: {type(fault).__name__}"
